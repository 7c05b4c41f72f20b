"""One task for it all, and sensors that begin in the triggerer: plain, in a mapped group, with a bad end."""

from datetime import timedelta

from airflow.sdk import DAG, task_group

from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor

MODEL = {"model": "kling-v3.0-pro-t2v"}
RETRIES = {"retries": 1, "retry_delay": timedelta(seconds=1)}

with DAG("starts", schedule=None, params={"target": "/tmp/kling"}, default_args=RETRIES):
    KlingImageToVideoOperator(
        task_id="one", prompt="starts one", target="{{ params.target }}/one.mp4", poke_interval=2, **MODEL
    )
    KlingImageToVideoOperator.partial(
        task_id="each", target="{{ params.target }}/each/", poke_interval=2, **MODEL
    ).expand(prompt=["starts each 0", "starts each 1"])
    KlingImageToVideoOperator(
        task_id="again",
        prompt="starts again",
        target="{{ params.target }}/again.mp4",
        poke_interval=2,
        **MODEL,
    )

    for name in ("good", "bad"):
        submit = KlingSubmitOperator(task_id=f"submit_{name}", prompt=f"starts {name}", **MODEL)
        KlingTaskSensor(
            task_id=f"wait_{name}",
            kling_task_id=submit.output,
            poke_interval=2,
            start_from_trigger=True,
        )

    @task_group
    def group(prompt: str) -> None:
        """Go with one video through submit, wait and download."""
        submit = KlingSubmitOperator(task_id="submit", prompt=prompt, **MODEL)
        wait = KlingTaskSensor(
            task_id="wait", kling_task_id=submit.output, poke_interval=2, start_from_trigger=True
        )
        wait >> KlingDownloadOperator(
            task_id="download", kling_task_id=submit.output, target="{{ params.target }}/group/"
        )

    group.expand(prompt=["starts group 0", "starts group 1"])
