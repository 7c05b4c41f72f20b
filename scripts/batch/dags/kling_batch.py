"""The Dag of `make batch`: many pictures, some of them bad, become videos under a cost limit."""

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_kling.operators import KlingImageToVideoOperator, KlingSummaryOperator

with DAG(
    "kling_batch",
    schedule=None,
    max_active_tasks=1000,
    params={
        "specs": Param([], type="array", description="Objects with the operator's arguments"),
        "budget": Param(0.0, type="number", description="US dollars for all of them"),
    },
) as dag:

    @task
    def plan(params: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the videos of this run."""
        return list(params["specs"])

    videos = KlingImageToVideoOperator.partial(
        task_id="video", max_run_cost_usd="{{ params.budget }}", poke_interval=2
    ).expand_kwargs(plan())
    videos >> KlingSummaryOperator(task_id="summary", fail_on_error=False)
