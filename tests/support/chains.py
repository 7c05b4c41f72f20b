"""Tasks that make a video, run to their end in this process, and what they push."""

import asyncio

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG
from airflow_fakes import TI, Store, context_of, png, stored_and_read

from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor

MODEL = "kling-v3.0-pro-i2v"


@pytest.fixture
def picture(tmp_path):
    """The path of a picture."""
    file = tmp_path / "cat.png"
    file.write_bytes(png())
    return str(file)


def execute(operator, store=None, ti=None, events=None):
    """Run a task to its end, with its deferrals and the buttons, and return its XComs."""
    ti = ti or TI(task_id=operator.task_id)
    context = {**context_of(ti, Store() if store is None else store), "outlet_events": events}
    action = lambda: operator.execute(context)  # noqa: E731
    while True:
        try:
            value = action()
            break
        except TaskDeferred as pause:
            kwargs = {**stored_and_read(pause.kwargs), "event": asyncio.run(event(pause.trigger))}
            action = lambda p=pause, k=kwargs: operator.resume_execution(p.method_name, k, context)  # noqa: E731
    for link in operator.operator_extra_links:  # as a worker does at the end
        ti.xcom_push(link.xcom_key, link.get_link(operator, ti_key=ti))
    return {**ti.xcoms, "return_value": value}


async def event(trigger):
    """Return the event of a trigger, as Airflow stores it."""
    (event,) = [event async for event in trigger.run()]
    return stored_and_read(event.payload)


def chain(target, picture, *, of_submit=(), **arguments):
    """Return what submit, sensor and download push."""
    submit = submit_of(picture, **dict(of_submit))
    with submit.dag:
        wait = KlingTaskSensor(task_id="wait", kling_task_id="later", **arguments)
        download = KlingDownloadOperator(task_id="download", kling_task_id="later", target=str(target))
        submit >> wait >> download
    run = {}
    submitted = execute(submit, ti=TI(task_id="submit", run=run))
    wait.kling_task_id = download.kling_task_id = submitted["return_value"]
    waited = execute(wait, ti=TI(task_id="wait", run=run))
    return submitted, waited, execute(download, ti=TI(task_id="download", run=run))


def submit_of(picture, **arguments):
    """Return a submit in a Dag of its own."""
    with DAG("d", schedule=None):
        return KlingSubmitOperator(task_id="submit", model=MODEL, image=picture, prompt="a cat", **arguments)


def one_task(target, picture, **arguments):
    """Return the one task in a Dag of its own."""
    with DAG("d", schedule=None):
        return KlingImageToVideoOperator(
            task_id="t", model=MODEL, image=picture, prompt="a cat", target=str(target), **arguments
        )


@pytest.fixture
def rendering(gateway):
    """A gateway whose jobs take half a minute."""
    gateway.set_timing(queue_seconds=15, render_seconds=15)
    return gateway
