"""Who may look next: in the order of when they are due, within a budget, so many at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, TypeVar

from airflow_provider_kling.budget import Budget

#: Turns come at the nearest of steps of so many seconds: to wake up costs more than to look.
GRAIN = 0.05

T = TypeVar("T")
B = TypeVar("B")


class Turn(Generic[T, B]):
    """A place in the queue.

    :param waiter: who waits: for the turn, and for what was begun with it.
    :param begin: is called with the waiter when the turn has come, and sees to it that it gets a result.
    """

    __slots__ = ("begin", "begun", "given", "waiter")

    def __init__(self, waiter: asyncio.Future[T], begin: Callable[[asyncio.Future[T]], B]) -> None:
        self.waiter, self.begin, self.given = waiter, begin, False
        self.begun: B | None = None


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
        self._waiting: list[tuple[float, int, Turn[Any, Any]]] = []
        self._numbers = count()
        self._out = 0
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = self._reached = float("-inf")

    def enter(self, due: float, begin: Callable[[asyncio.Future[T]], B]) -> Turn[T, B]:
        """Queue up; whoever enters has to :meth:`leave`, turn or not.

        :param due: when, in epoch seconds, but for half a :data:`GRAIN`; in the past, as soon as possible.
        :param begin: see :class:`Turn`.
        """
        turn: Turn[T, B] = Turn(self._loop.create_future(), begin)
        # From here on by the loop's clock, which nobody sets.
        late = time.time() - due
        at = self.now() - late if late >= 0 else round((self.now() - late) / GRAIN) * GRAIN
        heappush(self._waiting, (at, next(self._numbers), turn))
        if self._waiting[0][2] is turn:
            self._go_on()
        return turn

    def leave(self, turn: Turn[Any, Any]) -> None:
        """Give the turn back; whoever stopped waiting for it has lost the place in the queue already."""
        if turn.given:
            self._out -= 1
            self._go_on()

    def pause(self, retry_after: float | None) -> None:
        """Give nobody a turn for a while; see :meth:`Budget.pause`."""
        self._budget.pause(self.now(), retry_after)

    def close(self) -> None:
        """Stop the timer; nobody may be waiting any more."""
        if self._alarm:
            self._alarm.cancel()

    def now(self) -> float:
        """Return the loop's time in seconds; what a timer has reached is past, however coarse the clock."""
        return max(self._reached, self._loop.time())

    def _go_on(self) -> None:
        """Give all turns that can be given, and set the timer for the next one."""
        while self._waiting and self._out < self._at_once:
            due, _, turn = self._waiting[0]
            if turn.waiter.done():  # it has left
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
            turn.given = True
            turn.begun = turn.begin(turn.waiter)

    def _set_alarm(self, at: float) -> None:
        if self._alarm and self._alarm_at <= at:
            return  # it looks again then
        self.close()
        self._alarm, self._alarm_at = self._loop.create_task(self._ring(at)), at

    async def _ring(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.now()))
        self._alarm, self._reached = None, at
        self._go_on()
