"""KlingTaskSensor: waits for a job, without a worker slot unless told otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
)
from airflow.sdk import PokeReturnValue

from airflow_provider_kling.errors import KlingError
from airflow_provider_kling.gateways.base import Task
from airflow_provider_kling.gateways.myrouter import checked_task_id, query
from airflow_provider_kling.hooks import KlingHook, airflow_errors, for_airflow
from airflow_provider_kling.links import KlingProgressLink, KlingVideoLink
from airflow_provider_kling.operators.base import reports_errors
from airflow_provider_kling.operators.deferral import BACKSTOP, Waiting, checked_pace
from airflow_provider_kling.polling.schedule import MAX_POLL_INTERVAL

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

#: Seconds between two looks on a worker, where nobody asked for others.
_POKE_INTERVAL = 10.0


class KlingTaskSensor(Waiting, BaseSensorOperator):
    """Waits until a Kling job is done and returns what the gateway says of it.

    Deferrable by default: the wait then costs no worker slot. With ``deferrable=False`` Airflow's
    ``mode`` decides (``poke`` or ``reschedule``); results and exceptions are the same in all three.

    The result is a dict: ``kling_task_id``, ``status``, ``videos`` (each with ``video_url``,
    ``video_url_ttl``, ``video_type``) and ``timings`` (epoch milliseconds). The first video's URL is
    pushed as ``kling_video_url`` too. It dies after about an hour: fetch it with
    :class:`~airflow_provider_kling.operators.KlingDownloadOperator`, which asks for a fresh one.

    :param kling_task_id: the job, as ``KlingSubmitOperator`` returned it. (templated)
    :param kling_conn_id: the Airflow connection's id. (templated)
    :param deferrable: wait in the triggerer.
    :param poke_interval: seconds between two looks, at least 1, and then exactly these. With None the
        schedule looks when an end is likely; ``mode`` ``poke`` and ``reschedule``, for which Airflow needs
        a number, then take 10.
    :param initial_delay: seconds after the submit before which no look is taken, not even the one before the
        deferral.
    :param max_poll_interval: seconds that the schedule waits at most between two looks, at least 2.
    :param timeout: seconds after which to give up, by the wall clock, from the submit on: by the note of
        the submit upstream or by the gateway's word; without either, or for a job that was older than
        that already, from the first look. Restarts and retries do not extend it, a clear waits anew (on
        Airflow 3.3, which remembers). The job itself goes on.
    :param start_from_trigger: begin in the triggerer, without a worker for the first look: one worker start
        less. What does not work there is refused when the Dag is parsed. Needs Airflow 3.3.
    :param publish_link: put the video's link, which is signed and opens without a key, into the result
        and into XCom for people to click; with False it appears nowhere in Airflow.
    :raises KlingError: one class for each way a wait can end, see :mod:`airflow_provider_kling.errors`.
    """

    template_fields: Sequence[str] = ("kling_task_id", "kling_conn_id")
    ui_color = "#fdf1d6"
    operator_extra_links = (KlingVideoLink(), KlingProgressLink())

    def __init__(
        self,
        *,
        kling_task_id: str | XComArg,
        kling_conn_id: str = KlingHook.default_conn_name,
        deferrable: bool = True,
        poke_interval: timedelta | float | None = None,
        initial_delay: timedelta | float = 0.0,
        max_poll_interval: timedelta | float = MAX_POLL_INTERVAL,
        timeout: timedelta | float = 3600.0,
        publish_link: bool = True,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        pace = checked_pace(poke_interval, initial_delay, max_poll_interval)
        super().__init__(poke_interval=pace[0] or _POKE_INTERVAL, timeout=timeout, **kwargs)
        self.interval, self.initial_delay, self.max_poll_interval = pace
        self.kling_task_id: str = kling_task_id  # type: ignore[assignment]  # rendered before it is read
        self.kling_conn_id = kling_conn_id
        self.deferrable = deferrable
        self.publish_link = publish_link
        self.kling_links: dict[str, str] = {}
        if start_from_trigger:
            from airflow_provider_kling.operators.start_from_trigger import start_trigger_args

            self.start_trigger_args = start_trigger_args(self, kling_task_id, BACKSTOP)
        self.start_from_trigger = start_from_trigger

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Return the sensor with its arguments that are not mapped.

        :raises ValueError: with ``start_from_trigger``: Airflow would tell the trigger no mapped argument.
        """
        if kwargs.get("start_from_trigger"):
            raise ValueError(
                "start_from_trigger=True: Airflow tells a trigger nothing of what is mapped by expand(); put "
                "submit and sensor into one mapped @task_group, and expand that"
            )
        return super().partial(**kwargs)

    @reports_errors
    def execute(self, context: Context) -> Any:
        """Look at the job; wait for it if it is not done."""
        with airflow_errors():
            kling_task_id = checked_task_id(self.kling_task_id)
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        if first is None:
            _check_connection(self.kling_conn_id, kling_task_id)
        if self._is_reused(context, kling_task_id):
            return {"kling_task_id": kling_task_id, "status": "reused", "videos": [], "timings": {}}
        started_at = first.timestamp() if first else time.time()
        self._begin(context, kling_task_id, started_at)
        with self._own_timeout(), _soft(skips=self.soft_fail or self.never_fail):
            return self._look_or_defer(context) if self.deferrable else super().execute(context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once, see :meth:`_settled_look`."""
        self._next_poll_at = 0.0
        if time.time() < self._watch.earliest:
            return PokeReturnValue(is_done=False)
        verdict = self._settled_look(context)
        self._next_poll_at = verdict.next_poll_at
        return PokeReturnValue(
            verdict.task is not None, verdict.task and self._arrived(context, verdict.task)
        )

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        """Return Airflow's pause, or a longer one where looks fail or the gateway asked for it."""
        usual: float = super()._get_next_poke_interval(*args, **kwargs)
        return max(usual, self._next_poll_at - time.time())

    def _waited_for(self, context: Context) -> str:  # noqa: ARG002 - the argument names it
        return checked_task_id(self.kling_task_id)

    def _arrived(self, context: Context, task: Task) -> dict[str, Any]:  # noqa: ARG002 - nothing follows
        return task.to_dict(with_links=self.publish_link)

    def _end(self, error: KlingError) -> NoReturn:
        """Raise the error; a soft failure says its reason here, Airflow's own words for it do not."""
        if self.soft_fail or self.never_fail:
            self.log.warning("%s", error)
        super()._end(error)

    @contextmanager
    def _own_timeout(self) -> Iterator[None]:
        """Say Airflow's own timeout, which in poke mode may come a moment before ours, in our words."""
        try:
            yield
        except AirflowSensorTimeout as error:
            if isinstance(error, KlingError):
                raise
            now = time.time()
            watch = self._new_watch(self.kling_task_id, now - self.timeout, now)
            raise for_airflow(watch.timed_out("Airflow's own clock ended the wait")) from error


def _check_connection(kling_conn_id: str, kling_task_id: str) -> None:
    """Tell a wrong connection at once, not after a whole wait for it to become right."""
    try:
        _ = KlingHook(kling_conn_id).settings
    except KlingError as error:
        raise query(kling_task_id).about(error) from error.__cause__


@contextmanager
def _soft(*, skips: bool) -> Iterator[None]:
    """Honour ``soft_fail`` in the first look before a deferral as Airflow does after one."""
    try:
        yield
    except KlingError as error:
        if skips:
            raise AirflowSkipException(f"Skipped instead of failed: {error}") from error
        raise
