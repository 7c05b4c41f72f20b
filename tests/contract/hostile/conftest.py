"""The hostile gateway, with an Airflow connection to it."""

import pytest
from hostile_gateway import GATEWAY


@pytest.fixture
def dialect(request, monkeypatch):
    """The dialect of the hostile gateway: MyRouter's, unless a test is parametrized."""
    monkeypatch.setattr(GATEWAY, "dialect", getattr(request, "param", "myrouter"))
    return GATEWAY.dialect


@pytest.fixture
def hostile(dialect, clock, monkeypatch):
    """A gateway that answers by script, on the test's clock."""
    monkeypatch.setenv("AIRFLOW_CONN_KLING_DEFAULT", GATEWAY.connection_json())
    GATEWAY.begin()
    return GATEWAY
