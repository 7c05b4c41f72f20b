"""Fixtures for tests with a real Airflow: one Airflow and one emulator for the whole session."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from private_airflow.components import PrivateAirflow
    from signals import SpanServer, StatsdServer
    from stage import Stage

    from airflow_provider_kling.emulator import Emulator

# Airflow and the emulator are imported by the fixtures: the unit tests load this module too.

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "16",  # each poking sensor holds a worker
    # If all 15 database connections are in use, Airflow's API server hangs for half a minute.
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "60",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",  # a dead triggerer is noticed sooner
    # Longer than delays of a busy machine, shorter than the slow answer of one scenario.
    "AIRFLOW__TRIGGERER__BLOCKED_MAIN_THREAD_WARNING_THRESHOLD": "3",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
}


@pytest.fixture(scope="session")
def gateway() -> Iterator[Emulator]:
    """Run an emulator whose jobs run until a test ends them."""
    from airflow_provider_kling.emulator import Emulator

    key = f"sk-integration-{secrets.token_hex(20)}"
    with Emulator(render=False, queue_seconds=0, render_seconds=3600, api_key=key) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def statements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file in which the database logs all statements that write."""
    return tmp_path_factory.mktemp("postgres") / "postgres.log"


@pytest.fixture(scope="session")
def database(statements: Path) -> Iterator[str | None]:
    """Run a PostgreSQL and yield its URL, or None (SQLite) if PostgreSQL cannot be installed.

    With SQLite, a user's request while tasks write can block all of Airflow until the lock timeout.
    """
    from private_airflow.postgres import PrivatePostgres, obtainable

    if not obtainable():
        yield None
        return
    postgres = PrivatePostgres(statements, log_statement="mod")
    try:
        postgres.up()
        yield postgres.url
    finally:
        postgres.stop()


@pytest.fixture(scope="session")
def metrics_server() -> Iterator[StatsdServer]:
    """Run a server for the metrics of the private Airflow."""
    from signals import StatsdServer

    server = StatsdServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def span_server() -> Iterator[SpanServer]:
    """Run a server for the spans of the private Airflow."""
    from signals import SpanServer

    server = SpanServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory,
    database: str | None,
    metrics_server: StatsdServer,
    span_server: SpanServer,
) -> Iterator[PrivateAirflow]:
    """Run a private Airflow on our Dags and on those of the tests."""
    from private_airflow.components import COMPONENTS, PrivateAirflow

    home, folders = tmp_path_factory.mktemp("airflow"), [PROJECT / "dags", PROJECT / "tests/integration/dags"]
    # The scheduler starts after all runs were created, so that they run at the same time.
    first = [component for component in COMPONENTS if component != "scheduler"]
    env = SETTINGS | metrics_server.settings | span_server.settings
    env["AIRFLOW__KLING__GALLERY_FOLDERS"] = str(tmp_path_factory.getbasetemp())
    with PrivateAirflow(home, folders, env=env, database=database, components=first) as airflow:
        yield airflow


@pytest.fixture(scope="session")
def stage(airflow: PrivateAirflow, gateway: Emulator) -> Stage:
    """Connect both; the connection is stored by the REST API, as a user stores it."""
    from stage import Stage

    connection = {
        "connection_id": "kling_default",
        "conn_type": "kling",
        "host": gateway.url,
        "password": gateway.api_key,
        "extra": '{"allow_private_hosts": true, "allowed_paths": "/"}',
    }
    airflow.api.call("POST", "/connections", connection)
    return Stage(airflow, gateway)
