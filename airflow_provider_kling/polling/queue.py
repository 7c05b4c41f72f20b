"""Who may look next: in the order of when they are due, within a budget, so many at a time."""

from __future__ import annotations

import asyncio
import time
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from airflow_provider_kling.polling.rate_limit import Budget

#: Turns come at the nearest of steps of so many seconds: to wake up costs more than to look.
GRAIN = 0.05


class Guest(Protocol):
    """One who queues up."""

    def go(self) -> None:
        """Use the turn, without waiting and without raising; :meth:`Turns.back` follows sooner or later."""


class Turns:
    """Gives turns to any number of guests on one event loop, with one timer for all of them.

    The one that is due longest goes first. So where the budget is too small, all wait longer alike, and
    nobody starves. A guest in the queue costs a pair of numbers, nothing that Python's garbage collector
    would have to look at: a collection stops a triggerer with ten thousand waits for a second.

    :param budget: how many may go in a second.
    :param at_once: how many may be out at a time.
    """

    def __init__(self, budget: Budget, at_once: int) -> None:
        self._budget, self._at_once = budget, at_once
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[float, int]] = []
        self._guests: dict[int, Guest] = {}
        self._numbers = count()
        self._out = 0
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = self._reached = float("-inf")

    def enter(self, due: float, guest: Guest) -> int:
        """Queue up, and return the number to :meth:`withdraw` with; the turn comes later, never at once.

        :param due: when, in epoch seconds, but for half a :data:`GRAIN`; in the past, as soon as possible.
        """
        # From here on by the loop's clock, which nobody sets.
        late = time.time() - due
        at = self.now() - late if late >= 0 else round((self.now() - late) / GRAIN) * GRAIN
        number = next(self._numbers)
        self._guests[number] = guest
        heappush(self._waiting, (at, number))
        if self._waiting[0][1] == number:
            self._set_alarm(at)
        return number

    def withdraw(self, number: int) -> None:
        """Leave the queue, if the turn has not come yet."""
        self._guests.pop(number, None)

    def back(self) -> None:
        """Give a turn back."""
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
            due, number = self._waiting[0]
            if number not in self._guests:  # it has withdrawn
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
            self._guests.pop(number).go()

    def _set_alarm(self, at: float) -> None:
        if self._alarm and self._alarm_at <= at:
            return  # it looks again then
        self.close()
        self._alarm, self._alarm_at = self._loop.create_task(self._ring(at)), at

    async def _ring(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.now()))
        self._alarm, self._reached = None, max(at, self._reached)
        self._go_on()
