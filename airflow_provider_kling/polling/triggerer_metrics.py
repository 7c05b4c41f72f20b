"""What a triggerer does, as metrics: every 15 seconds, in a thread, so that no poll is later for it."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass

from airflow_provider_kling import metrics

#: Seconds between two reports.
INTERVAL = 15.0


@dataclass(slots=True)
class QueryCounts:
    """What was sent to a gateway since the last report."""

    polls: int = 0
    queries: int = 0
    failed: int = 0


#: By the gateway's name, for all waits of this process.
QUERY_COUNTS: defaultdict[str, QueryCounts] = defaultdict(QueryCounts)


class TriggererMetrics:
    """Reports what the waits of one event loop do.

    :param gauges: returns for each connection: its waits for a job, its waits for a slot, and the seconds by
        which its next poll is late.
    """

    def __init__(self, gauges: Callable[[], Iterable[tuple[int, int, float]]]) -> None:
        self._gauges = gauges
        self._loop = asyncio.get_running_loop()
        self._sent: asyncio.Future[None] | None = None
        self._start_timer()

    def close(self) -> None:
        """Report a last time, and stop."""
        self._timer.cancel()
        self._report(0.0)

    def _start_timer(self) -> None:
        self._due = self._loop.time() + INTERVAL
        # Not in the context of a wait: by it Airflow would take the log lines for that wait's.
        self._timer = self._loop.call_later(INTERVAL, self._ring, context=Context())

    def _ring(self) -> None:
        self._report(self._loop.time() - self._due)
        self._start_timer()

    def _report(self, lag: float) -> None:
        """Send all values, unless the last ones are still being sent.

        :param lag: the seconds by which the event loop is late.
        """
        if self._sent and not self._sent.done():
            return
        waits, slot_waits, lateness = zip((0, 0, lag), *self._gauges(), strict=True)
        values = sum(waits), sum(slot_waits), max(lateness)
        counts = dict(QUERY_COUNTS)
        QUERY_COUNTS.clear()
        self._sent = self._loop.run_in_executor(None, _send, *values, counts)


def _send(waits: int, slot_waits: int, lateness: float, counts: dict[str, QueryCounts]) -> None:
    host = socket.gethostname()
    metrics.WAITS.set(waits, hostname=host)
    metrics.SLOT_WAITS.set(slot_waits, hostname=host)
    metrics.LATENESS.set(round(lateness, 3), hostname=host)
    for gateway, count in counts.items():
        metrics.POLLS.add(count.polls, gateway=gateway.lower())
        metrics.QUERIES.add(count.queries, gateway=gateway.lower())
        metrics.FAILED_QUERIES.add(count.failed, gateway=gateway.lower())
