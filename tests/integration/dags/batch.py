"""Many pictures, bad ones among them, with the three operators in a mapped group, and a summary."""

from typing import Any

from airflow.sdk import DAG, Param, task, task_group

from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingSubmitOperator,
    KlingSummaryOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor

with DAG(
    "batch",
    schedule=None,
    params={"specs": Param([], type="array"), "budget": Param(0.0, type="number")},
):

    @task
    def plan(params: dict[str, Any]) -> list[dict[str, Any]]:
        return list(params["specs"])

    @task_group
    def animate(image: str, prompt: str, duration: int, sound: bool, target: str) -> None:  # noqa: FBT001 - it is mapped by its names
        submit = KlingSubmitOperator(
            task_id="submit",
            image=image,
            prompt=prompt,
            duration=duration,
            sound=sound,
            max_run_cost_usd="{{ params.budget }}",
        )
        wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output, poke_interval=2)
        download = KlingDownloadOperator(task_id="download", kling_task_id=submit.output, target=target)
        wait >> download

    animate.expand_kwargs(plan()) >> KlingSummaryOperator(task_id="summary", fail_on_error=False)
