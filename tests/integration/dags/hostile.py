"""Each story of a hostile gateway, in each mode: one connection for each story and mode."""

from airflow.sdk import DAG, Param, task

from airflow_provider_kling.operators import KlingImageToVideoOperator
from airflow_provider_kling.sensors import KlingTaskSensor

#: Airflow fails a task that is resumed before the scheduler has noticed that it left its worker, so a
#: reschedule takes some seconds.
MODES = {
    "poke": {"deferrable": False, "mode": "poke", "poke_interval": 1, "timeout": 45},
    "reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 10, "timeout": 120},
    "deferred": {"poke_interval": 1, "timeout": 45},
}

with DAG(
    "hostile",
    schedule=None,
    max_active_tasks=100,
    params={
        "stories": Param([], type="array"),
        "job": Param(type="string"),
        "target": Param(type="string"),
    },
):

    @task
    def connections(way: str, params: dict) -> list:
        """Return the connection of each story."""
        return [f"hostile_{number}_{way}" for number in params["stories"]]

    for way, mode in MODES.items():
        KlingTaskSensor.partial(task_id=way, kling_task_id="{{ params.job }}", **mode).expand(
            kling_conn_id=connections.override(task_id=f"connections_{way}")(way)
        )

    @task
    def videos(params: dict) -> list:
        """Return the arguments of the one task for each story."""
        return [
            {"kling_conn_id": f"hostile_{number}_one_task", "target": f"{params['target']}/{number}/"}
            for number in params["stories"]
        ]

    KlingImageToVideoOperator.partial(
        task_id="one_task",
        model="kling-v3.0-pro-t2v",
        prompt="hostile",
        timeout=45,
        poke_interval=1,
        publish_link=False,
    ).expand_kwargs(videos())
