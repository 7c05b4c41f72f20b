"""When the next look at a job is worth its price, from what is known of it and of others of its kind.

Pure: ages of jobs come in as arguments, in seconds since the submit. The reasons for the arithmetic stand in
docs/design.md.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

#: What a look costs, in seconds of noticing an end later; it makes an unknown video wait 2.5 s on average.
LOOK_COST = 0.1
#: No two looks are nearer than this, and, unless told otherwise, none further apart, in seconds.
SHORTEST_INTERVAL, MAX_POLL_INTERVAL = 2.0, 60.0

#: Ages are cut into cells, each so much longer than the one before it, from a second to half a day.
_GROWTH = 1.05
_EDGES = (0.0, *(_GROWTH**n for n in range(220)))
_WIDTHS = tuple(end - start for start, end in pairwise(_EDGES))
#: A kind that nobody has seen: most jobs take about so long, give or take, and some of them far longer.
_MEDIAN, _SPREAD, _STRAGGLERS = 165.0, 0.45, 0.1
#: That guess weighs as much as so many jobs. The latest so many jobs of each age are remembered.
_GUESSED_JOBS, _REMEMBERED_JOBS = 3.0, 200.0
#: A job that ended at a known age says that its like end at that age, give or take this share of it.
_BLUR = 0.12
#: An honest progress is right to so many points of 100, an honest eta to this factor.
_POINTS, _ETA_FACTOR = 12.0, 2.0
#: So many promises are remembered, kept and broken ones. Nobody is believed or doubted beyond a doubt.
_REMEMBERED_PROMISES = 30.0
#: So many kinds of jobs are remembered.
_MOST_KINDS = 64

_Window = tuple[float, float]


def kind_of(model: Any, inputs: Mapping[str, Any]) -> str:
    """Return what a job's duration depends on, as a short text: jobs of one kind take about as long.

    :param model: the model's slug.
    :param inputs: what was asked of it.
    """
    told = (f"{name}={inputs[name]}" for name in ("duration", "sound") if name in inputs)
    return " ".join((str(model), *told))[:100]


def _cells(since: float, until: float) -> Iterator[tuple[int, float]]:
    """Yield the cells that a span of ages touches, and how many seconds of it lie in each."""
    last = len(_WIDTHS) - 1
    if since >= until:
        return
    cell = 0 if since < 1 else min(int(math.log(since, _GROWTH)) + 1, last)
    while since < until:
        end = until if cell == last else max(since, min(until, _EDGES[cell + 1]))
        yield cell, end - since
        since, cell = end, min(cell + 1, last)


def _guess() -> tuple[float, ...]:
    """Return the share of running jobs that end within a second, by cell, for a kind that nobody has seen."""

    def running(age: float) -> float:
        usual = math.erfc(math.log(max(age, 0.01) / _MEDIAN) / _SPREAD / math.sqrt(2)) / 2
        return (1 - _STRAGGLERS) * usual + _STRAGGLERS / (1 + age / _MEDIAN)

    return tuple(math.log(running(a) / running(b)) / (b - a) for a, b in pairwise(_EDGES))


_GUESS = _guess()


class Pace:
    """How fast the jobs of one kind end: how many of those that reach an age end there.

    Jobs that still run count as well, so a crowd that started together does not look faster than it is.
    """

    def __init__(self) -> None:
        self.rates = list(_GUESS)
        self._seconds = [0.0] * len(_GUESS)
        self._ends = [0.0] * len(_GUESS)
        self._promises: dict[str, tuple[float, float]] = {}

    def lived(self, since: float, until: float, *, ended: bool = False) -> None:
        """Count a job that ran between two ages, or one that *ended* somewhere between them."""
        for cell, seconds in _cells(since, until):
            self._seconds[cell] += seconds / 2 if ended else seconds
            self._ends[cell] += seconds / (until - since) if ended else 0.0
            kept = min(1.0, _REMEMBERED_JOBS * _WIDTHS[cell] / self._seconds[cell])
            self._seconds[cell] *= kept
            self._ends[cell] *= kept
            guessed = _GUESSED_JOBS * _WIDTHS[cell]
            self.rates[cell] = (guessed * _GUESS[cell] + self._ends[cell]) / (guessed + self._seconds[cell])

    def coming(self, since: float, until: float) -> float:
        """Return the ends to expect of one job between two ages, were it replaced whenever it ends."""
        return sum(self.rates[cell] * seconds for cell, seconds in _cells(since, min(until, _EDGES[-1])))

    def promised(self, by: str, *, kept: bool) -> None:
        """Remember whether jobs ended when *by*, such as their progress, had said."""
        good, bad = self._promises.get(by, (0.0, 0.0))
        good, bad = good + kept, bad + (not kept)
        scale = min(1.0, _REMEMBERED_PROMISES / (good + bad))
        self._promises[by] = good * scale, bad * scale

    def trust(self, by: str) -> float:
        """Return how far to believe it, between 0 and 1; one half to begin with."""
        good, bad = self._promises.get(by, (0.0, 0.0))
        return (good + 1) / (good + bad + 2)


class History:
    """The paces of the kinds of jobs that this process has seen lately; its size is bounded."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def of(self, kind: str) -> Pace:
        """Return the pace of one kind, a guess if it is new; the kind asked for longest ago is forgotten."""
        pace = self._paces[kind] = self._paces.pop(kind) if kind in self._paces else Pace()
        if len(self._paces) > _MOST_KINDS:
            del self._paces[next(iter(self._paces))]
        return pace


@dataclass(slots=True)
class Schedule:
    """When to look at one job. All ages are seconds since its submit.

    :param pace: what is known of its kind; it learns from this job as well.
    :param key: spreads jobs that were submitted together; the same key gives the same ages.
    :param initial_delay: no look before this age.
    :param longest: no longer between two looks, in seconds.
    :param look_cost: what a look costs, in seconds of noticing the end later.
    """

    pace: Pace = field(default_factory=Pace)
    key: str = ""
    initial_delay: float = 0.0
    longest: float = MAX_POLL_INTERVAL
    look_cost: float = LOOK_COST
    _looks: int = field(default=0, init=False)
    _seen_at: float = field(default=0.0, init=False)
    _began_at: float = field(default=0.0, init=False)
    _windows: dict[str, _Window | None] = field(default_factory=dict, init=False)
    _over: bool = field(default=False, init=False)

    def watch_from(self, age: float) -> None:
        """Begin to watch a job of this age: nothing is known of what others did before."""
        self._seen_at = max(0.0, age)

    def saw(self, age: float, progress: float | None, eta: float | None) -> None:
        """Learn that the job still ran, and what the gateway says of its end.

        :param progress: 0..100, or None if it was not told.
        :param eta: seconds to the end, or None; 0 means nothing.
        """
        self.pace.lived(self._seen_at, age)
        self._seen_at = max(age, self._seen_at)
        if not progress and "progress" not in self._windows:
            self._began_at = age  # it is in the queue
        elif progress is not None:
            least, most = max(progress - _POINTS, 0.01) / 100, max(progress + _POINTS, 0.01) / 100
            worked = age - self._began_at
            self._claim("progress", self._began_at + worked / most, self._began_at + worked / least)
        if eta and eta > 0:
            self._claim("eta", age + eta / _ETA_FACTOR, age + eta * _ETA_FACTOR)
        for by, window in self._windows.items():
            if window and not window[0] <= window[1] > age:
                self._windows[by] = None
                self.pace.promised(by, kept=False)

    def ended(self, age: float, took: float | None) -> None:
        """Learn that the job is over.

        :param age: when that was noticed.
        :param took: at which age it ended, or None if that was not told.
        """
        if self._over or age <= self._seen_at:
            return
        self._over = True
        since, until = self._seen_at, age
        if took is not None and since < took <= age:
            since, until = max(since, took * (1 - _BLUR)), took * (1 + _BLUR)
            self.pace.lived(self._seen_at, since)
        self.pace.lived(since, until, ended=True)
        for by, window in self._windows.items():
            if window:
                at = (since + until) / 2 if took is None else took
                self.pace.promised(by, kept=window[0] <= at <= window[1])

    def next_look(self, age: float) -> float:
        """Return the age at which to look next, the last look having been at *age*."""
        at = max(age, self.initial_delay)
        looks, longest = 1.0, self.longest
        if not self._looks:  # those who were submitted together do not ask together
            share = zlib.crc32(self.key.encode()) / 2**32
            looks, longest = 0.5 + share, longest * (0.5 + share / 2)
        self._looks += 1
        for seconds, rate in self._ahead(at, at + longest):
            density = math.sqrt(rate / (2 * self.look_cost))
            if density * seconds >= looks:
                at += looks / density
                break
            looks -= density * seconds
            at += seconds
        return max(at, age + min(SHORTEST_INTERVAL, self.longest))

    def _claim(self, by: str, least: float, most: float) -> None:
        """Narrow the window in which the end lies, by the word of the progress or of the eta."""
        known = self._windows.get(by, (0.0, math.inf))
        if known:
            self._windows[by] = max(known[0], least), min(known[1], most)

    def _ahead(self, since: float, until: float) -> Iterator[tuple[float, float]]:
        """Yield spans of seconds, and how likely a job that still runs then ends within a second."""
        trust, (opens, closes) = max(
            ((self.pace.trust(by), window) for by, window in self._windows.items() if window),
            default=(0.0, (until, until)),
        )
        doubt = 1 - trust
        for cell, seconds in _cells(since, min(opens, until)):
            yield seconds, doubt * self.pace.rates[cell]
        since = max(since, opens)
        coming = self.pace.coming(since, closes)
        # Of those who keep their promise, all end before the window closes.
        believed = trust / -math.expm1(-coming) if coming else 0.0
        for cell, seconds in _cells(since, min(closes, until)):
            rate = self.pace.rates[cell]
            yield seconds, rate * (believed + doubt) / (doubt - believed * math.expm1(-coming))
            coming = max(0.0, coming - rate * seconds)
        for cell, seconds in _cells(max(since, closes), until):
            yield seconds, self.pace.rates[cell]
