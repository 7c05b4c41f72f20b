"""What the operators that wait for a job share: how to wait, and how Airflow resumes a deferred task."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason

from airflow_provider_kling.errors import from_dict
from airflow_provider_kling.hooks import KlingHook, airflow_errors, suppress_and_log
from airflow_provider_kling.operators.base import KlingBaseOperator
from airflow_provider_kling.values import checked_seconds

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_kling.gateways.base import Task

#: Seconds after our own deadline at which Airflow ends a deferral, should the triggerer be gone.
BACKSTOP = 900.0
#: The longest wait in seconds, unless told otherwise.
DEFAULT_TIMEOUT = 3600.0


class WaitOptions(NamedTuple):
    """How to wait for a job; all spans are seconds.

    :param timeout: the longest wait.
    :param interval: between two polls; None lets the schedule decide.
    :param initial_delay: no poll before the job has this age.
    :param max_poll_interval: the longest interval that the schedule takes.
    :param publish_link: push the video's link to XCom.
    """

    timeout: float
    interval: float | None
    initial_delay: float
    max_poll_interval: float
    publish_link: bool

    @classmethod
    def checked(
        cls,
        timeout: timedelta | float,
        poke_interval: timedelta | float | None,
        initial_delay: timedelta | float,
        max_poll_interval: timedelta | float,
        *,
        publish_link: bool,
    ) -> WaitOptions:
        """Return the options that are in an operator's arguments of these names.

        :raises ValueError: naming an argument that is no time span, or a too short one.
        """
        return cls(
            checked_seconds("timeout", timeout, 0),
            None if poke_interval is None else checked_seconds("poke_interval", poke_interval, 1),
            checked_seconds("initial_delay", initial_delay, 0),
            checked_seconds("max_poll_interval", max_poll_interval, 2),
            publish_link,
        )


class WaitingOperator(KlingBaseOperator):
    """The base of operators that wait for a job.

    A subclass says for which job (:meth:`_job_to_wait_for`) and what follows (:meth:`_finish`). Airflow
    resumes a deferred task with the methods here. Their names are public: tasks stay deferred across
    upgrades.
    """

    kling_conn_id: str
    kling_links: dict[str, str]
    wait_options: WaitOptions

    def _job_to_wait_for(self, context: Context) -> str:
        """Return the job's task id, empty where there is none yet."""
        raise NotImplementedError

    def _finish(self, context: Context, task: Task) -> Any:
        """Do what follows on the finished job, and return what the task returns."""
        raise NotImplementedError

    @contextmanager
    def _wait_errors(self) -> Iterator[None]:
        """Translate the errors that end the wait for Airflow."""
        with airflow_errors():
            yield

    def execute_complete(self, context: Context, event: dict[str, Any], deferrals: int = 1) -> Any:
        """Take the wait over from the triggerer: raise its error, or ask for a fresh link to the video."""
        from airflow_provider_kling.operators.job_wait import resume_wait
        from airflow_provider_kling.polling.policy import PollResult

        with self._wait_errors():
            if "error" in event:
                error = from_dict(event["error"])
                with suppress_and_log(self.log, "The end of the wait could not be counted"):
                    wait = resume_wait(self, context, event)
                    wait.count_end(KlingHook(self.kling_conn_id), PollResult(error=error))
                raise error
            task = resume_wait(self, context, event).or_defer(deferrals)
        return self._finish(context, task)

    def _resume_at(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> tuple[str, dict[str, Any] | None]:
        """Where Airflow's backstop ended the deferral, poll a last time before giving up."""
        failure = (next_kwargs or {}).get("error") if next_method == TRIGGER_FAIL_REPR else None
        if failure == TriggerFailureReason.TRIGGER_TIMEOUT.value and self._job_to_wait_for(context):
            return self.execute_at_deadline.__name__, None
        return next_method, next_kwargs

    def execute_at_deadline(self, context: Context) -> Any:
        """Make the last poll, which no triggerer was left to make: the job may be done, and is paid for."""
        from airflow_provider_kling.operators.job_wait import JobWait, read_request
        from airflow_provider_kling.submission.state import submission_state

        now, kling_task_id = time.time(), self._job_to_wait_for(context)
        began_at, deadline = now - self.wait_options.timeout, now
        with suppress_and_log(self.log, "When the wait began could not be read"):
            if recorded := submission_state(context).recorded_wait(kling_task_id):
                began_at, deadline = recorded
        request = read_request(self, context, kling_task_id)
        with self._wait_errors():
            wait = JobWait(self, context, kling_task_id, request, began_at, min(deadline, now))
            task = wait.until_end()
        return self._finish(context, task)
