"""The queue for a free slot: which of the tasks that wait for one submits next.

A gateway may run only so many jobs of an account at a time. It refuses a submit while all slots are in use,
and it does not say when one is free. The rule of :class:`SlotQueue`:

The first to ask leaves for each job that is seen to end; and one more every half minute, because jobs also
end where this process does not see it: twice as many as the last time if jobs have begun since and no task
was refused, half as many if one was.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections import defaultdict, deque
from contextvars import Context
from dataclasses import dataclass, field

#: Seconds between two rounds of tasks that leave although no job was seen to end.
ROUND_INTERVAL = 30.0
#: Ends of jobs that are remembered for tasks that come later.
_MOST_ENDS = 100


def slots_of(model: str) -> str:
    """Return the name of the slots of a model: its operations share them."""
    return model.rpartition("/")[2]


@dataclass(order=True, slots=True)
class SlotWaiter:
    """A task that waits for a slot.

    :param asked_at: when it asked for one first, in epoch seconds: its place.
    :param refused_at: when it was refused last, in epoch seconds: then no slot was free.
    :param not_before: when it may leave, in epoch seconds.
    :param deadline: when it leaves in any case, in epoch seconds.
    :param left: is done when it has left.
    """

    asked_at: float
    refused_at: float = field(compare=False)
    not_before: float = field(compare=False)
    deadline: float = field(compare=False)
    left: asyncio.Future[None] | None = field(default=None, compare=False)


class SlotQueue:
    """The tasks that wait for a slot of one model, the first to ask first. Pure: the clock comes in.

    :param now: when the queue begins, in epoch seconds, as all times here.
    """

    def __init__(self, now: float) -> None:
        self._waiters: list[SlotWaiter] = []
        self._ends: deque[float] = deque(maxlen=_MOST_ENDS)
        self._refused_at = self._began_at = float("-inf")
        self._round_at, self._round_size = now, 1

    @property
    def waiting(self) -> int:
        """The number of tasks that wait."""
        return len(self._waiters)

    def add(self, waiter: SlotWaiter) -> None:
        """Add a task. It was refused: the slots of all jobs that were seen to end before are taken again."""
        insort(self._waiters, waiter)
        self._refused_at = max(self._refused_at, waiter.refused_at)
        while self._ends and self._ends[0] < self._refused_at:
            self._ends.popleft()

    def remove(self, waiter: SlotWaiter) -> None:
        """Remove a task, if it still waits."""
        self._waiters = [other for other in self._waiters if other is not waiter]

    def saw_begin(self, submitted_at: float) -> None:
        """Note that a job was submitted: then a slot was free."""
        self._began_at = max(self._began_at, submitted_at)

    def saw_end(self, now: float) -> None:
        """Note that a job has ended: a slot is free."""
        self._ends.append(now)

    def leave(self, now: float) -> list[SlotWaiter]:
        """Remove the tasks that leave now, and return them in their order."""
        ready = [waiter for waiter in self._waiters if waiter.not_before <= now]
        number = len(self._ends)
        if len(ready) > number and now >= self._round_at + ROUND_INTERVAL:
            number += self._next_round(now)
        leaving = ready[:number]
        for _ in leaving[: len(self._ends)]:
            self._ends.popleft()
        leaving += [waiter for waiter in ready[number:] if waiter.deadline <= now]
        for waiter in leaving:
            self.remove(waiter)
        return leaving

    def next_at(self) -> float | None:
        """Return when a task leaves next if no job ends before; None while no task waits."""
        if not self._waiters:
            return None
        round_at = self._round_at + ROUND_INTERVAL
        first = min(waiter.not_before for waiter in self._waiters)
        last = min(max(waiter.not_before, waiter.deadline) for waiter in self._waiters)
        return first if self._ends else min(last, max(first, round_at))

    def _next_round(self, now: float) -> int:
        if self._refused_at >= self._round_at:
            self._round_size = max(1, self._round_size // 2)
        elif self._began_at >= self._round_at:
            self._round_size *= 2
        self._round_at = now
        return self._round_size


class SlotQueues:
    """The slot queues of one event loop and connection, one for each model."""

    def __init__(self) -> None:
        self._queues = defaultdict[str, SlotQueue](lambda: SlotQueue(time.time()))
        self._timer: asyncio.Task[None] | None = None

    async def wait(self, model: str, waiter: SlotWaiter) -> None:
        """Wait until a task may submit."""
        queue = self._queues[slots_of(model)]
        waiter.left = asyncio.get_running_loop().create_future()
        queue.add(waiter)
        self._release()
        try:
            await waiter.left
        finally:
            queue.remove(waiter)

    def saw_begin(self, model: str, submitted_at: float) -> None:
        """Note when a job was submitted, in epoch seconds.

        :param model: empty if it is not known: then it may be of any.
        """
        for queue in self._queues_of(model):
            queue.saw_begin(submitted_at)

    def saw_end(self, model: str) -> None:
        """Note that a job has ended; for *model* see :meth:`saw_begin`."""
        for queue in self._queues_of(model):
            queue.saw_end(time.time())
        self._release()

    @property
    def waiting(self) -> int:
        """The number of tasks that wait."""
        return sum(queue.waiting for queue in self._queues.values())

    def close(self) -> None:
        """Stop the timer."""
        if self._timer:
            self._timer.cancel()

    def _queues_of(self, model: str) -> list[SlotQueue]:
        return [self._queues[slots_of(model)]] if model else list(self._queues.values())

    def _release(self) -> None:
        """Let the tasks go whose turn it is, and set the timer for the next ones."""
        self.close()
        now, times = time.time(), []
        for queue in self._queues.values():
            for waiter in queue.leave(now):
                if waiter.left and not waiter.left.done():
                    waiter.left.set_result(None)
            if (next_at := queue.next_at()) is not None:
                times.append(next_at)
        if times:
            # Not in the context of a waiting task; and no longer than a round, because clocks are set.
            seconds = max(0.0, min(min(times) - now, ROUND_INTERVAL))
            loop = asyncio.get_running_loop()
            self._timer = loop.create_task(self._ring(seconds), context=Context())

    async def _ring(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._timer = None
        self._release()
