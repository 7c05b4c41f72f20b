"""Simulated pollers: the provider's PollPolicy, a fixed interval, and exponential backoff."""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airflow_provider_kling.errors import KlingUnavailableError
from airflow_provider_kling.gateways.base import Task, Video
from airflow_provider_kling.gateways.myrouter import outcome_of
from airflow_provider_kling.polling import MAX_POLL_INTERVAL
from airflow_provider_kling.polling.policy import FIRST_POLL_DELAY, PollPolicy
from airflow_provider_kling.polling.schedule import DurationModel, Schedule
from schedule.jobs import Job

_TEN_DAYS = 10 * 86_400.0
_VIDEO = (Video("https://storage.example/v.mp4"),)


@dataclass(slots=True)
class Counts:
    """The number of polls of each job, and the seconds from its end until that was noticed."""

    polls: list[int] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    @property
    def mean_polls(self) -> float:
        """The mean number of polls per job."""
        return sum(self.polls) / len(self.polls)

    @property
    def mean_late(self) -> float:
        """The mean seconds from a job's end until it was noticed."""
        return sum(self.late) / len(self.late)


def poll_all(
    jobs: list[Job], policy_for: Callable[[Job, int], PollPolicy], counted: Callable[[int], bool]
) -> Counts:
    """Let the provider's :class:`PollPolicy` decide about all jobs, on one clock, as in a triggerer.

    :param policy_for: makes a job's policy; policies may share a duration model.
    :param counted: returns whether the job of this number counts.
    """
    policies = [policy_for(job, n) for n, job in enumerate(jobs)]
    polls, late = [0] * len(jobs), [0.0] * len(jobs)
    # Before its first poll, a wait is in the queue with the time of its deferral.
    queue = [(job.at, n, True) for n, job in enumerate(jobs)]
    heapq.heapify(queue)
    while queue:
        now, n, begins = heapq.heappop(queue)
        if begins:
            fixed = policies[n].interval
            first = now + fixed if fixed else policies[n].first_poll_at(now + FIRST_POLL_DELAY)
            heapq.heappush(queue, (first, n, False))
            continue
        polls[n] += 1
        result = policies[n].update(_answer(jobs[n], now), now)
        if result.next_poll_at:
            heapq.heappush(queue, (result.next_poll_at, n, False))
        else:
            late[n] = now - jobs[n].at - jobs[n].takes
    numbers = [n for n in range(len(jobs)) if counted(n)]
    return Counts([polls[n] for n in numbers], [late[n] for n in numbers])


def scheduled(
    max_poll_interval: float = MAX_POLL_INTERVAL, *, jobs_a_kind: int | None = None
) -> Callable[[Job, int], PollPolicy]:
    """Return a function that makes policies with the schedule.

    :param jobs_a_kind: after this number of jobs a new kind begins, which is unknown.
    """
    models: dict[int, DurationModel] = {}

    def policy_for(job: Job, n: int) -> PollPolicy:
        model = models.setdefault(n // jobs_a_kind if jobs_a_kind else 0, DurationModel())
        schedule = Schedule(model, f"job-{n}", max_poll_interval=max_poll_interval)
        return PollPolicy(f"job-{n}", job.at, job.at + _TEN_DAYS, None, schedule)

    return policy_for


def every(interval: float) -> Callable[[Job, int], PollPolicy]:
    """Return a function that makes policies with a fixed interval."""
    return lambda job, n: PollPolicy(f"job-{n}", job.at, job.at + _TEN_DAYS, interval)


def back_off(jobs: Iterable[Job], first: float = 2.0, longest: float = 60.0) -> Counts:
    """Poll jobs with pauses that double from *first* up to *longest* seconds."""
    counts = Counts()
    for job in jobs:
        age = pause = first
        polls = 1
        while age < job.takes:
            pause = min(2 * pause, longest)
            age += pause
            polls += 1
        counts.polls.append(polls)
        counts.late.append(age - job.takes)
    return counts


def _answer(job: Job, now: float) -> Task | KlingUnavailableError:
    age = now - job.at
    if job.dark[0] <= now < job.dark[1]:
        return KlingUnavailableError("HTTP 502.")
    if age >= job.takes:
        status = "TASK_STATUS_SUCCEED"
        return Task("job", status, outcome_of(status), videos=_VIDEO)
    if age < job.begins:
        status = "TASK_STATUS_QUEUED"
        return Task("job", status, outcome_of(status))
    progress, eta = job.reports(job, age)
    status = "TASK_STATUS_PROCESSING"
    return Task("job", status, outcome_of(status), progress_percent=progress, eta=eta)
