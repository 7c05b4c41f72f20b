"""Every reason that the gateway documents, as the answer to a submit, to a look in any mode, to a download.

The table below is the gateway's, row by row. What each row does to a task follows from its class alone.
"""

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout
from airflow_fakes import Store, context_of, submits
from sensor_modes import Wait, arrange, bought

from airflow_provider_kling.emulator.messages import error_reply
from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    KlingWaitTimeoutError,
    Money,
)
from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator

#: Of each class: the HTTP status and the reasons that come with it.
ACCESS = {400: ["MISSING_API_KEY"], 401: ["FAILED_TO_AUTH"], 403: ["INVALID_API_KEY"]}
PERMISSION = {
    403: [
        *("API_NOT_ALLOWED", "FEATURE_NOT_ALLOWED", "NEED_REAL_NAME_VERIFY", "ACCESS_DENY"),
        "BILLING_AUTH_FAILED",
    ]
}
BALANCE = {400: ["BILLING_BALANCE_NOT_ENOUGH"], 403: ["NOT_ENOUGH_BALANCE"]}
MODERATION = {400: ["ILLEGAL_PROMPT", "ILLEGAL_IMAGE_CONTENT"]}
INPUT = {
    400: [
        *("INVALID_REQUEST_BODY", "IMAGE_FILE_EXCEEDS_MAX_SIZE", "INVALID_IMAGE_FORMAT"),
        *("IMAGE_EXCEEDS_MAX_RESOLUTION", "INVALID_IMAGE_SIZE"),
    ],
    404: ["API_NOT_FOUND"],
}
BUSY = {429: ["RATE_LIMIT_EXCEEDED"]}
PASSING = {500: ["BILLING_FAILED", "CREATE_TASK_FAILED"]}
OF_A_QUERY = {500: ["GET_RESULT_FAILED", "TASK_FAILED"], 404: ["TASK_NOT_FOUND"]}

FINAL = {
    reason: kind
    for rows, kind in [
        (ACCESS, KlingAccessError),
        (PERMISSION, KlingAccessError),
        (BALANCE, KlingBalanceError),
        (MODERATION, KlingModerationError),
        (INPUT, KlingInputError),
    ]
    for reasons in rows.values()
    for reason in reasons
}
STATUSES = {
    reason: status
    for rows in (ACCESS, PERMISSION, BALANCE, MODERATION, INPUT, BUSY, PASSING, OF_A_QUERY)
    for status, reasons in rows.items()
    for reason in reasons
}
SAFE = ["RATE_LIMIT_EXCEEDED", "BILLING_FAILED", "CREATE_TASK_FAILED"]
#: A reason as it is documented, under ``error``, and with a status that says something else.
FORMS = ["error={}", "nested={}", "error={}/502", "error={}/200"]


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.fixture(params=FORMS[:2])
def plain(request):
    return request.param


def submitting():
    return KlingSubmitOperator(task_id="submit", model="kling-v3.0-pro-t2v", prompt="a cat waves")


def raised(kind, act, *arguments):
    """Return what was raised: exactly this class of ours, and one of Airflow's."""
    with pytest.raises(kind) as caught:
        act(*arguments)
    assert type(caught.value).__mro__[1] is kind
    assert isinstance(caught.value, AirflowException)
    return caught.value


def test_the_stand_in_answers_each_reason_with_its_documented_status():
    assert {reason: error_reply(reason).status for reason in STATUSES} == STATUSES
    assert len(STATUSES) == 24


# As the answer to a submit.


@pytest.mark.parametrize("reason", FINAL)
def test_a_submit_that_is_refused_for_good_is_sent_once_and_costs_nothing(gateway, clock, form, reason):
    gateway.add_fault(f"submit:{form.format(reason)},times=always")
    store = Store()
    error = raised(FINAL[reason], submitting().execute, context_of(store=store))
    assert isinstance(error, AirflowFailException)
    assert (error.reason, error.money) == (reason, Money.UNTOUCHED)
    assert "No job was started, nothing is charged." in str(error)
    assert reason in str(error)
    assert (submits(gateway), clock.slept, store.values) == (1, [], {})


@pytest.mark.parametrize("reason", SAFE)
def test_a_submit_that_surely_made_no_job_is_repeated_until_there_is_one(gateway, clock, form, reason):
    gateway.add_fault(f"submit:{form.format(reason)},times=2")
    assert submitting().execute(context_of(store=Store())) == gateway.jobs[0].task_id
    assert (submits(gateway), len(gateway.jobs)) == (3, 1)
    assert len(clock.slept) == 2


@pytest.mark.parametrize("reason", SAFE)
def test_a_submit_that_is_never_taken_is_left_to_a_retry_and_costs_nothing(gateway, clock, form, reason):
    gateway.add_fault(f"submit:{form.format(reason)},times=always")
    store, task = Store(), submitting()
    task.busy_timeout = 5
    error = raised(KlingUnavailableError, task.execute, context_of(store=store))
    assert not isinstance(error, AirflowFailException)
    assert (error.reason, error.money) == (reason, Money.UNTOUCHED)
    assert submits(gateway) > 1
    assert (gateway.jobs, store.values) == ([], {})


@pytest.mark.parametrize("late", ["", ",late"])
@pytest.mark.parametrize(
    "fault", ["error=GET_RESULT_FAILED", "error=TASK_FAILED", "error=WHAT_IS_THIS/500", "html=503"]
)
def test_a_failure_that_says_nothing_about_a_submit_is_never_repeated(gateway, clock, fault, late):
    gateway.add_fault(f"submit:{fault}{late}")
    store = Store()
    error = raised(KlingSubmitUncertainError, submitting().execute, context_of(store=store))
    assert isinstance(error, AirflowFailException)
    assert error.money is Money.MAYBE
    assert "A job may have been started and may be charged." in str(error)
    assert (submits(gateway), clock.slept) == (1, [])
    assert len(gateway.jobs) == bool(late)
    assert store.values


# As the answer to a look, in every mode.


@pytest.mark.parametrize("reason", FINAL)
def test_a_look_that_is_refused_for_good_ends_the_wait_in_every_mode(gateway, clock, mode, plain, reason):
    kling_task_id = arrange(gateway, (f"query:{plain.format(reason)},times=always",))
    error = raised(FINAL[reason], Wait(mode, clock, kling_task_id=kling_task_id).end)
    assert isinstance(error, AirflowFailException)
    assert (error.reason, error.kling_task_id, error.money) == (reason, kling_task_id, Money.RUNNING)
    assert "The job goes on at the gateway and may be charged." in str(error)
    assert submits(gateway) == 1


@pytest.mark.parametrize("reason", FINAL)
def test_a_first_look_that_is_refused_for_good_ends_the_wait_in_every_mode(gateway, clock, mode, reason):
    kling_task_id = bought(gateway)
    gateway.add_fault(f"query:error={reason},times=always")
    error = raised(FINAL[reason], Wait(mode, clock, kling_task_id=kling_task_id).end)
    assert isinstance(error, AirflowFailException)
    assert (error.reason, error.money, clock.slept) == (reason, Money.RUNNING, [])


@pytest.mark.parametrize("reason", ["RATE_LIMIT_EXCEEDED", *PASSING[500], "GET_RESULT_FAILED"])
def test_a_look_that_may_work_later_ends_no_wait_in_any_mode(gateway, clock, mode, plain, reason):
    kling_task_id = arrange(gateway, (f"query:{plain.format(reason)},times=3",))
    assert Wait(mode, clock, kling_task_id=kling_task_id).end()["kling_task_id"] == kling_task_id
    assert not gateway.faults.pending
    assert submits(gateway) == 1


@pytest.mark.parametrize("reason", ["RATE_LIMIT_EXCEEDED", *PASSING[500], "GET_RESULT_FAILED"])
def test_looks_that_never_work_end_with_the_deadline_in_every_mode(gateway, clock, mode, plain, reason):
    kling_task_id = arrange(gateway, (f"query:{plain.format(reason)},times=always",))
    error = raised(KlingWaitTimeoutError, Wait(mode, clock, kling_task_id=kling_task_id).end)
    assert isinstance(error, AirflowSensorTimeout)
    assert (error.kling_task_id, error.money) == (kling_task_id, Money.RUNNING)
    assert reason in str(error)


def test_a_job_that_is_told_to_have_failed_ends_the_wait_in_every_mode(gateway, clock, mode, plain):
    kling_task_id = arrange(gateway, (f"query:{plain.format('TASK_FAILED')}",))
    error = raised(KlingJobFailedError, Wait(mode, clock, kling_task_id=kling_task_id).end)
    assert isinstance(error, AirflowFailException)
    assert (error.reason, error.kling_task_id, error.money) == ("TASK_FAILED", kling_task_id, Money.ENDED)


def test_a_job_that_is_not_shown_is_waited_for_a_minute_in_every_mode(gateway, clock, mode, plain):
    kling_task_id = arrange(gateway, (f"query:{plain.format('TASK_NOT_FOUND')},times=always",))
    began = clock.time()
    error = raised(KlingTaskNotFoundError, Wait(mode, clock, kling_task_id=kling_task_id).end)
    assert isinstance(error, AirflowFailException)
    assert (error.reason, error.kling_task_id) == ("TASK_NOT_FOUND", kling_task_id)
    assert 59 < clock.time() - began < 200


# As the answer to the download's question.


@pytest.mark.parametrize("reason", STATUSES)
def test_a_download_is_refused_for_good_or_until_a_retry_as_the_reason_says(
    gateway, clock, form, reason, tmp_path
):
    kling_task_id = bought(gateway)
    gateway.add_fault(f"query:{form.format(reason)},times=always")
    later = {"TASK_FAILED": KlingJobFailedError, "TASK_NOT_FOUND": KlingTaskNotFoundError}
    kind = FINAL.get(reason) or later.get(reason, KlingUnavailableError)
    task = KlingDownloadOperator(task_id="get", kling_task_id=kling_task_id, target=f"{tmp_path}/")
    error = raised(kind, task.execute, context_of())
    assert isinstance(error, AirflowFailException) == (kind is not KlingUnavailableError)
    assert (error.reason, error.kling_task_id) == (reason, kling_task_id)
    assert error.money is not Money.UNTOUCHED
    assert list(tmp_path.iterdir()) == []
    assert submits(gateway) == 1
