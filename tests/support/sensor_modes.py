"""One wait of a sensor in each of its modes, with fakes of Airflow."""

import asyncio
import time
from datetime import UTC, datetime
from importlib import import_module

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG
from airflow.sdk.bases.sensor import AirflowRescheduleException
from airflow_fakes import TI, context_of, stored_and_read

from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.operators import KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

MODES = ["poke", "reschedule", "deferred"]


def bought(gateway, **timing):
    """Start a job and return its task id."""
    gateway.set_timing(**timing)
    hook = KlingHook()
    model, implied = hook.settings.gateway.resolve_model("kling-v3.0-pro-t2v", {})
    return hook.submit(VideoJob(model, {"prompt": "a cat waves", **implied}))


async def triggered(deferred):
    """Run the trigger of a deferral as a triggerer does: it is created from its stored arguments."""
    path, arguments = deferred.trigger.serialize()
    module, name = path.rsplit(".", 1)
    trigger = getattr(import_module(module), name)(**stored_and_read(arguments))
    if isinstance(trigger, DateTimeTrigger):  # it lives by another clock than the test
        return time.sleep(max(0.0, trigger.moment.timestamp() - time.time()))  # noqa: ASYNC251
    (event,) = [event async for event in trigger.run()]
    return stored_and_read(event.payload)


def until_over(start, context, clock, triggered):
    """Run an operator with its deferrals and reschedules until it ends; return its result.

    :param start: makes the operator anew for each process.
    :param context: makes the context.
    :param triggered: returns the event of a deferral's trigger.
    """
    began, method, kwargs = clock.time(), "", {}
    while True:
        operator, here = start(), context()
        try:
            return operator.resume_execution(method, kwargs, here) if method else operator.execute(here)
        except AirflowRescheduleException as pause:
            here["ti"].first_try_at = datetime.fromtimestamp(began, UTC)
            clock.sleep(max(0.0, pause.reschedule_date.timestamp() - clock.time()))
        except TaskDeferred as pause:
            method, kwargs = (
                pause.method_name,
                {**stored_and_read(pause.kwargs or {}), "event": triggered(pause)},
            )


class Wait:
    """One wait of a sensor in one mode."""

    def __init__(self, mode, clock, **arguments):
        self.mode, self.clock, self.ti, self.store = mode, clock, TI(), None
        self.arguments = {"poke_interval": 10.0, "timeout": 600.0, **arguments}
        self.starts = 0

    def sensor(self):
        modes = {"deferrable": True} if self.mode == "deferred" else {"deferrable": False, "mode": self.mode}
        with DAG("d", schedule=None):
            sensor = KlingTaskSensor(task_id="wait", **modes, **self.arguments)
            KlingSubmitOperator(task_id="submit") >> sensor
        return sensor

    def context(self):
        return context_of(self.ti, self.store)

    def triggered(self, pause):
        """Return the event of a deferral's trigger."""
        return asyncio.run(triggered(pause))

    def end(self):
        """Return the result of the wait; raise what it raised."""

        def start():
            self.starts += 1
            return self.sensor()

        return until_over(start, self.context, self.clock, self.triggered)

    @property
    def pauses(self):
        return self.starts - 1


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def arrange(gateway, faults):
    """Start a job that is queued at the first poll, and has faults afterwards."""
    gateway.set_timing(queue_seconds=15, render_seconds=15)
    gateway.add_fault(*(fault for fault in faults if fault.startswith("job:")))
    kling_task_id = bought(gateway)
    later = (fault for fault in faults if not fault.startswith("job:"))
    gateway.add_fault("query:says=TASK_STATUS_PROCESSING", *later)
    return kling_task_id
