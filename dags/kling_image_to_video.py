"""A picture and a prompt become a video: submit (paid once), wait without a worker, download."""

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

with DAG(
    "kling_image_to_video",
    schedule=None,
    tags=["kling"],
    params={
        "image": Param(
            "https://example.com/picture.jpg", type="string", description="URL or path, JPEG or PNG"
        ),
        "prompt": Param("The camera slowly moves closer.", type="string", description="What happens"),
        "duration": Param(5, type="integer", minimum=3, maximum=15, description="Seconds of video"),
        "model": Param("kling-v3.0-pro-i2v", type="string"),
        "sound": Param(None, type=["null", "boolean"], description="Costs half as much again"),
        "target": Param("/tmp/kling/", type="string", description="Folder or file for the video"),  # noqa: S108
    },
) as dag:
    submit = KlingSubmitOperator(
        task_id="submit",
        image="{{ params.image }}",
        prompt="{{ params.prompt }}",
        duration="{{ params.duration }}",
        model="{{ params.model }}",
        sound="{{ '' if params.sound is none else params.sound }}",
    )
    wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output, poke_interval=2)
    download = KlingDownloadOperator(
        task_id="download", kling_task_id=submit.output, target="{{ params.target }}"
    )
    wait >> download
