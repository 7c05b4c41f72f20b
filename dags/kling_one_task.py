"""A picture and a prompt become a video, in one task.

The task submits the job, waits for it in the triggerer, and stores the video. **It costs money once.**
A retry continues with the job that was paid for. If you clear the task before the video is stored, it
continues too. **If you clear it afterwards, it buys another video.** It needs Airflow 3.3.

The paths in the form must be in folders that the connection allows (*Allowed paths*).
"""

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators import KlingImageToVideoOperator

with DAG(
    "kling_one_task",
    description="One picture becomes one video, in one task",
    doc_md=__doc__,
    schedule=None,
    tags=["kling"],
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
        "target": Param(
            "/tmp/kling/",  # noqa: S108 - an example
            type="string",
            minLength=1,
            title="Target",
            description="Path or URL on any storage: a file, or a folder with a slash at the end. With "
            "several workers, use a storage that all of them can access. If you clear the video "
            "task after the video is stored, it buys another one.",
        ),
    },
) as dag:
    KlingImageToVideoOperator(
        task_id="video",
        image="{{ params.image }}",
        prompt="{{ params.prompt }}",
        target="{{ params.target }}",
        doc_md="Costs money. If you clear this task after the video is stored, it buys another video.",
    )
