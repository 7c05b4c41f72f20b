"""How many events may happen in a second. Pure: the clock comes in as an argument."""

from __future__ import annotations


class RateLimiter:
    """Allows at most *rate* events, rounded up, in any second.

    A tenth of them may happen at once, the rest is spread evenly. A rate below one allows one event every
    1/rate seconds.

    :param rate: events a second, more than 0.
    :param burst: events that may happen at once after a rest, in addition to the rate. None: a tenth of the
        rate, included in it.
    """

    __slots__ = ("_ahead", "_gap", "_used_until")

    def __init__(self, rate: float, burst: float | None = None) -> None:
        self._used_until = float("-inf")
        if burst is None:
            self.change(rate)
        else:
            self._gap = 1 / rate
            self._ahead = (burst - 1) * self._gap

    def change(self, rate: float) -> None:
        """Use another rate from now on."""
        burst = max(1.0, rate / 10)
        self._gap = 1 / min(rate, rate - burst + 1)
        self._ahead = (burst - 1) * self._gap

    def next_at(self, now: float) -> float:
        """Return when the next event may happen: *now* or later, in seconds."""
        return max(now, self._used_until - self._ahead)

    def take(self, now: float, events: float = 1.0) -> None:
        """Count events that happen *now*."""
        self._used_until = max(now, self._used_until) + self._gap * events

    def seconds_for(self, events: int) -> float:
        """Return the seconds in which so many events may happen."""
        return self._gap * events
