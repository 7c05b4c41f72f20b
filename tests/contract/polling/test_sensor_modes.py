"""The same cause ends a wait with the same error in every mode: poke, reschedule and deferred."""

import asyncio
import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.sdk import DAG
from airflow.sdk.bases.sensor import AirflowRescheduleException
from airflow_fakes import KEY, TI, Store, context_of, stored_and_read
from dialects import dialect, rows
from sensor_modes import Wait, arrange, bought, triggered
from targets import Killed

from airflow_provider_kling.emulator.fault_effects import Effect
from airflow_provider_kling.emulator.faults import Fault
from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    KlingWaitTimeoutError,
)
from airflow_provider_kling.operators import KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

#: Kling has one word for a job that did not succeed, and leaves unknown jobs out of its answer.
each_end = rows(
    "faults error why",
    [
        (("job:fail",), KlingJobFailedError, "could not generate"),
        (("job:fail=moderation",), KlingModerationError, "sensitive information"),
        (("query:html=401,times=always",), KlingAccessError, "401"),
        (("query:html=403,times=always",), KlingAccessError, "403"),
        (("query:empty,times=always",), KlingJobFailedError, "without a video"),
        (("job:stuck",), KlingWaitTimeoutError, "not finished within the timeout of 600 s"),
        (("query:html=502,times=always",), KlingWaitTimeoutError, "the last poll failed"),
    ],
    myrouter=[
        (("job:cancel",), KlingJobFailedError, "was cancelled"),
        (("query:says=TASK_FAILURE_X",), KlingJobFailedError, "FAILURE_X"),
        (("query:error=TASK_FAILED",), KlingJobFailedError, "TASK_FAILED"),
        (("query:error=INVALID_API_KEY,times=always",), KlingAccessError, "INVALID_API_KEY"),
        (("query:error=TASK_NOT_FOUND,times=always",), KlingTaskNotFoundError, "TASK_NOT_FOUND"),
    ],
    kling=[
        (("query:says=FAILED",), KlingJobFailedError, "failed at the gateway"),
        (("query:code=1002,times=always",), KlingAccessError, "1002"),
        (("query:code=1101,times=always",), KlingBalanceError, "1101"),
        (("job:invisible=100000",), KlingTaskNotFoundError, "does not know job"),
    ],
)


@each_end
def test_one_cause_is_one_exception_in_every_mode(gateway, clock, logged, mode, faults, error, why):
    kling_task_id = arrange(gateway, faults)
    with pytest.raises(error, match=why) as caught:
        Wait(mode, clock, kling_task_id=kling_task_id).end()
    ours = AirflowSensorTimeout if error is KlingWaitTimeoutError else AirflowFailException
    assert isinstance(caught.value, ours)
    assert type(caught.value).__mro__[1] is error
    assert caught.value.kling_task_id == kling_task_id
    assert KEY not in logged.text()


@each_end
@pytest.mark.parametrize("softness", ["soft_fail", "never_fail"])
def test_a_soft_sensor_skips_in_every_mode(gateway, clock, mode, faults, error, why, softness):
    kling_task_id = arrange(gateway, faults)
    with pytest.raises(AirflowSkipException):
        Wait(mode, clock, kling_task_id=kling_task_id, **{softness: True}).end()
    assert sum(request.method == "GET" for request in gateway.requests) > 1


@pytest.mark.parametrize("softness", [{}, {"soft_fail": True}, {"never_fail": True}])
def test_the_result_is_the_same_in_every_mode_soft_or_not(gateway, clock, mode, softness):
    kling_task_id = arrange(gateway, ())
    wait = Wait(mode, clock, kling_task_id=kling_task_id, **softness)
    result = wait.end()
    assert result["kling_task_id"] == kling_task_id
    assert result["status"] == dialect(gateway).states[-1]
    assert result["videos"][0]["video_url"] == wait.ti.xcoms["kling_video_url"]
    assert result["timings"].keys() == dialect(gateway).timings
    assert wait.ti.xcoms["kling_progress"]["status"] == dialect(gateway).states[-1]
    assert wait.ti.xcoms["kling_video_link"].startswith(gateway.storage_url)
    assert wait.ti.xcoms["kling_gallery_link"].endswith("/dags/d/runs/r/tasks/t/plugin/kling-videos")


@pytest.mark.parametrize(("waited", "left"), [(100, 500), (599, 1), (601, 600), (86_400, 600)])
def test_the_timeout_counts_from_the_submit_upstream_in_every_mode(gateway, clock, mode, waited, left):
    gateway.add_fault("query:html=502,times=always")
    wait = Wait(mode, clock, kling_task_id="k")
    request = {"kling_task_id": "k", "submitted_at": clock.time() - waited}
    wait.ti.upstream = [("submit", -1, "kling_request", request)]
    began = clock.time()
    with pytest.raises(KlingWaitTimeoutError, match="timeout of 600 s"):
        wait.end()
    assert left - 1 <= clock.time() - began <= left + 10


def retried(mode, clock, store, waiting_for, *, max_tries=3):
    """Return a sensor's next try: a new process with the same store."""
    wait = Wait(mode, clock, kling_task_id=waiting_for)
    wait.store, wait.ti = store, TI(max_tries=max_tries)
    return wait


@pytest.mark.parametrize(("later", "left"), [(0, 600), (250, 350), (650, 0), (100_000, 0)])
def test_a_retry_does_not_wait_anew_but_makes_a_last_poll(gateway, clock, mode, later, left):
    gateway.add_fault("job:stuck")
    kling_task_id, store, first = bought(gateway), Store(), clock.time()
    with pytest.raises(Killed):
        interrupted(mode, clock, store, kling_task_id)
    clock.sleep(first + later - clock.time())
    polls, began = len(gateway.requests), clock.time()
    with pytest.raises(KlingWaitTimeoutError, match="timeout of 600 s"):
        retried(mode, clock, store, kling_task_id).end()
    assert left - 1 <= clock.time() - began <= left + 10
    assert len(gateway.requests) > polls


def interrupted(mode, clock, store, kling_task_id):
    """Begin a wait in a process that dies after its first poll."""
    wait = retried(mode, clock, store, kling_task_id)

    def die(*_, **__):
        raise Killed

    sensor = wait.sensor()
    sensor.defer = clock.watch = die
    try:
        sensor.execute(wait.context())
    except AirflowRescheduleException as pause:
        raise Killed from pause
    finally:
        clock.watch = lambda: None


def test_a_cleared_wait_waits_anew(gateway, clock, mode):
    gateway.add_fault("job:stuck")
    kling_task_id, store = bought(gateway), Store()
    for max_tries in (3, 6):
        began = clock.time()
        with pytest.raises(KlingWaitTimeoutError):
            retried(mode, clock, store, kling_task_id, max_tries=max_tries).end()
        assert 590 <= clock.time() - began <= 610
        clock.sleep(1)  # the job is older now than a wait may last


def test_a_store_that_fails_ends_no_wait(gateway, clock, mode):
    store = Store()
    store.before[1] = OSError("the API server is away")
    assert retried(mode, clock, store, bought(gateway)).end()["videos"]


@pytest.mark.parametrize("request_of_yesterday", [{}, {"submitted_at": "at noon"}, {"submitted_at": None}])
def test_a_record_of_another_version_ends_no_wait(gateway, clock, mode, request_of_yesterday):
    wait = Wait(mode, clock, kling_task_id=bought(gateway))
    request = {"kling_task_id": wait.arguments["kling_task_id"], **request_of_yesterday}
    wait.ti.upstream = [("submit", -1, "kling_request", request)]
    assert wait.end()["videos"]


def polls_of(gateway):
    return [(request.at, request.status) for request in gateway.requests if request.method == "GET"]


def test_retry_after_is_kept_in_every_mode(gateway, clock, mode):
    kling_task_id = arrange(gateway, ("query:rate-limit=120",))
    Wait(mode, clock, kling_task_id=kling_task_id).end()
    polls = polls_of(gateway)
    (at,) = (n for n, (_, status) in enumerate(polls) if status == 429)
    assert polls[at + 1][0] - polls[at][0] >= 119


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_polls_that_fail_come_at_growing_intervals(gateway, clock, mode):
    kling_task_id = arrange(gateway, ("query:html=502,times=always",))
    with pytest.raises(KlingWaitTimeoutError):
        Wait(mode, clock, kling_task_id=kling_task_id).end()
    assert len(polls_of(gateway)) < 15


def test_a_job_that_is_done_is_returned_at_once_in_every_mode(gateway, clock, mode):
    wait = Wait(mode, clock, kling_task_id=bought(gateway))
    assert wait.end()["videos"]
    assert (wait.pauses, clock.slept) == (0, [])


@pytest.mark.parametrize("kling_task_id", ["", " ", "None", None, 7, "../x", "a/b", "a\0", "\ud800", "."])
def test_a_value_that_is_no_task_id_is_an_error_without_a_poll_in_every_mode(
    gateway, clock, mode, kling_task_id
):
    with pytest.raises(KlingInputError, match="is not a task id") as caught:
        Wait(mode, clock, kling_task_id=kling_task_id).end()
    assert isinstance(caught.value, AirflowFailException)
    assert not gateway.requests


#: What the gateway's clock makes of the time of the submit, in milliseconds.
WRONG_CLOCKS = {
    "behind": lambda at: at - 550_000,
    "a little behind": lambda at: at - 100_000,
    "ahead": lambda at: at + 550_000,
    "at zero": lambda _: 0,
    "in seconds": lambda at: at / 1000,
    "in microseconds": lambda at: at * 1000,
    "negative": lambda at: -at,
}


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("wrong", WRONG_CLOCKS.values(), ids=WRONG_CLOCKS)
def test_no_clock_of_the_gateway_moves_the_timeout_in_any_mode(gateway, clock, mode, wrong, noted):
    def edit(answer):
        timings = answer["extra"]["debug_info"]
        timings.update({name: str(wrong(int(at))) for name, at in timings.items() if name.endswith("_ms")})

    gateway.add_fault("job:stuck", Fault(call="query", effect=Effect(edit=edit), times=None))
    wait, began = Wait(mode, clock, kling_task_id=bought(gateway)), clock.time()
    if noted:
        request = {"kling_task_id": wait.arguments["kling_task_id"], "submitted_at": began - 1}
        wait.ti.upstream = [("submit", -1, "kling_request", request)]
    with pytest.raises(KlingWaitTimeoutError, match="the timeout of 600 s"):
        wait.end()
    assert 598 <= clock.time() - began <= 602


BACKSTOP = ("__fail__", {"error": "Trigger timeout"})


def test_where_no_triggerer_is_left_a_last_poll_finds_the_video(gateway):
    sensor = KlingTaskSensor(task_id="wait", kling_task_id=bought(gateway))
    assert sensor.resume_execution(*BACKSTOP, context_of())["videos"]


@pytest.mark.parametrize("trouble", ["job:stuck", "query:html=502,times=always", "query:cut,times=always"])
def test_where_no_triggerer_is_left_and_the_last_poll_finds_no_video_the_wait_is_over(
    gateway, clock, trouble
):
    sensor = KlingTaskSensor(task_id="wait", kling_task_id=arrange(gateway, (trouble,)), timeout=600)
    with pytest.raises(KlingWaitTimeoutError) as caught:
        sensor.resume_execution(*BACKSTOP, context_of())
    assert isinstance(caught.value, AirflowSensorTimeout)
    assert not clock.slept


def test_where_no_triggerer_is_left_a_failed_job_is_a_failed_job(gateway):
    gateway.add_fault("job:fail")
    sensor = KlingTaskSensor(task_id="wait", kling_task_id=bought(gateway))
    with pytest.raises(KlingJobFailedError):
        sensor.resume_execution(*BACKSTOP, context_of())


def test_a_broken_trigger_is_not_a_timeout(gateway):
    sensor = KlingTaskSensor(task_id="wait", kling_task_id="t-1")
    with pytest.raises(KlingUnavailableError, match=r"Job t-1: .*TaskDeferralError: Trigger failure"):
        sensor.resume_execution("__fail__", {"error": "Trigger failure", "traceback": ["bang"]}, context_of())


@pytest.mark.parametrize("softness", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("error", ["Trigger timeout", "Trigger failure"])
def test_a_soft_sensor_skips_what_airflow_ended_too(gateway, softness, error):
    kling_task_id = arrange(gateway, ("job:stuck",))
    sensor = KlingTaskSensor(task_id="wait", kling_task_id=kling_task_id, **{softness: True})
    with pytest.raises(AirflowSkipException):
        sensor.resume_execution("__fail__", {"error": error}, context_of())


def test_a_poll_that_fails_after_the_event_is_repeated_at_once(gateway, clock):
    kling_task_id = bought(gateway)
    gateway.add_fault("query:html=502")
    event = {"kling_task_id": kling_task_id, "started_at": clock.time(), "deadline": clock.time() + 600}
    sensor = KlingTaskSensor(task_id="wait", kling_task_id=kling_task_id)
    assert sensor.resume_execution("execute_complete", {"event": event}, context_of())["videos"]
    assert sum(clock.slept) < 15


def test_polls_that_go_on_failing_after_the_event_defer_again_instead_of_failing(gateway, clock):
    kling_task_id = bought(gateway)
    gateway.add_fault("query:html=502,times=3")
    event = {"kling_task_id": kling_task_id, "started_at": clock.time(), "deadline": clock.time() + 600}
    sensor = KlingTaskSensor(task_id="wait", kling_task_id=kling_task_id)
    with pytest.raises(TaskDeferred) as caught:
        sensor.resume_execution("execute_complete", {"event": event}, context_of())
    assert caught.value.trigger.deadline == event["deadline"]
    assert asyncio.run(triggered(caught.value)) == event


def test_the_log_says_until_when_the_triggerer_waits_and_where_to_look_then(gateway, clock, logged):
    kling_task_id = arrange(gateway, ())
    with pytest.raises(TaskDeferred):
        KlingTaskSensor(task_id="wait", kling_task_id=kling_task_id, timeout=600).execute(context_of())
    until = datetime.fromtimestamp(clock.time() + 600, UTC).strftime("%Y-%m-%d %H:%M")
    assert f"The triggerer waits for the job, until {until} UTC at the latest." in logged.text()
    assert "If no line follows, look at Home, Health" in logged.text()


def test_each_state_is_logged_once_by_worker_and_triggerer_together(gateway, clock, logged):
    gateway.set_timing(queue_seconds=60, render_seconds=60)
    Wait("deferred", clock, kling_task_id=bought(gateway)).end()
    states = re.findall(r"Job [\w-]+: ([^\[\n]+)", logged.text())
    assert len(states) == len(set(states))
    assert list(dict.fromkeys(state.split(",")[0].strip() for state in states)) == dialect(gateway).log_states


def test_a_deferral_ends_a_little_after_our_own_deadline_at_the_latest(gateway, clock):
    kling_task_id = arrange(gateway, ())
    with pytest.raises(TaskDeferred) as caught:
        KlingTaskSensor(task_id="wait", kling_task_id=kling_task_id, timeout=600).execute(context_of())
    assert 600 < caught.value.timeout.total_seconds() <= 1500
    assert caught.value.trigger.first_poll_at >= clock.time() + 5


def test_an_error_of_a_newer_version_is_still_an_error_here(gateway):
    event = {
        "kling_task_id": "t-1",
        "error": {"class": "KlingNewError", "what": "It broke.", "colour": "red"},
    }
    with pytest.raises(AirflowFailException, match="It broke"):
        KlingTaskSensor(task_id="wait", kling_task_id="t-1").execute_complete(context_of(), event)


@pytest.mark.parametrize("interval", [0, 0.5])
def test_a_sensor_that_would_flood_the_gateway_is_refused_when_the_dag_is_parsed(interval):
    with pytest.raises(
        ValueError, match=f"poke_interval={interval}: must be a number of seconds, at least 1"
    ):
        KlingTaskSensor(task_id="wait", kling_task_id="t-1", poke_interval=interval)


@pytest.mark.parametrize("argument", ["initial_delay", "max_poll_interval"])
@pytest.mark.parametrize("value", [-1, "soon", None, True])
def test_values_that_are_no_seconds_are_refused_by_name_when_the_dag_is_parsed(argument, value):
    with pytest.raises(ValueError, match=f"{argument}={value!r}: must be a number of seconds"):
        KlingTaskSensor(task_id="wait", kling_task_id="t-1", **{argument: value})


def ages_of_polls(gateway, began):
    return [request.at - began for request in gateway.requests if request.method == "GET"]


def test_without_an_interval_a_job_is_found_in_every_mode(gateway, clock, mode):
    wait = Wait(mode, clock, kling_task_id=arrange(gateway, ()), poke_interval=None)
    assert wait.end()["videos"]
    assert len(ages_of_polls(gateway, 0)) <= 8
    assert wait.sensor().poke_interval == 10


def test_no_poll_comes_before_the_initial_delay_in_any_mode(gateway, clock, mode):
    kling_task_id, began = arrange(gateway, ()), clock.time()
    wait = Wait(mode, clock, kling_task_id=kling_task_id, initial_delay=timedelta(seconds=100))
    request = {**ASKED, "kling_task_id": kling_task_id, "submitted_at": began - 20}
    wait.ti.upstream = [("submit", -1, "kling_request", request)]
    assert wait.end()["videos"]
    assert 79.9 <= ages_of_polls(gateway, began)[0] < 91


ASKED = {"model": "kling-v3.0-pro-i2v", "inputs": {"prompt": "secret", "duration": 10}}


def test_the_trigger_gets_the_kind_of_the_job_and_nothing_secret(gateway, clock):
    kling_task_id, ti = arrange(gateway, ()), TI()
    ti.upstream = [("submit", -1, "kling_request", {"kling_task_id": kling_task_id, **ASKED})]
    with DAG("d", schedule=None):
        sensor = KlingTaskSensor(task_id="wait", kling_task_id=kling_task_id, max_poll_interval=30)
        KlingSubmitOperator(task_id="submit") >> sensor
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(context_of(ti))
    arguments = caught.value.trigger.serialize()[1]
    assert arguments["kind"] == "kling-v3.0-pro-i2v duration=10"
    assert (arguments["interval"], arguments["initial_delay"], arguments["max_poll_interval"]) == (
        None,
        0,
        30,
    )
    assert stored_and_read(arguments) == arguments
    assert "secret" not in str(arguments)


def test_a_fixed_interval_is_kept_to_the_second(gateway, clock):
    gateway.set_timing(queue_seconds=15, render_seconds=60)
    kling_task_id, began = bought(gateway), clock.time()
    assert Wait("deferred", clock, kling_task_id=kling_task_id, poke_interval=7).end()["videos"]
    ages = ages_of_polls(gateway, began)
    between = [b - a for a, b in itertools.pairwise(ages[1:-1])]  # the first follows on the deferral
    assert between == pytest.approx([7] * (len(ages) - 3), abs=0.5)


def test_a_connection_that_is_not_there_is_one_exception_in_every_mode(gateway, clock, mode):
    wait = Wait(mode, clock, kling_task_id=arrange(gateway, ()), kling_conn_id="kling_gone")
    with pytest.raises(KlingUnavailableError, match="kling_gone") as caught:
        wait.end()
    assert not isinstance(caught.value, AirflowFailException)  # it may be back for the retry


def test_an_unpublished_link_appears_nowhere_in_airflow(gateway, clock, mode):
    wait = Wait(mode, clock, kling_task_id=arrange(gateway, ()), publish_link=False)
    assert gateway.storage_url not in str(wait.end())
    assert gateway.storage_url not in str(wait.ti.xcoms)
