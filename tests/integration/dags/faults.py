"""Every fault that there is, met by a task of its own; pictures in every form, as templates give them."""

import base64
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

#: Put together when it is rendered: Airflow keeps the text of each Dag file.
SIGNATURE = ("a", "signature", "of", "a", "picture")


def picture(path: str, number: int) -> str:
    """Give the picture in one of its forms; it comes into being when it is rendered, never in the Dag."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    signed = "https://pictures.example/cat.png?X-Amz-Signature=" + "-".join(SIGNATURE)
    return (f"data:image/png;base64,{data}", data, path, signed)[number % 4]


LISTS = ("prompts", "waits", "downloads")
TEXT = {name: Param(type="string") for name in ("image", "target", "slow", "done")}

with DAG(
    "faults",
    schedule=None,
    params={**TEXT, **{name: Param([], type="array") for name in LISTS}},
    user_defined_macros={"picture": picture},
):

    @task
    def given(name: str, params: dict) -> list:
        """Give a mapped task what it is mapped over."""
        return params[name]

    over = {name: given.override(task_id=name)(name) for name in LISTS}
    KlingSubmitOperator.partial(
        task_id="submit", image="{{ picture(params.image, ti.map_index) }}", busy_timeout=0
    ).expand(prompt=over["prompts"])
    KlingTaskSensor.partial(task_id="wait", poke_interval=1, initial_delay=1, timeout=20).expand(
        kling_task_id=over["waits"]
    )
    KlingDownloadOperator.partial(
        task_id="download", target="{{ params.target }}/{{ ti.map_index }}/"
    ).expand(kling_task_id=over["downloads"])
    # Cut short by Airflow itself, once; the deferred one is not: its triggerer knows no such timeout.
    # Long enough for the second try to end in time on a slow machine too.
    cut = {"execution_timeout": timedelta(seconds=12), "retries": 1, "retry_delay": timedelta(seconds=1)}
    slow = {"kling_task_id": "{{ params.slow }}", "poke_interval": 1, **cut}
    KlingTaskSensor(task_id="cut_short_poke", deferrable=False, **slow)
    longer = timedelta(seconds=8)  # yet less than the wait takes
    KlingTaskSensor(task_id="not_cut_short_deferred", **{**slow, "execution_timeout": longer})
    KlingDownloadOperator(
        task_id="cut_short_download",
        kling_task_id="{{ params.done }}",
        target="{{ params.target }}/cut.mp4",
        **cut,
    )
