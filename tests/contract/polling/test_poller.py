"""Polls of many waits on one connection: in few connections, all paused by one refusal, none ends another."""

import asyncio
import json
import time
from contextvars import ContextVar
from copy import copy
from dataclasses import replace

import pytest
from airflow_fakes import KEY, TI, OnePoll, connect, poll, push_from_triggers
from dialects import dialect
from sensor_modes import bought

from airflow_provider_kling.errors import KlingAccessError, KlingUnavailableError, KlingWaitTimeoutError
from airflow_provider_kling.gateways import base
from airflow_provider_kling.gateways.base import Outcome, Task
from airflow_provider_kling.gateways.myrouter import query
from airflow_provider_kling.polling import client_pool
from airflow_provider_kling.polling.client_pool import ClientPool
from airflow_provider_kling.polling.policy import PollPolicy
from airflow_provider_kling.polling.poller import MAX_CONCURRENT_POLLS, MAX_MESSAGES, Poller, Wait
from airflow_provider_kling.polling.rate_limit import RateLimiter
from airflow_provider_kling.triggers import KlingTaskTrigger

ID = "kling_default"


@pytest.fixture
def waiting(running):
    """A gateway with one job that is far from its end. No error of our own is logged yet."""
    base._log_once.cache_clear()
    with running(queue_seconds=10_000) as gateway:
        gateway.job = bought(gateway)
        yield gateway


def queries(gateway):
    return [request for request in gateway.requests if request.method == "GET"]


async def cancelled(task):
    task.cancel()
    await asyncio.wait([task])


def policy_of(gateway, interval=1000.0, kind=PollPolicy):
    now = time.time()
    return kind(gateway.job, now, now + 10_000, interval)


def queued(waits):
    """Return the answer of a gateway whose jobs all wait."""
    ids = [wait.policy.kling_task_id for wait in waits]
    return {id_: Task(id_, "TASK_STATUS_QUEUED", Outcome.UNFINISHED) for id_ in ids}


class Broken(PollPolicy):
    """A policy with a fault of our own."""

    def update(self, answer, now):
        raise ZeroDivisionError


class Eager(PollPolicy):
    """A policy that polls at once, also after a failure."""

    def update(self, answer, now):
        return super().update(answer, now)._replace(next_poll_at=now)


async def test_a_hundred_polls_without_a_change_give_one_result(waiting, monkeypatch):
    monkeypatch.setattr("airflow_provider_kling.polling.poll_queue.STEP", 0.001)
    connect(waiting, monkeypatch, queries_per_second=10_000)
    async with ClientPool.client(ID) as client, client.wait(policy_of(waiting, 0.001), 0.0) as results:
        assert dialect(waiting).log_states[0] in (await anext(results)).messages[0]
        second = asyncio.create_task(anext(results))
        await asyncio.to_thread(waiting.wait_until, lambda: len(queries(waiting)) > 100)
        assert not second.done()
        await cancelled(second)


@pytest.mark.parametrize("known", [False, True])
async def test_one_429_pauses_the_polls_of_all_until_its_time_is_over(waiting, known):
    async with ClientPool.client(ID) as client:
        if known:  # a connection is open already
            await poll(client, waiting.job)
        waiting.add_fault("query:rate-limit=1")
        with pytest.raises(KlingUnavailableError):
            await poll(client, waiting.job)
        refused_at = time.monotonic()
        await asyncio.gather(*(poll(client, waiting.job) for _ in range(5)))
        assert time.monotonic() - refused_at > 0.9


async def test_a_connection_that_died_unused_costs_no_poll(waiting):
    async with ClientPool.client(ID) as client:
        await poll(client, waiting.job)
        waiting.add_fault("query:cut")
        await poll(client, waiting.job)
    assert len(queries(waiting)) == 3


@pytest.mark.parametrize("fault", ["cut,times=always", "truncate=9", "html=502", "status=503", "malformed"])
async def test_a_poll_that_fails_names_its_job_and_the_next_one_succeeds(waiting, fault):
    async with ClientPool.client(ID) as client:
        await poll(client, waiting.job)
        waiting.add_fault(f"query:{fault}")
        with pytest.raises(KlingUnavailableError) as caught:
            await poll(client, waiting.job)
        assert caught.value.kling_task_id == waiting.job
        waiting.clear_faults()
        await poll(client, waiting.job)


async def test_a_key_that_was_rotated_is_looked_up_anew_and_the_poll_succeeds(waiting, monkeypatch):
    async with ClientPool.client(ID) as client:
        await poll(client, waiting.job)
        first = client.client
        waiting.add_fault("query:error=INVALID_API_KEY")  # for the old one
        connect(waiting, monkeypatch, request_timeout=7)
        assert (await poll(client, waiting.job)).kling_task_id == waiting.job
        assert client.client is not first
        assert len(client._opened) == 2


async def test_a_key_that_stays_wrong_counts_and_opens_nothing_new(waiting):
    async with ClientPool.client(ID) as client:
        await poll(client, waiting.job)
        waiting.add_fault("query:error=INVALID_API_KEY,times=always")
        for _ in range(3):
            with pytest.raises(KlingAccessError):
                await poll(client, waiting.job)
        assert len(client._opened) == 1


@pytest.mark.parametrize(("fault", "look_ups"), [("html=401", 2), ("error=INVALID_API_KEY", 21)])
async def test_refusals_without_a_reason_cost_few_look_ups(waiting, monkeypatch, fault, look_ups):
    looked_up, real = [], client_pool.get_async_connection

    async def counting(*args):
        looked_up.append(args)
        return await real(*args)

    monkeypatch.setattr(client_pool, "get_async_connection", counting)
    async with ClientPool.client(ID) as client:
        waiting.add_fault(f"query:{fault},times=always")
        for _ in range(20):
            with pytest.raises(KlingAccessError):
                await poll(client, waiting.job)
    assert len(looked_up) == look_ups


async def test_a_wait_that_is_cancelled_during_its_poll_ends_no_other(waiting):
    async with ClientPool.client(ID) as client:
        waiting.add_fault("query:hang=30")
        hanging = asyncio.create_task(poll(client, waiting.job))
        await asyncio.to_thread(waiting.wait_until, lambda: not waiting.faults.pending)
        await cancelled(hanging)
        assert (await poll(client, waiting.job)).kling_task_id == waiting.job


async def test_a_wait_that_is_cancelled_before_its_poll_sends_nothing(waiting):
    async with ClientPool.client(ID) as client:
        await poll(client, waiting.job)
        early = asyncio.create_task(poll(client, waiting.job))
        await asyncio.sleep(0)
        await cancelled(early)
        await poll(client, waiting.job)
    assert len(queries(waiting)) == 2


async def test_an_answer_that_breaks_our_reader_is_a_poll_that_failed(waiting, caplog):
    def broken(_):
        raise ZeroDivisionError

    async with ClientPool.client(ID) as client:
        await poll(client, waiting.job)  # else the first look-up of the connection drops the call
        policy = OnePoll(waiting.job)
        wait = client.wait(policy, 0.0)
        wait.call = replace(query(waiting.job), read=broken)
        async with wait as results:
            await anext(results)
    assert isinstance(policy.answer, KlingUnavailableError)
    assert "ZeroDivisionError" in policy.answer.what
    assert "raise ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [ValueError(KEY), OSError("b"), RecursionError(), AssertionError()])
async def test_an_error_of_our_own_is_logged_once_with_its_traceback_and_ends_no_wait(waiting, error, caplog):
    errors = [copy(error) for _ in range(3)]

    async def answer(waits):
        if errors:
            raise errors.pop()
        return queued(waits)

    poller = Poller(answer, RateLimiter(100.0))
    async with Wait(poller, policy_of(waiting, kind=Eager), 0.0) as results:
        assert type(error).__name__ in (await anext(results)).messages[0]
        assert "queued" in (await anext(results)).messages[-1]
    await poller.close()
    (line,) = [record.getMessage() for record in caplog.records if "bug" in record.getMessage()]
    assert f"{type(error).__name__}\n" in line
    assert "raise errors.pop()" in line
    assert KEY not in line


async def test_a_policy_that_breaks_ends_its_own_wait_and_no_other(waiting):
    broken, sound = policy_of(waiting, kind=Broken), policy_of(waiting, 0.05)
    async with (
        ClientPool.client(ID) as client,
        client.wait(broken, 0.0) as bad,
        client.wait(sound, 0.0) as good,
    ):
        assert dialect(waiting).log_states[0] in (await anext(good)).messages[0]
        with pytest.raises(ZeroDivisionError):
            await anext(bad)
        before = len(queries(waiting))
        await asyncio.to_thread(waiting.wait_until, lambda: len(queries(waiting)) > before + 2)


async def test_no_poll_runs_in_the_context_of_a_wait(waiting):
    """By the context Airflow decides whose log a line belongs to, and the wait may be over by then."""
    whose, seen = ContextVar("whose", default=None), []
    whose.set("the first wait's")

    async def answer(waits):
        seen.append(whose.get())
        return queued(waits)

    poller = Poller(answer, RateLimiter(100.0))
    async with Wait(poller, policy_of(waiting), 0.0) as results:
        await anext(results)
    await poller.close()
    assert seen == [None]


async def test_a_wait_that_may_not_log_keeps_its_latest_messages(waiting):
    answers = [KlingUnavailableError("down"), None] * MAX_MESSAGES

    async def answer(waits):
        if not answers:
            return await asyncio.get_running_loop().create_future()
        if error := answers.pop(0):
            raise error
        return queued(waits)

    poller = Poller(answer, RateLimiter(10_000.0))
    poller.may_log = poller.may_push = lambda: False
    policy = policy_of(waiting, kind=Eager)
    async with Wait(poller, policy, 0.0) as wait:
        await asyncio.to_thread(waiting.wait_until, lambda: not answers)
        assert len(wait.messages) == MAX_MESSAGES
        assert "answers again" in wait.messages[-1]
        assert wait.progress
    await poller.close()


async def test_a_poll_that_hangs_ends_with_the_request_timeout(waiting, monkeypatch):
    connect(waiting, monkeypatch, request_timeout=1)
    async with ClientPool.client(ID) as client:
        await poll(client, waiting.job)
        waiting.add_fault("query:hang=30")
        with pytest.raises(KlingUnavailableError, match="TimeoutError"):
            await poll(client, waiting.job)


async def no_answer(_):
    await asyncio.get_running_loop().create_future()


async def test_a_wait_ends_though_no_query_is_answered_or_can_be_sent(waiting, monkeypatch):
    monkeypatch.setattr("airflow_provider_kling.polling.poller.CHECK_INTERVAL", 0.01)
    poller, now = Poller(no_answer, RateLimiter(10_000.0)), time.time()
    poller.request_timeout = 0.01

    async def error_of_a_wait():
        async with Wait(poller, PollPolicy(waiting.job, now, now + 0.1, None), now) as results:
            return (await anext(results)).error

    async with asyncio.timeout(20):
        errors = await asyncio.gather(*(error_of_a_wait() for _ in range(MAX_CONCURRENT_POLLS + 8)))
    await poller.close()
    assert {type(error) for error in errors} == {KlingWaitTimeoutError}
    assert "the gateway did not answer" in errors[0].what


async def test_a_wait_that_began_late_is_not_over_before_its_answer_can_come(waiting):
    poller, loop, wall = Poller(no_answer, RateLimiter(1.0)), asyncio.get_running_loop(), time.time()
    policy = PollPolicy(waiting.job, wall - 2000, wall - 1000, None)
    async with Wait(poller, policy, wall) as first, Wait(poller, policy, wall):
        for seconds, open_waits in ((poller.request_timeout + 1, True), (poller.request_timeout + 3, False)):
            poller.end_late(loop.time() + seconds)  # the rate limit lets one poll wait for the other
            assert first.open is open_waits
    await poller.close()


async def test_the_rate_limit_of_the_connection_counts(waiting, monkeypatch):
    connect(waiting, monkeypatch, queries_per_second=10)
    async with ClientPool.client(ID) as client:
        await poll(client, waiting.job)
        began = time.monotonic()
        polls = 8 * {"myrouter": 1, "kling": 20}[waiting.spoken]  # as many as eight queries ask for
        await asyncio.gather(*(poll(client, waiting.job) for _ in range(polls)))
        assert time.monotonic() - began > 0.7


async def test_a_trigger_whose_job_does_not_change_logs_once_stores_once_and_looks_up_once(
    waiting, monkeypatch, capsys
):
    stored, looked_up, real = [], [], client_pool.get_async_connection

    async def push(key, value, **_):
        stored.append((key, json.dumps(value)))

    async def counting(*args):
        looked_up.append(args)
        return await real(*args)

    push_from_triggers(monkeypatch, push)
    monkeypatch.setattr(client_pool, "get_async_connection", counting)
    monkeypatch.setattr("airflow_provider_kling.polling.poll_queue.STEP", 0.001)
    connect(waiting, monkeypatch, queries_per_second=10_000)
    now = time.time()
    trigger = KlingTaskTrigger(waiting.job, now + 600, now, interval=0.001)
    trigger.task_instance = TI()
    wait = asyncio.create_task(anext(trigger.run()))
    await asyncio.to_thread(waiting.wait_until, lambda: len(queries(waiting)) > 100)
    await cancelled(wait)
    assert len(looked_up) == 1
    assert len(stored) == 1
    assert capsys.readouterr().out.count("Job ") == 1
    assert not ClientPool._by_loop.get(asyncio.get_running_loop())


async def test_a_trigger_that_is_cancelled_keeps_the_words_of_the_cancellation(waiting):
    """By these words Airflow tells its triggers whether a user acted."""
    now, words = time.time(), []

    async def run():
        try:
            await anext(KlingTaskTrigger(waiting.job, now + 600, now, interval=0.1).run())
        except asyncio.CancelledError as error:
            words.extend(error.args)
            raise

    wait = asyncio.create_task(run())
    await asyncio.to_thread(waiting.wait_until, lambda: len(queries(waiting)) > 2)
    wait.cancel("by hand")
    await asyncio.wait([wait])
    assert words == ["by hand"]
