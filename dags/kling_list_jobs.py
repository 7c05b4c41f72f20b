"""Lists the jobs of an account, the newest first: task id, client id, status, time, and what each has cost.

**This Dag never costs money.** It works on Kling's own API, which keeps thirty days. The log of `jobs` shows
the list. The client id leads to the task that submitted the job: it is in the log of that task and in its
XCom `kling_request`. The Dag `kling_rescue` stores the video of a job, by either id.
"""

import logging
import time
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_kling.gateways.base import Task
from airflow_provider_kling.hooks import KlingHook

log = logging.getLogger(__name__)
#: Jobs that are shown.
MOST = 1000


def describe(job: Task) -> dict[str, Any]:
    """Return what is shown of a job."""
    created = (
        "" if job.created_at is None else f"{datetime.fromtimestamp(job.created_at, UTC):%Y-%m-%d %H:%M}"
    )
    paid = [f"{item.amount:f} {item.currency or item.charge_type}" for item in job.billing]
    return {
        "kling_task_id": job.kling_task_id,
        "client_id": job.client_id,
        "status": job.status,
        "created": created,
        "billing": ", ".join(paid),
    }


with DAG(
    "kling_list_jobs",
    description="Lists the jobs of an account on Kling's own API; costs nothing",
    doc_md=__doc__,
    schedule=None,
    tags=["kling"],
    params={
        "days": Param(
            1,
            type="integer",
            minimum=1,
            maximum=30,
            title="Days",
            description="How far to look back",
        ),
        "kling_conn_id": Param(
            "kling_default",
            type="string",
            minLength=1,
            title="Connection",
            description="An Airflow connection of type Kling",
        ),
    },
    default_args={"retries": 3},
) as dag:

    @task
    def jobs(**context: Any) -> list[dict[str, Any]]:
        """Log the jobs, and return them."""
        params = context["params"]
        found = KlingHook(params["kling_conn_id"]).list_tasks(time.time() - params["days"] * 86400)
        newest = sorted(found, key=lambda job: job.created_at or 0, reverse=True)
        rows = [describe(job) for job in newest[:MOST]]
        log.info("%d jobs in %d days; the newest %d:", len(newest), params["days"], len(rows))
        for row in rows:
            log.info("%s", "  ".join(row.values()))
        return rows

    jobs()
