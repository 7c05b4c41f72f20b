"""A picture and a prompt become a video, in three tasks.

- `submit` starts the job. **This is the task that costs money.**
- `wait` waits for the job in the triggerer. It needs no worker.
- `download` stores the video at the target.

A retry never pays again: it continues with the job that was paid for. You can clear `wait` and `download`
at no cost. **If you clear `submit`, it buys another video.**

The paths in the form must be in folders that the connection allows (*Allowed paths*).
"""

from airflow.sdk import DAG, Param

from airflow_provider_kling.models.myrouter import DEFAULT_MODEL, MODELS
from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

with DAG(
    "kling_image_to_video",
    description="One picture becomes one video: submit, wait, download",
    doc_md=__doc__,
    schedule=None,
    tags=["kling"],
    user_defined_macros={
        "silent_models": [slug for slug, model in MODELS.items() if not model.field("sound")]
    },
    default_args={"retries": 2},  # safe: a retry continues with the job that was paid for
    params={
        "image": Param(
            type="string",
            minLength=1,
            title="Picture",
            description="Public URL, or path on any storage, of a JPEG or PNG. A local path must be in a "
            "folder that the connection allows.",
        ),
        "prompt": Param(
            "The camera slowly moves closer.",
            type="string",
            minLength=1,
            maxLength=2500,
            format="multiline",
            title="Prompt",
            description="What happens in the video",
        ),
        "duration": Param(
            5,
            type="integer",
            minimum=3,
            maximum=15,
            title="Seconds",
            description="3 to 15 with Kling 3.0; 5 or 10 with older models",
        ),
        "model": Param(
            DEFAULT_MODEL,
            type="string",
            title="Model",
            description="Pro costs a third more than std. For another model, change the Dag file",
            enum=[slug for slug in MODELS if "i2v" in slug],
        ),
        "sound": Param(default=False, type=["null", "boolean"], title="Sound", description="Costs 50 % more"),
        "target": Param(
            "/tmp/kling/",  # noqa: S108 - an example
            type="string",
            minLength=1,
            title="Target",
            description="Path or URL on any storage: a file, or a folder with a slash at the end. With "
            "several workers, use a storage that all of them can access. If you clear submit later, it buys "
            "another video; clearing wait or download is free.",
        ),
    },
) as dag:
    submit = KlingSubmitOperator(
        task_id="submit",
        image="{{ params.image }}",
        prompt="{{ params.prompt }}",
        duration="{{ params.duration }}",
        model="{{ params.model }}",
        # False is sent too: some models make sound by default. Models that never make sound refuse the input.
        sound="{{ '' if params.model in silent_models and not params.sound else params.sound }}",
        doc_md="Starts the job, which costs money. If you clear this task, it buys another video.",
    )
    wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output, poke_interval=5)
    download = KlingDownloadOperator(
        task_id="download", kling_task_id=submit.output, target="{{ params.target }}"
    )
    wait >> download
