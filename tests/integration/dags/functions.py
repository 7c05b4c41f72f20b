"""Requests that functions make, pictures as bytes and as lists, a run's limit, and videos made before."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_kling.decorators import kling_video
from airflow_provider_kling.operators import (
    KlingImageToVideoOperator,
    KlingSubmitOperator,
    KlingSummaryOperator,
)
from airflow_provider_kling.request import VideoRequest

WORDS = "kling-v3.0-pro-t2v"
FORM = {"image": Param(type="string"), "target": Param(type="string")}


def read(context: Any, jinja_env: Any) -> bytes:
    """Give the picture itself."""
    return Path(context["params"]["image"]).read_bytes()


with DAG("functions", schedule=None, params=FORM, default_args={"retry_delay": timedelta(seconds=1)}) as dag:

    @task.kling_video(target="{{ params.target }}/{date}/{name}.mp4", poke_interval=2)
    def one(params: dict[str, Any]) -> VideoRequest:
        """Ask for one video of the picture."""
        return VideoRequest(image=params["image"], prompt="functions one")

    @kling_video(poke_interval=2)
    def each(colour: str, params: dict[str, Any]) -> dict[str, Any]:
        """Ask for one video of many, and say where it goes."""
        target = f"{params['target']}/{colour}.mp4"
        return {"model": WORDS, "prompt": f"functions {colour}", "target": target}

    @task.kling_video(target="{{ params.target }}/many/", poke_interval=2)
    def many(colours: list[str]) -> list[VideoRequest]:
        """Ask for one video of each colour."""
        return [VideoRequest(model=WORDS, prompt=f"functions many {colour}") for colour in colours]

    @task.kling_video(target="{{ params.target }}/again.mp4", poke_interval=2, retries=1)
    def again() -> VideoRequest:
        """Ask for a video whose download fails at first."""
        return VideoRequest(model=WORDS, prompt="functions again")

    [one(), each.expand(colour=["red", "blue"]), many(["white", "black"]), again()]

    KlingSubmitOperator(task_id="bytes", image=read, prompt="functions bytes")

    @task
    def found(params: dict[str, Any]) -> list[list[str]]:
        """Name the pictures of two requests."""
        return [[params["image"]], [params["image"], params["image"]]]

    KlingSubmitOperator.partial(task_id="lists", model="kling-o1-ref2v", prompt="functions lists").expand(
        images=found()
    )

with DAG("limits", schedule=None):
    # 3 seconds cost 0.336 USD each: two are within the limit.
    limited = KlingSubmitOperator.partial(
        task_id="submit", model=WORDS, duration=3, max_run_cost_usd=0.7
    ).expand(prompt=[f"limits {n}" for n in range(4)])
    limited >> KlingSummaryOperator(task_id="summary", fail_on_error=False)

with DAG("pooled", schedule=None, params=FORM):
    KlingImageToVideoOperator.partial(
        task_id="video", model=WORDS, target="{{ params.target }}/", pool="kling", poke_interval=2
    ).expand(prompt=["pooled 0", "pooled 1"])

with DAG("library", schedule=None, params={**FORM, "night": Param(type="string")}):
    KlingImageToVideoOperator(
        task_id="video",
        image="{{ params.image }}",
        prompt="library",
        target="{{ params.target }}/{{ params.night }}/video.mp4",
        reuse="fingerprint",
        library="{{ params.target }}/index",
        poke_interval=2,
    ) >> KlingSummaryOperator(task_id="summary", fail_on_error=False)
