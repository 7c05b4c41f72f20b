"""The time from a job's end to the stored file, in a real Airflow, for three ways to write the Dag.

``JOBS=200`` mapped videos in each way, one way after another, with LocalExecutor, PostgreSQL and
``WORKERS=8``. When all tasks wait, the jobs end one after another, during ``SPREAD`` seconds (by default one
second for each job). Worker seconds are the time that workers were busy, by their process titles every tenth
of a second. CPU seconds are those of the workers and their task processes.
"""

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from private_airflow.components import PrivateAirflow
from private_airflow.postgres import PrivatePostgres
from private_airflow.services import exit_on_termination
from report import percentile, report

from airflow_provider_kling.emulator import Emulator

JOBS = int(os.environ.get("JOBS", "200"))
WORKERS = int(os.environ.get("WORKERS", "8"))
SPREAD = float(os.environ.get("SPREAD", str(JOBS)))
KINDS = ("three tasks", "one task", "start in the triggerer")
DAG = """
from airflow.sdk import DAG, task_group
from airflow_provider_kling.operators import *
from airflow_provider_kling.sensors import KlingTaskSensor

MODEL = {{"model": "kling-v3.0-pro-t2v"}}

for number, kind in enumerate({kinds!r}):
    prompts = [f"{{kind}} {{n}}" for n in range({jobs})]
    with DAG(f"kind_{{number}}", schedule=None, default_args={{"retries": 2}}):
        if kind == "one task":
            one = KlingImageToVideoOperator.partial(task_id="video", target={target!r}, **MODEL)
            one.expand(prompt=prompts)
            continue

        @task_group
        def video(prompt, direct=kind != "three tasks"):
            submit = KlingSubmitOperator(task_id="submit", prompt=prompt, **MODEL)
            wait = KlingTaskSensor(
                task_id="wait", kling_task_id=submit.output, start_from_trigger=direct
            )
            wait >> KlingDownloadOperator(task_id="download", kling_task_id=submit.output, target={target!r})

        video.expand(prompt=prompts)
"""


class Workers(threading.Thread):
    """Measures how many of the scheduler's workers are busy, and their CPU time."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__(daemon=True)
        self._scheduler, self._over = scheduler, threading.Event()
        self.busy, self.busy_seconds, self.most_memory = 0, 0.0, 0

    def run(self) -> None:
        """Measure until :meth:`end`."""
        before = time.monotonic()
        while not self._over.wait(0.1):
            self.busy, now = (
                sum("LocalExecutor: " in title and "idle" not in title for title in self._titles()),
                time.monotonic(),
            )
            self.busy_seconds += self.busy * (now - before)
            before = now

    def _titles(self) -> list[str]:
        titles = []
        for process in self._scheduler.members():
            try:
                titles.append(" ".join(process.cmdline()))
                if titles[-1].startswith("airflow worker"):
                    self.most_memory = max(self.most_memory, process.memory_info().rss)
            except psutil.Error:
                continue
        return titles

    def cpu(self) -> float:
        """Return the CPU seconds of all workers and their tasks."""
        used = 0.0
        for process in self._scheduler.members():
            try:
                if "LocalExecutor" in " ".join(process.cmdline()):
                    used += sum(process.cpu_times()[:4])
            except psutil.Error:
                continue
        return used

    def end(self) -> None:
        """Stop measuring."""
        self._over.set()


def one_way(airflow: PrivateAirflow, gateway: Emulator, number: int, videos: Path) -> dict[str, Any]:
    """Make all videos in one way, and return the measurements."""
    kind, dag_id = KINDS[number], f"kind_{number}"
    workers = Workers(airflow.services["scheduler"])
    cpu, known = workers.cpu(), len(gateway.jobs)
    workers.start()
    began = time.time()
    run_id = airflow.trigger(dag_id)

    def waiting() -> bool:
        tasks = airflow.api.task_instances(dag_id, run_id)
        return sum(task["state"] == "deferred" for task in tasks) == JOBS and workers.busy == 0

    airflow.wait_until(f"all to wait ({kind})", waiting, 60 + 20 * JOBS, 1)
    all_wait, held, jobs = time.time() - began, 0, gateway.jobs[known:]
    for _ in range(50):
        held = max(held, workers.busy)
        time.sleep(0.1)
    ends = {job.task_id: time.time() + 10 + SPREAD * n / JOBS for n, job in enumerate(jobs)}
    for job in jobs:
        job.render_seconds = ends[job.task_id] - job.created_at
    state = airflow.wait_for_run(dag_id, run_id, 120 + SPREAD + 20 * JOBS)
    workers.end()
    assert state == "success", f"{kind}: {state}"
    assert len(jobs) == JOBS, f"{kind}: {len(jobs)} jobs were paid for"
    late = [(videos / f"{job.task_id}.mp4").stat().st_ctime - ends[job.task_id] for job in jobs]
    return {
        "way": kind,
        "videos": JOBS,
        "end to file p50 s": round(percentile(late, 50), 2),
        "p99 s": round(percentile(late, 99), 2),
        "worker s/video": round(workers.busy_seconds / JOBS, 2),
        "worker CPU s/video": round((workers.cpu() - cpu) / JOBS, 2),
        "slots held waiting": held,
        "all wait after s": round(all_wait, 1),
        "late": late,
    }


def main() -> None:
    """Start everything, measure, and report."""
    exit_on_termination()
    with tempfile.TemporaryDirectory() as name:
        home, videos = Path(name), Path(name) / "videos"
        (home / "dags").mkdir()
        text = DAG.format(kinds=KINDS, jobs=JOBS, target=f"{videos}/")
        (home / "dags" / "ways.py").write_text(text)
        (home / "logs").mkdir()
        postgres = PrivatePostgres(home / "logs" / "postgres.log")
        try:
            postgres.up()
            with Emulator(render=False, queue_seconds=0, render_seconds=1e6, clock=time.time) as gateway:
                env = {
                    "AIRFLOW_CONN_KLING_DEFAULT": gateway.connection_json(),
                    "AIRFLOW__CORE__PARALLELISM": str(WORKERS),
                    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "100000",
                    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64",
                    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
                }
                with PrivateAirflow(
                    home / "airflow", home / "dags", env=env, database=postgres.url
                ) as airflow:
                    measured = [one_way(airflow, gateway, number, videos) for number in range(len(KINDS))]
        finally:
            postgres.stop()
    late = {row["way"]: row.pop("late") for row in measured}
    held = max(row["slots held waiting"] for row in measured)
    report(
        "end_to_end", measured, [f"Target: no worker slot held while waiting; measured: {held}."], late=late
    )


if __name__ == "__main__":
    main()
