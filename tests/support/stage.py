"""A private Airflow with an emulator, and what the tests do with both."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import time
import urllib.request
import zlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import psutil
from private_airflow.rest_api import FINAL, ApiError
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from private_airflow.components import PrivateAirflow

    from airflow_provider_kling.emulator import Emulator
    from airflow_provider_kling.emulator.jobs import Job

MODES = ("deferred", "poke", "reschedule")
VIDEO = (files("airflow_provider_kling.emulator") / "tiny.mp4").read_bytes()
VIDEO_SHA256 = hashlib.sha256(VIDEO).hexdigest()


@dataclass(frozen=True)
class Run:
    """The ids of a Dag run."""

    dag_id: str
    run_id: str


class Stage:
    """A private Airflow and an emulator."""

    def __init__(self, airflow: PrivateAirflow, gateway: Emulator) -> None:
        self.airflow, self.gateway, self.api = airflow, gateway, airflow.api
        self.logs = airflow.home / "logs"
        self.database = create_engine(airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])

    # At the gateway.

    def start_job(self, prompt: str) -> Job:
        """Create a job without Airflow. It runs until :meth:`finish` is called."""
        request = urllib.request.Request(
            f"{self.gateway.url}/v3/async/kling-v3.0-pro-t2v",
            json.dumps({"prompt": prompt}).encode(),
            {"Authorization": f"Bearer {self.gateway.api_key}", "Content-Type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            job = self.gateway.job_store.find(json.load(answer)["task_id"])
        assert job is not None
        return job

    def finish(self, job: Job) -> None:
        """Let a job end, successfully or not."""
        job.queue_seconds = job.render_seconds = 0.0

    def jobs(self, prompt: str) -> list[Job]:
        """Return the jobs with a prompt."""
        return [job for job in self.gateway.jobs if job.prompt == prompt]

    def queries(self, job: str) -> int:
        """Count the queries about a job."""
        requests = self.gateway.requests
        return sum(request.task_id == job and request.method == "GET" for request in requests)

    # In Airflow.

    def trigger(self, dag_id: str, **conf: Any) -> Run:
        """Start a run."""
        return Run(dag_id, self.airflow.trigger(dag_id, conf))

    def tasks(self, run: Run) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run by name, mapped ones as `name[index]`."""
        instances = self.api.task_instances(run.dag_id, run.run_id)
        return {
            ti["task_id"] + (f"[{ti['map_index']}]" if ti["map_index"] >= 0 else ""): ti for ti in instances
        }

    def states(self, run: Run) -> dict[str, str]:
        """Return the states of the tasks of a run."""
        return {name: ti["state"] for name, ti in self.tasks(run).items()}

    def until(self, what: str, probe: Callable[[], Any], timeout: float = 90, pause: float = 1) -> Any:
        """Wait until *probe* returns something true. An API server that does not answer means "not yet"."""

        def patient_probe() -> Any:
            try:
                return probe()
            except ApiError as error:
                if error.status < 500:
                    raise
            except OSError:
                pass
            return None

        return self.airflow.wait_until(what, patient_probe, timeout, pause)

    def until_state(self, run: Run, state: str, *task_ids: str, timeout: float = 90) -> None:
        """Wait for tasks to be in a state."""

        def there() -> bool:
            states = self.states(run)
            return all(states.get(task_id) == state for task_id in task_ids)

        self.until(f"{', '.join(task_ids)} of {run.dag_id} to be {state}", there, timeout)

    def until_over(self, run: Run, timeout: float = 90) -> dict[str, dict[str, Any]]:
        """Wait until a run has ended, and return its task instances."""
        self.until(
            f"the run of {run.dag_id} to end",
            lambda: self.api.run_state(run.dag_id, run.run_id) in FINAL,
            timeout,
        )
        return self.tasks(run)

    def xcom(self, run: Run, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Read an XCom over the REST API."""
        return self.api.xcom(run.dag_id, run.run_id, task_id, key, map_index)

    def api_or_none(self, method: str, path: str) -> Any:
        """Call the REST API. Return None for a 404."""
        try:
            return self.api.call(method, path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def links(self, run: Run, task_id: str) -> dict[str, str | None]:
        """Return the extra links of a task, as the UI reads them."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/links"
        return dict(self.api.call("GET", path)["extra_links"])

    def error(self, run: Run, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the last exception in a task's log, as `Class: message`."""
        return self.api.task_error(run.dag_id, run.run_id, task_id, try_number, map_index)

    def log(self, run: Run, task_id: str, try_number: int = 1) -> str:
        """Return the log of a task as one text."""
        lines = self.api.log(run.dag_id, run.run_id, task_id, try_number)
        return "\n".join(f"{line.get('event', '')} {line.get('reason', '')}" for line in lines)

    def mark(self, run: Run, task_id: str, state: str) -> None:
        """Set a task's state, as the buttons in the UI do."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}"
        self.api.call("PATCH", path, {"new_state": state})

    def ui(self, path: str) -> Any:
        """Read a path that only the UI uses."""
        self.api.health()
        token = self.api._send("GET", "/auth/token", None, {})["access_token"]
        return self.api._send("GET", path, None, {"Authorization": f"Bearer {token}"})

    def processes_of(self, run: Run, task_id: str) -> list[int]:
        """Return the pids of the worker processes of a task.

        A worker has the id of its task instance in its process title.
        """
        ti_id = self.tasks(run)[task_id]["id"]
        scheduler = self.airflow.services["scheduler"]
        return [process.pid for process in scheduler.members() if ti_id in " ".join(_cmdline(process))]

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Query the metadata database."""
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    def triggers(self, run: Run) -> dict[str, dict[str, Any]]:
        """Return the stored triggers of a run's deferred tasks, by task id."""
        rows = self.rows(
            "select ti.task_id, t.id, t.triggerer_id, t.kwargs from trigger t "
            "join task_instance ti on ti.trigger_id = t.id where ti.dag_id = :dag_id and ti.run_id = :run_id",
            **vars(run),
        )
        return {row[0]: {"id": row[1], "triggerer_id": row[2], "kwargs": row[3]} for row in rows}


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def paint(path: Path, seed: int, side: int = 320) -> Path:
    """Write a PNG file of noise, so that no part of its base64 repeats."""
    rng = random.Random(seed)
    rows = b"".join(b"\0" + rng.randbytes(3 * side) for _ in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 1))
        + chunk(b"IEND", b"")
    )
    return path


def seconds(ti: dict[str, Any]) -> float:
    """Return how long a task instance took."""
    from datetime import datetime

    began, ended = (datetime.fromisoformat(ti[key]) for key in ("start_date", "end_date"))
    return (ended - began).total_seconds()


def text_files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, without symbolic links."""
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def now() -> float:
    """Return the time in epoch seconds."""
    return time.time()
