"""A bounded diary of the requests that came in; it never keeps keys or pictures."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_kling.emulator.jobs import Digest


@dataclass(frozen=True, slots=True)
class Request:
    """What is remembered of one request and its answer."""

    at: float
    door: str  # "api" or "storage": they are two hosts
    method: str
    path: str  # without the query string: it may hold a signature
    status: int  # what was answered, or would have been had the connection held
    authorization: bool  # did an Authorization header come with it?
    body: Digest
    cut: bool = False  # was the connection closed instead of answering in full?
    task_id: str = ""
    job: int = 0  # number of the job, 0 when none is concerned
    prompt: str = ""
    fault: str = ""  # the fault that met it, as written


class RequestLog:
    """The newest requests, oldest first."""

    def __init__(self, keep: int, listener: Callable[[Request], None] | None = None) -> None:
        self._entries: deque[Request] = deque(maxlen=keep)
        self._listener = listener
        self.key_reached_storage = False

    def __iter__(self) -> Iterator[Request]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, request: Request) -> None:
        """Write a request down."""
        self._entries.append(request)
        self.key_reached_storage |= request.door == "storage" and request.authorization
        if self._listener is not None:
            self._listener(request)

    def clear(self) -> None:
        """Forget all requests."""
        self._entries.clear()
        self.key_reached_storage = False
