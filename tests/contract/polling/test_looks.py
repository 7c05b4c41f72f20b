"""Looks of many waits on one connection: one after another on few sockets, all stopped by one refusal."""

import asyncio
import json
import time
from contextvars import ContextVar
from dataclasses import replace

import pytest
from airflow_fakes import TI, connect, look, running_gateway

from airflow_provider_kling.errors import KlingAccessError, KlingUnavailableError
from airflow_provider_kling.gateways.base import Outcome, Reply, Task
from airflow_provider_kling.gateways.myrouter import query
from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.polling import client_pool as shared
from airflow_provider_kling.polling.client_pool import SharedClient
from airflow_provider_kling.polling.policy import PollPolicy
from airflow_provider_kling.polling.poller import MOST_LINES, Wait
from airflow_provider_kling.transport.lines import UnreadableError
from airflow_provider_kling.triggers import KlingTaskTrigger

ID = "kling_default"


@pytest.fixture
def waiting(monkeypatch):
    """A gateway with one job that is far from its end."""
    with running_gateway(monkeypatch, queue_seconds=10_000) as gateway:
        gateway.job = KlingHook().submit(VideoJob("kling-v3.0-pro-t2v", {"prompt": "a cat"}))
        yield gateway


def queries(gateway):
    return [request for request in gateway.requests if request.method == "GET"]


async def test_many_looks_share_the_one_connection_and_an_unchanged_answer_is_the_same_task(waiting):
    async with SharedClient.use(ID) as client:
        call = query(waiting.job)
        tasks = [await look(client, call) for _ in range(20)]
        assert len(client.client._lines._all) == 1
    assert len(queries(waiting)) == 20
    assert len({id(task) for task in tasks}) == 1


@pytest.mark.parametrize("known", [False, True])
async def test_one_429_stops_the_looks_of_all_until_its_time_is_over(waiting, known):
    async with SharedClient.use(ID) as client:
        if known:  # a connection is open already
            await look(client, query(waiting.job))
        waiting.add_fault("query:rate-limit=1")
        with pytest.raises(KlingUnavailableError):
            await look(client, query(waiting.job))
        refused_at = time.monotonic()
        await asyncio.gather(*(look(client, query(waiting.job)) for _ in range(5)))
        assert time.monotonic() - refused_at > 0.9


async def test_a_connection_that_died_unused_costs_no_look(waiting):
    async with SharedClient.use(ID) as client:
        await look(client, query(waiting.job))
        waiting.add_fault("query:cut")
        await look(client, query(waiting.job))
    assert len(queries(waiting)) == 3


async def test_the_key_that_an_answer_repeats_is_not_heard(waiting):
    key = waiting.api_key
    body = {"task": {"task_id": waiting.job, "status": "TASK_STATUS_FAILED", "reason": f"Bearer {key}"}}
    reply = Reply(200, {}, json.dumps(body).encode(), time.time())
    async with SharedClient.use(ID) as client:
        await look(client, query(waiting.job))
        line = client.client._lines.free()
        line.ask = lambda _, waiter: waiter.set_result(reply)
        client.client._lines._idle.append(line)
        heard = repr(await look(client, query(waiting.job)))
    assert "Bearer" in heard
    assert key not in heard


async def test_answers_that_become_odd_are_read_by_the_general_client(waiting):
    async with SharedClient.use(ID) as client:
        await look(client, query(waiting.job))
        line = client.client._lines.free()
        line.ask = lambda _, waiter: waiter.set_exception(UnreadableError("odd"))
        client.client._lines._idle.append(line)
        await look(client, query(waiting.job))


@pytest.mark.parametrize("fault", ["cut", "truncate=9", "html=502", "status=503", "malformed"])
async def test_a_look_that_fails_on_a_known_connection_says_so_once(waiting, fault):
    async with SharedClient.use(ID) as client:
        await look(client, query(waiting.job))
        waiting.add_fault(f"query:{fault},times=always")
        with pytest.raises(KlingUnavailableError) as caught:
            await look(client, query(waiting.job))
        assert caught.value.kling_task_id == waiting.job
        waiting.clear_faults()
        await look(client, query(waiting.job))


async def test_a_key_that_was_rotated_is_looked_up_anew_and_the_look_succeeds(waiting, monkeypatch):
    async with SharedClient.use(ID) as client:
        await look(client, query(waiting.job))
        first = client.client
        waiting.add_fault("query:error=INVALID_API_KEY")  # for the old one
        connect(waiting, monkeypatch, request_timeout=7)
        assert (await look(client, query(waiting.job))).kling_task_id == waiting.job
        assert client.client is not first
        assert len(client._opened) == 2


async def test_a_key_that_stays_wrong_counts_and_opens_nothing_new(waiting):
    async with SharedClient.use(ID) as client:
        await look(client, query(waiting.job))
        waiting.add_fault("query:error=INVALID_API_KEY,times=always")
        for _ in range(3):
            with pytest.raises(KlingAccessError):
                await look(client, query(waiting.job))
        assert len(client._opened) == 1


@pytest.mark.parametrize("known", [False, True])
async def test_a_look_that_is_cancelled_in_flight_takes_its_connection_with_it(waiting, known):
    async with SharedClient.use(ID) as client:
        if known:
            await look(client, query(waiting.job))
        waiting.add_fault("query:hang=30")
        cut_off = asyncio.create_task(look(client, query(waiting.job)))
        await asyncio.to_thread(waiting.wait_until, lambda: not waiting.faults.waiting)
        cut_off.cancel()
        await asyncio.gather(cut_off, return_exceptions=True)
        waiting.clear_faults()
        assert client.turns._out == 0
        await look(client, query(waiting.job))
        assert len(client.client._lines._all) == 1


async def test_a_look_that_is_cancelled_before_its_turn_is_never_sent(waiting):
    async with SharedClient.use(ID) as client:
        await look(client, query(waiting.job))
        cut_off = asyncio.create_task(look(client, query(waiting.job)))
        await asyncio.sleep(0)
        cut_off.cancel()
        await asyncio.gather(cut_off, return_exceptions=True)
        await look(client, query(waiting.job))
        assert client.turns._out == 0
    assert len(queries(waiting)) == 2


@pytest.mark.parametrize("known", [False, True])
async def test_an_answer_that_breaks_our_own_code_ends_its_wait_and_gives_its_turn_back(waiting, known):
    def broken(_):
        raise ZeroDivisionError

    async with SharedClient.use(ID) as client:
        if known:
            await look(client, query(waiting.job))
        with pytest.raises(ZeroDivisionError):
            await look(client, replace(query(waiting.job), read=broken))
        assert client.turns._out == 0


async def test_what_takes_time_is_done_in_the_context_of_its_own_wait(waiting):
    """Airflow tells by it whose log a line belongs to."""
    whose, seen = ContextVar("whose"), []

    async def send(*_):
        seen.append(whose.get())
        return "heard"

    async def wait(name):
        whose.set(name)
        assert await look(client, query(waiting.job)) == "heard"

    async with SharedClient.use(ID) as client:
        client.send = send
        await asyncio.gather(*(asyncio.create_task(wait(name)) for name in "abc"))
    assert sorted(seen) == ["a", "b", "c"]


async def test_a_wait_that_may_not_tell_anything_keeps_the_latest_lines_alone(waiting):
    now = time.time()
    async with SharedClient.use(ID) as client:
        client.may_tell = client.may_show = lambda: False
        wait = Wait(client, PollPolicy(waiting.job, now, now + 10_000, 1000), now)
        for _ in range(MOST_LINES):  # each time, two lines
            wait._hear(KlingUnavailableError("down"))
            wait._hear(Task(waiting.job, "TASK_STATUS_QUEUED", Outcome.UNFINISHED))
        assert len(wait._lines) == MOST_LINES
        assert "answers again" in wait._lines[-1]
        assert wait._progress
        assert not wait._told
        await wait._look.close()


async def test_a_watch_that_breaks_ends_its_own_wait_and_no_other(waiting):
    now = time.time()
    broken, sound = (
        PollPolicy(waiting.job, now, now + 600, None),
        PollPolicy(waiting.job, now, now + 600, 0.05),
    )
    broken.schedule = None
    async with (
        SharedClient.use(ID) as client,
        Wait(client, broken, 0.0) as bad,
        Wait(client, sound, 0.0) as good,
    ):
        assert "queued" in (await good.news()).messages[0]
        with pytest.raises(AttributeError):
            await bad.news()
        before = len(queries(waiting))
        await asyncio.to_thread(waiting.wait_until, lambda: len(queries(waiting)) > before + 2)


async def test_a_look_that_hangs_on_a_known_connection_ends_with_the_request_timeout(waiting, monkeypatch):
    connect(waiting, monkeypatch, request_timeout=1)
    async with SharedClient.use(ID) as client:
        await look(client, query(waiting.job))
        waiting.add_fault("query:hang=30")
        with pytest.raises(KlingUnavailableError, match="TimeoutError"):
            await look(client, query(waiting.job))


async def test_the_connections_own_budget_counts(waiting, monkeypatch):
    connect(waiting, monkeypatch, queries_per_second=10)
    async with SharedClient.use(ID) as client:
        await look(client, query(waiting.job))
        began = time.monotonic()
        await asyncio.gather(*(look(client, query(waiting.job)) for _ in range(8)))
        assert time.monotonic() - began > 0.7


async def test_a_hundred_looks_without_a_change_cost_one_line_one_value_and_one_look_up(
    waiting, monkeypatch, capsys
):
    from airflow.sdk.execution_time.xcom import XCom

    shown, looked_up, real = [], [], shared.get_async_connection

    async def aset(key, value, **_):
        shown.append((key, value))

    async def counting(*args):
        looked_up.append(args)
        return await real(*args)

    monkeypatch.setattr(XCom, "aset", aset)
    monkeypatch.setattr(shared, "get_async_connection", counting)
    monkeypatch.setattr("airflow_provider_kling.polling.queue.GRAIN", 0.001)
    now = time.time()
    trigger = KlingTaskTrigger(waiting.job, now + 600, now, interval=0.001)
    trigger.task_instance = TI()
    connect(waiting, monkeypatch, queries_per_second=10_000)
    wait = asyncio.create_task(anext(trigger.run()))
    await asyncio.to_thread(waiting.wait_until, lambda: len(queries(waiting)) > 100)
    wait.cancel()
    await asyncio.gather(wait, return_exceptions=True)
    assert len(looked_up) == 1
    assert len(shown) == 1
    assert capsys.readouterr().out.count("Job ") == 1
    assert not SharedClient._by_loop.get(asyncio.get_running_loop())


async def test_a_wait_that_is_ended_by_hand_hears_in_which_words(waiting):
    """Airflow tells its triggers by the words of the cancellation whether a user acted."""
    now, heard = time.time(), []

    async def run():
        try:
            await anext(KlingTaskTrigger(waiting.job, now + 600, now, interval=0.1).run())
        except asyncio.CancelledError as error:
            heard.extend(error.args)
            raise

    wait = asyncio.create_task(run())
    await asyncio.to_thread(waiting.wait_until, lambda: len(queries(waiting)) > 2)
    wait.cancel("by hand")
    await asyncio.gather(wait, return_exceptions=True)
    assert heard == ["by hand"]
