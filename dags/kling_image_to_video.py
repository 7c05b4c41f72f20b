"""A picture and a prompt become a video: submit (paid once), wait without a worker, download."""

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

with DAG(
    "kling_image_to_video",
    schedule=None,
    tags=["kling"],
    default_args={"retries": 2},  # safe: a job that is, or may be, paid for is never submitted again
    params={
        "image": Param(
            type="string",
            minLength=1,
            title="Picture",
            description="URL, or a path on any storage; on the worker's disk only in folders that the "
            "connection allows (allowed_paths); JPEG or PNG",
        ),
        "prompt": Param(
            "The camera slowly moves closer.",
            type="string",
            minLength=1,
            maxLength=2500,
            format="multiline",
            title="Prompt",
            description="What happens",
        ),
        "duration": Param(
            5, type="integer", minimum=3, maximum=15, title="Seconds", description="Older models: 5 or 10"
        ),
        "model": Param(
            "kling-v3.0-pro-i2v",
            type="string",
            title="Model",
            examples=["kling-v3.0-pro-i2v", "kling-v3.0-std-i2v"],
        ),
        "sound": Param(None, type=["null", "boolean"], title="Sound", description="Costs 50 % more"),
        "target": Param(
            "/tmp/kling/",  # noqa: S108 - an example; with several workers, use a storage that all reach
            type="string",
            minLength=1,
            title="Target",
            description="Path or URL of any storage: a file, or a folder with a slash at the end",
        ),
    },
) as dag:
    submit = KlingSubmitOperator(
        task_id="submit",
        image="{{ params.image }}",
        prompt="{{ params.prompt }}",
        duration="{{ params.duration }}",
        model="{{ params.model }}",
        sound="{{ params.sound }}",
    )
    wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output, poke_interval=5)
    download = KlingDownloadOperator(
        task_id="download", kling_task_id=submit.output, target="{{ params.target }}"
    )
    wait >> download
