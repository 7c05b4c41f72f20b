"""Stores the video of a job that was paid for earlier.

**This Dag never costs money.** Use it when a wait timed out or was ended by hand, when a download kept
failing, or when the answer to a submit was lost. The error message names the task id. For a lost answer,
look for the task id in the gateway's console or bill.

If the connection has *Allowed paths*, the target must be in one of them.
"""

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators import KlingDownloadOperator
from airflow_provider_kling.sensors import KlingTaskSensor

with DAG(
    "kling_rescue",
    description="Stores the video of a job that was paid for earlier; costs nothing",
    doc_md=__doc__,
    schedule=None,
    tags=["kling"],
    params={
        "kling_task_id": Param(
            type="string",
            minLength=1,
            title="Task id at the gateway",
            description="The id that the error message or the gateway's bill names",
        ),
        "target": Param(
            "/tmp/kling/",  # noqa: S108 - an example
            type="string",
            minLength=1,
            title="Target",
            description="Path or URL on any storage: a file, or a folder with a slash at the end",
        ),
    },
    default_args={"retries": 3},
) as dag:
    wait = KlingTaskSensor(task_id="wait", kling_task_id="{{ params.kling_task_id }}")
    download = KlingDownloadOperator(
        task_id="download", kling_task_id="{{ params.kling_task_id }}", target="{{ params.target }}"
    )
    wait >> download
