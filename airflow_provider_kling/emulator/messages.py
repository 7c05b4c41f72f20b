"""Requests and answers as values, without sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from multidict import CIMultiDict

Json = dict[str, Any]


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. `disconnected()` returns whether the client has closed the connection."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    disconnected: Callable[[], bool] = _never

    def header(self, name: str) -> str:
        """Return a header, or an empty text. Upper and lower case are equal."""
        return CIMultiDict(self.headers).get(name, "")


@dataclass(frozen=True, slots=True)
class Transfer:
    """How an answer is sent."""

    delay: float = 0.0  # seconds before the first byte
    cut: bool = False  # close the connection; send only the first `keep` bytes of the body, if any
    keep_bytes: int = 0
    extra_length: int = 0  # added to Content-Length, in bytes
    seconds: float = 0.0  # how long the body takes


NORMAL_TRANSFER = Transfer()


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer and its transfer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    transfer: Transfer = NORMAL_TRANSFER


def json_reply(value: object, status: int = 200) -> Reply:
    """Answer with JSON."""
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


class ErrorForm(Protocol):
    """How a dialect writes an error: it understands MyRouter's reasons and Kling's codes."""

    def __call__(self, reason: str, message: str = "", status: int | None = None) -> Reply:
        """Return an error with this reason."""


class RefusedError(Exception):
    """The service refuses this input."""

    def __init__(self, message: str, reason: str = "INVALID_REQUEST_BODY") -> None:
        super().__init__(message)
        self.reason = reason
