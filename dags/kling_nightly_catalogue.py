"""Every night each picture of a folder becomes a video; a bad picture fails alone.

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
    max_active_runs=1,  # two nights must not pay for the same pictures
    tags=["kling"],
    params={
        "pictures": Param(
            "/tmp/kling/pictures",  # noqa: S108
            type="string",
            title="Folder of pictures",
            description="Path or URL of any storage; its .jpg, .jpeg and .png files are taken",
        ),
        "videos": Param(
            "/tmp/kling/videos",  # noqa: S108
            type="string",
            title="Folder for videos",
            description="Path or URL of any storage; shoe.png becomes shoe.mp4, an older one is replaced",
        ),
        "prompt": Param(
            "The {name} turns slowly on a white table, soft light.",
            type="string",
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
        """Give one order for each picture."""
        pictures, videos = ObjectStoragePath(params["pictures"]), params["videos"].rstrip("/")
        if not pictures.is_dir():
            raise FileNotFoundError(f"pictures={params['pictures']!r}: there is no such folder")
        return [
            {
                "image": str(picture),
                "prompt": params["prompt"].replace("{name}", PurePosixPath(picture.name).stem),
                "target": f"{videos}/{PurePosixPath(picture.name).stem}.mp4",
            }
            for picture in sorted(pictures.iterdir(), key=str)
            if picture.suffix.lower() in (".jpg", ".jpeg", ".png")
        ]

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
            max_active_tis_per_dag=2,  # the gateway limits how many jobs it takes at a time
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
