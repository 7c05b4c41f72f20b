"""An Airflow API server in this process, with a database of its own, to test and measure the gallery."""

from __future__ import annotations

import base64
import datetime as dt
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import requests

BEGUN = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)
#: otto sees the Dag 'other' only; carl may clear, but not trigger.
USERS = {"ada": "admin", "emil": "user", "vera": "viewer", "otto": "admin", "carl": "user"}
AUTH_MANAGER = "gallery_stage.ManagerByDag"


def __getattr__(name: str) -> Any:
    """Make the auth manager when Airflow asks for it: importing Airflow is slow."""
    if name != "ManagerByDag":
        raise AttributeError(name)
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    class ManagerByDag(SimpleAuthManager):
        """Airflow's own, and users with less than their role has."""

        def is_authorized_dag(
            self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None
        ) -> bool:
            if user.get_id() == "otto" and details and details.id not in (None, "other"):
                return False
            if user.get_id() == "carl" and (method, access_entity) == ("POST", DagAccessEntity.RUN):
                return False
            return super().is_authorized_dag(
                method=method, user=user, access_entity=access_entity, details=details
            )

    globals()[name] = ManagerByDag
    return ManagerByDag


def small_jpeg(width: int = 320, height: int = 180, data: bytes = b"") -> str:
    """Return a data URL of a JPEG's header, and of what follows it."""
    size = height.to_bytes(2) + width.to_bytes(2)
    header = b"\xff\xd8\xff\xc0\0\x11\x08" + size + b"\3\1\x22\0\2\x11\1\3\x11\1"
    return f"data:image/jpeg;base64,{base64.b64encode(header + data).decode()}"


class GalleryStage:
    """The app, and what is in its database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._runs: dict[Any, int] = {}
        self._session: Any = None

    @contextmanager
    def one_transaction(self) -> Iterator[None]:
        """Write all that the block adds at once."""
        from airflow.utils.session import create_session

        with create_session() as self._session:
            yield
        self._session = None

    def get(
        self, path: str, user: str | None = "ada", method: str = "GET", **arguments: Any
    ) -> requests.Response:
        """Ask the server as a user; as None, without a login."""
        headers = {**(self.login(user) if user else {}), **arguments.pop("headers", {})}
        arguments = {"timeout": 60, "allow_redirects": False, "headers": headers, **arguments}
        return requests.request(method, f"{self.url}{path}", **arguments)

    def login(self, user: str) -> dict[str, str]:
        """Return the headers of a user."""
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        person = SimpleAuthManagerUser(username=user, role=USERS[user])
        return {"Authorization": f"Bearer {get_auth_manager().generate_jwt(person)}"}

    def videos(self, user: str | None = "ada", **parameters: Any) -> dict[str, Any]:
        """Return the gallery's answer."""
        answer = self.get("/kling/api/videos", user, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def add(
        self,
        task_id: str,
        *,
        dag_id: str = "shop",
        run_id: str = "r1",
        map_index: int = -1,
        state: str | None = "success",
        operator: str = "",
        after: float = 0.0,
        conf: Any = None,
        **xcoms: Any,
    ) -> None:
        """Add a task instance with its XComs, and its Dag and run if they are new.

        :param after: when it began, in seconds after :data:`BEGUN`.
        """
        from airflow.models.dag import DagModel
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import insert
        from uuid6 import uuid7

        at = BEGUN + dt.timedelta(seconds=after)
        with nullcontext(self._session) if self._session else create_session() as session:
            if ("dag", dag_id) not in self._runs:
                if ("bundle",) not in self._runs:
                    session.execute(insert(DagBundleModel.__table__).values(name="tests", active=True))
                    self._runs["bundle",] = 1
                session.execute(
                    insert(DagModel.__table__).values(
                        dag_id=dag_id,
                        bundle_name="tests",
                        is_paused=False,
                        is_stale=False,
                        max_active_tasks=1,
                        max_consecutive_failed_dag_runs=0,
                        has_task_concurrency_limits=False,
                        timetable_type="",
                    )
                )
                self._runs["dag", dag_id] = 1
            if (dag_id, run_id) not in self._runs:
                made = session.execute(
                    insert(DagRun.__table__).values(
                        dag_id=dag_id,
                        run_id=run_id,
                        state="running",
                        run_type="manual",
                        run_after=at,
                        log_template_id=None,
                        conf=conf or {},
                    )
                )
                self._runs[dag_id, run_id] = made.inserted_primary_key[0]
            identity = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
            session.execute(
                insert(TaskInstance.__table__).values(
                    id=uuid7(),
                    **identity,
                    state=state,
                    operator=operator,
                    start_date=at,
                    pool="default_pool",
                    try_number=1,
                )
            )
            for key, value in xcoms.items():
                session.execute(
                    insert(XComModel.__table__).values(
                        dag_run_id=self._runs[dag_id, run_id], **identity, key=key, value=value, timestamp=at
                    )
                )

    def clean(self) -> None:
        """Delete all Dags, runs, task instances and XComs."""
        from airflow.jobs.job import Job
        from airflow.models.dag import DagModel
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        with create_session() as session:
            for table in (XComModel, TaskInstance, DagRun, DagModel, DagBundleModel, Job):
                session.execute(delete(table.__table__))
        self._runs.clear()


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """Yield a list of the statements that the database gets, of all threads."""
    from airflow import settings
    from sqlalchemy import event

    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(settings.engine, "before_cursor_execute", count)
    try:
        yield statements
    finally:
        event.remove(settings.engine, "before_cursor_execute", count)


@contextmanager
def _listening(app: Any) -> Iterator[str]:
    """Serve an app on a free port of 127.0.0.1, and yield its URL."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def served(database: str | None = None) -> Iterator[GalleryStage]:
    """Run the app on a new database.

    :param database: the URL of a PostgreSQL, or None for SQLite in ``AIRFLOW_HOME``.
    """
    settings = {
        "AIRFLOW__CORE__AUTH_MANAGER": AUTH_MANAGER,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of these tests, long enough for sha512 " * 2,
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        **({"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database} if database else {}),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},  # for the auth manager
        )
        with warnings.catch_warnings(action="ignore"):  # of what Airflow's server imports
            from airflow import settings as airflow_settings
            from airflow.api_fastapi.app import create_app, purge_cached_app

        airflow_settings.configure_vars()
        airflow_settings.configure_orm()
        purge_cached_app()
        try:
            with warnings.catch_warnings(action="ignore"):
                app = create_app(apps="core")
            with _listening(app) as url:
                yield GalleryStage(url)
        finally:
            purge_cached_app()
            airflow_settings.dispose_orm()


@pytest.fixture(scope="module")
def gallery_app(request: pytest.FixtureRequest) -> Iterator[GalleryStage]:
    """Serve the gallery; a module may ask for *postgresql*, else it is SQLite."""
    asked = getattr(request, "param", "sqlite") == "postgresql"
    url = request.getfixturevalue("database") if asked else None
    if asked and not url:
        pytest.skip("PostgreSQL cannot be installed here")
    with served(url) as stage:
        yield stage


@pytest.fixture
def gallery(gallery_app: GalleryStage) -> Iterator[GalleryStage]:
    """Yield the gallery with an empty database."""
    gallery_app.clean()
    yield gallery_app
    gallery_app.clean()
