"""What else Kling makes, with the same three tasks: from words, references, other videos and several shots.

Which model takes which input is in docs/models.md. Videos and pictures are given by public URLs here.
"""

from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor


def text(title: str, default: str | None = None, **schema: Any) -> Param:
    """Make a field of the trigger form that holds a text."""
    return Param(*([] if default is None else [default]), type="string", minLength=1, title=title, **schema)


PROMPT = text("Prompt", "A paper boat drifts down a rainy street.", maxLength=2500, format="multiline")
SECONDS = Param(5, type="integer", minimum=3, maximum=10, title="Seconds")
VIDEO = text("Video", description="Public URL; .mp4 or .mov")
PICTURE = "URL, or a path on any storage; on the worker's disk only in the connection's allowed_paths"
PICTURES = Param(
    [], type="array", title="Pictures", description="Public URLs, one a line", items={"type": "string"}
)
TARGET = text("Target", "/tmp/kling/", description="File, or folder with a slash at the end, of any storage")  # noqa: S108


def film(dag_id: str, params: dict[str, Param], **inputs: Any) -> DAG:
    """Make a Dag that submits, waits and downloads; `inputs` are the submit's arguments."""
    with DAG(
        dag_id,
        schedule=None,
        tags=["kling"],
        default_args={"retries": 2},  # safe: a job that is, or may be, paid for is never submitted again
        params={**params, "target": TARGET},
    ) as dag:
        submit = KlingSubmitOperator(task_id="submit", **inputs)
        wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output)
        download = KlingDownloadOperator(
            task_id="download", kling_task_id=submit.output, target="{{ params.target }}"
        )
        wait >> download
    return dag


text_to_video = film(
    "kling_text_to_video",
    {"prompt": PROMPT, "duration": SECONDS},
    model="kling-v3.0-std-t2v",
    prompt="{{ params.prompt }}",
    duration="{{ params.duration }}",
    aspect_ratio="9:16",
)

# Up to seven pictures of the same person, thing or place, and, if you like, a video to follow.
reference_to_video = film(
    "kling_reference_to_video",
    {"prompt": PROMPT, "images": PICTURES, "duration": SECONDS},
    model="kling-o1-ref2v",
    prompt="{{ params.prompt }}",
    images="{{ params.images | tojson }}",  # a template gives a text: JSON is read as what it says
    duration="{{ params.duration }}",
)

# "Remove the car", "make it snow": the length is that of the video, so no price can be told beforehand.
video_editing = film(
    "kling_video_editing",
    {"video": VIDEO, "prompt": PROMPT, "images": PICTURES},
    model="kling-o1-video-edit",
    video="{{ params.video }}",
    prompt="{{ params.prompt }}",
    images="{{ params.images | tojson }}",
    keep_original_sound=True,
)

# The character of a picture moves as somebody does in a video.
motion_control = film(
    "kling_motion_control",
    {"image": text("Character", description=PICTURE), "video": VIDEO},
    model="kling-v2.6-pro-motion-control",
    image="{{ params.image }}",
    video="{{ params.video }}",
    character_orientation="video",
)

# Several shots in one video; with this model they take the prompt's place.
multi_shot = film(
    "kling_multi_shot",
    {
        "image": text("First frame", description=PICTURE),
        "shots": Param(
            [{"prompt": "She opens the door.", "duration": 3}, {"prompt": "She runs out.", "duration": 4}],
            type="array",
            title="Shots",
            description="Each with a prompt and a whole number of seconds; together as long as the video",
        ),
        "duration": Param(7, type="integer", minimum=3, maximum=15, title="Seconds of the whole video"),
    },
    model="kling-v3.0-pro-i2v",
    image="{{ params.image }}",
    multi_prompt="{{ params.shots | tojson }}",
    duration="{{ params.duration }}",
)
