"""The Dag of `make chaos`: many pictures become videos while everything is killed."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task, task_group

from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.retries import KlingRetryPolicy
from airflow_provider_kling.sensors import KlingTaskSensor

with DAG(
    "kling_chaos",
    schedule=None,
    max_active_runs=4,  # so that at any time some tasks submit, some wait and some download
    params={"specs": Param([], type="array", description="Objects with image, prompt and target")},
    default_args={"retries": 6, "retry_delay": timedelta(seconds=2)},
) as dag:

    @task
    def plan(params: dict[str, Any]) -> list[dict[str, str]]:
        """Return the videos of this run."""
        return list(params["specs"])

    @task_group
    def animate(image: str, prompt: str, target: str) -> None:
        """One picture, one video."""
        submit = KlingSubmitOperator(task_id="submit", image=image, prompt=prompt, duration=3)
        wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output, poke_interval=2)
        download = KlingDownloadOperator(
            task_id="download",
            kling_task_id=submit.output,
            target=target,
            retry_policy=KlingRetryPolicy(initial_delay=2, max_delay=10),
        )
        wait >> download

    animate.expand_kwargs(plan())
