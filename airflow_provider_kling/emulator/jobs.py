"""Jobs and their state, which depends only on their age."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

MAX_STORED_PROMPT = 2500


class Phase(StrEnum):
    """The documented values of `status`."""

    QUEUED = "TASK_STATUS_QUEUED"
    PROCESSING = "TASK_STATUS_PROCESSING"
    SUCCEED = "TASK_STATUS_SUCCEED"
    FAILED = "TASK_STATUS_FAILED"


CANCELED = "TASK_STATUS_CANCELED"  # no job comes to this by itself


class State(NamedTuple):
    """The state of a job."""

    phase: Phase
    progress: int
    eta: int


def state_at(age: float, queue_seconds: float, render_seconds: float) -> State:
    """Return the state of a job of this age."""
    eta = max(0, round(queue_seconds + render_seconds - age))
    if age < queue_seconds:
        return State(Phase.QUEUED, 0, eta)
    rendered = age - queue_seconds
    if rendered < render_seconds:
        return State(Phase.PROCESSING, min(99, int(100 * rendered / render_seconds)), eta)
    return State(Phase.SUCCEED, 100, 0)


@dataclass(frozen=True, slots=True)
class Digest:
    """The hash and length of a long text, such as a picture in base64."""

    sha256: str
    length: int

    @classmethod
    def of(cls, text: str | bytes) -> Digest:
        """Return the digest of a text or bytes."""
        raw = text.encode() if isinstance(text, str) else text
        return cls(sha256(raw).hexdigest(), len(raw))


def prompt_of(body: Mapping[str, Any]) -> str:
    """Return the prompt of a body together with the prompts of its shots, in any dialect."""
    shots, contents = body.get("multi_prompt"), body.get("contents")
    texts = [body.get("prompt"), *(shots if isinstance(shots, list) else ())]
    words = [text.get("prompt") if isinstance(text, dict) else text for text in texts]
    parts = [part for part in contents if isinstance(part, dict)] if isinstance(contents, list) else []
    words += [part.get("text") for part in parts if part.get("type") == "prompt"]
    return "\n".join(text for text in words if text and isinstance(text, str))


def fingerprint(model: str, body: Mapping[str, Any]) -> str:
    """Return a hash of model and body."""
    canonical = json.dumps([model, body], sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


class JobFault(Protocol):
    """A fault that is attached to a job. Each query about the job shows it."""

    @property
    def text(self) -> str:
        """The fault as written."""

    def applies(self, age: float, phase: Phase | None) -> bool:
        """Return whether a job of this age and phase shows the fault."""

    def change(self, view: Any) -> None:
        """Change what an answer shows of a job."""

    def edit(self, answer: dict[str, Any]) -> None:
        """Edit the correct answer to a query."""

    def apply_to_reply(self, reply: Any, error: Any) -> Any:
        """Return the answer with this fault applied."""


@dataclass(slots=True)
class Job:
    """One job. The gateway charges for its creation."""

    number: int  # counted from 1
    task_id: str
    model: str
    created_at: float
    queue_seconds: float
    render_seconds: float
    fingerprint: str
    dialect: str = "myrouter"
    client_id: str = ""
    callback_url: str = ""
    seconds: int = 5
    units: Decimal = Decimal(0)  # what it costs once it has succeeded
    prompt: str = ""
    pictures: tuple[Digest, ...] = ()
    unknown_fields: tuple[str, ...] = ()
    faults: tuple[JobFault, ...] = field(default=(), repr=False)

    def state(self, now: float) -> State:
        """Return the state of this job."""
        return state_at(now - self.created_at, self.queue_seconds, self.render_seconds)


class JobStore:
    """The newest `keep` jobs, oldest first."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._jobs: dict[str, Job] = {}
        self._by_client_id: dict[str, Job] = {}
        self._created = 0

    def __iter__(self) -> Iterator[Job]:
        return iter(tuple(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def next_number(self) -> int:
        """The number of the next job."""
        return self._created + 1

    def find(self, task_id: str) -> Job | None:
        """Return the job with this id."""
        return self._jobs.get(task_id)

    def find_by_client_id(self, client_id: str) -> Job | None:
        """Return the job with this id of the client's own."""
        return self._by_client_id.get(client_id)

    def create(self, **known: Any) -> Job:
        """Create a job."""
        self._created += 1
        job = Job(number=self._created, **known)
        self._jobs[job.task_id] = job
        if job.client_id:
            self._by_client_id[job.client_id] = job
        while len(self._jobs) > self._keep:
            oldest = self._jobs.pop(next(iter(self._jobs)))
            self._by_client_id.pop(oldest.client_id, None)
        return job
