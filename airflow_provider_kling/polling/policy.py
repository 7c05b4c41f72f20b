"""What each answer about a job means for the wait: poll again, when, or the end. Pure: the clock comes in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    KlingWaitTimeoutError,
    Money,
)
from airflow_provider_kling.gateways.base import (
    LONGEST_RETRY_AFTER,
    NOT_FOUND_GRACE,
    Outcome,
    Task,
    failed_task,
)
from airflow_provider_kling.polling.schedule import Schedule

#: Seconds for which a finished job may not name its video yet, and the interval of its polls meanwhile.
EMPTY_GRACE, EMPTY_INTERVAL = 30.0, 5.0
#: Seconds for which a refused key may pass that comes without the gateway's own reason: a proxy may send it.
REFUSED_GRACE = 300.0
_GRACES = {"empty": EMPTY_GRACE, "not found": NOT_FOUND_GRACE, "refused": REFUSED_GRACE}
#: Seconds that a worker has to get the video of a job that has ended, also past the deadline: it is paid for.
ENDED_GRACE = 120.0
#: The longest interval between two polls that failed, in seconds.
MAX_BACKOFF = 120.0
#: A change of progress by this number of percent points is worth a line in the log.
PROGRESS_STEP = 25
#: A job that ends within the first seconds after a deferral can fail a healthy task in Airflow 3.3: on a busy
#: machine the scheduler needed more than five of them to learn of the deferral.
FIRST_POLL_DELAY = 10.0
#: A poll may come this much before it is due, in seconds, and still counts as the one at the deadline.
EARLY = 0.1


class PollResult(NamedTuple):
    """What one poll means: exactly one of *task*, *error* and *next_poll_at* is set.

    :param task: the finished job, with its videos.
    :param error: why the wait is over without one.
    :param next_poll_at: when to poll next, in epoch seconds.
    :param messages: what changed since the last poll, a log line each.
    :param progress: the state to show, where it changed.
    :param failed: the job that has ended without a video.
    :param worker_stays: the answer is in doubt, and is so only for minutes: a worker stays to find out.
    """

    task: Task | None = None
    error: KlingError | None = None
    next_poll_at: float = 0.0
    messages: tuple[str, ...] = ()
    progress: dict[str, Any] | None = None
    failed: Task | None = None
    worker_stays: bool = False


@dataclass(slots=True)
class PollPolicy:
    """Decides about one wait for one job, in every mode.

    :param started_at: when the wait began, in epoch seconds.
    :param deadline: when to give up, in epoch seconds; the last poll is made then.
    :param interval: seconds between two polls; None lets the schedule decide.
    :param schedule: when to poll; it learns where it decides.
    :param resumed_at: when a worker took over from a trigger that had seen the job's end, in epoch seconds.
        The worker's own polls may fail or disagree until the deadline, and at least for :data:`ENDED_GRACE`.
    :param logged_status: the status of the job that is in the log already.
    :param count_from_submit: we have no note of the submit. Then the wait begins with the submit time that
        the gateway names, if that is at most half of the timeout ago; else a clock is wrong.
    """

    kling_task_id: str
    started_at: float
    deadline: float
    interval: float | None
    schedule: Schedule = field(default_factory=Schedule)
    resumed_at: float | None = None
    logged_status: str = ""
    count_from_submit: bool = False
    _failures: int = field(default=0, init=False)
    _shown: tuple[Any, ...] = field(default=(), init=False)
    _logged_step: int = field(default=0, init=False)
    #: Until when each doubtful answer may come, in epoch seconds.
    _doubts: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def earliest(self) -> float:
        """The time before which no poll is wanted, in epoch seconds."""
        return min(self.started_at + self.schedule.initial_delay, self.deadline)

    @property
    def give_up_at(self) -> float:
        """The time of the last poll, in epoch seconds."""
        return self.deadline if self.resumed_at is None else max(self.deadline, self.resumed_at + ENDED_GRACE)

    def first_poll_at(self, now: float) -> float:
        """Return the time of the first poll, in epoch seconds, for a wait that is taken up at *now*."""
        age = self.schedule.first_poll(now - self.started_at, self.interval)
        return min(self.started_at + age, max(self.deadline, now))

    def update(self, answer: Task | KlingError, now: float) -> PollResult:
        """Return what the answer to a poll at *now* means: the job's state, or why there was no answer."""
        if isinstance(answer, KlingError):
            return self._update_by_error(answer, now)
        if self.count_from_submit:
            self._count_from_submit(answer.timings.get("submit_time_ms", 0.0) / 1000)
        messages, progress = tuple(self._messages(answer)), self._changed(answer, now)
        error, next_poll_at = self._decide(answer, now)
        if error:
            failed = None if answer.outcome is Outcome.UNFINISHED else answer
            return PollResult(error=error, failed=failed, messages=messages, progress=progress)
        if not next_poll_at:
            return PollResult(task=answer, messages=messages, progress=progress)
        stays = self._doubt_is_open(now)
        return PollResult(next_poll_at=next_poll_at, worker_stays=stays, messages=messages, progress=progress)

    def timed_out(self, last: str) -> KlingWaitTimeoutError:
        """Return the error for a job that is not finished at our deadline; *last* is its last known state."""
        timeout = f"the timeout of {self.deadline - self.started_at:.0f} s"
        what = f"Job {self.kling_task_id} was not finished within {timeout}; {last}."
        if self.resumed_at is not None:
            what = (
                f"Job {self.kling_task_id} was finished when the triggerer polled it, but a worker could not "
                f"get its video within {timeout}, nor within its own first {ENDED_GRACE:.0f} s; {last}."
            )
        return KlingWaitTimeoutError(
            what,
            money=None if self.resumed_at is None else Money.PAID,
            advice="Do not submit it again: clear this task to wait on, or fetch the video later (example "
            f"Dag kling_rescue with kling_task_id={self.kling_task_id!r}).",
            kling_task_id=self.kling_task_id,
        )

    def _decide(self, task: Task, now: float) -> tuple[KlingError | None, float]:
        """Return the error that ends the wait, or the time of the next poll; neither for a finished video."""
        self._failures = 0
        self._doubts.pop("not found", None)
        self._doubts.pop("refused", None)
        if task.outcome is not Outcome.UNFINISHED:
            self.schedule.saw_end(now - self.started_at)
            if task.outcome is Outcome.SUCCEEDED and task.videos:
                return None, 0.0
            # A state that flaps does not start this grace anew.
            if task.outcome is not Outcome.SUCCEEDED or now >= self._doubt("empty", now):
                return failed_task(task), 0.0
            return None, min(now + self._pause(now), self._doubts["empty"])
        self.schedule.saw_running(now - self.started_at)
        if now >= self.give_up_at - EARLY:
            return self.timed_out(f"its last state was {task.status}"), 0.0
        return None, min(now + self._pause(now, task.progress_percent, task.eta), self.give_up_at)

    def _update_by_error(self, error: KlingError, now: float) -> PollResult:
        last_poll_at = self.give_up_at
        if doubt := _doubt_in(error):
            doubt_ends_at = self._doubt(doubt, now)
            if now >= doubt_ends_at - EARLY:
                return PollResult(error=error)
            last_poll_at = min(last_poll_at, doubt_ends_at)
        elif not isinstance(error, KlingUnavailableError):
            return PollResult(error=error)
        if now >= self.give_up_at - EARLY:
            return PollResult(error=self.timed_out(f"the last poll failed: {error.what.rstrip('.')}"))
        pause = self._pause(now)
        backoff = max(pause, min(pause * 2**self._failures, MAX_BACKOFF))
        self._failures = min(self._failures + 1, 30)
        # In this order, even a Retry-After that is not a number is harmless.
        retry_after = min(LONGEST_RETRY_AFTER, max(0.0, error.retry_after or 0.0))
        messages = (f"A poll failed, the wait goes on: {error.what}",) if self._failures == 1 else ()
        next_poll_at = min(now + max(backoff, retry_after), last_poll_at)
        return PollResult(next_poll_at=next_poll_at, messages=messages, worker_stays=self._doubt_is_open(now))

    def _doubt(self, doubt: str, now: float) -> float:
        """Return until when a doubt may last that began now or earlier, in epoch seconds."""
        return self._doubts.setdefault(doubt, now + _GRACES[doubt])

    def _doubt_is_open(self, now: float) -> bool:
        """Return whether a doubt is open: until its end, or until an answer of the job resolves it."""
        return any(doubt != "empty" or now < ends_at for doubt, ends_at in self._doubts.items())

    def _pause(self, now: float, progress: float | None = None, eta: float | None = None) -> float:
        """Return the seconds from *now* to the next poll."""
        if now < self._doubts.get("empty", now):
            return min(self.interval or EMPTY_INTERVAL, EMPTY_INTERVAL)
        if self.interval is not None:
            return self.interval
        age = now - self.started_at
        return self.schedule.next_poll(age, progress, eta) - age

    def _count_from_submit(self, submitted_at: float) -> None:
        waited = self.started_at - submitted_at
        if 0 < waited <= (self.deadline - self.started_at) / 2:
            self.started_at -= waited
            self.deadline -= waited
        self.count_from_submit = False

    def _messages(self, task: Task) -> Iterator[str]:
        if self._failures:
            yield f"The gateway answers again after {self._failures} failed poll(s)."
        step = int((task.progress_percent or 0) / PROGRESS_STEP)
        changed = task.status != self.logged_status
        ended_before = self.resumed_at is not None and task.outcome is Outcome.SUCCEEDED
        if ended_before or not (changed or step != self._logged_step):
            return
        yield f"Job {self.kling_task_id}: {task.describe()}"
        if changed and not task.status_known and task.outcome is Outcome.UNFINISHED:
            yield f"The status {task.status!r} is not documented; it counts as 'not finished'."
        self.logged_status, self._logged_step = task.status, step

    def _changed(self, task: Task, now: float) -> dict[str, Any] | None:
        shown = (task.status, task.progress_percent)
        if shown == self._shown:
            return None
        self._shown = shown
        return {
            "kling_task_id": self.kling_task_id,
            "status": task.status,
            "progress_percent": task.progress_percent,
            "eta": task.eta,
            "seen_at": round(now, 3),
        }


def _doubt_in(error: KlingError) -> str:
    """Return the doubt that an error leaves, or an empty text: it may be final, or it may pass."""
    if isinstance(error, KlingTaskNotFoundError):
        return "not found"
    without_reason = isinstance(error, KlingAccessError) and error.http_status and not error.reason
    return "refused" if without_reason else ""
