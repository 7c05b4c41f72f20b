"""The form of the connection: the hook reads what the form stores, and *Test* works."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Connection
from browser import ConnectionForm, press_test

from airflow_provider_kling.transport.settings import OWN_FIELDS, Settings

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from stage import Stage

TYPED: dict[str, Any] = {
    "gateway": "myrouter",
    "default_model": "kling-v3.0-std-i2v",
    "request_timeout": 30,
    "queries_per_second": 20,
    "allow_private_hosts": True,
    "allowed_paths": "/data/pictures, s3://shop/videos",
    "prices": {"kling-v2.1-i2v": 0.05},
    "unit_price_usd": 0.1,
    "max_cost_usd": 2,
    "max_run_cost_usd": 40,
}


def stored(stage: Stage, conn_id: str) -> dict[str, Any]:
    """Return the extra of a stored connection."""
    return dict(json.loads(stage.api.call("GET", f"/connections/{conn_id}")["extra"] or "{}"))


def read(stage: Stage, conn_id: str) -> Settings:
    """Return what the hook reads in a stored connection; the REST API hides the key."""
    found = stage.api.call("GET", f"/connections/{conn_id}")
    fields = {name: found[name] for name in ("conn_type", "host", "port", "schema", "login", "extra")}
    return Settings.from_connection(Connection(conn_id=conn_id, password="hidden", **fields))


def test_each_field_of_the_form_is_read_as_it_is_shown(stage: Stage, page: Page) -> None:
    form = ConnectionForm(page, stage.airflow.url, "all_fields")
    form.fill_standard(host="https://gateway.example/kling", password="sk-form", port="8443")
    form.open_extra()
    form.fill(TYPED)
    shown = form.shown()
    assert shown == {
        name: value if isinstance(value, (bool, dict)) else str(value) for name, value in TYPED.items()
    }
    assert set(shown) == set(OWN_FIELDS)
    form.save()
    assert stored(stage, "all_fields") == TYPED
    settings = read(stage, "all_fields")
    assert settings.base_url == "https://gateway.example:8443/kling"
    assert settings.allowed_paths == ("/data/pictures", "s3://shop/videos")
    assert {name: float(price) for name, price in settings.prices.items()} == TYPED["prices"]
    assert (settings.max_cost_usd, settings.max_run_cost_usd) == (2, 40)
    assert settings.allow_private_hosts
    assert not settings.headers


@pytest.mark.parametrize("opened", [False, True])
def test_fields_that_are_left_empty_mean_the_defaults(stage: Stage, page: Page, *, opened: bool) -> None:
    conn_id = f"empty_{opened}"
    form = ConnectionForm(page, stage.airflow.url, conn_id)
    form.fill_standard(password="sk-form")
    if opened:
        form.open_extra()
    form.save()
    assert read(stage, conn_id) == Settings(conn_id, "hidden")


@pytest.mark.parametrize("key", ["good", "refused"])
def test_the_test_button_says_whether_the_key_is_good(stage: Stage, page: Page, key: str) -> None:
    """The host names its own port, so the 443 that Airflow needs for its button does not count."""
    conn_id, jobs = f"tested_{key}", len(stage.gateway.jobs)
    form = ConnectionForm(page, stage.airflow.url, conn_id)
    password = stage.gateway.api_key if key == "good" else "wrong-key-of-a-form"
    form.fill_standard(host=stage.gateway.url, password=password, port="443")
    form.save()
    status, answer = press_test(page, conn_id)
    assert (status, answer["status"]) == (200, key == "good")
    assert ("accepts the API key" if key == "good" else "INVALID_API_KEY") in answer["message"]
    assert password not in answer["message"]
    page.get_by_text(answer["message"]).first.wait_for()
    assert len(stage.gateway.jobs) == jobs


def test_airflow_does_not_test_a_saved_connection_without_a_port(stage: Stage, page: Page) -> None:
    """A bug of Airflow 3.3.2. Once it is gone, the form needs no words about the port."""
    form = ConnectionForm(page, stage.airflow.url, "without_a_port")
    form.fill_standard(host=stage.gateway.url, password=stage.gateway.api_key)
    assert form.dialog.get_by_text("Port (443 to test)").is_visible()
    form.save()
    status, answer = press_test(page, "without_a_port")
    assert status == 400
    assert "port" in answer["detail"]
