"""Each picture of a folder becomes a video. The screenshots show this Dag."""

from airflow.sdk import DAG, Param, task

from airflow_provider_kling.operators import KlingImageToVideoOperator, KlingSummaryOperator

with DAG(
    "postcards",
    description="Six pictures become six videos",
    doc_md=__doc__,
    schedule=None,
    tags=["kling"],
    params={"folder": Param(type="string"), "names": Param(type="array")},
):

    @task
    def plan(params: dict) -> list[dict]:
        """Return the arguments for each picture."""
        return [
            {
                "image": f"{params['folder']}/{name}.jpg",
                "prompt": f"The waves of the {name} glitter, the camera rises slowly.",
                "target": f"{params['folder']}/{name}.mp4",
            }
            for name in params["names"]
        ]

    videos = KlingImageToVideoOperator.partial(task_id="video", duration=5).expand_kwargs(plan())
    videos >> KlingSummaryOperator(task_id="summary")
