"""The poll queue: in the order of being due, within the rate limit, and no pause outlasts a deadline."""

import asyncio
import gc
import time
from itertools import pairwise

import pytest
from airflow_fakes import Clock

from airflow_provider_kling.gateways.base import LONGEST_RETRY_AFTER
from airflow_provider_kling.polling.poll_queue import DEFAULT_PAUSE, STEP, PollQueue
from airflow_provider_kling.polling.rate_limit import RateLimiter

FAR = 1e6


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def queue_of(rate=1000.0):
    return PollQueue(RateLimiter(rate))


def put(queue, *dues, deadline=FAR):
    """Put a poll for each of these seconds from now; the items are the seconds."""
    now = time.time()
    return [queue.put(due, now + due, now + deadline) for due in dues]


async def settled():
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def released(queue, number, clock):
    """Return the next items and when they came, in seconds from now."""
    start, found = clock.time(), []
    for _ in range(number):
        (item,) = await queue.get()
        found.append((item, clock.time() - start))
    return found


async def test_polls_are_released_when_they_are_due_in_the_order_of_being_due(clock):
    queue = queue_of()
    put(queue, 30, 10, 20, 5, 25)
    came = await released(queue, 5, clock)
    assert [item for item, _ in came] == [5, 10, 20, 25, 30]
    assert all(at == pytest.approx(item, abs=0.5) for item, at in came)


async def test_a_poll_that_comes_later_but_is_due_earlier_is_released_first():
    queue = queue_of()
    put(queue, 1000)
    first = asyncio.create_task(queue.get())
    await settled()
    put(queue, 0.01)
    assert await asyncio.wait_for(first, 5) == [0.01]
    queue.close()


async def test_no_poll_is_released_that_no_poller_waits_for():
    queue = queue_of()
    put(queue, 0, 0, 0)
    assert await asyncio.wait_for(queue.get(), 5) == [0]
    await settled()
    assert len(queue._items) == 2
    queue.close()


async def test_above_the_rate_limit_all_waits_are_delayed_alike(clock):
    queue, start = queue_of(rate=1.0), clock.time()
    polls = {name: [] for name in range(10)}
    for name in polls:
        queue.put(name, start, start + FAR)
    while clock.time() - start < 200:
        (name,) = await queue.get()
        polls[name].append(clock.time() - start)
        queue.put(name, clock.time() + 1, start + FAR)  # ten times what the limit allows
    counts = [len(at) for at in polls.values()]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == pytest.approx(200, abs=12)
    queue.close()


@pytest.mark.parametrize(
    ("asked", "pause"), [(30.0, 30.0), (None, DEFAULT_PAUSE), (1e9, LONGEST_RETRY_AFTER), (0.0, 0.0)]
)
async def test_a_pause_holds_all_polls_back_and_has_an_end(clock, asked, pause):
    queue = queue_of()
    queue.pause(asked)
    put(queue, 0, 1)
    came = await released(queue, 2, clock)
    assert [at for _, at in came] == pytest.approx([pause, max(pause, 1)], abs=0.5)


async def test_a_shorter_pause_does_not_end_a_longer_one(clock):
    queue = queue_of()
    queue.pause(60.0)
    queue.pause(2.0)
    put(queue, 0)
    assert (await released(queue, 1, clock))[0][1] == pytest.approx(60, abs=0.5)


async def test_no_pause_delays_the_last_poll_of_a_wait(clock):
    queue = queue_of()
    put(queue, 5)
    put(queue, 20, deadline=75)
    put(queue, 75, deadline=75)
    queue.pause(600.0)
    came = await released(queue, 3, clock)
    assert [(item, round(at)) for item, at in came] == [(20, 75), (75, 75), (5, 600)]


async def test_after_a_pause_the_rate_limit_holds(clock):
    queue = queue_of(rate=1.0)
    queue.pause(10.0)
    put(queue, 0, 0, 0)
    came = [at for _, at in await released(queue, 3, clock)]
    assert all(later - earlier > 0.9 for earlier, later in pairwise(came))
    assert came[0] == pytest.approx(10, abs=0.5)


async def test_a_poll_that_was_removed_is_never_released(clock):
    queue = queue_of(rate=1.0)
    numbers = put(queue, *range(1, 6))
    for number in numbers[:4]:
        queue.remove(number)
    assert [item for item, _ in await released(queue, 1, clock)] == [5]
    assert not queue._items


async def test_a_poller_that_is_cancelled_takes_no_poll():
    queue = queue_of()
    pollers = [asyncio.create_task(queue.get()) for _ in range(5)]
    await settled()
    for poller in pollers:
        poller.cancel()
    await asyncio.wait(pollers)
    put(queue, 0)
    assert await asyncio.wait_for(queue.get(), 5) == [0]


async def test_polls_are_released_in_steps_so_that_many_share_one_awakening(clock):
    queue = queue_of()
    put(queue, *(10 + index / 1000 for index in range(100)))
    came = await released(queue, 100, clock)
    assert len({round(at, 2) for _, at in came}) <= 2 + 0.1 / STEP


async def test_a_wait_that_polls_every_second_does_so_however_long_a_poll_takes(clock):
    queue, start = queue_of(), clock.time()
    due = start + 1.0
    for _ in range(20):
        queue.put("job", due, start + FAR)
        await queue.get()
        due = clock.time() + 0.01 + 1.0  # after the answer
    assert clock.time() - start == pytest.approx(20, abs=0.3)


async def test_a_clock_that_is_set_back_delays_no_poll(monkeypatch):
    queue, real = queue_of(), time.time
    put(queue, 0.05)
    poller = asyncio.create_task(queue.get())
    await settled()
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    await asyncio.wait_for(poller, 5)


async def test_a_waiting_poll_is_nothing_that_the_garbage_collector_visits():
    queue, item, now = queue_of(), object(), time.time()
    gc.collect()
    before = len(gc.get_objects())
    for index in range(10_000):
        queue.put(item, now + 1000 + index, now + FAR)
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    queue.close()
