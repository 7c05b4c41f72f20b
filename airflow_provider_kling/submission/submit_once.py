"""One submission: intent, request, task id, and what a retry makes of them. Where the money is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_kling.errors import (
    KlingError,
    KlingJobFailedError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import NOT_FOUND_GRACE, Outcome, failed_task
from airflow_provider_kling.hooks import KlingHook, for_airflow, harmless
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.prices import cost_words, estimate
from airflow_provider_kling.submission.state import SubmissionRecord, SubmissionState, fingerprint

if TYPE_CHECKING:
    from airflow.sdk import Context
import zlib

from airflow_provider_kling.gateways.base import LONGEST_RETRY_AFTER

Choice = Literal["fail", "submit_again"]


def checked_choice(argument: str, value: str) -> Choice:
    """Return *value* if it is one of :data:`Choice`.

    :raises ValueError: naming the argument and what is allowed.
    """
    if value not in get_args(Choice):
        raise ValueError(f"{argument}={value!r}: must be 'fail' or 'submit_again'")
    return value  # type: ignore[return-value]  # just checked


class Submission:
    """Buys one job for one task instance, or picks up the one that an earlier try bought.

    :param hook: sends it.
    :param state: is_persistent it.
    :param job: what is bought.
    :param on_uncertain: what to do when a job may have been started whose id is not known.
    :param on_failed_job: what to do when the job of an earlier try has failed.
    :param until_delivered: the task also brings the video home: cleared before it has, it goes on with the
        job that it bought, unless that one has failed or the request has changed.
    :param log: the task's log.
    """

    def __init__(
        self,
        hook: KlingHook,
        state: SubmissionState,
        job: VideoJob,
        *,
        on_uncertain: Choice,
        on_failed_job: Choice,
        until_delivered: bool = False,
        log: Any,
    ) -> None:
        self._hook, self._state, self._job, self._log = hook, state, job, log
        self._on_uncertain, self._on_failed_job = on_uncertain, on_failed_job
        self._until_delivered = until_delivered
        self._fingerprint = fingerprint(job, hook.settings.conn_id, hook.settings.base_url)
        self.cost = estimate(job, hook.settings.prices)
        #: When the job was submitted, in epoch seconds, as soon as there is one.
        self.submitted_at = 0.0

    def resume(self) -> str | None:
        """Return the job that an earlier try of this very request bought; None: nothing stands in the way.

        :raises KlingSubmitUncertainError: an earlier try may have bought, or has bought, something else.
        :raises KlingJobFailedError: the earlier job failed, and nobody allowed to buy another.
        """
        entry = self._state.last_record()
        if entry is None:
            return None
        known = entry.kling_task_id
        at = datetime.fromtimestamp(entry.noted_at, UTC).isoformat(timespec="seconds")
        cleared = entry.generation != self._state.generation
        if cleared and (known or entry.reported) and not self._goes_on(entry):
            before = known or "one of unknown id"
            self._log.warning("The task was cleared: a new job is bought. The one of %s was %s.", at, before)
            return None
        if not known:
            self._gate(
                f"An earlier try of this task sent a request at {at} and ended before it noted the answer."
            )
            return None
        if entry.fingerprint != self._fingerprint:
            self._gate(f"An earlier try submitted job {known} at {at}, for a request that has changed since.")
            return None
        young = time.time() < entry.noted_at + NOT_FOUND_GRACE
        if not self._usable(known, young=young):
            return None
        self._log.info("Picked up again: job %s, submitted by an earlier try at %s.", known, at)
        self.submitted_at = entry.noted_at
        return known

    def send(self) -> str:
        """Send the request once, with a note before and after it, and return the task id.

        :raises KlingUnavailableError: surely nothing was started; the request may be repeated.
        :raises KlingSubmitUncertainError: a job may have been started.
        """
        self.submitted_at = time.time()
        self._state.record_intent(self._fingerprint, self.submitted_at)
        try:
            kling_task_id = self._hook.submit(self._job)
        except KlingSubmitUncertainError as error:
            raise self._uncertain(error) from error
        except KlingError:
            with harmless(self._log, "The refusal could not be noted"):
                self._state.remove_intent()
            raise
        except BaseException as error:
            if self._state.is_persistent:
                raise  # a retry finds the intent
            what = f"The task was ended ({type(error).__name__}) between the request and its answer."
            raise self._uncertain(KlingSubmitUncertainError(what)) from error
        self._log.info("Kling task id: %s", kling_task_id)
        with harmless(self._log, "The task id could not be noted for a retry"):
            self._state.record_task_id(self._fingerprint, time.time(), kling_task_id)
        return kling_task_id

    def _goes_on(self, entry: SubmissionRecord) -> bool:
        """Return whether a task that was cleared amid its work goes on with the job that it bought."""
        known, same = entry.kling_task_id, entry.fingerprint == self._fingerprint
        if not (self._until_delivered and known and same) or entry.reported or entry.delivered:
            return False
        with suppress(KlingTaskNotFoundError):  # which _usable tells
            if self._failure_of(known):
                return False
        self._log.info("The task was cleared before the video of job %s was home.", known)
        self._state.adopt_job()
        return True

    def _usable(self, kling_task_id: str, *, young: bool) -> bool:
        """Return whether a job may be waited for; one that is *young* may not be visible to queries yet."""
        try:
            failure = self._failure_of(kling_task_id)
        except KlingTaskNotFoundError:
            if not young:
                self._gate(f"An earlier try submitted job {kling_task_id}, which the gateway does not show.")
            return young
        if failure is None:
            return True
        if self._on_failed_job == "fail":
            raise for_airflow(failure)
        self._log.warning("%s A new job is bought, as on_failed_job='submit_again' says.", failure.what)
        return False

    def _failure_of(self, kling_task_id: str) -> KlingError | None:
        """Return why a job ended without a video; None where it did not, or cannot be asked now."""
        try:
            task = self._hook.get_task(kling_task_id)
        except KlingUnavailableError as error:
            self._log.info("The state of the job could not be asked: %s", error.what)
            return None
        except KlingJobFailedError as error:
            return error
        return failed_task(task) if task.outcome in (Outcome.FAILED, Outcome.CANCELLED) else None

    def _gate(self, what: str) -> None:
        """Stop at what may have been bought already, unless the Dag's author said to go on."""
        if self._on_uncertain == "fail":
            raise self._uncertain(KlingSubmitUncertainError(what))
        self._log.warning("%s A request is sent all the same, as on_uncertain='submit_again' says.", what)

    def _uncertain(self, error: KlingError) -> KlingError:
        again = self._on_uncertain == "submit_again"
        facts = {**error.facts(), "what": f"{error.what} It may have cost {cost_words(self.cost)}."}
        if again:
            facts["advice"] = "Airflow's next try submits again, as on_uncertain='submit_again' says."
        else:
            with harmless(self._log, "It could not be noted that this was told"):
                self._state.record_reported()
        return for_airflow(KlingSubmitUncertainError(**facts), retry=again)


def submission_state(context: Context) -> SubmissionState:
    """Return the memory of the task that is executed."""
    store: Any = context.get("task_state_store")
    return SubmissionState(store, context["ti"].max_tries)


@contextmanager
def naming_earlier_job(state: SubmissionState) -> Iterator[None]:
    """Name the job of an earlier try where a retry fails before it, say on a picture that is gone."""
    try:
        yield
    except KlingError as error:
        entry = state.last_record()
        if not entry or entry.generation != state.generation:
            raise
        known = entry.kling_task_id
        facts = {
            "what": f"{error.what} An earlier try has submitted {known or 'a job of unknown id'}.",
            "advice": f"{error.advice} Before you clear the task: example Dag kling_rescue fetches that "
            "job's video.",
            "money": Money.MAYBE,
            "kling_task_id": known or None,
        }
        raise error.replace(**facts) from error


#: A submit that started nothing is repeated after these seconds, doubled each time, up to the longest.
SUBMIT_BACKOFF, LONGEST_SUBMIT_BACKOFF = 2.0, 300.0


def submit_delay(attempt: int, retry_after: float | None, key: str) -> float:
    """Return the seconds to wait before a submit that surely started nothing is sent again.

    :param attempt: how often it was repeated already.
    :param retry_after: what the gateway asked for, in seconds, if it did.
    :param key: spreads those who were turned away together; the same key gives the same delay.
    """
    backoff: float = min(SUBMIT_BACKOFF * 2 ** min(attempt, 20), LONGEST_SUBMIT_BACKOFF)
    spread = backoff * zlib.crc32(f"{key}/{attempt}".encode()) / 2**32
    asked: float = min(retry_after or 0.0, LONGEST_RETRY_AFTER)
    return max(backoff / 2, asked) + spread / 2
