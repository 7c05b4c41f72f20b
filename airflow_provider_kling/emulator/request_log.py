"""A log of the latest requests. It holds no keys and no pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from airflow_provider_kling.emulator.jobs import Digest


@dataclass(frozen=True, slots=True)
class Request:
    """One request and its answer."""

    at: float
    host: str  # "api" or "storage"
    method: str
    path: str  # without the query string, which may hold a signature
    status: int  # of the answer, also if the connection was closed
    authorization: bool  # whether it had an Authorization header
    body: Digest
    cut: bool = False  # whether the connection was closed before the answer was complete
    task_id: str = ""
    job: int = 0  # number of the job, 0 if there is none
    prompt: str = ""
    fault: str = ""  # the fault that was applied, as written


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
        """Add a request."""
        self._entries.append(request)
        self.key_reached_storage |= request.host == "storage" and request.authorization
        if self._listener is not None:
            self._listener(request)
