"""The trigger waits on a shared event loop: it does not block it, leaks nothing, and ends no wait early."""

import asyncio
import gc
import json
import os
import re
import time
from importlib import import_module
from itertools import pairwise

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow_fakes import KEY, TI, poll, push_from_triggers, runtime_error, stored_and_read
from blockbuster import blockbuster_ctx
from dialects import dialect
from sensor_modes import bought

from airflow_provider_kling import triggers
from airflow_provider_kling.errors import KlingUnavailableError
from airflow_provider_kling.polling.client_pool import ClientPool
from airflow_provider_kling.transport.async_client import AsyncKlingClient
from airflow_provider_kling.triggers import KlingTaskTrigger

PROMPT = "a cat waves"


def waiting(kling_task_id, **arguments):
    now = time.time()
    arguments = {"started_at": now, "deadline": now + 600, "interval": 10.0, **arguments}
    return KlingTaskTrigger(kling_task_id=kling_task_id, **arguments)


async def payload(trigger):
    (event,) = [event async for event in trigger.run()]
    return event.payload


def open_clients():
    """Return the open connectors of our clients; storages have sessions of their own."""
    gc.collect()
    clients = [thing for thing in gc.get_objects() if type(thing) is AsyncKlingClient]
    return [client for client in clients if not client._connector.closed]


@pytest.fixture
def shown(monkeypatch):
    """What the trigger pushed to XCom, by key."""
    pushed = []

    async def push(key, value, **place):
        pushed.append((key, json.loads(json.dumps(value)), place))

    push_from_triggers(monkeypatch, push)
    return pushed


def test_the_arguments_survive_the_database_and_hold_nothing_secret(gateway):
    trigger = waiting("t-1", kling_conn_id="kling_default", first_poll_at=1.5)
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_kling.triggers.KlingTaskTrigger"
    module, name = path.rsplit(".", 1)
    again = getattr(import_module(module), name)(**stored_and_read(arguments))
    assert again.serialize() == (path, arguments)
    assert all(type(value) in (str, float) for value in arguments.values())
    assert set(arguments) == {
        *("kling_task_id", "kling_conn_id", "started_at", "deadline"),
        *("interval", "first_poll_at", "kind", "initial_delay", "max_poll_interval", "timeout"),
        "logged_status",
    }
    assert KEY not in str(arguments)


def test_the_names_that_version_0_1_0_stored_mean_the_same():
    old = {"first_look_at": 1.5, "first_look": 30.0, "longest_interval": 60.0}
    new = {"first_poll_at": 1.5, "initial_delay": 30.0, "max_poll_interval": 60.0}
    assert waiting("t-1", deadline=7, **old).serialize()[1] == {
        **waiting("t-1", deadline=7, **new).serialize()[1],
        "started_at": pytest.approx(time.time(), abs=60),
    }


async def test_waits_of_one_kind_learn_from_each_other_how_long_a_job_takes(gateway, clock):
    kind = "a kind of this test"
    for _ in range(5):
        trigger = waiting(bought(gateway, queue_seconds=15, render_seconds=30), interval=None, kind=kind)
        assert "error" not in await payload(trigger)
    early, late = triggers.DURATIONS.of(kind).estimate()
    assert 30 < early <= late < 60
    assert triggers.DURATIONS.of("another kind of this test").estimate() is None


@pytest.mark.parametrize("begun", [{}, {"started_at": None, "deadline": None}])
async def test_a_wait_that_no_worker_began_shows_the_gallery_button_once(gateway, clock, shown, begun):
    trigger = waiting(bought(gateway, queue_seconds=15, render_seconds=30), **begun)
    trigger.task_instance = TI(map_index=2)
    assert "error" not in await payload(trigger)
    links = [value for key, value, place in shown if key == "kling_gallery_link" and place["map_index"] == 2]
    assert len(links) == len(begun) // 2
    assert all(link.endswith("/tasks/t/mapped/2/plugin/kling-videos") for link in links)


async def test_the_event_has_neither_link_nor_key(gateway, clock, logged, shown):
    trigger = waiting(bought(gateway, queue_seconds=15, render_seconds=30))
    trigger.task_instance = TI()
    event = await payload(trigger)
    assert event == {name: getattr(trigger, name) for name in ("kling_task_id", "started_at", "deadline")}
    texts = f"{event} {shown} {logged.text()}"
    assert gateway.storage_url not in texts
    assert KEY not in texts
    assert PROMPT not in texts


async def test_the_progress_is_shown_where_the_task_is(gateway, clock, shown):
    trigger = waiting(bought(gateway, queue_seconds=15, render_seconds=30))
    trigger.task_instance = TI(map_index=7)
    await payload(trigger)
    queued, processing, _ = dialect(gateway).states  # the worker that resumes shows the end
    changes = {"myrouter": 3, "kling": 1}[gateway.spoken]  # Kling tells no percents
    assert [value["status"] for _, value, _ in shown] == [queued, *[processing] * changes]
    assert {key for key, *_ in shown} == {"kling_progress"}
    assert shown[0][2] == {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": 7}


async def test_the_more_waits_there_are_the_less_often_one_may_log_or_push_something(gateway, clock):
    async with ClientPool.client("kling_default") as client:
        poller = client.poller
        poller._waits = set(range(4000))
        assert sum(poller.may_log() for _ in range(300)) == 10
        assert sum(poller.may_push() for _ in range(300)) == 5
        later = poller._queue.now() + 2
        poller._queue.now = lambda: later
        assert sum(poller.may_log() for _ in range(300)) == 10  # together, as they are read together


async def test_progress_that_may_not_be_shown_yet_is_shown_after_a_later_poll(gateway, clock, shown):
    trigger = waiting(bought(gateway, queue_seconds=25))
    trigger.task_instance = TI()
    async with ClientPool.client("kling_default") as client:
        assert [client.poller.may_push() for _ in range(22)] == [True] * 20 + [False] * 2
        await payload(trigger)
    assert [value["status"] for _, value, _ in shown] == [dialect(gateway).states[0]]


@pytest.mark.parametrize("many_wait", [False, True])
async def test_each_change_is_a_line_at_once_where_few_wait_and_later_where_many_do(
    gateway, clock, logged, many_wait
):
    trigger, seen = waiting(bought(gateway, queue_seconds=15, render_seconds=100)), []
    clock.watch = lambda: seen.append(logged.text().count(f"Job {trigger.kling_task_id}: "))
    async with ClientPool.client("kling_default") as client:
        if many_wait:
            client.poller._lines.take(client.poller._queue.now(), 12_000)  # ten minutes
        await payload(trigger)
    lines = [line for line in logged.text().splitlines() if f"Job {trigger.kling_task_id}: " in line]
    changes = {"myrouter": 4, "kling": 1}[gateway.spoken]  # Kling tells no percents
    assert len(lines) == (1 if many_wait else 2 + changes)
    states = re.findall(rf"Job {trigger.kling_task_id}: (\w+)", logged.text())
    queued, processing, succeeded = dialect(gateway).log_states
    assert states == [queued, *[processing] * changes, succeeded]
    assert (seen[-1] > 1) is not many_wait


@pytest.mark.parametrize("trouble", [runtime_error(), OSError("the bucket is away"), TypeError("not JSON")])
async def test_no_wait_ends_because_airflow_cannot_store_its_progress(
    gateway, clock, logged, monkeypatch, trouble
):
    async def push(**_):
        raise trouble

    push_from_triggers(monkeypatch, push)
    trigger = waiting(bought(gateway, queue_seconds=15))
    trigger.task_instance = TI()
    assert "error" not in await payload(trigger)
    assert "could not be stored" in logged.text()


@pytest.mark.parametrize(
    "trouble", ["html=502", "cut", "rate-limit=5", "malformed", "status=503", "html=404"]
)
async def test_polls_that_fail_end_no_wait_and_are_logged_once(gateway, clock, logged, trouble):
    kling_task_id = bought(gateway)
    gateway.add_fault(f"query:{trouble},times=4")
    assert "error" not in await payload(waiting(kling_task_id))
    assert logged.text().count("A poll failed, the wait goes on") == 1
    assert "The gateway answers again after" in logged.text()
    assert clock.slept == sorted(clock.slept)
    assert sum(clock.slept) >= 20


async def test_the_deadline_is_the_one_it_was_given_however_often_it_starts(gateway, clock):
    kling_task_id = bought(gateway, render_seconds=10_000)
    trigger = waiting(kling_task_id)
    clock.sleep(595)
    event = await payload(KlingTaskTrigger(**stored_and_read(trigger.serialize()[1])))
    assert event["error"]["class"] == "KlingWaitTimeoutError"
    assert event["deadline"] == trigger.deadline
    assert 599 <= clock.time() - trigger.started_at <= 601


@pytest.mark.parametrize("ahead", [0, 70])
async def test_no_pause_that_the_gateway_asks_for_outlasts_the_deadline_of_another_wait(
    gateway, clock, ahead
):
    endless, began = bought(gateway, render_seconds=10_000), clock.time()
    trigger = waiting(endless, deadline=began + 75, first_poll_at=began + ahead)
    gateway.add_fault("query:rate-limit=100000")
    async with ClientPool.client("kling_default") as client:
        with pytest.raises(KlingUnavailableError):
            await poll(client, "another")
        event = await payload(trigger)
    assert event["error"]["class"] == "KlingWaitTimeoutError"
    assert clock.time() - began == pytest.approx(75, abs=1)
    polls = [r.at - began for r in gateway.requests if (r.method, r.task_id) == ("GET", endless)]
    assert polls == pytest.approx([75], abs=1)


async def test_a_connection_that_is_gone_for_a_moment_ends_no_wait(gateway, clock, logged, monkeypatch):
    kling_task_id, connection = bought(gateway), os.environ["AIRFLOW_CONN_KLING_DEFAULT"]
    monkeypatch.delenv("AIRFLOW_CONN_KLING_DEFAULT")

    def back_after_the_first_poll():
        if "A poll failed" in logged.text():
            monkeypatch.setenv("AIRFLOW_CONN_KLING_DEFAULT", connection)

    clock.watch = back_after_the_first_poll
    assert "error" not in await payload(waiting(kling_task_id))
    assert "A poll failed, the wait goes on: kling_conn_id='kling_default'" in logged.text()


async def test_a_key_that_changes_during_the_wait_is_looked_up_again(gateway, clock):
    kling_task_id = bought(gateway)
    gateway.add_fault("query:error=INVALID_API_KEY")
    assert "error" not in await payload(waiting(kling_task_id))
    assert not open_clients()


async def test_it_polls_neither_before_its_time_nor_more_often_than_its_interval(gateway, clock):
    trigger = waiting(bought(gateway, queue_seconds=100), first_poll_at=clock.time() + 30)
    await payload(trigger)
    polls = [request.at for request in gateway.requests if request.method == "GET"]
    # The loop's clock goes on a little while the test's stands still.
    assert 29.5 <= polls[0] - trigger.started_at <= 40.5
    assert all(later - earlier >= 9.5 for earlier, later in pairwise(polls))


@pytest.mark.parametrize("trouble", [(), ("query:html=502",), ("query:cut",), ("query:rate-limit=1",)])
async def test_nothing_it_does_blocks_the_loop(clock, running, shown, trouble):
    with running(clock=clock.time) as gateway:
        await payload(waiting(bought(gateway)))  # the first one loads what the others use
        triggers = [waiting(bought(gateway, queue_seconds=100)) for _ in range(4)]
        gateway.add_fault(*trouble)
        for trigger in triggers:
            trigger.task_instance = TI()
        with blockbuster_ctx() as detector:
            detector.functions["time.sleep"].deactivate()  # the test's clock
            events = await asyncio.gather(*(payload(trigger) for trigger in triggers))
    assert not any("error" in event for event in events)
    assert shown


async def test_a_cancelled_wait_leaves_no_client_open(running):
    with running() as gateway:
        kling_task_id = bought(gateway, queue_seconds=1000)
        waits = [asyncio.create_task(payload(waiting(kling_task_id, interval=1000.0))) for _ in range(3)]
        await asyncio.to_thread(gateway.wait_until, lambda: len(gateway.requests) == 4)
        assert len(open_clients()) == 1
        for wait in waits:
            wait.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError)
            for end in await asyncio.gather(*waits, return_exceptions=True)
        )
        assert not open_clients()
        assert not ClientPool._by_loop.get(asyncio.get_running_loop())
    assert len(gateway.jobs) == 1


async def test_a_wait_that_is_cancelled_during_a_poll_leaves_nothing_either(running):
    with running() as gateway:
        kling_task_id = bought(gateway)
        gateway.add_fault("query:hang=30")
        wait = asyncio.create_task(payload(waiting(kling_task_id)))
        await asyncio.to_thread(gateway.wait_until, lambda: not gateway.faults.pending)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert not open_clients()


@pytest.fixture
def state(monkeypatch):
    """Tell the trigger in which state its task is."""

    def tell(*told):
        def get_task_states(dag_id, task_ids, run_ids, map_index):
            assert (dag_id, task_ids, run_ids) == ("d", ["t"], ["r"])
            if isinstance(told[0], Exception):
                raise told[0]
            return {"r": {"t" if map_index < 0 else f"t_{map_index}": told[0]}} if told[0] else {}

        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(get_task_states))

    return tell


async def killed(kling_task_id, map_index=-1):
    trigger = waiting(kling_task_id)
    trigger.task_instance = TI(map_index=map_index)
    await trigger.on_kill()


@pytest.mark.parametrize("map_index", [-1, 3])
@pytest.mark.parametrize("told", ["failed", "success", "removed", None])
async def test_a_wait_that_a_user_ends_logs_that_the_job_goes_on(gateway, state, logged, told, map_index):
    state(told)
    kling_task_id = bought(gateway, queue_seconds=1000)
    await killed(kling_task_id, map_index)
    assert "The job goes on at the gateway, which cannot cancel it" in logged.text()
    assert f"kling_task_id={kling_task_id!r}" in logged.text()
    assert len(gateway.jobs) == 1
    assert not open_clients()


@pytest.mark.parametrize("map_index", [-1, 3])
async def test_a_wait_that_another_triggerer_took_over_logs_nothing(gateway, state, logged, map_index):
    state("deferred")
    await killed("t-1", map_index)
    assert "The job goes on" not in logged.text()
    assert not gateway.requests


async def test_a_state_that_airflow_cannot_read_costs_no_warning(gateway, state, logged):
    state(runtime_error())
    await killed(bought(gateway, queue_seconds=1000))
    assert "The job goes on at the gateway" in logged.text()
