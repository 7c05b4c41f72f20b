"""Who may look next: in the order of when they are due, within a budget, so many at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count

from airflow_provider_kling.budget import Budget


class Turns:
    """Gives turns to any number of waiting tasks of one event loop, with one timer for all of them.

    The one that is due longest goes first. So where the budget is too small, all wait longer alike, and
    nobody starves.

    :param budget: how many may go in a second.
    :param at_once: how many may be out at a time.
    """

    def __init__(self, budget: Budget, at_once: int) -> None:
        self._budget, self._at_once = budget, at_once
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._out = 0
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = self._reached = float("-inf")

    @asynccontextmanager
    async def take(self, due: float) -> AsyncIterator[None]:
        """Wait for a turn and hold it.

        :param due: not before then, in epoch seconds; in the past, as soon as possible.
        """
        # From here on by the loop's clock, which nobody sets.
        mine, at = self._loop.create_future(), self.now() + due - time.time()
        heappush(self._waiting, (at, next(self._numbers), mine))
        if self._waiting[0][2] is mine:
            self._go_on()
        try:
            await mine
            yield
        finally:
            if mine.done() and not mine.cancelled():
                self._out -= 1
                self._go_on()

    def pause(self, retry_after: float | None) -> None:
        """Give nobody a turn for a while; see :meth:`Budget.pause`."""
        self._budget.pause(self.now(), retry_after)

    def close(self) -> None:
        """Stop the timer; nobody may be waiting any more."""
        if self._alarm:
            self._alarm.cancel()

    def _go_on(self) -> None:
        """Give all turns that can be given, and set the timer for the next one."""
        while self._waiting and self._out < self._at_once:
            due, _, turn = self._waiting[0]
            if turn.done():  # cancelled
                heappop(self._waiting)
                continue
            now = self.now()
            at = self._budget.next_at(max(now, due))
            if at > now:
                self._set_alarm(at)
                return
            heappop(self._waiting)
            self._budget.take(now)
            self._out += 1
            turn.set_result(None)

    def _set_alarm(self, at: float) -> None:
        if self._alarm and self._alarm_at <= at:
            return  # it looks again then
        self.close()
        self._alarm, self._alarm_at = self._loop.create_task(self._ring(at)), at

    async def _ring(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.now()))
        self._alarm, self._reached = None, at
        self._go_on()

    def now(self) -> float:
        """Return the loop's time in seconds; what a timer has reached is past, however coarse the clock."""
        return max(self._reached, self._loop.time())
