"""One asynchronous client for many waits: opened once, closed by the last, new on a new loop."""

import asyncio
import gc
import json

import airflow.sdk.execution_time.cache  # noqa: F401 - Airflow loads it at the first look-up, on the loop
import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from blockbuster import blockbuster_ctx

from airflow_provider_kling.emulator import Emulator
from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.myrouter import query
from airflow_provider_kling.polling import client_pool
from airflow_provider_kling.polling.client_pool import ClientPool


@pytest.fixture(autouse=True)
def _nothing_blocks():
    with blockbuster_ctx("airflow_provider_kling"):
        yield


@pytest.fixture
def gateway(monkeypatch):
    with Emulator(render=False, queue_seconds=0, render_seconds=0) as gateway:
        monkeypatch.setenv("AIRFLOW_CONN_KLING_TEST", gateway.connection_json())
        yield gateway


async def ask(conn_id="kling_test"):
    async with ClientPool.client(conn_id) as client:
        with pytest.raises(KlingTaskNotFoundError):
            await client.send(query("t-1"))
        return client


async def test_many_users_of_one_loop_share_one_client(gateway):
    async with ClientPool.client("kling_test") as first:
        clients = await asyncio.gather(*(ask() for _ in range(50)))
        assert set(clients) == {first}
        inner = first.client
        session = inner._connector
        assert not session.closed
    assert session.closed
    assert len(gateway.requests) == 50


async def test_the_last_user_closes_it_and_the_next_one_opens_another(gateway):
    first = await ask()
    assert first.users == 0
    assert first.client._connector.closed
    second = await ask()
    assert second is not first
    assert ClientPool._by_loop.get(asyncio.get_running_loop()) == {}


async def test_a_user_who_leaves_with_an_error_leaves_nothing_open(gateway):
    async def fail():
        async with ClientPool.client("kling_test") as client:
            with pytest.raises(KlingTaskNotFoundError):
                await client.send(query("t-1"))
            fail.session = client.client._connector
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await fail()
    assert fail.session.closed


async def test_one_user_may_be_cancelled_in_the_middle_of_a_call_while_others_go_on(gateway):
    gateway.add_fault("query:hang=60")
    async with ClientPool.client("kling_test") as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.send(query("t-1")), 0.5)
        gateway.clear_faults()
        await ask()
        assert not client.client._connector.closed


def test_a_new_loop_gets_a_new_client(gateway):
    before = len(ClientPool._by_loop)
    clients = [asyncio.run(ask()) for _ in range(2)]
    assert clients[0] is not clients[1]
    assert all(client.client._connector.closed for client in clients)
    del clients
    gc.collect()  # a session or a socket left open would warn, and a warning fails the test
    assert len(ClientPool._by_loop) <= before


async def test_each_connection_has_a_client_of_its_own(gateway, monkeypatch):
    other = json.loads(gateway.connection_json()) | {"password": "wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_KLING_OTHER", json.dumps(other))
    async with ClientPool.client("kling_test"), ClientPool.client("kling_other") as client:
        await ask()
        with pytest.raises(KlingAccessError):
            await client.send(query("t-1"))


async def test_the_connection_is_looked_up_once_for_many(gateway, monkeypatch):
    looked_up = []
    real = client_pool.get_async_connection

    async def counting(*args):
        looked_up.append(args)
        return await real(*args)

    monkeypatch.setattr(client_pool, "get_async_connection", counting)
    async with ClientPool.client("kling_test"):
        await asyncio.gather(*(ask() for _ in range(20)))
    assert len(looked_up) == 1


def supervisor_is_away():
    return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status": 503}))


@pytest.mark.parametrize(
    "trouble",
    [
        supervisor_is_away(),
        AirflowNotFoundException("The conn_id `kling_test` isn't defined"),
        ValueError("the secrets backend says: sk-secret"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_look_up_that_failed_is_tried_again_at_the_next_call(gateway, monkeypatch, trouble):
    real, troubles = client_pool.get_async_connection, [trouble]

    async def failing_once(*args):
        if troubles:
            raise troubles.pop()
        return await real(*args)

    monkeypatch.setattr(client_pool, "get_async_connection", failing_once)
    async with ClientPool.client("kling_test") as client:
        with pytest.raises(KlingUnavailableError) as caught:
            await client.send(query("t-1"))
        assert caught.value.money is Money.RUNNING
        assert "sk-secret" not in str(caught.value)
        with pytest.raises(KlingTaskNotFoundError):
            await client.send(query("t-1"))


async def test_a_client_that_was_never_used_looks_nothing_up():
    async with ClientPool.client("nowhere") as client:
        assert client.client is None
