"""A submit that finds no free slot waits for one, holds nothing meanwhile, and buys once."""

import asyncio
import itertools
import time
from contextlib import asynccontextmanager, contextmanager

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred
from airflow_fakes import TI, Store, connect, context_of, running_gateway, stored_and_read, submits
from sensor_modes import triggered, until_over
from targets import owner, target

from airflow_provider_kling.errors import KlingAccessError, KlingInputError, KlingNoSlotError, Money
from airflow_provider_kling.operators import KlingImageToVideoOperator, KlingSubmitOperator
from airflow_provider_kling.polling.slots import ROUND_INTERVAL
from airflow_provider_kling.triggers import KlingSlotTrigger, KlingTaskTrigger

MODEL = "text-to-video/kling-3.0"


@contextmanager
def kling(monkeypatch, slots=1, **settings):
    """Run Kling's stand-in with a few slots, and connect to it."""
    settings = {"render_seconds": 100.0, **settings}
    with running_gateway(monkeypatch, slots=slots, **settings) as gateway:
        connect(gateway, monkeypatch, gateway="kling", prices={MODEL: 0.1})
        yield gateway


@pytest.fixture
def gateway(clock, monkeypatch):
    """One slot, and jobs of 100 seconds by the test's clock."""
    with kling(monkeypatch, clock=clock.time) as gateway:
        yield gateway


def submitting(**arguments):
    return KlingSubmitOperator(
        task_id="submit", **{"model": MODEL, "prompt": "a cat waves", "duration": 5, **arguments}
    )


def another_task():
    """Return the context of a task that no other one here is."""
    return context_of(TI(map_index=next(_NUMBERS)), Store())


_NUMBERS = itertools.count()


def make_full(gateway):
    """Start a job that takes the slot."""
    submitting(prompt="the first").execute(another_task())
    assert len(gateway.jobs) == 1


def deferral(task, context):
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context)
    return caught.value


def again(task, pause, context):
    """Resume as a worker does whose trigger has fired."""
    kwargs = {**stored_and_read(pause.kwargs), "event": {"asked_at": 1.0}}
    return task.resume_execution(pause.method_name, kwargs, context)


def test_without_a_slot_the_task_waits_in_the_triggerer_and_holds_nothing(gateway, clock, logged):
    make_full(gateway)
    ti, store = TI(run={}), Store()
    pause = deferral(submitting(max_run_cost_usd=5), context_of(ti, store))
    path, arguments = pause.trigger.serialize()
    assert path == "airflow_provider_kling.triggers.KlingSlotTrigger"
    now = clock.time()
    assert stored_and_read(arguments) == {
        "kling_conn_id": "kling_default",
        "model": "kling-3.0",
        "asked_at": now,
        "refused_at": now,
        "not_before": now + 10,
        "deadline": now + 86400,
    }
    assert pause.timeout.total_seconds() > 86400
    assert not store.values
    assert ti.xcoms["kling_reservation"]["state"] == "withdrawn"
    assert ti.xcoms["kling_progress"]["status"] == "WAITING_FOR_SLOT"
    assert logged.text().count("No free slot of kling-3.0: waits for one since") == 1
    assert "kling_error" not in ti.xcoms
    assert len(gateway.jobs) == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_as_soon_as_a_slot_is_free_it_buys_once(gateway, clock, deferrable):
    make_full(gateway)
    ti, store = TI(), Store()
    kling_task_id = until_over(
        lambda: submitting(deferrable=deferrable),
        lambda: context_of(ti, store),
        clock,
        lambda pause: asyncio.run(triggered(pause)),
    )
    assert [job.task_id for job in gateway.jobs][1:] == [kling_task_id]
    waited = gateway.jobs[1].created_at - gateway.jobs[0].created_at
    assert 100 <= waited < 100 + 2 * ROUND_INTERVAL
    assert store.values["kling_submit"]["kling_task_id"] == kling_task_id


def test_who_is_refused_again_stays_a_little_and_then_waits_in_the_old_place(gateway, clock):
    make_full(gateway)
    context = another_task()
    first = deferral(submitting(), context)
    clock.sleep(15)
    came, sent = clock.time(), submits(gateway)
    with pytest.raises(TaskDeferred) as second:
        again(submitting(), first, context)
    assert 15 < clock.time() - came <= 20
    assert 5 < submits(gateway) - sent < 12
    assert second.value.trigger.asked_at == first.trigger.asked_at
    assert second.value.trigger.deadline == first.trigger.deadline
    assert second.value.trigger.refused_at == clock.time()


def test_who_stays_a_little_gets_the_slot_that_is_freed_meanwhile(gateway, clock):
    make_full(gateway)
    context = another_task()
    pause = deferral(submitting(), context)
    clock.sleep(90)
    assert again(submitting(), pause, context) == gateway.jobs[1].task_id


@pytest.mark.parametrize("deferrable", [True, False])
def test_after_slot_timeout_the_error_says_so_and_nothing_is_charged(gateway, clock, logged, deferrable):
    make_full(gateway)
    gateway.jobs[0].render_seconds = 100_000
    ti, store, began = TI(), Store(), clock.time()
    with pytest.raises(KlingNoSlotError, match=r"slot_timeout=500 seconds") as caught:
        until_over(
            lambda: submitting(deferrable=deferrable, slot_timeout=500, busy_timeout=0),
            lambda: context_of(ti, store),
            clock,
            lambda pause: asyncio.run(triggered(pause)),
        )
    assert 500 <= clock.time() - began < 600
    assert isinstance(caught.value, AirflowException)  # another try may help
    assert not isinstance(caught.value, AirflowFailException)
    assert (caught.value.money, caught.value.reason) == (Money.UNTOUCHED, "1303")
    assert ti.xcoms["kling_error"]["class"] == "KlingNoSlotError"
    assert str(Money.UNTOUCHED) in logged.errors()
    assert not store.values


def test_with_a_slot_timeout_of_0_it_does_not_wait(gateway):
    make_full(gateway)
    with pytest.raises(KlingNoSlotError, match="slot_timeout=0 seconds"):
        submitting(slot_timeout=0).execute(another_task())
    with pytest.raises(ValueError, match="slot_timeout=-1"):
        submitting(slot_timeout=-1)


def test_a_busy_gateway_does_not_cost_the_place_nor_does_the_wait_count_as_busy(gateway, clock):
    make_full(gateway)
    context = another_task()
    task = submitting(busy_timeout=60)
    first = deferral(task, context)
    clock.sleep(200)
    gateway.add_fault("submit:rate-limit=30")
    with pytest.raises(TaskDeferred) as busy:
        again(task, first, context)
    assert busy.value.method_name == "execute_again"
    submitting(prompt="another").execute(another_task())
    with pytest.raises(TaskDeferred) as second:
        again(task, busy.value, context)
    assert second.value.trigger.asked_at == first.trigger.asked_at


def test_the_one_task_gives_its_target_back_while_it_waits(gateway, clock, tmp_path):
    make_full(gateway)
    ti, store, file = TI(), Store(), tmp_path / "cat.mp4"

    def making(**arguments):
        arguments = {"model": MODEL, "prompt": "a cat waves", "target": str(file), **arguments}
        return KlingImageToVideoOperator(task_id="t", **arguments)

    pause = deferral(making(), context_of(ti, store))
    assert list(tmp_path.iterdir()) == []
    other = target(str(file), owner("other"))
    other.claim(clock.time() + 3600)
    clock.sleep(200)
    with pytest.raises(KlingInputError, match="has claimed it") as caught:
        again(making(), pause, context_of(ti, store))
    assert caught.value.money is Money.UNTOUCHED
    other.release()
    path = until_over(
        making, lambda: context_of(ti, store), clock, lambda pause: asyncio.run(triggered(pause))
    )
    assert path == str(file)
    assert file.is_file()
    assert len(gateway.jobs) == 2


def test_money_that_was_spent_while_a_task_waited_is_missed_when_its_turn_comes(gateway, clock):
    run = {}
    make_full(gateway)
    limit = {"max_run_cost_usd": 0.6}
    ti, store = TI(run=run, task_id="submit"), Store()
    pause = deferral(submitting(**limit), context_of(ti, store))
    clock.sleep(200)
    submitting(**limit, prompt="another").execute(
        context_of(TI(run=run, task_id="submit", map_index=7), Store())
    )
    with pytest.raises(KlingInputError, match="max_run_cost_usd"):
        again(submitting(**limit), pause, context_of(ti, store))
    assert len(gateway.jobs) == 2


# In the triggerer, by the real clock.


def waiting(asked_at, conn_id="kling_default", model="kling-3.0", deadline=2e9, not_before=0.0):
    """Return a trigger as a triggerer makes it, also after a restart: of its stored arguments."""
    _, arguments = KlingSlotTrigger(conn_id, model, asked_at, 0.0, not_before, deadline).serialize()
    return KlingSlotTrigger(**stored_and_read(arguments))


async def fired(trigger):
    (event,) = [event async for event in trigger.run()]
    return event.payload["asked_at"]


@asynccontextmanager
async def waiters(*triggers):
    """Start waits, yield them when all are in their queues, and end them."""
    tasks = [asyncio.create_task(fired(trigger)) for trigger in triggers]
    await asyncio.sleep(0.01)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def one_job_ends(gateway, kind=MODEL):
    """Wait for a job that ends at once, as a deferred task does."""
    gateway.set_timing(queue_seconds=0, render_seconds=0)
    job = KlingSubmitOperator(task_id="s", model=MODEL, prompt=f"{time.time()}")
    kling_task_id = await asyncio.to_thread(job.execute, another_task())
    wait = KlingTaskTrigger(kling_task_id, time.time() + 60, time.time(), interval=0.1, kind=kind)
    (event,) = [event async for event in wait.run()]
    assert "error" not in event.payload


async def left(tasks):
    """Return who has left, in the order of the places, and let the others go on."""
    done, _ = await asyncio.wait(tasks, timeout=0.2)
    return sorted(task.result() for task in done)


@pytest.fixture
def real(monkeypatch):
    with kling(monkeypatch, slots=5) as gateway:
        yield gateway


@pytest.mark.parametrize("kind", [f"{MODEL} duration=5", "image-to-video/kling-3.0", ""])
async def test_each_job_that_ends_lets_the_first_to_ask_go(real, kind):
    async with waiters(waiting(30.0), waiting(10.0), waiting(20.0)) as tasks:
        await one_job_ends(real, kind)
        assert await left(tasks) == [10.0]
        await one_job_ends(real, kind)
        assert await left(tasks) == [10.0, 20.0]


async def test_a_job_of_another_model_or_connection_lets_nobody_go(real, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", real.connection_json())
    async with waiters(waiting(1.0, model="kling-2.6"), waiting(2.0, conn_id="other")) as tasks:
        await one_job_ends(real)
        assert await left(tasks) == []


async def test_a_waiter_that_is_cleared_takes_no_turn_with_it(real):
    async with waiters(waiting(1.0), waiting(2.0)) as tasks:
        tasks[0].cancel()
        await one_job_ends(real)
        assert await left(tasks[1:]) == [2.0]


async def test_at_its_deadline_a_task_leaves_also_where_the_connection_is_gone(monkeypatch):
    asked_at = time.time()
    assert await fired(waiting(asked_at, conn_id="gone", deadline=asked_at)) == asked_at


def test_two_triggerers_have_a_queue_each(real):
    async def one_triggerer(*asked_at):
        async with waiters(*map(waiting, asked_at)) as tasks:
            await one_job_ends(real)
            return await left(tasks)

    assert asyncio.run(one_triggerer(3.0, 1.0)) == [1.0]
    assert asyncio.run(one_triggerer(4.0, 2.0)) == [2.0]


def test_a_task_whose_connection_breaks_while_it_waits_fails_by_that_and_buys_nothing(
    gateway, clock, monkeypatch
):
    make_full(gateway)
    context = another_task()
    pause = deferral(submitting(), context)
    clock.sleep(200)
    monkeypatch.setenv("AIRFLOW_CONN_KLING_DEFAULT", gateway.connection_json(gateway="nonsense"))
    with pytest.raises(KlingAccessError) as caught:
        again(submitting(), pause, context)
    assert caught.value.money is Money.UNTOUCHED
    assert len(gateway.jobs) == 1
