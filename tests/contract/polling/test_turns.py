"""Turns on one loop: in due order, within the budget, and nothing is left behind by those who go early."""

import asyncio
import gc
import time
from contextlib import asynccontextmanager

import pytest
from airflow_fakes import Clock

from airflow_provider_kling.polling.queue import GRAIN, Turns
from airflow_provider_kling.polling.rate_limit import Budget


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Guest:
    """One who waits for a turn."""

    def __init__(self):
        self.came = asyncio.get_running_loop().create_future()
        self.has_turn = False

    def go(self):
        self.has_turn = True
        if not self.came.done():
            self.came.set_result(None)


class Queue(Turns):
    """Turns that a task can wait for."""

    @asynccontextmanager
    async def take(self, due):
        guest = Guest()
        number = self.enter(due, guest)
        try:
            await guest.came
            yield
        finally:
            self.withdraw(number)
            if guest.has_turn:
                self.back()


def turns(rate=1000.0, at_once=64):
    return Queue(Budget(rate), at_once)


async def settled():
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_turns_come_when_they_are_due_in_the_order_of_being_due(clock):
    queue, came, start = turns(), [], clock.time()

    async def look(due):
        async with queue.take(start + due):
            came.append((due, clock.time() - start))

    await asyncio.gather(*(look(due) for due in (30, 10, 20, 5, 25)))
    assert [due for due, _ in came] == [5, 10, 20, 25, 30]
    assert all(at == pytest.approx(due, abs=0.5) for due, at in came)


async def test_one_that_comes_later_but_is_due_earlier_goes_first():
    queue, came = turns(), []

    async def look(name, delay):
        async with queue.take(time.time() + delay):
            came.append(name)

    late = asyncio.create_task(look("late", 1000))
    await settled()
    await asyncio.wait_for(look("early", 0.01), 5)
    assert came == ["early"]
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    queue.close()


async def test_no_more_than_so_many_are_out_at_a_time():
    queue, out, most = turns(at_once=3), 0, 0

    async def look():
        nonlocal out, most
        async with queue.take(0.0):
            out += 1
            most = max(most, out)
            await asyncio.sleep(0)
            out -= 1

    await asyncio.gather(*(look() for _ in range(20)))
    assert most == 3
    assert out == 0


async def test_over_the_budget_everybody_waits_alike_and_nobody_starves(clock):
    queue, looks, start = turns(rate=1.0), {name: [] for name in range(10)}, clock.time()

    async def wait(name):
        due = 0.0
        while clock.time() - start < 200:
            async with queue.take(start + due):
                looks[name].append(clock.time() - start)
            due = looks[name][-1] + 1  # ten times what the budget allows

    await asyncio.gather(*(wait(name) for name in looks))
    counts = [len(at) for at in looks.values()]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == pytest.approx(200, abs=12)


async def test_a_pause_stops_all_turns_until_it_is_over(clock):
    queue, start = turns(), clock.time()
    queue.pause(30.0)
    async with queue.take(0.0):
        assert clock.time() - start == pytest.approx(30, abs=0.5)


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_turn_that_ends_badly_is_free_again(error):
    queue = turns(at_once=1)
    with pytest.raises(error):
        async with queue.take(0.0):
            raise error
    async with queue.take(0.0):
        pass


async def test_those_who_are_cancelled_while_they_wait_take_no_turn():
    queue = turns(at_once=1)

    async def look():
        async with queue.take(0.0):
            pytest.fail("a cancelled one had a turn")

    async with queue.take(0.0):
        waiting = [asyncio.create_task(look()) for _ in range(5)]
        await settled()
        for wait in waiting:
            wait.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with queue.take(0.0):
        assert not queue._waiting
    assert queue._out == 0


async def test_one_that_is_cancelled_just_when_its_turn_comes_gives_it_back():
    queue = turns(at_once=1)

    async def look():
        async with queue.take(0.0):
            pytest.fail("a cancelled one had a turn")

    async with queue.take(0.0):
        wait = asyncio.create_task(look())
        await settled()
    wait.cancel()  # the turn is given, but the task has not run yet
    await asyncio.gather(wait, return_exceptions=True)
    await asyncio.wait_for(asyncio.create_task(nothing(queue)), 5)


async def nothing(queue):
    async with queue.take(0.0):
        pass


async def test_turns_come_in_steps_so_that_many_share_one_awakening(clock):
    queue, woken, start = turns(), set(), clock.time()

    async def look(due):
        async with queue.take(start + due):
            woken.add(round(clock.time() - start, 2))

    await asyncio.gather(*(look(10 + index / 1000) for index in range(100)))
    assert len(woken) <= 2 + 0.1 / GRAIN


async def test_one_who_looks_every_second_does_so_however_long_a_look_takes(clock):
    queue, start, came = turns(), clock.time(), []
    for _ in range(20):
        async with queue.take(came[-1] + 1.0 if came else start + 1.0):
            came.append(clock.time() + 0.01)  # the answer
    assert came[-1] - start == pytest.approx(20, abs=0.3)


async def test_a_clock_that_is_set_back_keeps_nobody_waiting(monkeypatch):
    queue, real = turns(), time.time
    wait = asyncio.create_task(nothing_at(queue, real() + 0.05))
    await settled()
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    await asyncio.wait_for(wait, 5)


async def nothing_at(queue, due):
    async with queue.take(due):
        pass


async def test_who_waits_for_a_turn_is_nothing_that_the_garbage_collector_looks_at():
    queue, guest = turns(), Guest()
    gc.collect()
    before = len(gc.get_objects())
    for index in range(10_000):
        queue.enter(time.time() + 1000 + index, guest)
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    queue.close()


async def test_a_turn_never_comes_while_one_queues_up():
    queue, guest = turns(), Guest()
    queue.enter(0.0, guest)
    assert not guest.has_turn
    await asyncio.wait_for(guest.came, 5)
    queue.back()
