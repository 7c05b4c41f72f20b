"""What may happen to a task between its tries and while it waits: an upgrade, another Dag, Airflow's clock.

What earlier versions wrote into Airflow's database stands here word for word: tasks wait across upgrades.
"""

import asyncio
import json
from datetime import timedelta
from importlib import import_module

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time.timeout import timeout as execution_timeout
from airflow_fakes import TI, Store, context_of, stored_and_read, submits
from dialects import check_lost_answer, dialect
from sensor_modes import bought, triggered

from airflow_provider_kling.errors import (
    KlingJobFailedError,
    KlingSubmitUncertainError,
    KlingWaitTimeoutError,
)
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor

# An upgrade of the package while a task waits.

TRIGGER = "airflow_provider_kling.triggers.KlingTaskTrigger"
#: What stood in the trigger table, JSON as it was written; JOB, BEGAN and DEADLINE are filled in.
TRIGGER_ROW = """{"kling_task_id": "JOB", "kling_conn_id": "kling_default", "started_at": BEGAN,
    "deadline": DEADLINE, "interval": null, "first_look_at": BEGAN, "kind": "", "first_look": 0.0,
    "longest_interval": 60.0, "timeout": 3600.0}"""
#: What stood in a task's ``next_kwargs`` when its trigger had fired.
EVENTS = {
    "done": ('{"kling_task_id": "JOB", "started_at": BEGAN, "deadline": DEADLINE}', None),
    "failed": (
        """{"kling_task_id": "JOB", "started_at": BEGAN, "deadline": DEADLINE, "error":
        {"class": "KlingJobFailedError", "what": "Job JOB failed at the gateway (TASK_STATUS_FAILED): no.",
        "money": "The job is over and may be charged; the gateway's bill tells.",
        "advice": "Read the gateway's reason; submit anew only after what it names is changed.",
        "kling_task_id": "JOB", "reason": null, "http_status": null, "retry_after": null}}""",
        KlingJobFailedError,
    ),
    "too late": (
        """{"kling_task_id": "JOB", "started_at": BEGAN, "deadline": DEADLINE, "error":
        {"class": "KlingWaitTimeoutError", "what": "Job JOB was not finished within the timeout of 600 s.",
        "money": "The job goes on at the gateway and may be charged.", "advice": "Do not submit it again.",
        "kling_task_id": "JOB", "reason": null, "http_status": null, "retry_after": null}}""",
        KlingWaitTimeoutError,
    ),
}
EXECUTE_AGAIN = '{"attempt": 3, "give_up_at": DEADLINE, "event": null}'
#: What stood in the task state store.
NOTE = """{"generation": 3, "fingerprint": "HASH", "noted_at": BEGAN, "kling_task_id": "JOB",
    "told": false, "delivered": false}"""
INTENT = '{"generation": 3, "fingerprint": "HASH", "noted_at": BEGAN, "kling_task_id": ""}'
VIDEO = ("kling-v3.0-pro-t2v", "a cat waves")


def row(text, clock, job="", fingerprint=""):
    """Return an old row with the names of today."""
    began = clock.time()
    for name, value in {"JOB": job, "DEADLINE": began + 600, "BEGAN": began, "HASH": fingerprint}.items():
        text = text.replace(name, str(value))
    return json.loads(text)


def submitting(**arguments):
    return KlingSubmitOperator(task_id="submit", model=VIDEO[0], prompt=VIDEO[1], **arguments)


def test_a_wait_that_an_earlier_version_began_goes_on_in_the_triggerer(gateway, clock):
    gateway.set_timing(queue_seconds=5, render_seconds=40)
    job = bought(gateway)
    module, name = TRIGGER.rsplit(".", 1)
    trigger = getattr(import_module(module), name)(**row(TRIGGER_ROW, clock, job))

    async def fired():
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(fired())
    assert event == {"kling_task_id": job, "started_at": trigger.started_at, "deadline": trigger.deadline}


@pytest.mark.parametrize("kind", [KlingTaskSensor, KlingImageToVideoOperator])
@pytest.mark.parametrize(("text", "error"), EVENTS.values(), ids=EVENTS)
def test_an_event_that_an_earlier_version_fired_is_understood(gateway, clock, tmp_path, kind, text, error):
    job = bought(gateway)
    event = row(text, clock, job)
    task = KlingTaskSensor(task_id="wait", kling_task_id=job)
    if kind is KlingImageToVideoOperator:
        task = kind(task_id="all", model=VIDEO[0], prompt=VIDEO[1], target=f"{tmp_path}/")
    resumed = ("execute_complete", {"event": event}, context_of(store=Store()))
    if error is None:
        result = task.resume_execution(*resumed)
        assert job in str(result)
        return
    with pytest.raises(error) as caught:
        task.resume_execution(*resumed)
    assert caught.value.to_dict() == event["error"]
    assert submits(gateway) == 1


def test_a_submit_that_an_earlier_version_deferred_is_sent_once(gateway, clock):
    kwargs = row(EXECUTE_AGAIN, clock)
    task_id = submitting().resume_execution("execute_again", kwargs, context_of(store=Store()))
    assert [job.task_id for job in gateway.jobs] == [task_id]


def fingerprint_of_today(gateway):
    """Return the fingerprint that a submit is noted with."""
    store = Store()
    gateway.add_fault("submit:error=INVALID_API_KEY")
    store.delete = lambda _: None  # the refusal is not forgotten here
    with pytest.raises(AirflowFailException):
        submitting().execute(context_of(store=store))
    gateway.clear_faults()
    return store.values["kling_submit"]["fingerprint"]


def test_a_job_that_an_earlier_version_bought_is_picked_up_again(gateway, clock):
    job, store = bought(gateway), Store()
    store.values["kling_submit"] = row(NOTE, clock, job, fingerprint_of_today(gateway))
    assert submitting().execute(context_of(TI(max_tries=3), store)) == job
    assert len(gateway.jobs) == 1


def test_an_intent_of_an_earlier_version_still_stops_a_second_submit(gateway, clock):
    store = Store()
    store.values["kling_submit"] = row(INTENT, clock)
    with pytest.raises(KlingSubmitUncertainError):
        submitting().execute(context_of(TI(max_tries=3), store))
    assert not gateway.requests


# A Dag that changed while the task waited.


def deferral(sensor, ti=None):
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(context_of(ti))
    return caught.value


CHANGES = {
    "a shorter timeout": {"timeout": 1},
    "another interval": {"poke_interval": 500},
    "another job": {"kling_task_id": "another"},
    "not deferrable": {"deferrable": False, "mode": "reschedule"},
    "retries": {"retries": 0, "execution_timeout": timedelta(seconds=1)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_wait_goes_on_as_it_began_when_the_dag_changes_amid_it(gateway, clock, change):
    gateway.set_timing(queue_seconds=5, render_seconds=100)
    job = bought(gateway)
    pause = deferral(KlingTaskSensor(task_id="wait", kling_task_id=job, timeout=600))
    event = asyncio.run(triggered(pause))
    changed = KlingTaskSensor(task_id="wait", **{"kling_task_id": job, "timeout": 600, **change})
    result = changed.resume_execution(pause.method_name, {"event": event}, context_of())
    assert (result["kling_task_id"], result["status"]) == (job, dialect(gateway).states[-1])
    assert submits(gateway) == 1


def test_a_pause_before_a_submit_ends_with_the_request_as_the_dag_says_it_then(gateway, clock):
    gateway.add_fault("submit:rate-limit=120")
    store = Store()
    pause = deferral_of_submit(submitting(), store)
    changed = KlingSubmitOperator(task_id="submit", model=VIDEO[0], prompt="a dog waves")
    kwargs = {**stored_and_read(pause.kwargs), "event": None}
    changed.resume_execution(pause.method_name, kwargs, context_of(store=store))
    assert [job.prompt for job in gateway.jobs] == ["a dog waves"]


def deferral_of_submit(task, store):
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context_of(store=store))
    return caught.value


def test_another_target_while_the_task_waits_is_where_the_video_goes(gateway, clock, tmp_path):
    gateway.set_timing(queue_seconds=5, render_seconds=100)
    store, asked = Store(), {"task_id": "all", "model": VIDEO[0], "prompt": VIDEO[1]}
    pause = deferral_of_submit(KlingImageToVideoOperator(**asked, target=f"{tmp_path}/old.mp4"), store)
    event = asyncio.run(triggered(pause))
    changed = KlingImageToVideoOperator(**asked, target=f"{tmp_path}/new.mp4")
    changed.resume_execution(pause.method_name, {"event": event}, context_of(store=store))
    # The claim on the old name stays, as a hidden file.
    visible = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert visible == ["new.mp4", "new.mp4.json"]
    assert submits(gateway) == 1


# Airflow's own clock: ``execution_timeout`` ends the try in the midst of anything.


@pytest.fixture
def slow_gateway(running):
    """A gateway by the real clock, as Airflow's own timeout is."""
    with running() as gateway:
        yield gateway


def cut_short(task, context):
    """Run a try as Airflow does, with an ``execution_timeout`` that passes."""
    with pytest.raises(AirflowTaskTimeout), execution_timeout(0.4):
        task.execute(context)


@pytest.mark.parametrize("how", [{"deferrable": True}, {"deferrable": False}, {"mode": "reschedule"}])
def test_a_wait_that_airflow_cuts_short_is_airflows_timeout_and_a_retry_goes_on_for_free(slow_gateway, how):
    job = bought(slow_gateway)
    slow_gateway.add_fault("query:hang=3")
    how = how if "mode" not in how else {"deferrable": False, **how}
    sensor = KlingTaskSensor(task_id="wait", kling_task_id=job, **how)
    ti = TI()
    cut_short(sensor, context_of(ti))
    assert sensor.execute(context_of(ti))["kling_task_id"] == job
    assert submits(slow_gateway) == 1


@pytest.mark.parametrize("fault", ["query:hang=3", "download:hang=3", "download:slow=3"])
def test_a_download_that_airflow_cuts_short_leaves_nothing_and_a_retry_brings_it(
    slow_gateway, tmp_path, fault
):
    job = bought(slow_gateway)
    slow_gateway.add_fault(fault)
    task, ti = KlingDownloadOperator(task_id="get", kling_task_id=job, target=f"{tmp_path}/"), TI()
    cut_short(task, context_of(ti))
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    assert task.execute(context_of(ti)) == f"{tmp_path}/{job}.mp4"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{job}.mp4", f"{job}.mp4.json"]
    assert submits(slow_gateway) == 1


def test_a_submit_that_airflow_cuts_short_is_not_sent_again(slow_gateway):
    slow_gateway.add_fault("submit:hang=3,late")
    store, ti = Store(), TI()
    cut_short(submitting(), context_of(ti, store))
    check_lost_answer(slow_gateway, lambda: submitting().execute(context_of(ti, store)))
    assert submits(slow_gateway) == 1


def test_a_video_whose_wait_airflow_cuts_short_is_brought_by_the_retry(slow_gateway, tmp_path):
    slow_gateway.add_fault("query:hang=3")
    store, ti = Store(), TI()
    task = KlingImageToVideoOperator(
        task_id="all", model=VIDEO[0], prompt=VIDEO[1], target=f"{tmp_path}/v.mp4"
    )
    cut_short(task, context_of(ti, store))
    assert task.execute(context_of(ti, store)) == f"{tmp_path}/v.mp4"
    assert (submits(slow_gateway), len(slow_gateway.jobs)) == (1, 1)
