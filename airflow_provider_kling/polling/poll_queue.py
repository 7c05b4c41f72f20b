"""The poll queue: holds each poll back until it is due and the rate limit allows it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import Generic, TypeVar

from airflow_provider_kling.gateways.base import LONGEST_RETRY_AFTER
from airflow_provider_kling.polling.rate_limit import RateLimiter

T = TypeVar("T")

#: Polls are released at multiples of this, in seconds: to wake the process up costs more than a poll.
STEP = 0.05
#: Seconds of the pause after a refusal that names no time.
DEFAULT_PAUSE = 5.0


class PollQueue(Generic[T]):
    """The due polls of one event loop, with one timer for all of them.

    The poll that is due first is released first. So where the rate limit is too low, all polls are delayed
    alike. An entry is a tuple of numbers, which Python's garbage collector does not visit: with objects in
    their place, a collection stops a triggerer with ten thousand waits for a second.

    :param limiter: how many batches may be released in a second.
    :ivar most: the number of polls in a batch.
    """

    most = 1

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        #: Due, number, deadline, when it may join a batch, how large a one; times by the loop's clock.
        self._heap: list[tuple[float, int, float, float, float]] = []
        self._items: dict[int, T] = {}
        self._numbers = count()
        self._getters: list[asyncio.Future[list[T]]] = []
        self._timer: asyncio.Task[None] | None = None
        self._timer_at = self._reached = self._paused_until = float("-inf")

    def put(
        self, item: T, due: float, deadline: float, *, early: float = 0.0, most: float = float("inf")
    ) -> int:
        """Add a poll and return its number, to :meth:`remove` it with. It is released later, never at once.

        :param due: when, in epoch seconds. It is rounded to the nearest :data:`STEP`.
        :param deadline: when the item's last poll is due, in epoch seconds; no pause delays that one.
        :param early: the seconds by which it may come earlier, with a poll that is due.
        :param most: the number of polls that its batch may have.
        """
        now, wall = self.now(), time.time()  # from here on by the loop's clock, which is never set
        at = now + due - wall
        at = round(at / STEP) * STEP if at > now else at
        number = next(self._numbers)
        self._items[number] = item
        heappush(self._heap, (at, number, now + deadline - wall, at - early, most))
        if self._heap[0][1] == number:
            self._set_timer(at)
        return number

    def remove(self, number: int) -> None:
        """Remove a poll that was not released yet."""
        self._items.pop(number, None)

    async def get(self) -> list[T]:
        """Wait for the next poll that may be sent, and return its item and those of its batch."""
        getter: asyncio.Future[list[T]] = self._loop.create_future()
        self._getters.append(getter)
        self._release()
        try:
            return await getter
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._getters.remove(getter)
            raise

    def pause(self, seconds: float | None) -> None:
        """Release no poll before its deadline for a while, because the gateway asked for it.

        :param seconds: the time that the gateway named, if it did.
        """
        seconds = DEFAULT_PAUSE if seconds is None else min(seconds, LONGEST_RETRY_AFTER)
        self._paused_until = max(self._paused_until, self.now() + seconds)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer:
            self._timer.cancel()

    def lateness(self) -> float:
        """Return by how many seconds the first poll is late."""
        return max(0.0, self.now() - self._heap[0][0]) if self._heap else 0.0

    def now(self) -> float:
        """Return the loop's time in seconds, at least what the timer has reached: timers may ring early."""
        return max(self._reached, self._loop.time())

    def _release(self) -> None:
        """Release all polls that may be sent now, and set the timer for the next one."""
        while self._heap and self._getters:
            due, number, deadline, joins_at, most = self._heap[0]
            if number not in self._items:  # it was removed
                heappop(self._heap)
                continue
            now = self.now()
            if due <= now < min(self._paused_until, deadline):
                later = min(self._paused_until, deadline)
                heapreplace(self._heap, (later, number, deadline, joins_at, most))
                continue
            at = self._limiter.next_at(max(now, due))
            if at > now:
                self._set_timer(at)
                return
            self._limiter.take(now)
            self._getters.pop().set_result(self._take_batch(now))

    def _take_batch(self, now: float) -> list[T]:
        """Remove the first poll and those next to it that may be sent with it. No poll overtakes another."""
        batch: list[T] = []
        most: float = self.most
        while self._heap:
            _, number, _, joins_at, of_poll = self._heap[0]
            if number in self._items:
                most = min(most, of_poll)
                if batch and (len(batch) >= most or joins_at > now):
                    break
                batch.append(self._items.pop(number))
            heappop(self._heap)
        return batch

    def _set_timer(self, at: float) -> None:
        if self._timer and self._timer_at <= at:
            return  # it looks at the queue again then
        self.close()
        self._timer, self._timer_at = self._loop.create_task(self._ring(at)), at

    async def _ring(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.now()))
        self._timer, self._reached = None, max(at, self._reached)
        self._release()
