"""The triggers: KlingTaskTrigger waits for a job, KlingSlotTrigger for a free slot. They never submit."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from airflow.providers.common.compat.sdk import XCom
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_kling.errors import KlingError, Money
from airflow_provider_kling.gateways.base import Task, checked_task_id
from airflow_provider_kling.hooks import KlingHook, suppress_and_log
from airflow_provider_kling.links import KlingGalleryLink
from airflow_provider_kling.polling import MAX_POLL_INTERVAL
from airflow_provider_kling.polling.client_pool import ClientPool
from airflow_provider_kling.polling.policy import PollPolicy
from airflow_provider_kling.polling.schedule import DurationModels, Schedule
from airflow_provider_kling.polling.slots import SlotWaiter
from airflow_provider_kling.xcom_keys import BILL_KEY, GALLERY_LINK_KEY, PROGRESS_KEY

#: How long jobs take, for all waits of this process.
DURATIONS = DurationModels()


class KlingTaskTrigger(BaseTrigger):
    """Polls a job until it ends, then fires one event.

    The event has ``kling_task_id``, ``started_at`` and ``deadline``, and an ``error`` (as a dict) where the
    wait is over without a video. It never has the video's link: the triggerer logs each event, and the worker
    that resumes asks for a fresh link anyway.

    Airflow stores the arguments in clear text, so nothing secret is among them. Their names are public:
    tasks stay deferred across upgrades.

    :param kling_task_id: the job.
    :param kling_conn_id: the Airflow connection's id.
    :param started_at: when the wait began, in epoch seconds.
    :param deadline: when to give up, in epoch seconds; a restart does not move it. Without one the task
        begins in the triggerer: the wait begins now, or with the submit time that the gateway names, if that
        is at most half of the timeout ago.
    :param interval: seconds between two polls; None lets the schedule decide.
    :param first_poll_at: no poll before this time, in epoch seconds.
    :param kind: what the job's duration depends on, see
        ``polling.schedule.kind_of``; empty if it is not known.
    :param initial_delay: no poll before the job has this age, in seconds.
    :param max_poll_interval: the longest interval that the schedule takes, in seconds.
    :param timeout: how long the wait may last, in seconds, where there is no *deadline*.
    :param logged_status: the status of the job that is in the task's log already.
    :param first_look_at: what version 0.1.0 called *first_poll_at*.
    :param first_look: what version 0.1.0 called *initial_delay*.
    :param longest_interval: what version 0.1.0 called *max_poll_interval*.
    """

    def __init__(
        self,
        kling_task_id: str,
        deadline: float | None = None,
        started_at: float | None = None,
        kling_conn_id: str = KlingHook.default_conn_name,
        interval: float | None = 10.0,
        first_poll_at: float = 0.0,
        kind: str = "",
        initial_delay: float = 0.0,
        max_poll_interval: float = MAX_POLL_INTERVAL,
        timeout: float = 3600.0,
        logged_status: str = "",
        first_look_at: float | None = None,
        first_look: float | None = None,
        longest_interval: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in Airflow
        self.kling_task_id = kling_task_id
        self.kling_conn_id = kling_conn_id
        self.started_at = started_at
        self.deadline = deadline
        self.interval = interval
        self.first_poll_at = first_poll_at if first_look_at is None else first_look_at
        self.kind = kind
        self.initial_delay = initial_delay if first_look is None else first_look
        self.max_poll_interval = max_poll_interval if longest_interval is None else longest_interval
        self.timeout = timeout
        self.logged_status = logged_status

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        names = (
            *("kling_task_id", "kling_conn_id", "started_at", "deadline"),
            *("interval", "first_poll_at", "kind", "initial_delay", "max_poll_interval", "timeout"),
            "logged_status",
        )
        path = "airflow_provider_kling.triggers.KlingTaskTrigger"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the job or the deadline ends the wait."""
        now = time.time()
        policy = self._policy(now)
        try:
            policy.kling_task_id = checked_task_id(self.kling_task_id)
        except KlingError as error:  # the result of a template, where the task begins here
            yield _event(policy, error)
            return
        first_poll_at = policy.first_poll_at(max(now, min(self.first_poll_at, policy.deadline)))
        failure, shows_link = None, policy.count_from_submit  # else a worker has shown it
        async with (
            ClientPool.client(self.kling_conn_id) as client,
            client.wait(policy, first_poll_at) as results,
        ):
            model = self.kind.split(" ")[0]
            client.slots.saw_begin(model, policy.started_at)
            async for result in results:
                for message in result.messages:
                    self.log.info(message)
                if result.progress:  # the polls go on meanwhile
                    await self._push(PROGRESS_KEY, result.progress)
                    if shows_link:
                        await self._show_link()
                        shows_link = False
                failure = result.error
                if result.failed and result.failed.billing:  # a worker shows what a finished job has cost
                    await self._push_bill(result.failed, (await client.settings()).unit_price_usd)
            if failure is None or failure.money is Money.ENDED:
                client.slots.saw_end(model)
        yield _event(policy, failure)

    def _policy(self, now: float) -> PollPolicy:
        """Return the policy of a wait that a worker began, or that begins here, now."""
        begins_here = self.started_at is None or self.deadline is None
        started_at = now if self.started_at is None else self.started_at
        return PollPolicy(
            self.kling_task_id,
            started_at,
            started_at + self.timeout if self.deadline is None else self.deadline,
            self.interval,
            Schedule(DURATIONS.of(self.kind), self.kling_task_id, self.initial_delay, self.max_poll_interval),
            logged_status=self.logged_status,
            count_from_submit=begins_here,
        )

    async def _show_link(self) -> None:
        """Show the button *Kling gallery*."""
        if ti := self.task_instance:
            with suppress_and_log(self.log, "The link to the gallery could not be made"):
                address = KlingGalleryLink().get_link(None, ti_key=ti)
                await self._push(GALLERY_LINK_KEY, address)

    async def _push_bill(self, task: Task, unit_price_usd: Decimal) -> None:
        if (ti := self.task_instance) and (bill := task.bill(unit_price_usd)):
            self.log.info("Job %s cost %s.", task.kling_task_id, bill.describe())
            place = {"task_id": ti.task_id, "map_index": ti.map_index}
            await self._push(BILL_KEY, {**bill.to_dict(), **place})

    async def _push(self, key: str, value: Any) -> None:
        """Push a value to the XComs of the waiting task. If Airflow cannot store it, the wait goes on."""
        ti = self.task_instance
        if ti is None:
            return
        names = ("dag_id", "run_id", "task_id", "map_index")
        # Airflow 3.1 has no asynchronous call for it.
        store = XCom.aset if hasattr(XCom, "aset") else sync_to_async(XCom.set)
        with suppress_and_log(self.log, f"{key} could not be stored"):
            await store(key=key, value=value, **{name: getattr(ti, name) for name in names})

    async def on_kill(self) -> None:
        """Log that the job goes on, because the gateway cannot stop it.

        Airflow also calls this after another triggerer took over. Then the task is still deferred, and
        nothing is logged.
        """
        if await self._state_of_task() != "deferred":
            self.log.warning(
                "The wait was ended by hand. The job goes on at the gateway, which cannot cancel it, and may "
                "be charged. Its video can still be fetched: example Dag kling_rescue with kling_task_id=%r.",
                self.kling_task_id,
            )

    async def _state_of_task(self) -> str | None:
        ti = self.task_instance
        if ti is None:
            return None
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415 - rarely needed

        read: Any = sync_to_async(RuntimeTaskInstance.get_task_states)
        try:
            states = await read(
                dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
            )
        except AirflowRuntimeError:
            return None  # a needless log line is better than none
        return next(iter(states.get(ti.run_id, {}).values()), None)


class KlingSlotTrigger(BaseTrigger):
    """Waits until a task may submit that was refused because no slot was free; then it fires one event.

    The tasks that wait in one triggerer for one connection and model leave in the order of having asked, see
    ``polling.slots``. A task that is refused again waits again, in its old place.
    The arguments are not secret. Their names are public: tasks stay deferred across upgrades.

    :param kling_conn_id: the Airflow connection's id.
    :param model: the model of which no slot was free.
    :param asked_at: when the task asked for a slot first, in epoch seconds. A restart does not move it.
    :param refused_at: when it was refused last, in epoch seconds.
    :param not_before: when it may submit again, in epoch seconds.
    :param deadline: when it submits a last time, in epoch seconds.
    """

    def __init__(
        self,
        kling_conn_id: str,
        model: str,
        asked_at: float,
        refused_at: float,
        not_before: float,
        deadline: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in Airflow
        self.kling_conn_id = kling_conn_id
        self.model = model
        self.asked_at = asked_at
        self.refused_at = refused_at
        self.not_before = not_before
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        names = ("kling_conn_id", "model", "asked_at", "refused_at", "not_before", "deadline")
        path = "airflow_provider_kling.triggers.KlingSlotTrigger"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the task's turn, or for its deadline."""
        waiter = SlotWaiter(self.asked_at, self.refused_at, self.not_before, self.deadline)
        async with ClientPool.client(self.kling_conn_id) as client:
            await client.slots.wait(self.model, waiter)
        yield TriggerEvent({"model": self.model, "asked_at": self.asked_at})


def _event(policy: PollPolicy, error: KlingError | None) -> TriggerEvent:
    event = {name: getattr(policy, name) for name in ("kling_task_id", "started_at", "deadline")}
    return TriggerEvent({**event, "error": error.to_dict()} if error else event)
