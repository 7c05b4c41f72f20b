"""How many requests may leave in a second. Pure: the clock comes in as an argument."""

from __future__ import annotations

#: Seconds for which nothing is asked after a refusal that names no time.
SHORTEST_PAUSE = 5.0
#: The longest pause that is kept, in seconds: a wait's last look has to come before Airflow's own timeout.
LONGEST_PAUSE = 600.0


class Budget:
    """Never more than *rate* requests, rounded up, in any second, nor any during a pause.

    A tenth of them may leave at once, the rest is spread evenly. A rate below one is one request in so
    many seconds.

    :param rate: requests a second, more than 0.
    :param saved: so many may leave at once after a rest, on top of the rate; None: a tenth of the rate, not
        on top of it.
    """

    __slots__ = ("_ahead", "_gap", "_paused_until", "_spent_until")

    def __init__(self, rate: float, saved: float | None = None) -> None:
        self._spent_until = self._paused_until = float("-inf")
        if saved is None:
            self.change(rate)
        else:
            self._gap = 1 / rate
            self._ahead = (saved - 1) * self._gap

    def change(self, rate: float) -> None:
        """Let another rate count from now on."""
        burst = max(1.0, rate / 10)
        self._gap = 1 / min(rate, rate - burst + 1)
        self._ahead = (burst - 1) * self._gap

    def next_at(self, now: float) -> float:
        """Return when the next request may leave, *now* or later; in seconds, as all times here."""
        return max(now, self._paused_until, self._spent_until - self._ahead)

    def take(self, now: float, share: float = 1.0) -> None:
        """Note that a request leaves *now*, or one that counts as *share* of them."""
        self._spent_until = max(now, self._spent_until) + self._gap * share

    def pause(self, now: float, retry_after: float | None) -> None:
        """Let nothing leave for a while: the service said that it is too much.

        :param retry_after: the seconds it asked for, if it did.
        """
        seconds = SHORTEST_PAUSE if retry_after is None else min(retry_after, LONGEST_PAUSE)
        self._paused_until = max(self._paused_until, now + seconds)
