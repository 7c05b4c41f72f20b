"""KlingTaskSensor: waits for a job, by default without a worker slot."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
)

from airflow_provider_kling.errors import KlingError
from airflow_provider_kling.hooks import KlingHook, airflow_errors, suppress_and_log
from airflow_provider_kling.links import KlingGalleryLink, KlingVideoLink
from airflow_provider_kling.operators.base import reports_errors
from airflow_provider_kling.operators.deferral import BACKSTOP, DEFAULT_TIMEOUT, WaitingOperator, WaitOptions
from airflow_provider_kling.polling import MAX_POLL_INTERVAL

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_provider_kling.gateways.base import Task
    from airflow_provider_kling.operators.job_wait import JobWait
    from airflow_provider_kling.polling.policy import PollResult

#: The default interval between two polls on a worker, in seconds.
_POKE_INTERVAL = 10.0
#: The worker stays for a poll that is due within this number of seconds.
_SHORTEST_PAUSE = 1.0


class KlingTaskSensor(WaitingOperator, BaseSensorOperator):
    """Waits until a Kling job is done and returns what the gateway says of it.

    Deferrable by default: the wait then costs no worker slot. With ``deferrable=False`` Airflow's
    ``mode`` decides (``poke`` or ``reschedule``); results and exceptions are the same in all three.

    The result is a dict: ``kling_task_id``, ``status``, ``videos`` (each with ``video_url``,
    ``video_url_ttl``, ``video_type``), ``timings`` (epoch milliseconds), ``cost_usd`` and ``billing`` (what
    the gateway says that the job has cost). The first video's URL is
    pushed as ``kling_video_url`` too. It dies after about an hour, Kling's own after 30 days: fetch it with
    :class:`~airflow_provider_kling.operators.KlingDownloadOperator`, which asks for a fresh one.

    :param kling_task_id: the job, as ``KlingSubmitOperator`` returned it. (templated)
    :param kling_conn_id: the Airflow connection's id. (templated)
    :param deferrable: wait in the triggerer.
    :param poke_interval: seconds between two polls, at least 1. With None, a schedule decides while the task
        is deferred, and modes ``poke`` and ``reschedule`` poll every 10 seconds.
    :param initial_delay: no poll before the job has this age, in seconds.
    :param max_poll_interval: the longest interval that the schedule takes, in seconds, at least 2.
    :param timeout: seconds after which to give up. They count from the submit upstream; without one, or for a
        job that was older than the timeout already, from the start of this task. Restarts and retries do not
        extend it, a clear waits anew (on Airflow 3.3, which remembers). The job itself goes on.
    :param start_from_trigger: begin in the triggerer, which saves one worker start. What does not work there
        is refused when the Dag is parsed. Needs Airflow 3.3.
    :param publish_link: put the video's link, which is signed and opens without a key, into the result
        and into XCom for people to click; with False it appears nowhere in Airflow.
    :param kwargs: Airflow's own arguments. ``exponential_backoff``, ``max_wait`` and ``silent_fail`` have no
        effect: polls that fail never end the wait, and their intervals grow.
    :raises KlingError: one class for each way a wait can end, see :mod:`airflow_provider_kling.errors`.
    """

    template_fields: Sequence[str] = ("kling_task_id", "kling_conn_id")
    ui_color = "#fdf1d6"
    operator_extra_links = (KlingVideoLink(), KlingGalleryLink())

    def __init__(
        self,
        *,
        kling_task_id: str | XComArg,
        kling_conn_id: str = KlingHook.default_conn_name,
        deferrable: bool = True,
        poke_interval: timedelta | float | None = None,
        initial_delay: timedelta | float = 0.0,
        max_poll_interval: timedelta | float = MAX_POLL_INTERVAL,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        publish_link: bool = True,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        if poke_interval is None and not deferrable:
            poke_interval = _POKE_INTERVAL
        options = WaitOptions.checked(
            timeout, poke_interval, initial_delay, max_poll_interval, publish_link=publish_link
        )
        super().__init__(poke_interval=options.interval or _POKE_INTERVAL, timeout=options.timeout, **kwargs)
        self.wait_options = options
        self.kling_task_id: str = kling_task_id  # type: ignore[assignment]  # rendered before it is read
        self.kling_conn_id = kling_conn_id
        self.deferrable = deferrable
        self.kling_links: dict[str, str] = {}
        if start_from_trigger:
            from airflow_provider_kling.operators.start_from_trigger import start_trigger_args

            self.start_trigger_args = start_trigger_args(self, kling_task_id, BACKSTOP)
        self.start_from_trigger = start_from_trigger

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Return the sensor with its arguments that are not mapped.

        :raises ValueError: with ``start_from_trigger``: Airflow gives no mapped arguments to the trigger.
        """
        if kwargs.get("start_from_trigger"):
            raise ValueError(
                "start_from_trigger=True: Airflow gives no arguments of expand() to the trigger; put submit "
                "and sensor into one mapped @task_group, and expand that"
            )
        return super().partial(**kwargs)

    @reports_errors
    def execute(self, context: Context) -> Any:
        """Poll the job; wait for it if it is not done."""
        from airflow_provider_kling.gateways.base import checked_task_id
        from airflow_provider_kling.models.bill import NO_BILL
        from airflow_provider_kling.operators.job_wait import begin_wait, read_request

        with airflow_errors():
            kling_task_id = checked_task_id(self.kling_task_id)
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        if first is None:
            _check_connection(self.kling_conn_id, kling_task_id)
        request = read_request(self, context, kling_task_id)
        if request.get("reused"):
            self.log.info("The video is there already. Nothing was bought, so there is nothing to wait for.")
            known = {"kling_task_id": kling_task_id, "status": "reused", "model": request.get("model")}
            return {**known, "videos": [], "timings": {}, **NO_BILL}
        wait = begin_wait(self, context, kling_task_id, request, first.timestamp() if first else time.time())
        with self._wait_errors():
            if self.deferrable:
                task = wait.or_defer()
            else:
                task = _or_reschedule(wait) if self.reschedule else wait.until_end()
        return self._finish(context, task)

    def _job_to_wait_for(self, context: Context) -> str:  # noqa: ARG002 - the argument names it
        from airflow_provider_kling.gateways.base import checked_task_id

        return checked_task_id(self.kling_task_id)

    def _finish(self, context: Context, task: Task) -> dict[str, Any]:  # noqa: ARG002 - nothing follows
        from airflow_provider_kling.models.bill import NO_BILL
        from airflow_provider_kling.operators.xcom import bill_facts

        result = task.to_dict(with_links=self.wait_options.publish_link)
        bill: dict[str, Any] = {}
        with suppress_and_log(self.log, "What the job has cost could not be read"):
            bill = bill_facts(KlingHook(self.kling_conn_id), task)
        return {**result, **NO_BILL, **bill}

    @contextmanager
    def _wait_errors(self) -> Iterator[None]:
        """Translate the errors that end the wait; honour ``soft_fail`` in all modes, with the reason."""
        try:
            with super()._wait_errors():
                yield
        except (KlingError, AirflowTaskTimeout) as error:
            if not (self.soft_fail or self.never_fail):
                raise
            self.log.warning("%s", error)
            raise AirflowSkipException(f"Skipped instead of failed: {error}") from error


def _or_reschedule(wait: JobWait) -> Task:
    """Poll and return the job if it is done; else let Airflow start the task again for the next poll."""

    def stay(result: PollResult) -> bool:
        return result.worker_stays or result.next_poll_at < time.time() + _SHORTEST_PAUSE

    result = wait.poll(stay)
    if result.task:
        return result.task
    raise AirflowRescheduleException(datetime.fromtimestamp(result.next_poll_at, UTC))


def _check_connection(kling_conn_id: str, kling_task_id: str) -> None:
    """Raise for a wrong connection at once, not after a whole wait for it to become right."""
    from airflow_provider_kling.gateways.base import errors_about_job

    with errors_about_job(kling_task_id):
        _ = KlingHook(kling_conn_id).settings
