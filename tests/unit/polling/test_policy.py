"""What answers mean for a wait: when to poll next and when to give up, on a clock that the tests move."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    KlingWaitTimeoutError,
    Money,
)
from airflow_provider_kling.gateways.base import NOT_FOUND_GRACE, Task, Video
from airflow_provider_kling.gateways.myrouter import outcome_of
from airflow_provider_kling.hooks import for_airflow
from airflow_provider_kling.polling import MAX_POLL_INTERVAL
from airflow_provider_kling.polling.policy import (
    EMPTY_GRACE,
    EMPTY_INTERVAL,
    ENDED_GRACE,
    MAX_BACKOFF,
    REFUSED_GRACE,
    PollPolicy,
)
from airflow_provider_kling.polling.schedule import (
    MIN_POLL_INTERVAL,
    DurationModel,
    Schedule,
)
from airflow_provider_kling.submission.submit_once import submit_delay

START = 1_700_000_000.0
DONE = (Video("https://storage.example/v.mp4"),)


def saw(word="PROCESSING", percent=None, videos=(), reason="", **more):
    status = f"TASK_STATUS_{word}"
    return Task("t-1", status, outcome_of(status), reason, percent, videos=videos, **more)


def down(retry_after=None):
    return KlingUnavailableError("HTTP 504.", money=Money.RUNNING, retry_after=retry_after)


def unknown():
    return KlingTaskNotFoundError("HTTP 404.")


def refused(reason=None, status=401):
    return KlingAccessError(f"HTTP {status}.", money=Money.RUNNING, http_status=status, reason=reason)


class Wait:
    """A policy and its clock."""

    def __init__(self, interval=10.0, timeout=3600.0, schedule=None, **options):
        schedule = schedule or Schedule()
        self.policy = PollPolicy("t-1", START, START + timeout, interval, schedule, **options)
        self.now = START

    def update(self, answer, at=None):
        """Give the answer to a poll, by default at the time that the last result asked for."""
        self.now = self.now if at is None else START + at
        result = self.policy.update(answer, self.now)
        assert (result.task is not None) + (result.error is not None) + bool(result.next_poll_at) == 1
        self.pause = result.next_poll_at - self.now
        self.now = result.next_poll_at or self.now
        return result

    def run(self, answers):
        """Poll, with these answers over and over, until the wait ends; return its last result."""
        answers = itertools.cycle(answers)
        while (result := self.update(next(answers))).next_poll_at:
            pass
        return result

    @property
    def age(self):
        return self.now - START


def test_a_finished_job_ends_the_wait_with_its_video():
    wait = Wait()
    task = saw("SUCCEED", 100, DONE)
    result = wait.update(task)
    assert result.task is task
    assert result.messages == ("Job t-1: succeed",)


def test_an_unfinished_job_is_polled_again_after_the_interval():
    wait = Wait(interval=7)
    for word in ("QUEUED", "PROCESSING", "PROCESSING", "DREAMING", "UNKNOWN", "X" * 10_000):
        wait.update(saw(word))
        assert wait.pause == 7


@pytest.mark.parametrize("word", ["FAILED", "CANCELED", "CANCELLED", "FAILURE"])
def test_a_failed_or_cancelled_job_ends_the_wait(word):
    result = Wait().update(saw(word, reason="It could not."))
    assert type(result.error) is KlingJobFailedError
    assert result.progress["status"] == f"TASK_STATUS_{word}"
    assert all("not finished" not in line for line in result.messages)


@pytest.mark.parametrize(
    "error",
    [
        *(KlingAccessError("The host is wrong."), KlingInputError("400."), KlingJobFailedError("500.")),
        *(refused("INVALID_API_KEY", 403), refused("FAILED_TO_AUTH", 401)),
    ],
)
def test_a_final_error_ends_the_wait_as_it_is(error):
    assert Wait().update(error).error is error


def test_passing_errors_never_end_a_wait_and_polls_become_ever_rarer():
    wait = Wait(timeout=10**6)
    pauses = []
    for _ in range(60):
        wait.update(down())
        pauses.append(wait.pause)
    assert pauses[:5] == [10, 20, 40, 80, MAX_BACKOFF]
    assert set(pauses[4:]) == {MAX_BACKOFF}
    wait.update(saw())
    assert wait.pause == 10
    wait.update(down())
    assert wait.pause == 10


def test_a_long_interval_is_no_reason_to_poll_more_often_after_a_failure():
    wait = Wait(interval=300, timeout=10**6)
    for _ in range(3):
        wait.update(down())
        assert wait.pause == 300


def test_retry_after_is_honoured_up_to_a_quarter_of_an_hour():
    wait = Wait(timeout=3600)
    wait.update(down(retry_after=500))
    assert wait.pause == 500
    wait.update(down(retry_after=1))
    assert wait.pause == 20
    wait.update(down(retry_after=10**9))
    assert wait.pause == 900


@pytest.mark.parametrize("retry_after", [0, -1, -math.inf, math.nan])
def test_a_retry_after_that_makes_no_sense_is_ignored(retry_after):
    wait = Wait()
    wait.update(down(retry_after=retry_after))
    assert wait.pause == 10


@pytest.mark.parametrize("retry_after", [100, 10**9, math.inf])
def test_no_pause_outlasts_the_deadline_and_the_last_poll_is_made_then(retry_after):
    wait = Wait(timeout=75)
    wait.update(down(retry_after=retry_after), 60)
    assert wait.age == 75
    assert "timeout of 75 s" in str(wait.update(down(retry_after=retry_after)).error)


def test_a_run_of_failures_is_one_message_and_so_is_its_end():
    wait = Wait()
    assert wait.update(saw()).messages == ("Job t-1: processing",)
    assert wait.update(down()).messages == ("A poll failed, the wait goes on: HTTP 504.",)
    assert wait.update(down()).messages == ()
    assert wait.update(saw()).messages == ("The gateway answers again after 2 failed poll(s).",)
    assert wait.update(saw()).messages == ()
    assert len(wait.update(down()).messages) == 1


# Answers that may pass or may be final.


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("answer", "grace"), [(refused, REFUSED_GRACE), (lambda **_: unknown(), NOT_FOUND_GRACE)]
)
def test_an_answer_in_doubt_is_final_only_after_some_minutes(answer, grace, status):
    wait = Wait(interval=7)
    first = wait.update(answer(status=status), 1000)
    assert first.worker_stays
    result = wait.run([answer(status=status)])
    assert wait.age == 1000 + grace
    assert type(result.error) in (KlingAccessError, KlingTaskNotFoundError)


def test_errors_that_airflow_understands_are_doubted_alike():
    wait = Wait()
    wait.update(for_airflow(refused()))
    assert wait.run([for_airflow(refused())]).error
    assert wait.age == REFUSED_GRACE


@pytest.mark.parametrize("answer", [refused(), refused(status=403), unknown()])
def test_a_state_of_the_job_ends_the_doubt(answer):
    wait = Wait(interval=50, timeout=10**6)
    for _ in range(50):
        assert wait.update(answer).worker_stays
        assert not wait.update(saw()).worker_stays


@pytest.mark.parametrize("answer", [refused(), unknown()])
def test_other_errors_do_not_prolong_a_doubt(answer):
    wait = Wait(interval=10)
    assert wait.run([answer, down()]).error is answer
    assert wait.age <= REFUSED_GRACE + 2 * MAX_BACKOFF


def test_a_doubt_does_not_outlast_the_deadline():
    wait = Wait(timeout=100)
    assert type(wait.run([refused()]).error) is KlingWaitTimeoutError
    assert wait.age == 100


@pytest.mark.parametrize("interval", [1, 10, 300])
def test_a_success_without_a_video_is_polled_for_a_while_and_then_fails(interval):
    wait = Wait(interval=interval)
    first = wait.update(saw("SUCCEED"), 100)
    assert first.worker_stays
    assert wait.pause == min(interval, EMPTY_INTERVAL)
    while (result := wait.update(saw("SUCCEED"))).next_poll_at:
        assert result.worker_stays
        assert wait.pause <= EMPTY_INTERVAL
    assert wait.age == 100 + EMPTY_GRACE
    assert type(result.error) is KlingJobFailedError
    assert "without a video" in str(result.error)


def test_a_video_that_is_named_late_is_taken():
    wait = Wait()
    wait.update(saw("SUCCEED"))
    assert wait.update(saw("SUCCEED", videos=DONE)).task.videos == DONE


@pytest.mark.parametrize("between", [saw(), saw("QUEUED"), down(), unknown(), refused()])
def test_no_answer_in_between_starts_the_grace_of_an_empty_success_anew(between):
    wait = Wait()
    assert type(wait.run([saw("SUCCEED"), between]).error) is KlingJobFailedError
    assert wait.age <= 3 * EMPTY_GRACE


def test_a_worker_stays_while_an_empty_success_flaps():
    wait = Wait(interval=300)
    wait.update(saw("SUCCEED"))
    assert wait.update(saw()).worker_stays
    assert wait.pause == EMPTY_INTERVAL


def test_a_failure_is_final_also_where_a_success_could_follow():
    assert type(Wait().run([saw(), saw("FAILED"), saw("SUCCEED", videos=DONE)]).error) is KlingJobFailedError


# What is logged and shown.


def test_each_change_is_one_message():
    wait = Wait()
    states = [("QUEUED", None), ("QUEUED", None), *(("PROCESSING", percent) for percent in (5, 5, 6, 24, 26))]
    messages = [wait.update(saw(*state)).messages for state in states]
    assert [lines for lines in messages if lines] == [
        ("Job t-1: queued",),
        ("Job t-1: processing, 5 %",),
        ("Job t-1: processing, 26 %",),
    ]


def test_a_status_that_is_in_the_log_already_is_not_logged_again():
    wait = Wait(logged_status="TASK_STATUS_QUEUED")
    assert wait.update(saw("QUEUED")).messages == ()
    assert wait.update(saw()).messages == ("Job t-1: processing",)
    assert wait.policy.logged_status == "TASK_STATUS_PROCESSING"


def test_an_end_that_the_triggerer_has_logged_is_not_logged_again():
    wait = Wait(resumed_at=START)
    assert wait.update(saw("SUCCEED", videos=DONE)).messages == ()
    assert Wait(resumed_at=START).update(saw()).messages == ("Job t-1: processing",)


def test_an_unknown_status_word_is_explained_once():
    wait = Wait()
    lines = [
        line
        for percent in (1, 30, 30, 60)
        for line in wait.update(saw("DREAMING", percent, status_known=False)).messages
    ]
    assert sum("The status 'TASK_STATUS_DREAMING' is not documented" in line for line in lines) == 1
    assert len(lines) == 4


def test_progress_is_shown_only_where_it_changed():
    wait = Wait()
    assert wait.update(saw("QUEUED"), 5).progress == {
        "kling_task_id": "t-1",
        "status": "TASK_STATUS_QUEUED",
        "progress_percent": None,
        "eta": None,
        "seen_at": START + 5,
    }
    assert wait.update(saw("QUEUED")).progress is None
    assert wait.update(saw("QUEUED", 0)).progress
    assert wait.update(down()).progress is None
    assert wait.update(saw("QUEUED", 0)).progress is None


# The deadline.


def test_the_last_poll_is_made_at_the_deadline():
    wait = Wait(interval=10, timeout=25)
    ages = []
    while wait.update(saw()).next_poll_at:
        ages.append(wait.age)
    assert ages == [10, 20, 25]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (saw("QUEUED"), "its last state was TASK_STATUS_QUEUED."),
        (down(), "the last poll failed: HTTP 504."),
        (refused(), "the last poll failed: HTTP 401."),
    ],
)
@pytest.mark.parametrize("late", [0, 500])
def test_our_timeout_is_told_apart_from_a_failure_and_says_how_to_go_on(answer, words, late):
    error = Wait(timeout=3600).update(answer, 3600 + late).error
    assert type(error) is KlingWaitTimeoutError
    assert error.what == f"Job t-1 was not finished within the timeout of 3600 s; {words}"
    assert "kling_task_id='t-1'" in error.advice
    assert (error.money, error.kling_task_id) == (Money.RUNNING, "t-1")


@pytest.mark.parametrize(
    ("answer", "kind"), [(saw("SUCCEED", videos=DONE), None), (saw("FAILED"), KlingJobFailedError)]
)
def test_the_answer_to_the_last_poll_counts_however_late_it_is(answer, kind):
    result = Wait(timeout=3600).update(answer, 10**6)
    assert type(result.error) is kind if kind else result.task is answer


@pytest.mark.parametrize("resumed_at", [0, 3000, 3600, 5000])
@pytest.mark.parametrize("answer", [saw(), down(), saw("QUEUED")])
def test_a_job_that_was_seen_to_end_gets_a_fixed_time_at_least_to_hand_out_its_video(answer, resumed_at):
    wait = Wait(timeout=3600, interval=10, resumed_at=START + resumed_at)
    wait.now = START + resumed_at
    error = wait.run([answer]).error
    assert wait.age == max(3600, resumed_at + ENDED_GRACE)
    assert type(error) is KlingWaitTimeoutError
    assert error.money is Money.PAID
    assert "Job t-1 was finished when the triggerer polled it" in str(error)
    assert "the timeout of 3600 s, nor within its own first 120 s" in str(error)


@pytest.mark.parametrize(
    ("submitted", "moved"),
    [(-100, 100), (-1800, 1800), (0, 0), (50, 0), (-1801, 0), (-3600, 0), (-(10**6), 0), (-START, 0)],
)
@pytest.mark.parametrize("allowed", [True, False])
def test_the_gateways_submit_time_counts_only_without_a_note_of_ours_and_within_bounds(
    submitted, moved, allowed
):
    wait = Wait(timeout=3600, count_from_submit=allowed)
    task = saw()._replace(timings={"submit_time_ms": (START + submitted) * 1000})
    for _ in range(3):
        wait.update(task)
    assert wait.policy.started_at == START - moved * allowed
    assert wait.policy.deadline == START + 3600 - moved * allowed


# The schedule.


def test_without_an_interval_the_schedule_says_when():
    model = DurationModel()
    for _ in range(5):
        model.observe(100.0)
    wait, same = Wait(interval=None, schedule=Schedule(model)), Schedule(model)
    for age, percent, eta in ((5, 1, None), (55, 30, 60), (100, 30, 60), (100, 95, None)):
        wait.update(saw(percent=percent, eta=eta), age)
        assert wait.age == pytest.approx(same.next_poll(age, percent, eta))


def test_the_schedule_learns_when_a_job_ended():
    schedule = Schedule()
    schedule.durations.observe = (learnt := []).append
    wait = Wait(interval=None, schedule=schedule)
    wait.update(saw(), 80)
    wait.update(saw("SUCCEED"), 90)
    wait.update(saw("SUCCEED", videos=DONE), 95)
    assert learnt == [85]


def test_a_fixed_interval_is_exact_whatever_the_job_says_of_its_end():
    wait = Wait(interval=7, schedule=Schedule(initial_delay=100))
    for percent in (10, 50, 99, 99, 0):
        wait.update(saw(percent=percent, eta=1))
        assert wait.pause == 7


@pytest.mark.parametrize("interval", [None, 7])
def test_no_poll_comes_before_the_initial_delay_but_the_deadline_comes_first(interval):
    policy = Wait(interval=interval, schedule=Schedule(initial_delay=100)).policy
    assert START + 100 <= policy.first_poll_at(START + 20) <= START + 110
    assert policy.earliest == START + 100
    assert START + 20 <= Wait(interval=interval).policy.first_poll_at(START + 20) <= START + 30
    policy = Wait(interval=interval, schedule=Schedule(initial_delay=100), timeout=50).policy
    assert policy.first_poll_at(START + 20) == START + 50
    assert policy.earliest == START + 50


def test_a_wait_that_is_taken_up_after_its_deadline_is_polled_at_once():
    assert Wait(timeout=50).policy.first_poll_at(START + 70) == START + 70


def test_failed_polls_grow_apart_from_the_schedules_own_pauses():
    wait = Wait(interval=None, timeout=10**6)
    pauses = []
    for _ in range(8):
        wait.update(down())
        pauses.append(wait.pause)
    assert MIN_POLL_INTERVAL <= pauses[0] <= MAX_POLL_INTERVAL
    assert pauses[-1] == MAX_BACKOFF
    assert max(pauses) == MAX_BACKOFF
    wait.update(down(retry_after=500))
    assert wait.pause == 500


# Whatever comes.

ANSWERS = st.sampled_from(
    [
        *(saw("QUEUED"), saw("DREAMING"), saw("X" * 5000), saw(percent=99), saw(percent=3), saw("SUCCEED")),
        *(unknown(), refused(), refused(status=403), down()),
    ]
) | st.builds(down, st.floats())


@given(
    interval=st.none() | st.floats(1, 1000),
    timeout=st.floats(0, 10_000),
    answers=st.lists(ANSWERS, min_size=1, max_size=30),
    slowness=st.floats(0, 60),
    resumed_after=st.none() | st.floats(0, 20_000),
)
def test_every_wait_ends_by_its_deadline_and_never_polls_too_often(
    interval, timeout, answers, slowness, resumed_after
):
    resumed_at = None if resumed_after is None else START + resumed_after
    wait = Wait(interval, timeout, resumed_at=resumed_at)
    wait.now = resumed_at or START
    give_up_at, polls = wait.policy.give_up_at, 0
    for answer in itertools.cycle(answers):
        due = wait.now
        result = wait.update(answer, due - START + slowness)
        polls += 1
        if not result.next_poll_at:
            break
        assert result.next_poll_at > due + slowness
        assert result.next_poll_at <= max(give_up_at, due + slowness) + EMPTY_GRACE
    assert isinstance(result.error, KlingError)
    assert due <= give_up_at + slowness + EMPTY_GRACE
    shortest = min(interval or MIN_POLL_INTERVAL, EMPTY_INTERVAL)
    assert polls <= 6 + (timeout + ENDED_GRACE + EMPTY_GRACE) / shortest


@given(st.lists(st.builds(down, st.none() | st.floats(0, 1000)), max_size=40), st.floats(1, 600))
def test_no_number_of_passing_errors_ends_a_wait_before_its_deadline(errors, interval):
    wait = Wait(interval, timeout=10**9)
    for error in errors:
        assert wait.update(error).next_poll_at
        assert interval - 1e-3 <= wait.pause <= max(interval, MAX_BACKOFF, error.retry_after or 0) + 1e-3


@given(st.integers(0, 10**6), st.none() | st.floats(0, 10**9), st.text())
def test_a_repeated_submit_waits_as_asked_but_not_for_ever(attempt, retry_after, key):
    delay = submit_delay(attempt, retry_after, key)
    assert delay == submit_delay(attempt, retry_after, key)
    assert min(retry_after or 1, 900) <= delay <= 900 + 150


def test_repeated_submits_spread_and_slow_down():
    assert len({submit_delay(0, None, str(n)) for n in range(100)}) > 90
    assert [int(min(submit_delay(n, None, str(k)) for k in range(500))) for n in range(4)] == [1, 2, 4, 8]
    assert max(submit_delay(99, None, str(k)) for k in range(100)) <= 300
