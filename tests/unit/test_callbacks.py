"""A callback counts only with a good signature, and then says no more than: ask for this job now."""

import base64
import builtins
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import standardwebhooks.webhooks
from standardwebhooks import Webhook

from airflow_provider_kling.callbacks import Callback, InvalidCallbackError, verify_callback
from airflow_provider_kling.emulator.kling.callbacks import sign

SECRET = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
# The example of Kling's documents.
EXAMPLE_BODY = (
    b'{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,'
    b'"update_time":1781080794151}'
)
EXAMPLE = {
    "webhook-id": "9876543210",
    "webhook-timestamp": "1781080794",
    "webhook-signature": "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=",
}
NEW = {"id": "893605946402811985", "status": "succeeded", "external_id": "ours", "outputs": [{"url": "x"}]}
LEGACY = {"task_id": "7", "task_status": "succeed", "task_info": {"external_task_id": "ours"}}


def at(monkeypatch, moment):
    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(moment, tz)

    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", Frozen)


def signed(body, *, secret=SECRET, moment=None):
    """Return the headers that the library writes, and the body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    moment = int(time.time() if moment is None else moment)
    signature = Webhook(secret).sign("1", datetime.fromtimestamp(moment, UTC), raw.decode())
    return {"Webhook-Id": "1", "Webhook-Timestamp": str(moment), "Webhook-Signature": signature}, raw


def test_the_example_of_klings_documents_is_accepted(monkeypatch):
    at(monkeypatch, 1781080794)
    assert verify_callback(EXAMPLE, EXAMPLE_BODY, SECRET) == Callback("1234567890", "succeeded", "")
    assert verify_callback(EXAMPLE, EXAMPLE_BODY.decode(), SECRET).kling_task_id == "1234567890"


@pytest.mark.parametrize(
    ("body", "callback"),
    [
        (NEW, Callback("893605946402811985", "succeeded", "ours")),
        (LEGACY, Callback("7", "succeed", "ours")),
        ({"id": 7, "status": "a new word"}, Callback("7", "a new word", "")),
        ({"id": "7", "external_id": None, "status": None}, Callback("7", "", "")),
    ],
)
def test_both_bodies_are_read_and_nothing_but_the_job_is_taken_from_them(body, callback):
    assert verify_callback(*signed(body), SECRET) == callback


def test_the_signature_of_the_emulator_is_accepted():
    body, moment = json.dumps(NEW).encode(), int(time.time())
    headers = {
        "webhook-id": "1",
        "webhook-timestamp": str(moment),
        "webhook-signature": sign(SECRET, "1", moment, body),
    }
    assert verify_callback(headers, body, SECRET).kling_task_id == NEW["id"]


def test_after_a_rotation_one_good_signature_of_two_is_enough():
    old = "whsec_" + base64.b64encode(b"x" * 32).decode()
    headers, body = signed(NEW)
    both = f"{signed(NEW, secret=old)[0]['Webhook-Signature']} {headers['Webhook-Signature']}"
    headers["Webhook-Signature"] = both
    assert verify_callback(headers, body, SECRET).kling_task_id == NEW["id"]
    assert verify_callback(headers, body, old).kling_task_id == NEW["id"]


@pytest.mark.parametrize("header", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
@pytest.mark.parametrize(
    "value", [None, "", "nonsense", "v1,AAAA", "v1", "v2,AAAA", "v1,\u00e9", "nan", "9" * 400, ","]
)
def test_a_header_that_is_missing_or_wrong_is_refused(header, value):
    headers, body = signed(NEW)
    headers = {name: text for name, text in {**headers, header: value}.items() if text is not None}
    with pytest.raises(InvalidCallbackError):
        verify_callback(headers, body, SECRET)


@pytest.mark.parametrize("seconds", [-310, 310])
def test_an_old_callback_and_one_of_the_future_are_refused(seconds):
    with pytest.raises(InvalidCallbackError, match="too"):
        verify_callback(*signed(NEW, moment=time.time() + seconds), SECRET)


def test_a_changed_body_and_another_secret_are_refused():
    headers, body = signed(NEW)
    with pytest.raises(InvalidCallbackError, match="signature"):
        verify_callback(headers, body + b" ", SECRET)
    with pytest.raises(InvalidCallbackError, match="signature"):
        verify_callback(headers, body, "whsec_" + base64.b64encode(b"x" * 32).decode())
    with pytest.raises(InvalidCallbackError):
        verify_callback(headers, b"\xff\xfe", SECRET)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"null", b'"text"', b"{", b"[" * 100_000, b"{}"),
        *(b'{"id": "../../a b"}', b'{"id": []}', b'{"id": null}', b'{"id": "7", "task_id": "8"}'),
        *(b'{"status": "succeeded"}', b'{"id": "None"}', b'{"id": true}'),
    ],
)
def test_a_signed_body_that_names_no_job_is_refused(body):
    with pytest.raises(InvalidCallbackError):
        verify_callback(*signed(body), SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_a", "whsec_\u00e9"])
def test_a_secret_that_is_none_accepts_nothing(secret):
    with pytest.raises(ValueError, match="secret"):
        verify_callback(*signed(NEW), secret)


def test_no_error_shows_the_secret_or_the_body():
    headers, body = signed(NEW)
    for wrong in (({}, body), (headers, body + b"-"), (headers, b"{")):
        with pytest.raises(InvalidCallbackError) as caught:
            verify_callback(*wrong, SECRET)
        assert SECRET[6:] not in str(caught.value)
        assert "outputs" not in str(caught.value)


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments):
        if name.startswith("standardwebhooks"):
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'airflow-provider-kling\[callbacks\]'"):
        verify_callback(*signed_before, SECRET)


signed_before = signed(NEW)


def test_the_dag_of_the_documents_asks_for_the_jobs_of_good_callbacks(monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()
    names = {"__name__": "document"}
    exec(re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1], names)
    monkeypatch.setenv("AIRFLOW_VAR_KLING_WEBHOOK_SECRET", SECRET)
    forged = ({}, json.dumps({**NEW, "id": "666"}).encode())
    running = signed({"id": "8", "status": "processing"})
    messages = [
        {"Body": json.dumps({"headers": headers, "body": body.decode()})}
        for headers, body in (signed(NEW), forged, signed(LEGACY), signed(NEW), running)
    ]
    event = SimpleNamespace(extra={"from_trigger": True, "payload": {"message_batch": messages}})
    events = MagicMock()  # no dict: before Airflow 3.2 an asset has no hash
    events.__getitem__.side_effect = lambda asset: [event] if asset is names["callbacks"] else []
    jobs = names["dag"].get_task("jobs").python_callable
    assert jobs(events) == ["7", NEW["id"]]
    assert names["dag"].get_task("fetch.download").upstream_task_ids == {"fetch.wait", "jobs"}
