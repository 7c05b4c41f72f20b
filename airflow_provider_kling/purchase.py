"""One purchase: intent, request, task id, and what a retry makes of them. Where the money is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_provider_kling.errors import (
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.hooks import KlingHook, for_airflow
from airflow_provider_kling.jobs import Outcome, VideoJob
from airflow_provider_kling.ledger import Ledger, fingerprint
from airflow_provider_kling.polling import NOT_FOUND_GRACE
from airflow_provider_kling.validation import cost_words, estimate
from airflow_provider_kling.wire import failed_task

Choice = Literal["fail", "submit_again"]


def checked_choice(argument: str, value: str) -> Choice:
    """Return *value* if it is one of :data:`Choice`.

    :raises ValueError: naming the argument and what is allowed.
    """
    if value not in get_args(Choice):
        raise ValueError(f"{argument}={value!r}: must be 'fail' or 'submit_again'")
    return value  # type: ignore[return-value]  # just checked


class Purchase:
    """Buys one job for one task instance, or picks up the one that an earlier try bought.

    :param hook: sends it.
    :param ledger: remembers it.
    :param job: what is bought.
    :param on_uncertain: what to do when a job may have been started whose id is not known.
    :param on_failed_job: what to do when the job of an earlier try has failed.
    :param log: the task's log.
    """

    def __init__(
        self,
        hook: KlingHook,
        ledger: Ledger,
        job: VideoJob,
        *,
        on_uncertain: Choice,
        on_failed_job: Choice,
        log: Any,
    ) -> None:
        self._hook, self._ledger, self._job, self._log = hook, ledger, job, log
        self._on_uncertain, self._on_failed_job = on_uncertain, on_failed_job
        self._fingerprint = fingerprint(job, hook.settings.base_url)
        self.cost = estimate(job)

    def pick_up(self) -> str | None:
        """Return the job that an earlier try of this very request bought, if one may be used.

        :raises KlingSubmitUncertainError: an earlier try was cut off between the request and its answer.
        :raises KlingJobFailedError: the earlier job failed, and nobody allowed to buy another.
        """
        entry = self._ledger.recall(self._fingerprint)
        if entry is None:
            if other := self._ledger.last():
                known = other["kling_task_id"] or "a job of unknown id"
                self._log.warning("An earlier try of this task submitted %s for another request.", known)
            return None
        noted_at = entry["intended_at"]
        at = datetime.fromtimestamp(noted_at, UTC).isoformat(timespec="seconds")
        if kling_task_id := entry["kling_task_id"]:
            if not self._usable(kling_task_id, young=time.time() < noted_at + NOT_FOUND_GRACE):
                return None
            self._log.info("Picked up again: job %s, submitted by an earlier try at %s.", kling_task_id, at)
            return str(kling_task_id)
        what = f"An earlier try of this task sent this request at {at} and ended before it noted the answer."
        if self._on_uncertain == "fail":
            raise self._uncertain(what)
        self._log.warning("%s It is sent again, as on_uncertain='submit_again' says.", what)
        return None

    def send(self) -> str:
        """Send the request once, with a note before and after it, and return the task id.

        :raises KlingUnavailableError: surely nothing was started; the request may be repeated.
        :raises KlingSubmitUncertainError: a job may have been started.
        """
        self._ledger.intend(self._fingerprint, time.time())
        try:
            kling_task_id = self._hook.submit(self._job)
        except KlingSubmitUncertainError as error:
            raise self._uncertain(error.what) from error
        except KlingError:
            self._ledger.forget()
            raise
        self._log.info("Kling task id: %s", kling_task_id)
        try:
            self._ledger.settle(self._fingerprint, time.time(), kling_task_id)
        except AirflowRuntimeError as error:
            # The job exists and the task can still succeed; only a retry would not know the id.
            self._log.error("The task id could not be noted for a retry: %s", error)
        return kling_task_id

    def _usable(self, kling_task_id: str, *, young: bool) -> bool:
        """Return whether a job may be waited for; one that is *young* may not be visible to queries yet."""
        failure: KlingError | None = None
        try:
            task = self._hook.get_task(kling_task_id)
        except KlingUnavailableError as error:
            self._log.info("The state of the job could not be asked: %s", error.what)
        except (KlingJobFailedError, KlingTaskNotFoundError) as error:
            failure = None if young and isinstance(error, KlingTaskNotFoundError) else error
        else:
            failure = failed_task(task) if task.outcome in (Outcome.FAILED, Outcome.CANCELLED) else None
        if failure is None:
            return True
        if self._on_failed_job == "fail":
            raise for_airflow(failure)
        self._log.warning("%s A new job is bought, as on_failed_job='submit_again' says.", failure.what)
        return False

    def _uncertain(self, what: str) -> KlingError:
        error = KlingSubmitUncertainError(f"{what} It may have cost {cost_words(self.cost)}.")
        return for_airflow(error, retry=self._on_uncertain == "submit_again")


@contextmanager
def earlier_job_named(ledger: Ledger) -> Iterator[None]:
    """Name the job of an earlier try where a retry fails before it, say on a picture that is gone."""
    try:
        yield
    except KlingInputError as error:
        if not (entry := ledger.last()):
            raise
        known = entry["kling_task_id"]
        what = f"{error.what} An earlier try of this task has submitted {known or 'a job of unknown id'}."
        raise KlingInputError(what, money=Money.MAYBE, kling_task_id=known or None) from error
