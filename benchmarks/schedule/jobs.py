"""Simulated jobs like those of the gateway, and the progress that they report, right or wrong."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

#: The progress and the eta that a job reports at an age; each may be None.
Progress = tuple[float | None, float | None]
Reports = Callable[["Job", float], Progress]
Rng = np.random.Generator
#: The time of the first submit, in epoch seconds.
_FIRST_SUBMIT = 1_700_000_000.0
Times = np.ndarray[Any, np.dtype[np.float64]]


def nothing(job: "Job", age: float) -> Progress:  # noqa: ARG001 - the signature of Reports
    """Report nothing."""
    return None, None


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    :param at: the time of the submit, in epoch seconds.
    :param takes: its duration in seconds.
    :param begins: the age at which the gateway starts to work on it.
    :param error: the error of its reported progress, -1..1.
    :param dark: start and end of the time in which the gateway does not answer.
    """

    at: float
    takes: float
    begins: float = 0.0
    reports: Reports = nothing
    error: float = 0.0
    dark: tuple[float, float] = (0.0, 0.0)

    def share(self, age: float) -> float:
        """Return the share of the work that is done at an age."""
        return min(1.0, max(0.0, (age - self.begins) / (self.takes - self.begins)))


def times(rng: Rng, number: int, median: float = 165.0, spread: float = 0.3) -> Times:
    """Return log-normal durations. One job of twenty takes 5 to 15 min, in proportion to the median."""
    usual = median * np.exp(spread * rng.standard_normal(number))
    late = rng.uniform(300, 900, number) * median / 165
    return np.where(rng.random(number) < 0.05, late, usual)


def steady(rng: Rng, number: int, reports: Reports = nothing, **kind: float) -> list[Job]:
    """Return jobs that are submitted one by one, some ten seconds apart."""
    at = _FIRST_SUBMIT + np.cumsum(rng.exponential(10, number))
    errors = rng.uniform(-1, 1, number)
    rows = zip(at.tolist(), times(rng, number, **kind).tolist(), errors.tolist(), strict=True)
    return [Job(at, takes, reports=reports, error=error) for at, takes, error in rows]


def bursts(rng: Rng, number: int, reports: Reports = nothing) -> list[Job]:
    """Return jobs that come a hundred at once, every half hour. Twenty run at a time; the others queue."""
    free, jobs = np.full(20, _FIRST_SUBMIT), []
    for n, takes in enumerate(times(rng, number).tolist()):
        at = _FIRST_SUBMIT + n // 100 * 1800.0 + float(rng.uniform(0, 5))
        begins = max(at, free.min())
        free[free.argmin()] = begins + takes
        jobs.append(Job(at, begins - at + takes, begins - at, reports, float(rng.uniform(-1, 1))))
    return jobs


def changing(rng: Rng, number: int, reports: Reports = nothing) -> list[Job]:
    """Return jobs that take three times longer in every second hour."""
    jobs = steady(rng, number, reports)
    return [replace(job, takes=job.takes * 3) if job.at // 3600 % 2 else job for job in jobs]


def restarts(rng: Rng, number: int, reports: Reports = nothing) -> list[Job]:
    """Return jobs of a gateway that is down for two minutes of each half hour, and then restarts them."""
    jobs = []
    for job in steady(rng, number, reports):
        back = math.ceil(job.at / 1800) * 1800.0
        dark = (back - 120, back)
        if job.at < dark[0] < job.at + job.takes:
            jobs.append(replace(job, takes=back - job.at + job.takes, begins=back - job.at, dark=dark))
        elif not dark[0] <= job.at <= back:
            jobs.append(job)
    return jobs


def after_a_night(rng: Rng, number: int, reports: Reports = nothing) -> list[Job]:
    """Return jobs of which the first half takes four times longer."""
    jobs = steady(rng, number, reports)
    return [replace(job, takes=job.takes * 4) if n < number / 2 else job for n, job in enumerate(jobs)]


def is_quick(number: int) -> bool:
    """Return whether the job of this number is a quick one among slow ones."""
    return number % 20 == 19


def quick_among_slow(rng: Rng, number: int, reports: Reports = nothing) -> list[Job]:
    """Return slow jobs of which one in twenty takes 12 seconds."""
    jobs = steady(rng, number, reports, median=300.0)
    return [replace(job, takes=12.0) if is_quick(n) else job for n, job in enumerate(jobs)]


def _whole(percent: float) -> float:
    return float(min(100, max(0, round(percent))))


#: Progress that is right to ten percent points.
HONEST: dict[str, Reports] = {
    "off by up to 10 points, each job its own way": lambda job, age: (
        _whole(100 * job.share(age) + 10 * job.error),
        None,
    ),
    "off by up to 10 points, each time anew": lambda job, age: (
        _whole(100 * job.share(age) + 10 * math.sin(age * 1000 * (1 + job.error))),
        None,
    ),
    "in steps of 10 points": lambda job, age: (math.floor(10 * job.share(age)) * 10.0, None),
    "exact": lambda job, age: (math.floor(100 * job.share(age)), None),
}
#: Progress and etas that are wrong.
LIES: dict[str, Reports] = {
    "99 % all the time": lambda _job, _age: (99.0, None),
    "99 % from the first minute on": lambda _job, age: (_whole(min(99, age / 0.6)), None),
    "99 % at 60 % of the time": lambda job, age: (_whole(min(99, 100 * job.share(age) / 0.6)), None),
    "40 % at the end": lambda job, age: (_whole(40 * job.share(age)), None),
    "a clock that thinks of 165 s": lambda _job, age: (_whole(min(99, age / 1.65)), None),
    "a bar that slows down": lambda job, age: (_whole(99 * (1 - math.exp(-3 * job.share(age)))), None),
    "any number": lambda job, age: (_whole(50 + 50 * math.sin(age * 1000 * (1 + job.error))), None),
    "backwards": lambda job, age: (_whole(100 - 100 * job.share(age)), None),
    "0 all the time": lambda _job, _age: (0.0, 0.0),
    "an eta of 5 s all the time": lambda _job, _age: (None, 5.0),
    "an eta that thinks of 165 s": lambda _job, age: (None, max(0.0, 165 - age)),
}


def sometimes(job: Job, age: float) -> Progress:
    """Report a right progress in about half of the polls, and nothing in the others."""
    reported = math.sin(age * 1000 * (1 + job.error)) > 0
    return (_whole(100 * job.share(age) + 10 * job.error), None) if reported else (None, None)


def stuck(job: Job, age: float) -> Progress:
    """Report a right progress until 99 %, which long jobs reach ten minutes before their end."""
    early = max(job.takes - 600, 60.0) if job.takes > 300 else job.takes
    return min(99.0, _whole(100 * age / early)), None


def counted(job: Job, age: float) -> Progress:
    """Report an eta that is right to a third."""
    return None, max(0.0, (job.takes - age) * (1 + job.error / 3))
