"""Stores the video of a job that was paid for earlier.

**This Dag never costs money.** Use it when a wait timed out or was ended by hand, when a download kept
failing, or when the answer to a submit was lost. The error message names the task id, or on Kling's own API
the client id, `airflow-...`; the log of the submit has it too. Where no id is known: the Dag
`kling_list_jobs` lists the jobs of Kling's own API; on MyRouter look into its console or bill.

If the connection has *Allowed paths*, the target must be in one of them.
"""

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_kling.errors import KlingTaskNotFoundError
from airflow_provider_kling.hooks import KlingHook, for_airflow
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
            title="Task id or client id",
            description="The id that the error message, the log of the submit or the gateway's bill names",
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

    @task
    def find(**context: Any) -> str:
        """Return the task id; a client id begins with "airflow-"."""
        given: str = context["params"]["kling_task_id"].strip()
        if not given.startswith("airflow-"):
            return given
        job = KlingHook().find_task(given)
        if job is None:
            raise for_airflow(KlingTaskNotFoundError(f"Kling has no job of client id {given}."))
        return job.kling_task_id

    found = "{{ ti.xcom_pull(task_ids='find') }}"
    wait = KlingTaskSensor(task_id="wait", kling_task_id=found)
    download = KlingDownloadOperator(task_id="download", kling_task_id=found, target="{{ params.target }}")
    find() >> wait >> download
