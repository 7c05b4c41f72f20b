"""A pytest fixture: `pytest_plugins = ["airflow_provider_kling.emulator.pytest_plugin"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_kling.emulator.emulator import Emulator


@pytest.fixture
def kling_gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Run a gateway for the connection `kling_default`; its jobs succeed at once."""
    with Emulator(render=False, queue_seconds=0.0, render_seconds=0.0) as gateway:
        monkeypatch.setenv("AIRFLOW_CONN_KLING_DEFAULT", gateway.connection_json())
        yield gateway
