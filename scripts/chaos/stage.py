"""The processes of `make chaos`: PostgreSQL, the emulator, an Airflow with two triggerers, and a fleet."""

from __future__ import annotations

import base64
import os
import signal
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2
from demo import sample_picture
from private_airflow.components import PrivateAirflow
from private_airflow.postgres import PrivatePostgres
from private_airflow.services import uninterrupted

from chaos.fleet import WORKERS, url

if TYPE_CHECKING:
    from private_airflow.services import Service

    from chaos.fleet import Fleet
    from chaos.gateway import Gateway

PROJECT = Path(__file__).resolve().parents[2]
#: Three tasks for each video, one task, and what a person starts.
DAG_ID, ONE_TASK_DAG_ID, RESCUE_ID = "kling_chaos", "kling_chaos_one_task", "kling_rescue"
DAG_IDS = (DAG_ID, ONE_TASK_DAG_ID)
FINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
TRIGGERERS = ("triggerer", "triggerer-2")
#: Seconds without a heartbeat after which Airflow takes a triggerer, scheduler or task for dead. Its defaults
#: are 30, 30 and 300.
TRIGGERER_SILENCE, SCHEDULER_SILENCE, TASK_SILENCE = 10, 10, 15
SETTINGS = {
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": TRIGGERER_SILENCE,
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": 2,
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": SCHEDULER_SILENCE,
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 10,
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": 2,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": TASK_SILENCE,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 5,
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": 60,
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": 10,
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": 3,
    "AIRFLOW__CORE__PARALLELISM": 8,
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 3600,
}


@dataclass(frozen=True)
class VideoSpec:
    """One requested video. Its prompt identifies it in the bill."""

    image: str
    prompt: str
    target: str


@dataclass(frozen=True)
class TaskInstance:
    """A task instance, from Airflow's database."""

    id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    end: float

    @property
    def name(self) -> str:
        """The task's name without its group."""
        return self.task_id.rpartition(".")[2]

    @property
    def key(self) -> tuple[str, str, str, int]:
        """The key that is the same for all tries."""
        return self.dag_id, self.run_id, self.task_id, self.map_index


class Stage:
    """All processes, started and stopped together. A component that ends by itself is restarted.

    :param fleet: with it, CeleryExecutor runs the tasks, and pictures and videos are in S3.
    """

    def __init__(self, home: Path, logs: Path, gateway: Gateway, fleet: Fleet | None = None) -> None:
        self.home, self.logs = home, logs
        self.gateway, self.fleet = gateway, fleet
        self.picture = home / "picture.jpg"
        self.videos = home / "videos"
        self.postgres = PrivatePostgres(self.logs / "postgres.log")
        self.retired: list[Service] = []  # killed alone; their children run on
        self.restarts: Counter[str] = Counter()
        self._session: Any = None

    def up(self) -> None:
        """Start everything."""
        sample_picture.paint(self.picture)
        self.gateway.up()
        self.postgres.up()
        self.videos.mkdir()
        dags = (PROJECT / "scripts" / "chaos" / "dags", PROJECT / "dags")
        env = {name: str(value) for name, value in SETTINGS.items()}
        if self.fleet:
            self.fleet.up(self.picture)
            env |= self.fleet.settings(self.postgres.url)
        self.airflow = PrivateAirflow(self.home / "airflow", dags, env=env, database=self.postgres.url)
        self.api = self.airflow.api
        self.airflow.up()
        self.start(TRIGGERERS[1])
        self.api.call(
            "POST", "/connections", self.gateway.connection(self.fleet.allowed_paths() if self.fleet else "/")
        )
        if self.fleet:
            self.api.call("POST", "/connections", self.fleet.connection())
            for worker in WORKERS:
                self.start(worker)

    def start(self, name: str) -> None:
        """Start a component of Airflow."""
        if self.fleet and name in WORKERS:
            self.fleet.start_worker(name, self.airflow)
        else:
            self.airflow.start("triggerer" if name in TRIGGERERS else name, name)

    def stop(self) -> None:
        """Stop everything, in any state."""
        with uninterrupted(), ExitStack() as last:
            last.callback(self.gateway.stop)
            last.callback(self.postgres.stop)
            if self.fleet:
                last.callback(self.fleet.stop)
            if self._session is not None:
                last.callback(self._session.close)
            last.callback(self.kill_orphans)
            if hasattr(self, "airflow"):
                for service in self.airflow.services.values():
                    send(service, signal.SIGCONT)
                last.callback(self.airflow.stop, grace=3)

    def picture_base64(self) -> str:
        """Return the picture as it is sent to the gateway."""
        return base64.b64encode(self.picture.read_bytes()).decode()

    def spec(self, number: int) -> VideoSpec:
        """Return a video to request."""
        prompt, target = f"job-{number:04}: the sun sinks into the sea", f"{number:04}.mp4"
        if self.fleet:
            return VideoSpec(self.fleet.picture(number, self.picture), prompt, url(target))
        return VideoSpec(str(self.picture), prompt, str(self.videos / target))

    def files(self) -> dict[str, bytes]:
        """Return all files where the videos are stored, by path or URL."""
        if self.fleet:
            return self.fleet.files()
        return {str(file): file.read_bytes() for file in self.videos.rglob("*") if file.is_file()}

    def trigger(self, dag_id: str, specs: list[VideoSpec], **params: Any) -> str:
        """Start a Dag run for some videos."""
        return self.airflow.trigger(dag_id, {"specs": [asdict(spec) for spec in specs], **params})

    def task_runners(self) -> list[Service]:
        """Return the services whose descendants are the tasks: workers or the scheduler, also killed ones."""
        names = WORKERS if self.fleet else ("scheduler",)
        return [
            *self.retired,
            *(self.airflow.services[name] for name in names if name in self.airflow.services),
        ]

    def kill_alone(self, name: str) -> None:
        """Kill a component, but not its children."""
        service = self.airflow.services.pop(name)
        os.kill(service.pid, signal.SIGKILL)
        self.retired.append(service)

    def kill_orphans(self) -> None:
        """Kill the children of components that were killed alone."""
        while self.retired:
            self.retired.pop().kill()

    def restart_dead(self) -> None:
        """Restart components that have ended by themselves."""
        self.gateway.check()
        self.postgres.check()
        if self.fleet:
            self.fleet.check()
        for name, service in list(self.airflow.services.items()):
            if service.exit_code is not None:
                self.airflow.kill(name)
                self.start(name)
                self.restarts[name] += 1

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]] | None:
        """Query the database. Return None while it does not run."""
        try:
            if self._session is None:
                self._session = self.postgres.connect()
            with self._session.cursor() as cursor:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall())
        except psycopg2.OperationalError:
            if self._session is not None:
                with suppress(psycopg2.Error):
                    self._session.close()
            self._session = None
            return None

    def task_instances(self, *dag_ids: str) -> list[TaskInstance] | None:
        """Return all task instances of some Dags, or None while the database does not run."""
        found = self.rows(
            "select id::text, dag_id, run_id, task_id, map_index, state, try_number,"
            " coalesce(extract(epoch from end_date), 0)::float from task_instance where dag_id = any(%s)",
            list(dag_ids),
        )
        return None if found is None else [TaskInstance(*row) for row in found]


def send(service: Service, signum: signal.Signals) -> None:
    """Send a signal to a process and its descendants."""
    for process in service.members():
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signum)
