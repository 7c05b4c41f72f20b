"""What a failed request means whose client id finds no job: only a certain "no" is "nothing is charged"."""

import pytest

from airflow_provider_kling.errors import (
    KlingBalanceError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import Outcome, Task
from airflow_provider_kling.submission.settle import is_foreign, is_over, unsettled, was_refused

REFUSED = KlingBalanceError("No money.", http_status=429, reason="1102")
BUSY = KlingUnavailableError("No connection.")
LOST = KlingSubmitUncertainError("No answer.")
TAKEN = KlingSubmitUncertainError("The id is taken.", http_status=400, reason="1203")
BY_PROXY = KlingSubmitUncertainError("A page.", http_status=403)
BROKEN = KlingSubmitUncertainError("It failed.", http_status=500, reason="5000")


def test_a_job_of_unknown_age_is_ours():
    assert not is_foreign(Task("t", "submitted", Outcome.UNFINISHED), since=1e9)


@pytest.mark.parametrize(("at", "over"), [(189.0, False), (190.0, True)])
def test_a_request_may_create_a_job_until_its_timeout_and_the_time_of_an_invisible_job_have_passed(at, over):
    assert is_over(sent_at=100.0, request_timeout=30.0, now=at) is over


@pytest.mark.parametrize(
    ("error", "refused"),
    [(REFUSED, True), (BUSY, True), (TAKEN, True), (LOST, False), (BY_PROXY, False), (BROKEN, False)],
)
def test_only_the_gateway_itself_refuses(error, refused):
    assert was_refused(error) is refused


@pytest.mark.parametrize(
    ("error", "sent_before", "contradicts", "meaning"),
    [
        (REFUSED, False, False, None),
        (REFUSED, False, True, None),
        (REFUSED, True, False, KlingUnavailableError),
        (LOST, False, False, KlingUnavailableError),
        (LOST, True, True, KlingUnavailableError),
        (BROKEN, True, True, KlingUnavailableError),
        (TAKEN, True, False, KlingUnavailableError),
        (TAKEN, True, True, KlingSubmitUncertainError),
    ],
)
def test_a_failure_without_a_job_is_final_repeated_or_left_to_a_person(
    error, sent_before, contradicts, meaning
):
    found = unsettled(error, "airflow-1", sent_before=sent_before, contradicts=contradicts)
    if meaning is None:
        assert found is None
    else:
        assert (type(found), found.money) == (meaning, Money.MAYBE)
        assert error.what in found.what
        assert "client id airflow-1" in found.what
