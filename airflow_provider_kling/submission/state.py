"""What a task records of its submission across crashes, retries and clears, so that it pays once.

The *intent* is recorded before the POST, the task id right after it. A retry that finds an intent without
an id knows that a job may exist; a retry that finds the id knows the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_kling.errors import KlingUnavailableError, Money
from airflow_provider_kling.models.prices import read_limit, usd_as_text
from airflow_provider_kling.redaction import clean, shorten
from airflow_provider_kling.submission.settle import client_id
from airflow_provider_kling.values import as_list

if TYPE_CHECKING:
    from airflow.sdk import Context

_KEY = "kling_submit"
_WAIT_KEY = "kling_wait"
#: The task state value with the costs of earlier jobs: US dollars as a text, by task id.
COSTS_KEY = "kling_spent"
_STATE = "The submission's state cannot be {} Airflow's task state store"
#: Seconds between the attempts to reach Airflow's API server; together, how long it may be away.
_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)


class Store(Protocol):
    """The part of Airflow's ``context["task_state_store"]`` that is used here."""

    def get(self, key: str) -> Any:
        """Return the value under *key*, or None."""

    def set(self, key: str, value: Any) -> None:
        """Store a JSON value; it is committed when this returns."""

    def delete(self, key: str) -> None:
        """Delete the value under *key*."""


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a task instance, in Airflow's numbers. They show whether it is a retry or follows a clear.

    :param max_tries: the last try that Airflow allows; a clear raises it, a retry does not.
    :param try_number: the number of this try.
    :param retries: the task's retries.
    :param clear_number: how often tasks of the Dag run were cleared.
    """

    max_tries: int
    try_number: int = 1
    retries: int = 0
    clear_number: int = 0

    def is_cleared_since(self, earlier: Try, *, has_ended: bool) -> bool:
        """Return whether a user has cleared the task since an *earlier* try.

        A clear sets ``max_tries`` to the last try plus the retries. With fewer retries than before, that can
        be the same number again. Then the run counts one more clear, and the first try after the clear,
        ``max_tries - retries + 1``, comes after the earlier try. A retry looks the same if meanwhile the
        retries were lowered and another task was cleared. So it counts as a clear only after a try that has
        ended: nothing else runs the task again.

        :param has_ended: whether the earlier try is known to have ended, well or with a final error.
        """
        if self.max_tries != earlier.max_tries:
            return True
        first_try = self.max_tries - self.retries + 1
        is_later = earlier.try_number < first_try <= self.try_number
        return has_ended and is_later and self.clear_number > earlier.clear_number

    @classmethod
    def of_task(cls, context: Context) -> Try:
        """Return the try that is executed."""
        ti: Any = context["ti"]
        task, dag_run = context.get("task"), context.get("dag_run")
        return cls(
            ti.max_tries,
            getattr(ti, "try_number", 1),
            getattr(task, "retries", 0) or 0,
            getattr(dag_run, "clear_number", 0) or 0,
        )

    @classmethod
    def read(cls, value: Any) -> Try:
        """Return a try out of the store; a number alone is ``max_tries``.

        :raises TypeError: where it is neither.
        """
        numbers = as_list(value)
        if not numbers or not all(isinstance(number, int) for number in numbers):
            raise TypeError(f"{value!r} is no try")
        return cls(*numbers)


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """What is recorded of one submission.

    :param recorded_by: the try that recorded it.
    :param noted_at: when, in epoch seconds.
    :param kling_task_id: the job; empty while only the intent is recorded.
    :param cost: the estimated cost in US dollars; None where it is unknown.
    :param reported: an error has reported that a job may exist whose id is unknown.
    :param finished: the task has ended well: a submit with the task id, the one task with the video.
    :param client_id: our own id of the job, where the gateway takes one.
    :param sent_to: the connection, where the client id finds the job.
    :param sent_at: when the request was sent last, in epoch seconds.
    """

    recorded_by: Try
    fingerprint: str
    noted_at: float
    kling_task_id: str = ""
    cost: str | None = None
    reported: bool = False
    finished: bool = False
    client_id: str = ""
    sent_to: str = ""
    sent_at: float = 0.0

    @property
    def unknown_job(self) -> str:
        """The words for a job whose id is not known."""
        return f"a job with client id {self.client_id}" if self.client_id else "a job of unknown id"

    @property
    def job(self) -> str:
        """The name of the job, also where its id is unknown."""
        return self.kling_task_id or f"of unknown id, {self.noted_at:.3f}"


@dataclass(frozen=True, slots=True)
class Instance:
    """A task instance in its Dag run.

    :param run_started_at: when the run began, in epoch seconds; 0 where it was cleared, which changes that.
    """

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    run_started_at: float = 0.0

    @classmethod
    def of_task(cls, context: Context) -> Instance:
        """Return the task instance that is executed."""
        ti: Any = context["ti"]
        run: Any = context.get("dag_run")
        started = None if getattr(run, "clear_number", 0) else getattr(run, "start_date", None)
        return cls(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, started.timestamp() if started else 0.0)


class SubmissionState:
    """The recorded state of one task instance.

    :param store: where it is kept; None where this Airflow has no task state store.
    """

    def __init__(self, store: Store | None, current: Try, instance: Instance = Instance()) -> None:
        self._store = store
        self.current = current
        self.instance = instance

    @property
    def is_persistent(self) -> bool:
        """Whether there is a store at all."""
        return self._store is not None

    def last_record(self) -> SubmissionRecord | None:
        """Return the last record, of this try or an earlier one, from before a clear or after it.

        :raises KlingUnavailableError: the store does not answer.
        """
        value = self._get(_KEY)
        return None if value is None else _read(value) or SubmissionRecord(self.current, "", 0.0)

    def is_cleared_since(self, record: SubmissionRecord) -> bool:
        """Return whether a user has cleared the task since the record was made."""
        has_ended = record.finished or record.reported
        return self.current.is_cleared_since(record.recorded_by, has_ended=has_ended)

    def open_record(self) -> SubmissionRecord | None:
        """Return the record of a job that a failure must name: not one that had ended before a clear.

        :raises KlingUnavailableError: the store does not answer.
        """
        record = self.last_record()
        has_ended = record and (record.finished or record.reported)
        return None if record and has_ended and self.is_cleared_since(record) else record

    def new_client_id(self, after: str = "") -> str:
        """Return the client id of the next job: a retry makes the same one, a clear another one.

        With a store it also depends on the start of the run. Without one it does not: the clear of another
        task changes that, and then a retry would not find its job.

        :param after: the job that this task instance bought before.
        """
        one = self.instance
        run_started_at = one.run_started_at if self.is_persistent else 0.0
        return client_id(
            one.dag_id, one.run_id, one.task_id, one.map_index, self.current.max_tries, after, run_started_at
        )

    def record_intent(self, intent: SubmissionRecord) -> None:
        """Record that a request is about to be sent for the first time.

        :raises KlingUnavailableError: the store does not take it; then nothing may be sent.
        """
        if costs := self.costs():  # the record of an earlier job is about to be replaced
            self._set(COSTS_KEY, {job: usd_as_text(usd) for job, usd in costs.items()})
        try:
            self._write(intent)
        except KlingUnavailableError:
            with suppress(Exception):  # only the answers may have been lost
                if self.last_record() == intent:
                    self.remove_intent()
            raise

    def record(self, record: SubmissionRecord) -> None:
        """Record a job, or an intent that is sent again. A task that is ended meanwhile tries once more.

        :raises KlingUnavailableError: the store does not take it.
        """
        try:
            self._write(record)
        except Exception:
            raise
        except BaseException:  # a timeout or a signal: the id is worth one more write
            with suppress(Exception):
                self._write(record, pauses=())
            raise

    def confirm_task_id(self, kling_task_id: str) -> None:
        """Record the id of the running job where the store did not take it before.

        :raises KlingUnavailableError: the store does not take it.
        """
        record = self.last_record()
        if record and not record.kling_task_id and not self.is_cleared_since(record):
            self._write(replace(record, kling_task_id=kling_task_id))

    def record_reported(self) -> None:
        """Record that an error has reported a job of unknown id."""
        self._change(reported=True)

    def record_finished(self) -> None:
        """Record that the task has ended well: only a clear runs it again."""
        self._change(finished=True)

    def adopt_job(self) -> None:
        """Make the job that was bought before a clear the job of this try."""
        self._change(recorded_by=self.current)

    def remove_intent(self) -> None:
        """Record that no job was started."""
        store = self._store
        if store is not None:
            patiently(lambda: store.delete(_KEY), _STATE.format("deleted from"))

    def recorded_wait(self, kling_task_id: str) -> tuple[float, float] | None:
        """Return when the wait for a job began and when it ends, in epoch seconds; None after a clear."""
        match self._get(_WAIT_KEY):
            case {"of": [recorded_by, job], "began_at": float(began_at), "deadline": float(deadline)}:
                cleared = self.current.is_cleared_since(Try.read(recorded_by), has_ended=True)
                return (began_at, deadline) if job == kling_task_id and not cleared else None
        return None

    def record_wait(self, kling_task_id: str, began_at: float, deadline: float) -> None:
        """Record when a wait began and when it ends, in epoch seconds: a retry does not wait anew."""
        wait = {"of": [[*astuple(self.current)], kling_task_id], "began_at": began_at, "deadline": deadline}
        self._set(_WAIT_KEY, wait)

    def costs(self) -> dict[str, Decimal | None]:
        """Return the cost of each job that this task instance has bought or may have bought, in US dollars.

        It is an estimate until the gateway's bill is known. A request whose answer is unknown counts from its
        intent on. None means: of unknown price. Costs that cannot be read count as one job of unknown price.
        """
        value = self._get(COSTS_KEY)
        if not isinstance(value, dict):
            value = {} if value is None else {"unreadable": None}
        costs = {job: _usd(usd) for job, usd in value.items()}
        record = self.last_record()
        return {record.job: _usd(record.cost), **costs} if record else costs

    def record_cost(self, kling_task_id: str, usd: Decimal) -> None:
        """Record what the gateway says that a job of this task instance has cost, in place of the estimate.

        :raises KlingUnavailableError: the store does not take it.
        """
        known, costs = self._get(COSTS_KEY), self.costs()
        is_readable = known is None or isinstance(known, dict)
        if is_readable and kling_task_id in costs and costs[kling_task_id] != usd:
            self._set(COSTS_KEY, {**(known or {}), kling_task_id: str(usd)})

    def _change(self, **changes: Any) -> None:
        if record := self.last_record():
            self._write(replace(record, **changes))

    def _write(self, record: SubmissionRecord, pauses: Sequence[float] = _PAUSES) -> None:
        value = {**asdict(record), "recorded_by": [*astuple(record.recorded_by)]}
        self._set(_KEY, value, pauses)

    def _get(self, key: str) -> Any:
        if (store := self._store) is None:
            return None
        try:
            return patiently(lambda: store.get(key), _STATE.format("read from"))
        except KlingUnavailableError as error:  # an earlier try may have bought a job
            advice = "A retry reads it again before it submits anything."
            raise error.replace(money=Money.MAYBE, advice=advice) from error.__cause__

    def _set(self, key: str, value: Any, pauses: Sequence[float] = _PAUSES) -> None:
        store = self._store
        if store is not None:
            patiently(lambda: store.set(key, value), _STATE.format("written to"), pauses)


def submission_state(context: Context) -> SubmissionState:
    """Return the recorded state of the task that is executed."""
    store: Any = context.get("task_state_store")
    return SubmissionState(store, Try.of_task(context), Instance.of_task(context))


def patiently(call: Callable[[], Any], problem: str, pauses: Sequence[float] = _PAUSES) -> Any:
    """Call Airflow's API server; where it fails, call it again for some seconds.

    :param problem: what it means that the call fails.
    :raises KlingUnavailableError: it fails each time.
    """
    for pause in (*pauses, None):
        try:
            return call()
        except MemoryError:  # will not pass by waiting
            raise
        except Exception as error:
            if pause is None:
                why = shorten(clean(f"{type(error).__name__}: {error}"), 300)
                raise KlingUnavailableError(f"{problem} ({why}).") from error
            time.sleep(pause)
    raise AssertionError("unreachable")  # pragma: no cover


def _usd(value: Any) -> Decimal | None:
    try:
        return read_limit(value)
    except ValueError:
        return None


def _read(value: Any) -> SubmissionRecord | None:
    """Return the record in a stored value, also of another version; None where it makes no sense."""
    names = [field.name for field in fields(SubmissionRecord)]
    try:
        known = {name: value[name] for name in names if name in value}
        known["recorded_by"] = Try.read(value["recorded_by" if "recorded_by" in value else "generation"])
        known.setdefault("reported", value.get("told", False))
        known.setdefault("finished", value.get("delivered", False))
        record = SubmissionRecord(**known)
    except (TypeError, KeyError, AttributeError):
        return None
    usual = isinstance(record.kling_task_id, str) and isinstance(record.noted_at, (int, float))
    return record if usual else None
