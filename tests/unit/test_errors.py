"""The errors: each says what happened, where the money is, and what to do next."""

import copy
import json
import pickle

import pytest

from airflow_provider_kling import errors
from airflow_provider_kling.errors import KlingError, KlingInputError, Money, from_dict

KINDS = [KlingError, *KlingError.__subclasses__()]
FACTS = {
    "what": "It broke.",
    "money": Money.MAYBE,
    "advice": "Look.",
    "kling_task_id": "t-1",
    "reason": "BROKEN",
    "http_status": 500,
    "retry_after": 2.5,
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_crosses_to_another_process_unchanged(kind):
    for facts in (FACTS, {"what": "It broke."}):
        error = kind(**facts)
        error.add_note("a note of Python's is not one of our facts")
        there = from_dict(json.loads(json.dumps(error.to_dict())))
        assert type(there) is kind
        assert (str(there), there.facts()) == (str(error), error.facts())
        assert isinstance(there.money, Money)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling_and_copying(kind):
    error = kind(**FACTS)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (str(twin), twin.facts()) == (str(error), error.facts())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_each_message_says_what_happened_where_the_money_is_and_what_to_do_unless_it_is_logged(kind):
    error = kind("It broke.", advice=None if kind.default_advice else "Look.")
    assert str(error) == f"It broke. {kind.default_money} {error.advice}"
    assert error.advice
    assert kind.__doc__
    error.is_reported = True
    assert str(error) == "It broke."


def test_who_changes_a_refused_picture_is_told_which_task_to_clear_and_that_it_buys():
    advice = errors.KlingModerationError.default_advice
    assert "clear the task that submits it" in advice
    assert "that buys a new job" in advice


def test_each_class_says_where_the_money_is():
    told = {kind.__name__: kind.default_money for kind in KINDS if kind.default_money is not Money.UNTOUCHED}
    assert told == {
        "KlingSubmitUncertainError": Money.MAYBE,
        "KlingJobFailedError": Money.ENDED,
        "KlingTaskNotFoundError": Money.UNAFFECTED,
        "KlingWaitTimeoutError": Money.RUNNING,
        "KlingDownloadError": Money.PAID,
    }


@pytest.mark.parametrize(
    ("data", "kind", "what"),
    [
        ({"class": "KlingNewError", "what": "x", "shade": "blue"}, KlingError, "x"),
        ({"class": "KlingInputError", "what": "x", "shade": "blue"}, KlingInputError, "x"),
        ({"class": "KlingInputError"}, KlingInputError, ""),
        ({"what": "x"}, KlingError, "x"),
        ({}, KlingError, ""),
    ],
)
def test_errors_of_other_versions_are_read(data, kind, what):
    error = from_dict(data)
    assert (type(error), error.what) == (kind, what)


def test_an_unknown_money_text_becomes_the_default_of_the_class():
    data = errors.KlingJobFailedError("x").to_dict() | {"money": "Worded anew."}
    assert from_dict(data).money is Money.ENDED


def test_the_tree_in_the_documentation_is_the_tree():
    for kind in KINDS[1:]:
        assert f"─ {kind.__name__} " in errors.__doc__
