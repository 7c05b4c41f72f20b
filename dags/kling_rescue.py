"""Bring a paid video home late: give the task id that an error named, get the file.

For every job that was paid for and has no file: a wait that timed out or was ended by hand, a download
that kept failing, a submit whose answer was lost (its task id stands in the gateway's console or bill).
Nothing in this Dag can pay.
"""

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators import KlingDownloadOperator
from airflow_provider_kling.sensors import KlingTaskSensor

with DAG(
    "kling_rescue",
    schedule=None,
    tags=["kling"],
    params={
        "kling_task_id": Param(type="string", minLength=1, description="As the error names it"),
        "target": Param("/tmp/kling/", type="string", description="File, or folder with a slash at the end"),  # noqa: S108 - an example
    },
    default_args={"retries": 3},
) as dag:
    wait = KlingTaskSensor(task_id="wait", kling_task_id="{{ params.kling_task_id }}")
    download = KlingDownloadOperator(
        task_id="download", kling_task_id="{{ params.kling_task_id }}", target="{{ params.target }}"
    )
    wait >> download
