"""All that `make chaos` runs: PostgreSQL, the emulator, and an Airflow with two triggerers."""

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

if TYPE_CHECKING:
    from private_airflow.services import Service

    from chaos.gateway import Gateway

PROJECT = Path(__file__).resolve().parents[2]
DAG_ID, RESCUE_ID = "kling_chaos", "kling_rescue"
FINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
TRIGGERERS = ("triggerer", "triggerer-2")
#: Seconds after which Airflow takes a silent triggerer, scheduler or task for dead (usually 30, 30, 300).
TRIGGERER_SILENCE, SCHEDULER_SILENCE, TASK_SILENCE = 10, 10, 15
IMPATIENT = {
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
class Order:
    """One wanted video; the prompt is how the bill knows it."""

    image: str
    prompt: str
    target: str


@dataclass(frozen=True)
class TaskInstance:
    """A task instance, as the database has it."""

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
        """The task's own name, without its group."""
        return self.task_id.rpartition(".")[2]

    @property
    def place(self) -> tuple[str, str, str, int]:
        """What stays the same over all tries."""
        return self.dag_id, self.run_id, self.task_id, self.map_index


class Stage:
    """Everything, started and ended together; what dies by itself is started again, as by systemd."""

    def __init__(self, home: Path, gateway: Gateway) -> None:
        self.home = home
        self.videos = home / "videos"
        self.logs = home / "airflow" / "logs"
        self.gateway = gateway
        self.postgres = PrivatePostgres(self.logs / "postgres.log")
        self.retired: list[Service] = []  # killed themselves, but their children live on
        self.restarts: Counter[str] = Counter()
        self._session: Any = None

    def up(self) -> None:
        """Start it all."""
        self.picture = self.home / "picture.jpg"
        sample_picture.paint(self.picture)
        self.gateway.up()
        self.postgres.up()
        dags = (PROJECT / "scripts" / "chaos" / "dags", PROJECT / "dags")
        env = {name: str(value) for name, value in IMPATIENT.items()}
        self.airflow = PrivateAirflow(self.home / "airflow", dags, env=env, database=self.postgres.url)
        self.api = self.airflow.api
        self.airflow.up()
        self.airflow.start("triggerer", TRIGGERERS[1])
        self.api.call("POST", "/connections", self.gateway.connection())

    def stop(self) -> None:
        """End it all, whatever state it is in."""
        with uninterrupted(), ExitStack() as last:
            last.callback(self.gateway.stop)
            last.callback(self.postgres.stop)
            if self._session is not None:
                last.callback(self._session.close)
            last.callback(self.kill_orphans)
            if hasattr(self, "airflow"):
                for service in self.airflow.services.values():
                    send(service, signal.SIGCONT)
                last.callback(self.airflow.stop, grace=3)

    def picture_base64(self) -> str:
        """Give the picture as it goes to the gateway."""
        return base64.b64encode(self.picture.read_bytes()).decode()

    def trigger(self, orders: list[Order]) -> str:
        """Start a Dag run for some orders."""
        return self.airflow.trigger(DAG_ID, {"orders": [asdict(order) for order in orders]})

    def schedulers(self) -> list[Service]:
        """Give the scheduler that runs and those whose workers may have outlived them."""
        now = self.airflow.services.get("scheduler")
        return [*self.retired, *([now] if now else [])]

    def kill_alone(self, name: str) -> None:
        """End a component by SIGKILL, but none of its children."""
        service = self.airflow.services.pop(name)
        os.kill(service.pid, signal.SIGKILL)
        self.retired.append(service)

    def kill_orphans(self) -> None:
        """End the children of those that were killed alone."""
        while self.retired:
            self.retired.pop().kill()

    def restart_dead(self) -> None:
        """Start again what has died by itself."""
        self.gateway.check()
        self.postgres.check()
        for name, service in list(self.airflow.services.items()):
            if service.exit_code is not None:
                self.airflow.kill(name)
                self.airflow.start("triggerer" if name in TRIGGERERS else name, name)
                self.restarts[name] += 1

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]] | None:
        """Ask the database; None while it is away."""
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
        """Give all task instances of some Dags; None while the database is away."""
        found = self.rows(
            "select id::text, dag_id, run_id, task_id, map_index, state, try_number,"
            " coalesce(extract(epoch from end_date), 0)::float from task_instance where dag_id = any(%s)",
            list(dag_ids),
        )
        return None if found is None else [TaskInstance(*row) for row in found]


def send(service: Service, signum: signal.Signals) -> None:
    """Send a signal to a program and to all that it has started."""
    for process in service.members():
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signum)
