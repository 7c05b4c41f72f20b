"""A picture becomes a video in one task: bought once, waited for without a worker, brought home."""

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators import KlingImageToVideoOperator

with DAG(
    "kling_one_task",
    schedule=None,
    tags=["kling"],
    default_args={"retries": 2},  # safe: a retry goes on with the job that was bought
    params={
        "image": Param(
            type="string",
            minLength=1,
            title="Picture",
            description="URL, or a path on any storage; on the worker's disk only in folders that the "
            "connection allows (allowed_paths)",
        ),
        "prompt": Param(
            "The camera slowly moves closer.",
            type="string",
            minLength=1,
            title="Prompt",
            description="What happens",
        ),
        "target": Param(
            "/tmp/kling/",  # noqa: S108 - an example; with several workers, use a storage that all reach
            type="string",
            minLength=1,
            title="Target",
            description="Path or URL of any storage: a file, or a folder with a slash at the end",
        ),
    },
) as dag:
    KlingImageToVideoOperator(
        task_id="video",
        image="{{ params.image }}",
        prompt="{{ params.prompt }}",
        target="{{ params.target }}",
    )
