"""What a task is_persistent of its submit across crashes and retries, so that no job is paid for twice.

The *intent* is written before the POST and the task id right after it. A retry that finds an intent
without an id knows: maybe. One that finds the id knows the job. Pure: the store comes in from outside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from airflow_provider_kling.models.job import VideoJob

_KEY = "kling_submit"
_WAIT_KEY = "kling_wait"
_SPENT_KEY = "kling_spent"
#: Inputs that are words, even if they begin like a URL.
WORDS = frozenset({"prompt", "negative_prompt", "multi_prompt"})
#: How storages sign a URL: parameters that say nothing but that, and what else goes with a signature.
_SIGNING = ("x-amz-", "x-goog-", "x-oss-", "x-cos-", "x-tos-", "x-obs-", "q-sign")
_BESIDE = {
    "signature": frozenset({"signature", "expires", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid"})
    | {"accesskeyid", "security-token", "key-pair-id", "policy"},
    "sig": frozenset({"sig", "se", "sp", "sv", "sr", "st", "spr", "sip", "skoid", "sktid", "skt", "ske"})
    | {"sks", "skv"},
    "q-signature": frozenset({"q-ak", "q-key-time", "q-header-list", "q-url-param-list"}),
}


class Store(Protocol):
    """As much of Airflow's ``context["task_state_store"]`` as is needed here."""

    def get(self, key: str) -> Any:
        """Return the value under *key*, or None."""

    def set(self, key: str, value: Any) -> None:
        """Store a JSON value; it is committed when this returns."""

    def delete(self, key: str) -> None:
        """Forget the value under *key*."""


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """What was noted of a submit.

    :param generation: the same for all retries, another one after a user cleared the task.
    :param fingerprint: of the request.
    :param noted_at: when, in epoch seconds.
    :param kling_task_id: the job, or empty: the request was about to be sent, and nobody knows more.
    :param reported: a person was told that a job may exist that cannot be found.
    :param delivered: the task that bought the job has also brought its video home.
    """

    generation: int
    fingerprint: str
    noted_at: float
    kling_task_id: str = ""
    reported: bool = False
    delivered: bool = False


class SubmissionState:
    """The memory of one task instance.

    :param store: where it is kept, or None where this Airflow has no task state store.
    :param generation: the one of this try.
    """

    def __init__(self, store: Store | None, generation: int) -> None:
        self._store = store
        self.generation = generation

    @property
    def is_persistent(self) -> bool:
        """Whether there is a store at all."""
        return self._store is not None

    def last_record(self) -> SubmissionRecord | None:
        """Return what was noted last, in whichever generation."""
        noted = self._store.get(_KEY) if self._store is not None else None
        return None if noted is None else _read(noted) or SubmissionRecord(self.generation, "", 0.0)

    def record_intent(self, fingerprint: str, now: float) -> None:
        """Note that the request is about to be sent, in epoch seconds."""
        self._write(SubmissionRecord(self.generation, fingerprint, now))

    def record_task_id(self, fingerprint: str, now: float, kling_task_id: str) -> None:
        """Note the job that the gateway made."""
        self._write(SubmissionRecord(self.generation, fingerprint, now, kling_task_id))

    def record_reported(self) -> None:
        """Note that a person is being told of a job whose id is not known."""
        self._renew(reported=True)

    def record_delivered(self) -> None:
        """Note that the job's video is in its place."""
        self._renew(delivered=True)

    def adopt_job(self) -> None:
        """Take the job that was bought before the task was cleared for this generation's own."""
        self._renew(generation=self.generation)

    def remove_intent(self) -> None:
        """Note that no job was made."""
        if self._store is not None:
            self._store.delete(_KEY)

    def recorded_wait(self, kling_task_id: str) -> tuple[float, float] | None:
        """Return when this generation's wait for a job began and when it ends, in epoch seconds."""
        noted = self._store.get(_WAIT_KEY) if self._store is not None else None
        match noted:
            case {"of": of, "began_at": float(began_at), "deadline": float(deadline)} if of == [
                self.generation,
                kling_task_id,
            ]:
                return began_at, deadline
        return None

    def record_wait(self, kling_task_id: str, began_at: float, deadline: float) -> None:
        """Note when a wait began and when it ends, in epoch seconds: a retry does not wait anew."""
        if self._store is not None:
            wait = {"of": [self.generation, kling_task_id], "began_at": began_at, "deadline": deadline}
            self._store.set(_WAIT_KEY, wait)

    def costs(self) -> dict[str, str | None]:
        """Return what each job that this task instance ever bought is estimated to cost, in US dollars."""
        spent = self._store.get(_SPENT_KEY) if self._store is not None else None
        return dict(spent) if isinstance(spent, dict) else {}

    def record_cost(self, kling_task_id: str, usd: Decimal | None) -> None:
        """Note what a job costs, once; None where no price is known."""
        spent = self.costs()
        if self._store is not None and kling_task_id not in spent:
            self._store.set(_SPENT_KEY, {**spent, kling_task_id: None if usd is None else str(usd)})

    def _renew(self, **changes: Any) -> None:
        if entry := self.last_record():
            self._write(replace(entry, **changes))

    def _write(self, entry: SubmissionRecord) -> None:
        if self._store is not None:
            self._store.set(_KEY, asdict(entry))


def fingerprint(job: VideoJob, *connection: str) -> str:
    """Return a hash over model, inputs and connection; what signs a picture's URL does not count.

    :param connection: what tells one connection from another: its id and the gateway's URL.
    """
    request = [job.model, _unsigned(dict(job.inputs), job.signed), *connection]
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _unsigned(value: Any, signed: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {name: item if name in WORDS else _unsigned(item, signed) for name, item in value.items()}
    if isinstance(value, list):
        return [_unsigned(item, signed) for item in value]
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        return value
    if value in signed:
        return signed[value]
    try:
        parts = urlsplit(value)
    except ValueError:  # the gateway may know what to do with it
        return value
    query = parse_qsl(parts.query, keep_blank_values=True)
    names = {name.lower() for name, _ in query}
    signing = frozenset[str]().union(*(names & beside for mark, beside in _BESIDE.items() if mark in names))
    kept = [(n, text) for n, text in query if not (n.lower().startswith(_SIGNING) or n.lower() in signing)]
    return urlunsplit(parts._replace(query=urlencode(kept)))


def _read(noted: Any) -> SubmissionRecord | None:
    """Return the entry in a note, also in one of another version; None where it makes no sense."""
    names = [field.name for field in fields(SubmissionRecord)]
    try:
        entry = SubmissionRecord(**{name: noted[name] for name in names if name in noted})
    except TypeError:
        return None
    usual = isinstance(entry.kling_task_id, str) and isinstance(entry.noted_at, (int, float))
    return entry if usual else None
