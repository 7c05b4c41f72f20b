"""Submit, wait, download: once for each mode of the sensor; and tasks that something goes wrong for."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

MODES = {
    "deferred": {"deferrable": True, "poke_interval": 3},
    "poke": {"deferrable": False, "mode": "poke", "poke_interval": 3},
    "reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 15},
}
PARAMS = {"image": Param(type="string"), "target": Param(type="string")}
RETRIES = {"retries": 1, "retry_delay": timedelta(seconds=1)}

with DAG("chains", schedule=None, params=PARAMS, default_args=RETRIES):
    for name, mode in MODES.items():
        submit = KlingSubmitOperator(
            task_id=f"submit_{name}", image="{{ params.image }}", prompt=f"chain {name}"
        )
        wait = KlingTaskSensor(task_id=f"wait_{name}", kling_task_id=submit.output, **mode)
        download = KlingDownloadOperator(
            task_id=f"download_{name}",
            kling_task_id=submit.output,
            target=f"{{{{ params.target }}}}/{name}.mp4",
        )
        wait >> download

with DAG("troubles", schedule=None, params={**PARAMS, "job": Param(type="string")}, default_args=RETRIES):
    KlingSubmitOperator(task_id="answer_lost", image="{{ params.image }}", prompt="answer lost")
    KlingSubmitOperator(task_id="refused", image="{{ params.image }}", prompt="refused")
    KlingSubmitOperator(task_id="not_a_picture", image=__file__, prompt="nothing")
    KlingDownloadOperator(
        task_id="broken_download",
        kling_task_id="{{ params.job }}",
        target="{{ params.target }}/broken.mp4",
    )
