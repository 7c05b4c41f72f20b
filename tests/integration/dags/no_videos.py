"""A Dag that makes no videos."""

from airflow.sdk import DAG, task

with DAG("no_videos", schedule=None):

    @task
    def nothing() -> None:
        """Do nothing."""

    nothing()
