"""What a task remembers of its submit: the same request finds its job, another one never does."""

import json

import pytest

from airflow_provider_kling.jobs import VideoJob
from airflow_provider_kling.ledger import Ledger, fingerprint

HOST = "https://api.example"
JOB = VideoJob(
    "m", {"image": "https://s.example/a.png?v=2&X-Amz-Signature=one&X-Amz-Expires=60", "prompt": "a cat"}
)


class Store(dict):
    """As much of Airflow's task state store as a ledger uses; it takes JSON only, never None."""

    def set(self, key, value):
        assert value is not None
        self[key] = json.loads(json.dumps(value))

    def delete(self, key):
        self.pop(key, None)


def test_an_intent_is_recalled_until_the_job_is_known():
    store = Store()
    Ledger(store, 3).intend("f", 100.0)
    assert Ledger(store, 3).recall("f")["kling_task_id"] == ""
    Ledger(store, 3).settle("f", 101.0, "t-1")
    entry = Ledger(store, 3).recall("f")
    assert (entry["kling_task_id"], entry["intended_at"]) == ("t-1", 101.0)


def test_a_changed_request_or_a_cleared_task_never_gets_the_old_job():
    store = Store()
    Ledger(store, 3).settle("f", 100.0, "t-1")
    assert Ledger(store, 3).recall("other") is None
    assert Ledger(store, 3).last()["kling_task_id"] == "t-1"
    assert Ledger(store, 4).recall("f") is None
    assert Ledger(store, 4).last() is None


def test_a_job_that_was_not_made_is_forgotten():
    store = Store()
    ledger = Ledger(store, 3)
    ledger.intend("f", 100.0)
    ledger.forget()
    assert ledger.recall("f") is None
    assert not store


def test_without_a_store_nothing_is_remembered_and_nothing_fails():
    ledger = Ledger(None, 3)
    ledger.intend("f", 100.0)
    ledger.settle("f", 100.0, "t-1")
    ledger.forget()
    assert (ledger.last(), ledger.recall("f")) == (None, None)


@pytest.mark.parametrize(
    "inputs",
    [
        {"prompt": "a cat", "image": "https://s.example/a.png?v=2&X-Amz-Signature=two"},
        {"image": "https://s.example/a.png?X-Goog-Signature=x&v=2&se=2026&sig=abc", "prompt": "a cat"},
    ],
)
def test_what_signs_a_pictures_link_does_not_change_the_request(inputs):
    assert fingerprint(VideoJob("m", inputs), HOST) == fingerprint(JOB, HOST)


@pytest.mark.parametrize(
    ("job", "host"),
    [
        (VideoJob("other", JOB.inputs), HOST),
        (JOB, "https://other.example"),
        (VideoJob("m", {**JOB.inputs, "prompt": "a dog"}), HOST),
        (VideoJob("m", {**JOB.inputs, "image": "https://s.example/a.png?v=3"}), HOST),
        (VideoJob("m", {**JOB.inputs, "image": "https://s.example/b.png?v=2"}), HOST),
        (VideoJob("m", {**JOB.inputs, "multi_prompt": [{"prompt": "x"}]}), HOST),
    ],
)
def test_everything_else_does(job, host):
    assert fingerprint(job, host) != fingerprint(JOB, HOST)


def test_links_are_compared_unsigned_wherever_they_stand():
    one, two = (
        VideoJob("m", {"images": [f"https://s.example/a?sig={n}"], "o": {"x": f"http://a?token={n}"}})
        for n in "ab"
    )
    assert fingerprint(one, HOST) == fingerprint(two, HOST)
    assert fingerprint(VideoJob("m", {"prompt": "\ud800 ü"}), HOST)
