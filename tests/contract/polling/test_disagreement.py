"""A worker that resumes may see another job than the triggerer did. No wait starts workers over and over."""

import asyncio
import contextlib
import itertools

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow_fakes import TI, Store, context_of, stored_and_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sensor_modes import MODES, Wait, bought, triggered

from airflow_provider_kling.emulator.fault_effects import Effect
from airflow_provider_kling.emulator.faults import Fault
from airflow_provider_kling.errors import KlingError, KlingWaitTimeoutError, Money
from airflow_provider_kling.operators import KlingImageToVideoOperator
from airflow_provider_kling.operators.job_wait import MAX_DEFERRALS
from airflow_provider_kling.polling.policy import EMPTY_GRACE, ENDED_GRACE, FIRST_POLL_DELAY

ANSWERS = {
    "video": Fault(call="query", effect=Effect()),
    **{
        name: Fault.parse(f"query:{fault}")
        for name, fault in {
            "queued": "says=TASK_STATUS_QUEUED",
            "processing": "says=TASK_STATUS_PROCESSING",
            "an unknown word": "says=DREAMING",
            "succeed, no video": "empty",
            "failed": "says=TASK_STATUS_FAILED",
            "not found": "error=TASK_NOT_FOUND",
            "a bare 401": "html=401",
            "a bare 403": "html=403",
            "502": "html=502",
            "cut off": "cut",
            "too many": "rate-limit=300",
            "the key is wrong": "error=INVALID_API_KEY",
        }.items()
    },
}


class TwoViews:
    """A fault of the emulator that answers worker and triggerer differently."""

    times, text = None, "two views"

    def __init__(self, **answers):
        self.who = "worker"
        self._answers = {who: itertools.cycle(names) for who, names in answers.items()}
        self._now = ANSWERS["video"]

    def matches(self, call, job, prompt, number, *, late):
        return call == "query" and not late

    def applies(self, age, phase):
        self._now = ANSWERS[next(self._answers[self.who])]
        return True

    def change(self, view):
        self._now.change(view)

    def edit(self, answer):
        self._now.edit(answer)

    def apply_to_reply(self, reply, error):
        return self._now.apply_to_reply(reply, error)


class DividedWait(Wait):
    """A deferred wait in which each side has its own view of the job."""

    def __init__(self, gateway, clock, worker, triggerer):
        super().__init__("deferred", clock, kling_task_id=bought(gateway))
        self.views = TwoViews(worker=worker, triggerer=triggerer)
        self.pauses_ended_at = []
        gateway.add_fault(self.views)

    def triggered(self, pause):
        self.views.who = "triggerer"
        try:
            return super().triggered(pause)
        finally:
            self.views.who = "worker"
            self.pauses_ended_at.append(self.clock.time())

    @property
    def worker_starts(self):
        return 1 + self.pauses


#: The clock of a test goes on a little with each call.
SLACK = 5


@pytest.mark.parametrize("worker", ["processing", "an unknown word", "502", "cut off"])
def test_a_worker_that_never_sees_the_end_is_started_four_times_and_ends_at_the_deadline(
    gateway, clock, worker
):
    wait, began = DividedWait(gateway, clock, [worker], ["video"]), clock.time()
    with pytest.raises(KlingWaitTimeoutError) as caught:
        wait.end()
    assert wait.worker_starts == 1 + MAX_DEFERRALS == 4
    first, second, third = (at - began for at in wait.pauses_ended_at)
    assert third - second > second - first > first >= FIRST_POLL_DELAY
    assert clock.time() - began == pytest.approx(600, abs=SLACK)
    assert caught.value.money is Money.PAID
    assert "was finished when the triggerer polled it" in str(caught.value)


def test_a_worker_that_sees_the_end_later_returns_the_video(gateway, clock):
    wait = DividedWait(gateway, clock, [*["processing"] * 7, "video"], ["video"])
    assert wait.end()["videos"]
    assert wait.worker_starts == 4


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    worker=st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=8),
    triggerer=st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=8),
)
def test_whatever_the_two_see_a_wait_starts_few_workers_and_ends(gateway, clock, worker, triggerer):
    gateway.clear_faults()
    wait, began = DividedWait(gateway, clock, worker, triggerer), clock.time()
    with contextlib.suppress(KlingError):
        assert wait.end()["videos"]
    assert wait.worker_starts <= 4
    assert clock.time() - began <= 600 + ENDED_GRACE + EMPTY_GRACE + SLACK


FLAPPING = {
    "a success without a video that comes and goes": ["succeed, no video", "processing"],
    "the same, rarely": ["succeed, no video", *["processing"] * 5],
    "the same with failed polls": ["succeed, no video", "502"],
    "a key that is refused between failed polls": ["a bare 401", "502", "cut off"],
    "a key that is refused now and then": ["a bare 401", "processing"],
    "a job that is lost and found": ["processing", "not found"],
    "a job that is lost between failed polls": ["not found", "502"],
    "words without end": ["an unknown word", "queued", "processing"],
    "failed, then done": ["processing", "failed", "video"],
    "pauses without end": ["too many"],
}


@pytest.mark.parametrize("answers", FLAPPING.values(), ids=FLAPPING)
def test_a_flapping_job_ends_in_the_same_way_in_every_mode_and_by_its_deadline(gateway, clock, answers):
    ends = []
    for mode in MODES:
        gateway.clear_faults()
        wait, began = Wait(mode, clock, kling_task_id=bought(gateway)), clock.time()
        gateway.add_fault(TwoViews(worker=answers))
        with pytest.raises(KlingError) as caught:
            wait.end()
        ends.append(caught.type.__name__)
        assert clock.time() - began <= 600 + EMPTY_GRACE + SLACK
    assert len(set(ends)) == 1


def test_the_one_task_starts_four_workers_at_most_too(gateway, clock, tmp_path):
    views = TwoViews(worker=["processing"], triggerer=["video"])
    gateway.add_fault(views)
    context, began = context_of(TI(), Store()), clock.time()
    operator = KlingImageToVideoOperator(
        task_id="all",
        model="kling-v3.0-pro-t2v",
        prompt="a cat waves",
        target=f"{tmp_path}/v.mp4",
        timeout=600,
    )
    with pytest.raises(TaskDeferred) as pause:
        operator.execute(context)
    for error in (TaskDeferred, TaskDeferred, KlingWaitTimeoutError):
        views.who = "triggerer"
        kwargs = {**stored_and_read(pause.value.kwargs), "event": asyncio.run(triggered(pause.value))}
        views.who = "worker"
        with pytest.raises(error) as pause:
            operator.resume_execution("execute_complete", kwargs, context)
    assert "was finished when the triggerer polled it" in str(pause.value)
    assert clock.time() - began == pytest.approx(600, abs=SLACK)
