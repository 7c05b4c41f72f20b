"""When to poll a job next. Pure: the job's age comes in as an argument, in seconds since the submit.

The rule: poll every 12 seconds, but at the ages at which most jobs of the kind end, every 5 seconds or every
thirtieth of the age. A progress or an eta only makes polls rarer, so a wrong one costs at most 12 seconds.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_kling.polling import MAX_POLL_INTERVAL

#: The shortest interval between two polls, in seconds.
MIN_POLL_INTERVAL = 5.0
#: The share of the job's age that the interval grows with: the end of an old job may be noticed later.
INTERVAL_SHARE = 1 / 30
#: First polls are spread over this time, in seconds, so that jobs of one submit are not polled together.
FIRST_POLLS_SPREAD = 10.0

#: A kind is known from this number of jobs on, and by this number of its latest jobs.
_FEWEST_JOBS, _MOST_JOBS = 5, 200
#: Between these shares of its durations, most jobs of a kind end.
_EARLY_SHARE, _LATE_SHARE = 0.1, 0.9
#: An honest progress is right to this number of percent points, an honest eta to this factor.
_PROGRESS_ERROR, _ETA_FACTOR = 12.0, 2.0
_MOST_KINDS = 64


def kind_of(model: Any, inputs: Mapping[str, Any]) -> str:
    """Return what a job's duration depends on, as a short text: jobs of one kind take about as long."""
    parts = (f"{name}={inputs[name]}" for name in ("duration", "sound", "resolution") if name in inputs)
    return " ".join((str(model), *parts))[:100]


class DurationModel:
    """Knows how long the latest jobs of one kind took."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=_MOST_JOBS)
        self._estimate: tuple[float, float] | None = None

    def observe(self, duration: float) -> None:
        """Add the duration of a job, in seconds."""
        self._durations.append(duration)
        count = len(self._durations)
        if count >= _FEWEST_JOBS:
            ordered = sorted(self._durations)
            self._estimate = ordered[int(count * _EARLY_SHARE)], ordered[int(count * _LATE_SHARE)]

    def estimate(self) -> tuple[float, float] | None:
        """Return the two ages between which most jobs end, or None for a kind that is not known yet."""
        return self._estimate


class DurationModels:
    """The duration models of the kinds that this process polled lately; their number is bounded."""

    def __init__(self) -> None:
        self._models: dict[str, DurationModel] = {}

    def of(self, kind: str) -> DurationModel:
        """Return the model of one kind; the kind that was not used for the longest time is dropped."""
        model = self._models[kind] = self._models.pop(kind) if kind in self._models else DurationModel()
        if len(self._models) > _MOST_KINDS:
            del self._models[next(iter(self._models))]
        return model


@dataclass(slots=True)
class Schedule:
    """Says at which ages to poll one job.

    :param durations: what is known of the job's kind; it learns from this job too.
    :param key: spreads the first polls; the same key gives the same ages.
    :param initial_delay: no poll before this age.
    :param max_poll_interval: the longest interval between two polls, in seconds.
    """

    durations: DurationModel = field(default_factory=DurationModel)
    key: str = ""
    initial_delay: float = 0.0
    max_poll_interval: float = MAX_POLL_INTERVAL
    _running_at: float | None = field(default=None, init=False)

    def first_poll(self, age: float, interval: float | None = None) -> float:
        """Return the age for the first poll of a wait that begins at *age*.

        :param interval: the fixed interval between two polls, if there is one.
        """
        # Of a job that was old already, we do not know when it ended.
        self._running_at = age if age < 2 * FIRST_POLLS_SPREAD else None
        spread = FIRST_POLLS_SPREAD if interval is None else min(interval, FIRST_POLLS_SPREAD)
        return max(age, self.initial_delay) + spread * zlib.crc32(self.key.encode()) / 2**32

    def next_poll(self, age: float, progress: float | None = None, eta: float | None = None) -> float:
        """Return the age for the next poll after one at *age*.

        :param progress: the job's progress in percent, if it has one.
        :param eta: the seconds until its end by its own word, if it has one.
        """
        interval, estimate = self.max_poll_interval, self.durations.estimate()
        ends_soon = estimate is None or estimate[0] <= age <= estimate[1]
        if ends_soon and _earliest_end(age, progress, eta) <= interval:
            interval = min(interval, max(MIN_POLL_INTERVAL, age * INTERVAL_SHARE))
        return age + interval

    def saw_running(self, age: float) -> None:
        """Note that the job still ran at *age*."""
        self._running_at = age

    def saw_end(self, age: float) -> None:
        """Learn from a job that was over at *age*."""
        if self._running_at is not None:
            self.durations.observe((self._running_at + age) / 2)
            self._running_at = None


def _earliest_end(age: float, progress: float | None, eta: float | None) -> float:
    """Return the seconds in which the job can end if its progress and its eta are honest."""
    seconds = eta / _ETA_FACTOR if eta and eta > 0 else 0.0
    if progress and progress > 0:
        most = progress + _PROGRESS_ERROR
        seconds = max(seconds, age * (100 - most) / most)
    return seconds
