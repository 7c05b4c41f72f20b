"""What a million videos a month need: one video is measured here, in a real Airflow, and multiplied.

``make bench-fleet``, with ``VIDEOS=1000000`` a month, ``HOURS=8`` a night in which they are made, and
``JOBS=100`` for the measuring. Each video is one :class:`KlingImageToVideoOperator`, mapped, with PostgreSQL
and LocalExecutor. What an idle Airflow takes is measured first and is not counted to the videos.
"""

import os
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from end_to_end import Workers
from private_airflow.components import PrivateAirflow
from private_airflow.postgres import PrivatePostgres
from private_airflow.services import exit_on_termination
from report import report

from airflow_provider_kling.emulator import Emulator

VIDEOS = int(os.environ.get("VIDEOS", "1000000"))
HOURS = float(os.environ.get("HOURS", "8"))
JOBS = int(os.environ.get("JOBS", "100"))
DAYS = 30
#: Seconds of the idle Airflow that are measured, and of a job of the measured run.
IDLE, JOB = 60.0, 60.0
#: Assumed, because nothing here can measure it: seconds of a job at Kling, of which one of twenty is slow
#: (as in ``make bench-schedule``), MB and US dollars of a video of five seconds, jobs at once of an account.
JOB_SECONDS, MB, USD, SLOTS = 195.0, 12.0, 0.56, 20
#: Polls of a job by the provider's schedule (``make bench-schedule``), jobs in a query of Kling's own API.
POLLS, JOBS_PER_QUERY = 21.9, 20
#: Waits of a triggerer (``make bench-waits``), and the share of a worker, a core or a triggerer to plan with.
WAITS, SHARE = 10_000, 0.6
#: Tasks that one mapped task may have in Airflow, unless ``[core] max_map_length`` says otherwise.
MAP_LENGTH = 1024
DAG = """
from airflow.sdk import DAG
from airflow_provider_kling.operators import KlingImageToVideoOperator

with DAG("fleet", schedule=None):
    KlingImageToVideoOperator.partial(
        task_id="video", target={target!r}, model="kling-v3.0-pro-t2v"
    ).expand(prompt=[f"picture {{n}}" for n in range({jobs})])
"""
COMPONENTS = ("workers", "scheduler", "api-server", "dag-processor", "triggerer", "postgres")


@dataclass(frozen=True)
class Video:
    """What one video takes.

    :param cpu: CPU seconds by component, beyond those of an idle Airflow.
    :param idle: the cores that an idle Airflow takes.
    :param worker_seconds: seconds for which workers are busy.
    :param worker_mb: the most memory of a worker's process that runs a task.
    :param database_kb: what PostgreSQL grows by.
    """

    cpu: dict[str, float]
    idle: float
    worker_seconds: float
    worker_mb: float
    database_kb: float


def measure() -> Video:
    """Make some videos in a private Airflow, and return what one of them takes."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "dags").mkdir()
        (home / "dags" / "fleet.py").write_text(DAG.format(jobs=JOBS, target=f"{home}/videos/"))
        postgres = PrivatePostgres(home / "postgres.log")
        try:
            postgres.up()
            with Emulator(render=False, queue_seconds=1, render_seconds=JOB, clock=time.time) as gateway:
                env = {
                    "AIRFLOW_CONN_KLING_DEFAULT": gateway.connection_json(),
                    "AIRFLOW__CORE__PARALLELISM": "4",  # more of them wait for the cores
                    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "100000",
                    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
                }
                with PrivateAirflow(
                    home / "airflow", home / "dags", env=env, database=postgres.url
                ) as airflow:
                    return _measure(airflow, postgres)
        finally:
            postgres.stop()


def _measure(airflow: PrivateAirflow, postgres: PrivatePostgres) -> Video:
    workers = Workers(airflow.services["scheduler"])

    def used() -> dict[str, float]:
        seconds = {name: service.cpu_seconds() for name, service in airflow.services.items()}
        seconds["workers"] = workers.cpu()
        seconds["scheduler"] -= seconds["workers"]
        return {**seconds, "postgres": postgres.cpu_seconds()}

    time.sleep(IDLE / 4)
    before, at = used(), time.monotonic()
    time.sleep(IDLE)
    idle = {name: (seconds - before[name]) / (time.monotonic() - at) for name, seconds in used().items()}
    before, at, size = used(), time.monotonic(), _database_bytes(postgres)
    workers.start()
    state = airflow.wait_for_run("fleet", airflow.trigger("fleet"), 300 + 20 * JOBS)
    workers.end()
    assert state == "success", state
    elapsed = time.monotonic() - at
    cpu = {name: max(0.0, seconds - before[name] - idle[name] * elapsed) for name, seconds in used().items()}
    return Video(
        cpu={name: cpu[name] / JOBS for name in COMPONENTS},
        idle=sum(idle.values()),
        worker_seconds=workers.busy_seconds / JOBS,
        worker_mb=workers.most_memory / 1e6,
        database_kb=(_database_bytes(postgres) - size) / JOBS / 1024,
    )


def _database_bytes(postgres: PrivatePostgres) -> int:
    with closing(postgres.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("VACUUM")
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def month(video: Video, hours: float) -> dict[str, Any]:
    """Return what the videos of a month need, made in so many hours of each day."""
    rate = VIDEOS / DAYS / hours / 3600
    waits = rate * JOB_SECONDS
    return {
        "videos a second": round(rate, 2),
        f"mapped runs of {MAP_LENGTH} a day": round(VIDEOS / DAYS / MAP_LENGTH, 1),
        "jobs at once, slots of the account": round(waits),
        "accounts with 20 slots": round(waits / SLOTS + 0.5),
        "waits in the triggerer": round(waits),
        "triggerers, with one to take over": int(waits / (WAITS * SHARE)) + 2,
        "queries a second, MyRouter": round(rate * POLLS, 1),
        "queries a second, Kling's own API, at least": round(rate * POLLS / JOBS_PER_QUERY, 2),
        "worker slots": round(rate * video.worker_seconds / SHARE + 0.5),
        **{f"cores, {name}": round(rate * video.cpu[name] / SHARE, 2) for name in COMPONENTS},
        "database, GB a month": round(VIDEOS * video.database_kb / 1e6, 1),
        "videos, TB a month": round(VIDEOS * MB / 1e6, 1),
        "downloads, Mbit/s": round(rate * MB * 8),
        "Kling, USD a month": round(VIDEOS * USD),
    }


def limits(video: Video, hours: float) -> dict[str, float]:
    """Return the videos a month at which each part is full, with one process and Airflow's defaults."""
    seconds = DAYS * hours * 3600
    rates = {
        f"an account with {SLOTS} slots": SLOTS / JOB_SECONDS,
        "[core] parallelism = 32": 32 * SHARE / video.worker_seconds,
        "one core for the API server": SHARE / max(video.cpu["api-server"], 0.001),
        "one core for the scheduler": SHARE / max(video.cpu["scheduler"], 0.001),
        "one core for PostgreSQL": SHARE / max(video.cpu["postgres"], 0.001),
        "[triggerer] capacity = 1000": 1000 / JOB_SECONDS,
        "queries_per_second = 100, MyRouter": 100 / POLLS,
    }
    return {name: round(rate * seconds, -3) for name, rate in sorted(rates.items(), key=lambda item: item[1])}


def main() -> None:
    """Measure one video, and report what a month of them needs."""
    exit_on_termination()
    video = measure()
    spread, nights = month(video, 24), month(video, HOURS)
    rows = [{"of": name, "in 24 h a day": spread[name], f"in {HOURS:g} h": nights[name]} for name in nights]
    full = [f"{int(videos):>12,}  {name}" for name, videos in limits(video, HOURS).items()]
    cores = ", ".join(f"{name} {seconds:.2f}" for name, seconds in video.cpu.items())
    report(
        "fleet",
        rows,
        [
            f"One video, CPU seconds: {cores}. An idle Airflow: {video.idle:.2f} cores.",
            f"Workers are busy for {video.worker_seconds:.1f} s.",
            f"The database grows by {video.database_kb:.0f} kB.",
            f"A task's process has at most {video.worker_mb:.0f} MB.",
            f"Videos a month, in {HOURS:g} h a day, at which a part is full:",
            *full,
        ],
        video=asdict(video),
        jobs=JOBS,
    )


if __name__ == "__main__":
    main()
