"""What a triggerer reports: its waits, its polls and how late they are, and no poll is later for it."""

import asyncio
import threading
import time

import pytest
from airflow_fakes import connect, running_gateway
from signals import StatsdServer, send_to

from airflow_provider_kling import metrics
from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.polling import triggerer_metrics
from airflow_provider_kling.polling.client_pool import ClientPool
from airflow_provider_kling.polling.policy import PollPolicy
from airflow_provider_kling.polling.slots import SlotWaiter

ID = "kling_default"


@pytest.fixture
def statsd(monkeypatch):
    server = StatsdServer()
    client = send_to(server, monkeypatch)
    triggerer_metrics.QUERY_COUNTS.clear()
    yield server
    client.close()
    server.close()


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(triggerer_metrics, "INTERVAL", 0.05)


@pytest.fixture
def waiting(monkeypatch):
    """A gateway with two jobs that are far from their end."""
    with running_gateway(monkeypatch, queue_seconds=10_000) as gateway:
        gateway.ids = [KlingHook().submit(VideoJob("kling-v3.0-pro-t2v", {"prompt": "a"})) for _ in range(2)]
        yield gateway


def policies(ids, interval=0.05):
    now = time.time()
    return [PollPolicy(id_, now, now + 10_000, interval) for id_ in ids]


async def until(condition):
    while not condition():  # noqa: ASYNC110 - of another thread
        await asyncio.sleep(0.01)


def values(statsd, name):
    return [value for _, _, value in list(statsd.metrics[name])]


async def test_waits_and_polls_are_reported_again_and_again_and_end_with_zero(statsd, waiting, often):
    async with ClientPool.client(ID) as client:
        first, second = (client.wait(policy, 0.0) for policy in policies(waiting.ids))
        async with ClientPool.client(ID), first, second:
            slot = asyncio.create_task(client.slots.wait("a-model", SlotWaiter(*[time.time() + 900] * 4)))
            client.users += 1  # as the trigger of the task that waits for a slot
            await until(lambda: 1 in values(statsd, "kling.triggerer.slot_waits"))
            await until(lambda: 2 in values(statsd, "kling.triggerer.waits"))
            await until(lambda: statsd.sum("kling.triggerer.polls", gateway="myrouter") >= 4)
            slot.cancel()
            client.users -= 1
    await until(lambda: values(statsd, "kling.triggerer.waits")[-1:] == [0])
    polled = sum(request.method == "GET" for request in waiting.requests)
    await until(lambda: statsd.sum("kling.triggerer.queries") == polled)
    assert statsd.sum("kling.triggerer.polls") == polled
    assert statsd.sum("kling.triggerer.failed_queries") == 0
    [(kind, tags, _), *_] = statsd.metrics["kling.triggerer.waits"]
    assert (kind, set(tags)) == ("g", {"hostname"})


async def test_failed_queries_are_reported_too(statsd, waiting, often):
    waiting.add_fault("query:status=500,times=always")
    [policy, _] = policies(waiting.ids)
    async with ClientPool.client(ID) as client, client.wait(policy, 0.0):
        await until(lambda: statsd.sum("kling.triggerer.failed_queries", gateway="myrouter"))


async def test_polls_that_the_rate_limit_holds_back_are_late(statsd, waiting, often, monkeypatch):
    connect(waiting, monkeypatch, queries_per_second=0.1)
    [policy, other] = policies(waiting.ids)
    async with ClientPool.client(ID) as client, client.wait(policy, 0.0), client.wait(other, 0.0):
        await until(lambda: any(late > 0.2 for late in values(statsd, "kling.triggerer.lateness")))


async def test_an_event_loop_that_stood_still_is_late(statsd, waiting, often):
    async with ClientPool.client(ID):
        time.sleep(0.3)  # noqa: ASYNC251 - that is what is tested
        await until(lambda: any(late > 0.2 for late in values(statsd, "kling.triggerer.lateness")))


async def test_a_server_that_hangs_holds_up_neither_polls_nor_the_end(statsd, waiting, often, monkeypatch):
    hangs, sent, released = threading.Event(), threading.Event(), []

    def send(*_, **__):
        sent.set()
        released.append(hangs.wait(10))

    monkeypatch.setattr(metrics.Gauge, "set", send)
    before = len(waiting.requests)
    async with ClientPool.client(ID) as client, client.wait(policies(waiting.ids)[0], 0.0):
        await until(sent.is_set)
        await until(lambda: len(waiting.requests) > before + 5)
    assert not released
    hangs.set()
