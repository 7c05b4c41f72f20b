"""The Dags of `make chaos`: many pictures become videos while everything is killed."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task, task_group

from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
)
from airflow_provider_kling.retries import KlingRetryPolicy
from airflow_provider_kling.sensors import KlingTaskSensor

SPECS = Param([], type="array", description="Objects with image, prompt and target")
RETRIES = {"retries": 6, "retry_delay": timedelta(seconds=2)}
RETRY_POLICY = KlingRetryPolicy(initial_delay=2, max_delay=10)


@task
def plan(params: dict[str, Any]) -> list[dict[str, str]]:
    """Return the videos of this run."""
    return list(params["specs"])


with DAG(
    "kling_chaos",
    schedule=None,
    max_active_runs=4,  # so that at any time some tasks submit, some wait and some download
    params={"specs": SPECS},
    default_args=RETRIES,
) as dag:

    @task_group
    def animate(image: str, prompt: str, target: str) -> None:
        """One picture, one video."""
        submit = KlingSubmitOperator(task_id="submit", image=image, prompt=prompt, duration=3)
        wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output, poke_interval=2)
        download = KlingDownloadOperator(
            task_id="download",
            kling_task_id=submit.output,
            target=target,
            retry_policy=RETRY_POLICY,
        )
        wait >> download

    animate.expand_kwargs(plan())


with DAG(
    "kling_chaos_one_task",
    schedule=None,
    max_active_runs=4,
    params={"specs": SPECS, "budget": Param(0.0, type="number", description="US dollars for the run")},
    default_args=RETRIES,
) as one_task_dag:
    KlingImageToVideoOperator.partial(
        task_id="video",
        duration=3,
        poke_interval=2,
        max_run_cost_usd="{{ params.budget }}",
        retry_policy=RETRY_POLICY,
    ).expand_kwargs(plan())
