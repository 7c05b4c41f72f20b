"""Other kinds of video: from text, from references, from other videos, and with several shots.

Each Dag has the same three tasks as `kling_image_to_video`. `docs/models.md` says which model takes which
input.
"""

from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

MONEY = """

- `submit` starts the job. **This is the task that costs money.**
- `wait` waits for the job in the triggerer. It needs no worker.
- `download` stores the video at the target.

A retry never pays again: it continues with the job that was paid for. You can clear `wait` and `download`
at no cost. **If you clear `submit`, it buys another video.**
"""

PROMPT = Param(
    "A paper boat drifts down a rainy street.",
    type="string",
    minLength=1,
    maxLength=2500,
    format="multiline",
    title="Prompt",
    description="What happens in the video",
)
SECONDS = Param(5, type="integer", minimum=3, maximum=10, title="Seconds")
VIDEO = Param(
    type="string",
    minLength=1,
    title="Video",
    description="Public URL of an MP4 or MOV, or path on a storage that can sign URLs",
)
PICTURE = Param(
    type="string",
    minLength=1,
    title="Picture",
    description="Public URL, or path on any storage, of a JPEG or PNG. A local path must be in a folder "
    "that the connection allows.",
)
TARGET = Param(
    "/tmp/kling/",  # noqa: S108 - an example
    type="string",
    minLength=1,
    title="Target",
    description="Path or URL on any storage: a file, or a folder with a slash at the end. If you clear "
    "submit later, it buys another video; clearing wait or download is free.",
)


def pictures(most: int) -> Param:
    """Return a form field for a list of pictures."""
    return Param(
        [],
        type="array",
        items={"type": "string", "minLength": 1},
        maxItems=most,
        title="Pictures",
        description=f"At most {most}, one per line: public URLs, or paths on any storage",
    )


def make_dag(dag_id: str, what: str, params: dict[str, Param], **inputs: Any) -> DAG:
    """Return a Dag that submits, waits and downloads; `inputs` are the arguments of the submit."""
    with DAG(
        dag_id,
        description=what,
        doc_md=f"{what}.{MONEY}",
        schedule=None,
        tags=["kling"],
        default_args={"retries": 2},  # safe: a retry continues with the job that was paid for
        params={**params, "target": TARGET},
    ) as dag:
        submit = KlingSubmitOperator(
            task_id="submit",
            doc_md="Starts the job, which costs money. If you clear this task, it buys another video.",
            **inputs,
        )
        wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output)
        download = KlingDownloadOperator(
            task_id="download", kling_task_id=submit.output, target="{{ params.target }}"
        )
        wait >> download
    return dag


text_to_video = make_dag(
    "kling_text_to_video",
    "A prompt becomes a video, without a picture",
    {
        "prompt": PROMPT,
        "duration": SECONDS,
        "aspect_ratio": Param("9:16", type="string", enum=["16:9", "9:16", "1:1"], title="Aspect ratio"),
    },
    model="kling-v3.0-std-t2v",
    prompt="{{ params.prompt }}",
    duration="{{ params.duration }}",
    aspect_ratio="{{ params.aspect_ratio }}",
)

reference_to_video = make_dag(
    "kling_reference_to_video",
    "Pictures of the same person, thing or place become a video",
    {"prompt": PROMPT, "images": pictures(7), "duration": SECONDS},
    model="kling-o1-ref2v",
    prompt="{{ params.prompt }}",
    images="{{ params.images | tojson }}",  # a template gives a text, so the list goes as JSON
    duration="{{ params.duration }}",
)

# The result is as long as the given video, so its price is not known before.
video_editing = make_dag(
    "kling_video_editing",
    "A video is changed as the prompt says, such as 'remove the car' or 'make it snow'",
    {"video": VIDEO, "prompt": PROMPT, "images": pictures(4)},
    model="kling-o1-video-edit",
    video="{{ params.video }}",
    prompt="{{ params.prompt }}",
    images="{{ params.images | tojson }}",
    keep_original_sound=True,
)

motion_control = make_dag(
    "kling_motion_control",
    "The character of a picture moves like the person in a video",
    {"image": PICTURE, "video": VIDEO},
    model="kling-v2.6-pro-motion-control",
    image="{{ params.image }}",
    video="{{ params.video }}",
    character_orientation="video",
)

# With this model the shots take the place of the prompt.
multi_shot = make_dag(
    "kling_multi_shot",
    "A picture becomes a video of several shots",
    {
        "image": PICTURE,
        "shots": Param(
            [{"prompt": "She opens the door.", "duration": 3}, {"prompt": "She runs out.", "duration": 4}],
            type="array",
            # Without `items` the form shows a list of texts, and sends "[object Object]".
            items={
                "type": "object",
                "properties": {
                    "prompt": {"type": "string", "minLength": 1},
                    "duration": {"type": "integer", "minimum": 1, "maximum": 15},
                },
                "required": ["prompt", "duration"],
                "additionalProperties": False,
            },
            minItems=1,
            title="Shots",
            description='A JSON list: {"prompt": "what happens", "duration": whole seconds} for each shot. '
            "The durations must add up to the seconds of the whole video.",
        ),
        "duration": Param(7, type="integer", minimum=3, maximum=15, title="Seconds of the whole video"),
    },
    model="kling-v3.0-pro-i2v",
    image="{{ params.image }}",
    multi_prompt="{{ params.shots | tojson }}",
    duration="{{ params.duration }}",
)
