"""When to look again and when to give up, on a clock that the tests move."""

import math
from dataclasses import replace

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
from airflow_provider_kling.gateways.base import Task, Video
from airflow_provider_kling.gateways.myrouter import outcome_of
from airflow_provider_kling.polling.policy import EMPTY_GRACE, EMPTY_INTERVAL, LONGEST_BACKOFF, PollPolicy
from airflow_provider_kling.polling.schedule import MAX_POLL_INTERVAL, SHORTEST_INTERVAL, Pace, Schedule
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


class Wait:
    """A watch and its clock."""

    def __init__(self, interval=10.0, timeout=3600.0, **schedule):
        self.watch = PollPolicy("t-1", START, START + timeout, interval, Schedule(**schedule))
        self.now = START

    def hear(self, heard, at=None):
        """Give what a look brought, by default at the time that the last verdict asked for."""
        self.now = self.now if at is None else START + at
        verdict = self.watch.update(heard, self.now)
        assert (verdict.task is not None) + (verdict.error is not None) + bool(verdict.next_poll_at) == 1
        self.pause = verdict.next_poll_at - self.now
        self.now = verdict.next_poll_at or self.now
        return verdict


def test_a_finished_job_ends_the_wait_with_its_video():
    wait = Wait()
    task = saw("SUCCEED", 100, DONE)
    verdict = wait.hear(task)
    assert verdict.task is task
    assert verdict.messages == ("Job t-1: succeed",)


def test_an_unfinished_job_is_looked_at_after_the_interval():
    wait = Wait(interval=7)
    for word in ("QUEUED", "PROCESSING", "PROCESSING", "DREAMING", "UNKNOWN"):
        wait.hear(saw(word))
        assert wait.pause == 7


@pytest.mark.parametrize("word", ["FAILED", "CANCELED", "CANCELLED", "FAILURE"])
def test_a_failed_or_cancelled_job_ends_the_wait(word):
    verdict = Wait().hear(saw(word, reason="It could not."))
    assert type(verdict.error) is KlingJobFailedError
    assert verdict.progress["status"] == f"TASK_STATUS_{word}"
    assert all("not finished" not in line for line in verdict.messages)


@pytest.mark.parametrize(
    "error", [KlingAccessError("401."), KlingInputError("400."), KlingJobFailedError("500.")]
)
def test_a_final_error_ends_the_wait_as_it_is(error):
    assert Wait().hear(error).error is error


def test_passing_troubles_never_end_a_wait_and_are_asked_ever_more_rarely():
    wait = Wait(timeout=10**6)
    pauses = []
    for _ in range(60):
        wait.hear(down())
        pauses.append(wait.pause)
    assert pauses[:5] == [10, 20, 40, 80, LONGEST_BACKOFF]
    assert set(pauses[4:]) == {LONGEST_BACKOFF}
    wait.hear(saw())
    assert wait.pause == 10
    wait.hear(down())
    assert wait.pause == 10


def test_a_long_interval_is_no_reason_to_ask_more_often_after_a_failure():
    wait = Wait(interval=300, timeout=10**6)
    for _ in range(3):
        wait.hear(down())
        assert wait.pause == 300


def test_the_gateways_own_wish_for_a_pause_is_honoured_up_to_a_quarter_of_an_hour():
    wait = Wait(timeout=3600)
    wait.hear(down(retry_after=500))
    assert wait.pause == 500
    wait.hear(down(retry_after=1))
    assert wait.pause == 20
    wait.hear(down(retry_after=10**9))
    assert wait.pause == 900


def test_a_run_of_failures_is_news_once_and_so_is_its_end():
    wait = Wait()
    assert wait.hear(saw()).messages == ("Job t-1: processing",)
    assert wait.hear(down()).messages == ("A look failed, the wait goes on: HTTP 504.",)
    assert wait.hear(down()).messages == ()
    assert wait.hear(saw()).messages == ("The gateway answers again after 2 failed look(s).",)
    assert wait.hear(saw()).messages == ()
    assert len(wait.hear(down()).messages) == 1


@pytest.mark.parametrize(("at", "final"), [(0, False), (59.9, False), (60, True), (600, True)])
def test_an_unknown_task_is_final_only_after_a_minute(at, final):
    verdict = Wait().hear(unknown(), at)
    assert (verdict.error is not None) == final
    assert not final or type(verdict.error) is KlingTaskNotFoundError


@pytest.mark.parametrize("interval", [1, 10, 300])
def test_a_success_without_a_video_is_asked_again_for_a_while_and_then_fails(interval):
    wait = Wait(interval=interval)
    first = wait.hear(saw("SUCCEED"), 100)
    assert first.settling
    assert wait.pause == min(interval, EMPTY_INTERVAL)
    while (verdict := wait.hear(saw("SUCCEED"))).next_poll_at:
        assert verdict.settling
        assert wait.pause <= EMPTY_INTERVAL
    assert wait.now == START + 100 + EMPTY_GRACE
    assert type(verdict.error) is KlingJobFailedError
    assert "without a video" in str(verdict.error)


def test_a_video_that_is_named_late_is_taken():
    wait = Wait()
    wait.hear(saw("SUCCEED"))
    assert wait.hear(saw("SUCCEED", videos=DONE)).task.videos == DONE


def test_an_empty_success_is_not_forgotten_over_a_failed_look():
    wait = Wait()
    wait.hear(saw("SUCCEED"), 0)
    assert not wait.hear(down(), 10).settling
    assert wait.hear(saw("SUCCEED"), EMPTY_GRACE).error


def test_each_change_is_news_once():
    wait = Wait()
    states = [("QUEUED", None), ("QUEUED", None), *(("PROCESSING", percent) for percent in (5, 5, 6, 24, 26))]
    told = [wait.hear(saw(*state)).messages for state in states]
    assert [lines for lines in told if lines] == [
        ("Job t-1: queued",),
        ("Job t-1: processing, 5 %",),
        ("Job t-1: processing, 26 %",),
    ]


def test_an_unknown_status_word_is_warned_of_once():
    wait = Wait()
    lines = [line for percent in (1, 30, 30, 60) for line in wait.hear(saw("DREAMING", percent)).messages]
    assert sum("Nobody documented the status 'TASK_STATUS_DREAMING'" in line for line in lines) == 1
    assert len(lines) == 4


def test_progress_is_shown_only_where_it_changed():
    wait = Wait()
    assert wait.hear(saw("QUEUED"), 5).progress == {
        "kling_task_id": "t-1",
        "status": "TASK_STATUS_QUEUED",
        "progress_percent": None,
        "eta": None,
        "seen_at": START + 5,
    }
    assert wait.hear(saw("QUEUED")).progress is None
    assert wait.hear(saw("QUEUED", 0)).progress
    assert wait.hear(down()).progress is None
    assert wait.hear(saw("QUEUED", 0)).progress is None


def test_the_last_look_is_taken_at_the_deadline():
    wait = Wait(interval=10, timeout=25)
    looks = []
    while wait.hear(saw()).next_poll_at:
        looks.append(wait.now - START)
    assert looks == [10, 20, 25]


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (saw("QUEUED"), "its last state was TASK_STATUS_QUEUED"),
        (down(), "the last look failed: HTTP 504."),
    ],
)
@pytest.mark.parametrize("late", [0, 500])
def test_our_deadline_is_told_apart_from_a_failure_and_says_how_to_go_on(heard, words, late):
    error = Wait(timeout=3600).hear(heard, 3600 + late).error
    assert type(error) is KlingWaitTimeoutError
    assert "was not finished within the timeout of 3600 s" in str(error)
    assert words in str(error)
    assert "kling_task_id='t-1'" in error.advice
    assert (error.money, error.kling_task_id) == (Money.RUNNING, "t-1")


@pytest.mark.parametrize(
    ("heard", "kind"), [(saw("SUCCEED", videos=DONE), None), (saw("FAILED"), KlingJobFailedError)]
)
def test_what_the_last_look_brings_counts_however_late_it_is(heard, kind):
    verdict = Wait(timeout=3600).hear(heard, 10**6)
    assert type(verdict.error) is kind if kind else verdict.task is heard


@pytest.mark.parametrize(
    ("submitted", "moved"),
    [(-100, 100), (-3599, 3599), (0, 0), (50, 0), (-3600, 0), (-(10**6), 0), (-START, 0)],
)
def test_the_timeout_counts_from_the_submit_where_the_gateway_tells_it(submitted, moved):
    wait = Wait(timeout=3600)
    task = replace(saw(), timings={"submit_time_ms": (START + submitted) * 1000})
    for _ in range(3):
        wait.hear(task)
    assert wait.watch.started_at == START - moved
    assert wait.watch.deadline == START + 3600 - moved


def test_without_an_interval_the_schedule_says_when():
    wait, same = Wait(interval=None, key="t-1"), Schedule(key="t-1")
    wait.hear(saw(percent=1), 5)
    same.saw(5, 1, None)
    assert wait.now == pytest.approx(START + same.next_look(5))
    wait.hear(saw(percent=30, eta=60), 55)
    same.saw(55, 30, 60)
    assert wait.now == pytest.approx(START + same.next_look(55))


@pytest.mark.parametrize(
    ("timings", "took"),
    [
        ({"submit_time_ms": START * 1000, "complete_time_ms": (START + 90) * 1000}, 90),
        ({"complete_time_ms": (START + 90) * 1000}, 90),
        ({"submit_time_ms": START * 1000, "complete_time_ms": 0.0}, None),
        ({}, None),
    ],
)
def test_the_schedule_learns_when_a_job_ended_from_the_gateway_or_by_looking(timings, took):
    learnt, pace = Wait(interval=None), Pace()
    learnt.watch.schedule.pace, same = Pace(), Schedule(pace)
    learnt.hear(saw(), 80)
    learnt.hear(saw("SUCCEED", timings=timings), 100)
    learnt.hear(saw("SUCCEED", videos=DONE, timings=timings), 105)
    same.saw(80, None, None)
    same.ended(100, took)
    assert learnt.watch.schedule.pace.rates == pytest.approx(pace.rates)
    assert pace.rates != Pace().rates


def test_a_fixed_interval_is_exact_whatever_the_job_says_of_its_end():
    wait = Wait(interval=7, initial_delay=100)
    for percent in (10, 50, 99, 99, 0):
        wait.hear(saw(percent=percent, eta=1))
        assert wait.pause == 7
    assert wait.watch.schedule.pace.rates == Pace().rates


def test_nobody_looks_before_the_first_look_that_was_asked_for_but_the_deadline_comes_first():
    watch = Wait(interval=7, initial_delay=100).watch
    assert watch.first_poll_at(START + 20) == START + 100
    assert watch.earliest == START + 100
    assert Wait(interval=7).watch.first_poll_at(START + 20) == START
    watch = Wait(interval=None, initial_delay=100).watch
    assert START + 100 < watch.first_poll_at(START + 20) < START + 160
    watch = Wait(interval=None, initial_delay=100, timeout=50).watch
    assert watch.first_poll_at(START + 20) == START + 50
    assert watch.earliest == START + 50


def test_a_wait_that_is_taken_over_late_does_not_count_what_nobody_watched():
    watch = Wait(interval=None).watch
    watch.first_poll_at(START + 200)
    watch.update(saw(), START + 260)
    assert watch.schedule.pace.coming(0, 180) == Pace().coming(0, 180)
    assert watch.schedule.pace.coming(200, 260) < Pace().coming(200, 260)


def test_failed_looks_grow_apart_from_the_schedules_own_pauses():
    wait = Wait(interval=None, timeout=10**6)
    pauses = []
    for _ in range(8):
        wait.hear(down())
        pauses.append(wait.pause)
    assert SHORTEST_INTERVAL <= pauses[0] <= MAX_POLL_INTERVAL
    assert pauses[-1] == LONGEST_BACKOFF
    assert max(pauses) == LONGEST_BACKOFF
    wait.hear(down(retry_after=500))
    assert wait.pause == 500


def test_a_success_without_a_video_is_asked_again_soon_by_the_schedule_too():
    wait = Wait(interval=None)
    assert wait.hear(saw("SUCCEED"), 100).settling
    assert wait.pause == EMPTY_INTERVAL


PASSING = st.sampled_from([saw("QUEUED"), saw("DREAMING"), saw("SUCCEED"), unknown()]) | st.builds(
    down, st.none() | st.floats(0, 10**6)
)


@given(
    interval=st.floats(1, 1000),
    timeout=st.floats(0, 10_000),
    answers=st.lists(PASSING, min_size=1, max_size=30),
    slowness=st.floats(0, 60),
)
def test_every_wait_ends_by_its_deadline_and_never_asks_too_often(interval, timeout, answers, slowness):
    wait = Wait(interval, timeout)
    last, looks = -math.inf, 0
    while True:
        heard = answers[looks % len(answers)]
        asked_at = wait.now
        verdict = wait.hear(heard, asked_at - START + slowness)
        looks += 1
        settling = isinstance(heard, Task) and verdict.settling
        if verdict.next_poll_at:
            least = min(interval, EMPTY_INTERVAL) if settling else interval
            due = min(asked_at + slowness + least, wait.watch.deadline if not settling else math.inf)
            assert verdict.next_poll_at >= due - 1e-3
            assert verdict.next_poll_at <= wait.watch.deadline + EMPTY_GRACE + EMPTY_INTERVAL + slowness
        else:
            break
        last = asked_at
    assert last <= wait.watch.deadline + EMPTY_GRACE + EMPTY_INTERVAL + 2 * slowness
    assert looks <= 3 + (timeout + EMPTY_GRACE) / min(interval, EMPTY_INTERVAL)
    assert isinstance(verdict.error, KlingError)


@given(st.lists(st.builds(down, st.none() | st.floats(0, 1000)), max_size=40), st.floats(1, 600))
def test_no_number_of_passing_errors_ends_a_wait_before_its_deadline(errors, interval):
    wait = Wait(interval, timeout=10**9)
    for error in errors:
        assert wait.hear(error).next_poll_at
        assert interval - 1e-3 <= wait.pause <= max(interval, LONGEST_BACKOFF, error.retry_after or 0) + 1e-3


@given(st.integers(0, 10**6), st.none() | st.floats(0, 10**9), st.text())
def test_a_repeated_submit_waits_as_asked_but_not_for_ever(attempt, retry_after, key):
    delay = submit_delay(attempt, retry_after, key)
    assert delay == submit_delay(attempt, retry_after, key)
    assert min(retry_after or 1, 900) <= delay <= 900 + 150


def test_repeated_submits_spread_and_slow_down():
    assert len({submit_delay(0, None, str(n)) for n in range(100)}) > 90
    assert [int(min(submit_delay(n, None, str(k)) for k in range(500))) for n in range(4)] == [1, 2, 4, 8]
    assert max(submit_delay(99, None, str(k)) for k in range(100)) <= 300
