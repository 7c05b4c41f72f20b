"""When to look again and when to give up. Pure: the clock comes in as an argument."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_kling.errors import (
    KlingError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    KlingWaitTimeoutError,
)
from airflow_provider_kling.gateways.base import LONGEST_RETRY_AFTER, NOT_FOUND_GRACE, Outcome, Task
from airflow_provider_kling.gateways.myrouter import KNOWN_STATUSES, failed_task
from airflow_provider_kling.polling.schedule import Schedule

#: XCom key of the job's state, to be read in the UI while the task waits.
PROGRESS_KEY = "kling_progress"
#: Seconds for which a finished job may not name its video yet, and how often it is asked meanwhile.
EMPTY_GRACE, EMPTY_INTERVAL = 30.0, 5.0
#: The longest pause between two looks, in seconds, however many of them failed.
LONGEST_BACKOFF = 120.0
#: Points of progress that are worth a line in the log.
PROGRESS_TOLD = 25
#: A job that ends within the first seconds after a deferral can fail a healthy task in Airflow 3.3.
#: On a busy machine the scheduler took more than five to hear of it.
FIRST_LOOK_DELAY = 10.0
#: A look may come so many seconds before it is due; the last one counts as taken at the deadline.
EARLY = 0.1


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one look means: exactly one of *task*, *error* and *next_poll_at* is set.

    :param task: the finished job, with its videos.
    :param error: why the wait is over without one.
    :param next_poll_at: when to look next, in epoch seconds.
    :param messages: what changed since the last look, one line each.
    :param progress: the state to show, where it changed.
    :param settling: the job is done but its video is not named yet; worth staying for.
    """

    task: Task | None = None
    error: KlingError | None = None
    next_poll_at: float = 0.0
    messages: tuple[str, ...] = ()
    progress: dict[str, Any] | None = None
    settling: bool = False


@dataclass(slots=True)
class PollPolicy:
    """One wait for one job: hears what each look brought and says what to do.

    :param kling_task_id: the job.
    :param started_at: when the wait began, in epoch seconds; see :meth:`count_from`.
    :param deadline: when to give up, in epoch seconds; the last look is taken then.
    :param interval: seconds between two looks; None lets the schedule decide.
    :param schedule: what is expected of the job; it learns where it decides.
    """

    kling_task_id: str
    started_at: float
    deadline: float
    interval: float | None
    schedule: Schedule = field(default_factory=Schedule)
    _failures: int = field(default=0, init=False)
    _shown: tuple[Any, ...] = field(default=(), init=False)
    _told: tuple[Any, ...] = field(default=(), init=False)
    _empty_since: float | None = field(default=None, init=False)

    def update(self, heard: Task | KlingError, now: float) -> PollResult:
        """Return the verdict on what a look brought at *now*: a task, or why there was none."""
        return self._failed(heard, now) if isinstance(heard, KlingError) else self._saw(heard, now)

    def count_from(self, submitted_at: float) -> None:
        """Let the wait begin with the submit (epoch seconds), unless that is longer ago than it may last."""
        waited = self.started_at - submitted_at
        if 0 < waited < self.deadline - self.started_at:
            self.started_at -= waited
            self.deadline -= waited

    @property
    def earliest(self) -> float:
        """Before which no look is wanted, in epoch seconds."""
        return min(self.started_at + self.schedule.initial_delay, self.deadline)

    def first_poll_at(self, now: float) -> float:
        """Return when to look first, in epoch seconds, for one who begins to watch at *now*."""
        age = now - self.started_at
        self.schedule.watch_from(age)
        first = self.schedule.next_look(age) if self.interval is None else self.schedule.initial_delay
        return min(self.started_at + first, self.deadline)

    def _saw(self, task: Task, now: float) -> PollResult:
        self.count_from(task.timings.get("submit_time_ms", 0.0) / 1000)
        self._learn(task, now)
        messages, progress = tuple(self._messages(task)), self._changed(task, now)
        self._failures = 0
        if task.outcome is Outcome.SUCCEEDED and task.videos:
            return PollResult(task=task, messages=messages, progress=progress)
        if task.outcome is Outcome.SUCCEEDED:
            self._empty_since = now if self._empty_since is None else self._empty_since
            if now < self._empty_since + EMPTY_GRACE:
                again = now + min(self.interval or EMPTY_INTERVAL, EMPTY_INTERVAL)
                return PollResult(next_poll_at=again, messages=messages, progress=progress, settling=True)
        if task.outcome is not Outcome.UNFINISHED:
            return PollResult(error=failed_task(task), messages=messages, progress=progress)
        if now >= self.deadline - EARLY:
            return PollResult(
                error=self.timed_out(f"its last state was {task.status}"),
                messages=messages,
                progress=progress,
            )
        return PollResult(
            next_poll_at=self._again(now, self._pause(now)), messages=messages, progress=progress
        )

    def _failed(self, error: KlingError, now: float) -> PollResult:
        young = isinstance(error, KlingTaskNotFoundError) and now < self.started_at + NOT_FOUND_GRACE
        if not (young or isinstance(error, KlingUnavailableError)):
            return PollResult(error=error)
        if now >= self.deadline - EARLY:
            return PollResult(error=self.timed_out(f"the last look failed: {error.what}"))
        pause = self._pause(now)
        backoff = min(pause * 2**self._failures, max(pause, LONGEST_BACKOFF))
        again = self._again(now, max(backoff, min(error.retry_after or 0.0, LONGEST_RETRY_AFTER)))
        self._failures = min(self._failures + 1, 30)
        messages = (f"A look failed, the wait goes on: {error.what}",) if self._failures == 1 else ()
        return PollResult(next_poll_at=again, messages=messages)

    def _learn(self, task: Task, now: float) -> None:
        age = now - self.started_at
        if self.interval is not None:
            return
        if task.outcome is Outcome.UNFINISHED:
            self.schedule.saw(age, task.progress_percent, task.eta)
            return
        complete = task.timings.get("complete_time_ms")
        submit = task.timings.get("submit_time_ms", self.started_at * 1000)
        self.schedule.ended(age, (complete - submit) / 1000 if complete else None)

    def _pause(self, now: float) -> float:
        """Return how long to wait from *now* to the next look, in seconds."""
        if self.interval is not None:
            return self.interval
        age = now - self.started_at
        return self.schedule.next_look(age) - age

    def _again(self, now: float, delay: float) -> float:
        return min(now + delay, self.deadline)

    def timed_out(self, last: str) -> KlingWaitTimeoutError:
        """Return the error for a job that our deadline left behind; *last* is what was seen of it."""
        waited = self.deadline - self.started_at
        return KlingWaitTimeoutError(
            f"Job {self.kling_task_id} was not finished within the timeout of {waited:.0f} s; {last}.",
            advice="Do not submit it again: clear this task to wait on, or fetch the video later (example "
            f"Dag kling_rescue with kling_task_id={self.kling_task_id!r}).",
            kling_task_id=self.kling_task_id,
        )

    def _messages(self, task: Task) -> Iterator[str]:
        if self._failures:
            yield f"The gateway answers again after {self._failures} failed look(s)."
        told = (task.status, int((task.progress_percent or 0) / PROGRESS_TOLD))
        if self._told == told:
            return
        yield f"Job {self.kling_task_id}: {task.describe()}"
        nobody_knows = task.status not in KNOWN_STATUSES and task.outcome is Outcome.UNFINISHED
        if nobody_knows and self._told[:1] != (task.status,):
            yield f"Nobody documented the status {task.status!r}; it is taken for 'not finished'."
        self._told = told

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
