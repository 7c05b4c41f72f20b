"""Those who wait, on a clock of their own: PollPolicy, a fixed interval, exponential backoff."""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airflow_provider_kling.errors import KlingUnavailableError
from airflow_provider_kling.gateways.base import Task, Video
from airflow_provider_kling.gateways.myrouter import outcome_of
from airflow_provider_kling.polling.policy import PollPolicy
from airflow_provider_kling.polling.schedule import LOOK_COST, Pace, Schedule
from schedule.jobs import Job

#: Says when to look next, in seconds: the last look was at that time, and the job was still running.
Waiter = Callable[[float], float]
_DAYS = 10 * 86_400.0
_VIDEO = (Video("https://storage.example/v.mp4"),)


@dataclass(slots=True)
class Found:
    """What the waits for some jobs came to, job by job."""

    looks: list[int] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    @property
    def mean_looks(self) -> float:
        """Return the looks of a job."""
        return sum(self.looks) / len(self.looks)

    @property
    def mean_late(self) -> float:
        """Return the seconds from a job's end until it was noticed."""
        return sum(self.late) / len(self.late)


def watched(jobs: list[Job], watch_for: Callable[[Job, int], PollPolicy], skip: int = 0) -> Found:
    """Let the provider's own :class:`PollPolicy` wait for the jobs, all on one clock, as one triggerer does.

    :param watch_for: makes a job's watch; what it shares with others is its own affair.
    :param skip: so many jobs at the beginning do not count: those from which it learns.
    """
    watches = [watch_for(job, n) for n, job in enumerate(jobs)]
    looks, late = [0] * len(jobs), [0.0] * len(jobs)
    # A wait that has no first look yet stands in the queue with the time of its submit.
    queue = [(job.at, n, True) for n, job in enumerate(jobs)]
    heapq.heapify(queue)
    while queue:
        now, n, begins = heapq.heappop(queue)
        if begins:
            first = watches[n].first_poll_at(now)
            again = first if first > now else now + (watches[n].interval or 0.0)
            heapq.heappush(queue, (again, n, False))
            continue
        looks[n] += 1
        verdict = watches[n].update(_heard(jobs[n], now), now)
        if verdict.next_poll_at:
            heapq.heappush(queue, (verdict.next_poll_at, n, False))
        else:
            late[n] = now - jobs[n].at - jobs[n].takes
    return Found(looks[skip:], late[skip:])


def learning(
    look_cost: float = LOOK_COST, longest: float = 60.0, *, alone: bool = False
) -> Callable[[Job, int], PollPolicy]:
    """Return what makes watches that learn from each other, or each of them *alone* with what it sees."""
    shared = Pace()

    def watch_for(job: Job, n: int) -> PollPolicy:
        pace = Pace() if alone else shared
        schedule = Schedule(pace, f"job-{n}", longest=longest, look_cost=look_cost)
        return PollPolicy(f"job-{n}", job.at, job.at + _DAYS, None, schedule)

    return watch_for


def every(interval: float) -> Callable[[Job, int], PollPolicy]:
    """Return what makes watches with a fixed interval."""
    idle = Schedule()
    return lambda job, n: PollPolicy(f"job-{n}", job.at, job.at + _DAYS, interval, idle)


def backing_off(jobs: Iterable[Job], first: float = 2.0, longest: float = 60.0) -> Found:
    """Wait for jobs with pauses that double from *first* up to *longest* seconds."""
    found = Found()
    for job in jobs:
        age = pause = first
        looks = 1
        while age < job.takes:
            pause = min(2 * pause, longest)
            age += pause
            looks += 1
        found.looks.append(looks)
        found.late.append(age - job.takes)
    return found


def _heard(job: Job, now: float) -> Task | KlingUnavailableError:
    age = now - job.at
    if job.dark[0] <= now < job.dark[1]:
        return KlingUnavailableError("HTTP 502.")
    if age >= job.takes:
        told = {"submit_time_ms": job.at * 1000, "complete_time_ms": (job.at + job.takes) * 1000}
        status = "TASK_STATUS_SUCCEED"
        return Task("job", status, outcome_of(status), videos=_VIDEO, timings=told)
    if age < job.begins:
        status = "TASK_STATUS_QUEUED"
        return Task("job", status, outcome_of(status))
    progress, eta = job.says(job, age)
    status = "TASK_STATUS_PROCESSING"
    return Task("job", status, outcome_of(status), progress_percent=progress, eta=eta)
