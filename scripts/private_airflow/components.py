"""A private Airflow: real components in a folder of their own, on 127.0.0.1 only, stopped at the end.

with PrivateAirflow(Path(".airflow/try"), dags=Path("dags")) as airflow:
    run_id = airflow.trigger("my_dag", {"answer": 42})
    assert airflow.wait_for_run("my_dag", run_id) == "success"
    airflow.kill("triggerer")
    airflow.start("triggerer")
"""

from __future__ import annotations

import base64
import json
import os
import random
import secrets
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from private_airflow.rest_api import FINAL, AirflowApi
from private_airflow.services import Service, ServiceError, stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
}
NOT_INHERITED = ("AIRFLOW", "_AIRFLOW", "KLING", "OTEL_", "PYTHONPATH", "PYTHONHOME")


class PrivateAirflow:
    """Airflow's components, each with its own log file, in one folder."""

    def __init__(
        self,
        home: Path,
        dags: Path | Iterable[Path],
        *,
        env: Mapping[str, str] | None = None,
        database: str | None = None,
        components: Iterable[str] = tuple(COMPONENTS),
        on_mark: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare everything, but start nothing.

        :param env: overrides the settings that are made here.
        :param on_mark: called with the name of each step when it is done.
        """
        self.home = home.resolve()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = AirflowApi(self.url)
        self.components = tuple(components)
        self.services: dict[str, Service] = {}
        self.marks: dict[str, float] = {}  # seconds from the start until: database, each component, healthy
        self.on_mark = on_mark
        self._began = time.monotonic()
        folders = [dags] if isinstance(dags, Path) else list(dags)
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.env = inherited_environment() | self._settings(folders, database) | dict(env or {})

    def _settings(self, folders: list[Path], database: str | None) -> dict[str, str]:
        bundles = [
            {
                "name": "dags" if index == 0 else f"dags-{index}",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(folder.resolve()), "refresh_interval": 5},
            }
            for index, folder in enumerate(folders)
        ]
        return _keys(self.home / "keys.json") | {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folders[0].resolve()),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or f"sqlite:///{self.home}/airflow.db?timeout=20",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "30",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__OPENLINEAGE__DISABLED": "True",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def up(self, timeout: float = 180) -> None:
        """Create the database, start the components, and wait until all are healthy."""
        self._began = time.monotonic()
        self.cli("db", "migrate")
        self._mark("database")
        for component in self.components:
            self.start(component)
        if "dag-processor" not in self.components:
            self.cli("dags", "reserialize")
        self.wait_until("Airflow to be healthy", self._healthy, timeout)
        self._mark("healthy")

    def _healthy(self) -> bool:
        health = self.api.health()
        new = [name for name in self.components if health.get(name, "healthy") == "healthy" and health]
        for name in new:
            self._mark(name)
        return len(new) == len(self.components)

    def _mark(self, name: str) -> None:
        if name not in self.marks:
            self.marks[name] = time.monotonic() - self._began
            self.on_mark(name)

    def start(self, component: str, name: str | None = None) -> Service:
        """Start a component. A second one of the same kind needs another name."""
        name = name or component
        if name in self.services:
            raise ValueError(f"{name} is already running")
        self.services[name] = self._run(name, *COMPONENTS[component])
        return self.services[name]

    def kill(self, name: str) -> None:
        """Kill a component and its children; the children of the scheduler are the running tasks."""
        self.services.pop(name).kill()

    def stop(self, grace: float = 10.0) -> None:
        """Stop everything that was started here, in any state."""
        stop(self.services.values(), grace)
        self.services.clear()

    def check(self) -> None:
        """Raise if a component has ended by itself."""
        for service in self.services.values():
            service.check()

    def cli(self, *arguments: str, timeout: float = 180) -> None:
        """Run one command of Airflow's command line until it ends."""
        self._run(" ".join(arguments[:2]), *arguments).wait(timeout)

    def _run(self, name: str, *arguments: str) -> Service:
        log = self.home / "logs" / f"{name.replace(' ', '-')}.log"
        command = [sys.executable, "-m", "airflow", *arguments]
        return Service(name, command, env=self.env, log=log, cwd=self.home)

    def wait_until(self, what: str, probe: Callable[[], T], timeout: float, pause: float = 0.25) -> T:
        """Call *probe* until its result is true, and return the result. Raise if a component ends."""
        deadline = time.monotonic() + timeout
        while not (answer := probe()):
            self.check()
            if time.monotonic() > deadline:
                raise ServiceError(f"waited {timeout:.0f} s for {what}; see {self.home / 'logs'}")
            time.sleep(pause)
        return answer

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, timeout: float = 60) -> str:
        """Start a run of a Dag as soon as Airflow has read it, and return the run id."""

        def known() -> bool:
            if errors := self.api.import_errors():
                raise ServiceError("\n".join(f"{file}: {trace}" for file, trace in errors.items()))
            return self.api.dag_exists(dag_id)

        self.wait_until(f"the Dag {dag_id} to be read", known, timeout)
        return self.api.trigger(dag_id, conf)

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 300) -> str:
        """Wait until a run has ended, and return `success` or `failed`."""
        self.wait_until(
            f"the run of {dag_id}", lambda: self.api.run_state(dag_id, run_id) in FINAL, timeout, pause=0.5
        )
        return self.api.run_state(dag_id, run_id)


def inherited_environment() -> dict[str, str]:
    """Return this process's environment without the variables for Airflow and Kling."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    direct = ",".join(filter(None, (kept.get("NO_PROXY", kept.get("no_proxy")), "127.0.0.1,localhost")))
    return kept | {"NO_PROXY": direct, "no_proxy": direct}


def free_port() -> int:
    """Return a free port, outside the range that the system assigns by itself."""
    for port in random.sample(range(20000, 32000), 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceError("no free port between 20000 and 32000")


def _keys(file: Path) -> dict[str, str]:
    """Create the keys once per folder, so that a second start can decrypt the data of the first."""
    if not file.exists():
        keys = {
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        }
        file.touch(mode=0o600)
        file.write_text(json.dumps(keys))
    return dict(json.loads(file.read_text()))
