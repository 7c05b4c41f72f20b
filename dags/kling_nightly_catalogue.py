"""Every night each new picture of a folder becomes a video.

Both folders may be on any storage: `/data/shoes`, `s3://aws_default@shop/shoes`, ... Each picture has its own
`submit`, `wait` and `download`, so a bad picture fails alone.

**`submit` costs money. If you clear it, it buys again.** `plan` finds the pictures that need a video:

- A picture that has a video in the folder is skipped.
- A picture for which a run has bought a job is skipped too, even if this worker does not find the video.
  So workers with their own disks do not buy twice. Airflow's Variable `kling_nightly_catalogue` records the
  runs. The log of `plan` names such a job; the Dag `kling_rescue` stores its video.
- *Buy again* buys videos for all pictures.

`summary` fails if a picture has failed. `night` updates the asset `kling_night` in any case. Then the Dag
`kling_film` joins the videos of the run into one film.
"""

import logging
import socket
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetAlias, ObjectStoragePath, Param, Variable, task, task_group

from airflow_provider_kling.errors import Money
from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.models.myrouter import MODELS
from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator, KlingSummaryOperator
from airflow_provider_kling.sensors import KlingTaskSensor
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.target import Target
from airflow_provider_kling.submission.local_disk import warn_of_local_disk

log = logging.getLogger(__name__)


def earlier_job(ti: Any, run_id: str, map_index: int) -> str | None:
    """Return the job that an earlier run has bought, or None if it has bought none."""
    submit = {"task_ids": "animate.submit", "run_id": run_id, "map_indexes": map_index}
    # A submit that failed may have bought a job too, also one whose id is unknown.
    request: dict[str, Any] = ti.xcom_pull(**submit, key="kling_request") or {}
    error: dict[str, Any] = ti.xcom_pull(**submit, key="kling_error") or {}
    if job := ti.xcom_pull(**submit) or request.get("kling_task_id") or error.get("kling_task_id"):
        return str(job)
    return "of unknown id" if error.get("money", Money.UNTOUCHED) != Money.UNTOUCHED else None


with DAG(
    "kling_nightly_catalogue",
    description="Every night each new picture of a folder becomes a video",
    doc_md=__doc__,
    schedule="@daily",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it in the Dag's time zone
    catchup=False,  # the nights before today would all buy the same videos
    max_active_runs=1,  # two runs at the same time would both buy what is missing
    tags=["kling"],
    params={
        "pictures": Param(
            "/tmp/kling/pictures",  # noqa: S108 - an example
            type="string",
            minLength=1,
            title="Folder of pictures",
            description="Path or URL on any storage; its .jpg, .jpeg and .png files are taken. A local "
            "folder must be one that the connection allows.",
        ),
        "videos": Param(
            "/tmp/kling/videos",  # noqa: S108 - an example
            type="string",
            minLength=1,
            title="Folder for videos",
            description="Path or URL on any storage; shoe.png becomes shoe.png.mp4. With several workers, "
            "use a storage that all of them can access. If you clear a submit later, it buys another video; "
            "clearing a wait or download is free.",
        ),
        "redo": Param(
            default=False,
            type="boolean",
            title="Buy again",
            description="Buys a new video for every picture, also for those that have one",
        ),
        "at_most": Param(
            50, type="integer", minimum=1, title="At most", description="Videos that one run buys"
        ),
        "prompt": Param(
            "The {name} turns slowly on a white table, soft light.",
            type="string",
            minLength=1,
            maxLength=2500,
            format="multiline",
            title="Prompt",
            description="What happens in each video; {name} becomes the name of the picture",
        ),
        "duration": Param(
            5,
            type="integer",
            minimum=3,
            maximum=15,
            title="Seconds of each video",
            description="3 to 15 with Kling 3.0; 5 or 10 with older models",
        ),
        "model": Param(
            "kling-v3.0-std-i2v",
            type="string",
            title="Model",
            description="Pro costs a third more than std. For another model, change the Dag file",
            enum=[slug for slug in MODELS if "i2v" in slug],
        ),
    },
) as dag:

    @task
    def plan(**context: Any) -> list[dict[str, str]]:
        """Return the submit's and the download's arguments for each picture that has no video yet."""
        params, ti = context["params"], context["ti"]
        pictures, videos = ObjectStoragePath(params["pictures"]), params["videos"].rstrip("/")
        allowed = KlingHook().settings.allowed_paths  # other folders must not be listed
        folder = resolve_path(params["pictures"], "pictures", allowed)
        video = resolve_path(f"{videos}/video.mp4", "videos", allowed, for_writing=True)
        if not pictures.is_dir():
            raise FileNotFoundError(
                f"pictures={params['pictures']!r}: the worker {socket.gethostname()} has no such folder."
            )
        warn_of_local_disk("pictures", folder, log)
        warn_of_local_disk("videos", video, log)
        Target(video, {"run_id": ti.run_id}).check_writable()  # before anything is bought
        # Target -> run and map index of its last submit. The database is shared, a worker's disk is not.
        submitted = Variable.get("kling_nightly_catalogue", default={}, deserialize_json=True)
        requests: list[dict[str, str]] = []
        for picture in sorted(pictures.iterdir(), key=str):
            target = f"{videos}/{picture.name}.mp4"
            if picture.suffix.lower() not in (".jpg", ".jpeg", ".png"):
                continue
            if not params["redo"]:
                if ObjectStoragePath(target).exists():
                    continue
                if target in submitted and (job := earlier_job(ti, *submitted[target])):
                    log.warning("%s is missing, but an earlier run has bought the job %s.", target, job)
                    log.warning("It is not bought again. The Dag kling_rescue stores its video.")
                    continue
            prompt = params["prompt"].replace("{name}", PurePosixPath(picture.name).stem)
            requests.append({"image": str(picture), "prompt": prompt, "target": target})
            if len(requests) == params["at_most"]:
                break
        submitted |= {request["target"]: [ti.run_id, index] for index, request in enumerate(requests)}
        Variable.set("kling_nightly_catalogue", submitted, serialize_json=True)  # before anything is bought
        return requests

    # In a mapped task group each picture continues on its own: one that waits or fails stops no other.
    # The template shows the picture's name in the grid, instead of 0, 1, 2.
    name = "{{ ti.xcom_pull(task_ids='plan', map_indexes=-1)[ti.map_index]['image'].split('/')[-1] }}"

    @task_group(default_args={"map_index_template": name})
    def animate(image: str, prompt: str, target: str) -> None:
        """Make one video of one picture."""
        submit = KlingSubmitOperator(
            task_id="submit",
            image=image,
            prompt=prompt,
            duration="{{ params.duration }}",
            model="{{ params.model }}",
            max_active_tis_per_dag=2,  # limits requests, not the jobs that already run
            busy_timeout=6 * 3600,  # how long to repeat while the gateway says that too many jobs run
            retries=3,  # safe: a retry continues with the job that was paid for
            retry_delay=timedelta(minutes=1),
            doc_md="Starts the job, which costs money. If you clear this task, it buys another video.",
        )
        # No limit here: a deferred wait needs no worker, so a thousand of them can wait together.
        wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output)
        download = KlingDownloadOperator(
            task_id="download",
            kling_task_id=submit.output,
            target=target,
            max_active_tis_per_dag=4,  # limits the load on your network
            retries=3,
            retry_delay=timedelta(minutes=1),
            outlets=[AssetAlias("kling_videos")],  # gets an event for each stored video
        )
        wait >> download

    night = EmptyOperator(task_id="night", outlets=[Asset("kling_night")], trigger_rule="all_done")
    animate.expand_kwargs(plan()) >> [night, KlingSummaryOperator(task_id="summary")]
