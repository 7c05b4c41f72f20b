"""One job, waited for in all three modes at once: whatever happens, the three must tell the same."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_kling.sensors import KlingTaskSensor

MODES = {
    "deferred": {"deferrable": True, "poke_interval": 1},
    "poke": {"deferrable": False, "mode": "poke", "poke_interval": 1},
    "reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 15},
}
KINDS = {
    "waits": {"timeout": 900},
    "waits_short": {"timeout": 15},
    "waits_soft": {"timeout": 900, "soft_fail": True},
}

for dag_id, settings in KINDS.items():
    with DAG(
        dag_id,
        schedule=None,
        params={"job": Param(type="string")},
        # A retry is always on offer, so that one which must not happen would be seen.
        default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
    ) as dag:
        for task_id, mode in MODES.items():
            KlingTaskSensor(task_id=task_id, kling_task_id="{{ params.job }}", **mode, **settings)

with DAG("waits_deferred", schedule=None, params={"job": Param(type="string")}):
    for task_id, timeout in {"short": 25, "middle": 50, "long": 900, "cut_off": 900}.items():
        KlingTaskSensor(
            task_id=task_id, kling_task_id="{{ params.job }}", poke_interval=2, timeout=timeout, retries=1
        )

with DAG("waits_ended_by_hand", schedule=None, params={"job": Param(type="string")}):
    for task_id in ("marked_failed", "marked_success", "cleared"):
        KlingTaskSensor(task_id=task_id, kling_task_id="{{ params.job }}", poke_interval=2, pool="by_hand")
