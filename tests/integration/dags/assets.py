"""A Dag that is scheduled on the videos of the nightly catalogue."""

from typing import Any

from airflow.sdk import DAG, AssetAlias, task

VIDEOS = AssetAlias("kling_videos")

with DAG("on_each_video", schedule=VIDEOS) as dag:

    @task
    def seen(**context: Any) -> list[dict[str, Any]]:
        """Return what the events say."""
        return [event.extra for event in context["triggering_asset_events"][VIDEOS]]

    seen()
