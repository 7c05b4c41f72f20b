"""Every night each new picture of a folder becomes a video; a bad picture fails alone.

The folder may be any storage that Airflow knows: `/data/shoes`, `s3://aws_default@shop/shoes`, ...
"""

from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from airflow.sdk import DAG, ObjectStoragePath, Param, task, task_group

from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

with DAG(
    "kling_nightly_catalogue",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it in the Dag's time zone
    catchup=False,  # videos of the nights before today would cost money and help nobody
    max_active_runs=1,  # two runs at a time would both buy the videos that are still missing
    tags=["kling"],
    params={
        "pictures": Param(
            "/tmp/kling/pictures",  # noqa: S108
            type="string",
            title="Folder of pictures",
            description="Path or URL of any storage; on the worker's disk only in folders that the "
            "connection allows (allowed_paths); its .jpg, .jpeg and .png files are taken",
        ),
        "videos": Param(
            "/tmp/kling/videos",  # noqa: S108
            type="string",
            title="Folder for videos",
            description="Path or URL of any storage; shoe.png becomes shoe.png.mp4",
        ),
        "redo": Param(
            default=False,
            type="boolean",
            title="Buy again",
            description="Also for pictures that have a video",
        ),
        "at_most": Param(
            50, type="integer", minimum=1, title="At most", description="Videos bought in one run"
        ),
        "prompt": Param(
            "The {name} turns slowly on a white table, soft light.",
            type="string",
            minLength=1,
            title="Prompt",
            description="What happens; {name} becomes the picture's name",
            format="multiline",
            maxLength=2500,
        ),
        "duration": Param(5, type="integer", minimum=3, maximum=15, title="Seconds of each video"),
        "model": Param(
            "kling-v3.0-std-i2v",
            type="string",
            title="Model",
            examples=["kling-v3.0-std-i2v", "kling-v3.0-pro-i2v"],
            description="pro costs a third more a second than std",
        ),
    },
) as dag:

    @task
    def plan(params: dict[str, Any]) -> list[dict[str, str]]:
        """Give one order for each picture that has no video yet."""
        pictures, videos = ObjectStoragePath(params["pictures"]), params["videos"].rstrip("/")
        if not pictures.is_dir():
            raise FileNotFoundError(
                f"pictures={params['pictures']!r}: there is no such folder on this worker"
            )
        orders = [
            {
                "image": str(picture),
                "prompt": params["prompt"].replace("{name}", PurePosixPath(picture.name).stem),
                "target": f"{videos}/{picture.name}.mp4",
            }
            for picture in sorted(pictures.iterdir(), key=str)
            if picture.suffix.lower() in (".jpg", ".jpeg", ".png")
        ]
        wanted = [
            order for order in orders if params["redo"] or not ObjectStoragePath(order["target"]).exists()
        ]
        return wanted[: params["at_most"]]

    # In a mapped *group* each picture goes its own way: one that waits or fails holds up no other.
    # The template shows the picture's name in the grid, instead of 0, 1, 2.
    name = "{{ ti.xcom_pull(task_ids='plan', map_indexes=-1)[ti.map_index]['image'].split('/')[-1] }}"

    @task_group(default_args={"map_index_template": name})
    def animate(image: str, prompt: str, target: str) -> None:
        """One picture, one video."""
        submit = KlingSubmitOperator(
            task_id="submit",
            image=image,
            prompt=prompt,
            duration="{{ params.duration }}",
            model="{{ params.model }}",
            max_active_tis_per_dag=2,  # requests at a time; jobs that are already running do not count
            busy_timeout=6 * 3600,  # how long to knock while the gateway says that enough jobs are running
            retries=3,  # safe: a job that is, or may be, paid for is never submitted again
            retry_delay=timedelta(minutes=1),
        )
        # No limit here: a deferred wait costs no worker, so a thousand of them may wait together.
        wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output)
        download = KlingDownloadOperator(
            task_id="download",
            kling_task_id=submit.output,
            target=target,
            max_active_tis_per_dag=4,  # your network's share, not the gateway's
            retries=3,
            retry_delay=timedelta(minutes=1),
        )
        wait >> download

    animate.expand_kwargs(plan())
