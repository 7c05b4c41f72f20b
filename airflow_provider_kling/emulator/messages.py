"""Requests and answers as values, without sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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


# The service's documented reasons and their HTTP status.
STATUS_OF_REASON = {
    "MISSING_API_KEY": 400,
    "FAILED_TO_AUTH": 401,
    "INVALID_API_KEY": 403,
    "API_NOT_ALLOWED": 403,
    "FEATURE_NOT_ALLOWED": 403,
    "NEED_REAL_NAME_VERIFY": 403,
    "ACCESS_DENY": 403,
    "BILLING_AUTH_FAILED": 403,
    "BILLING_BALANCE_NOT_ENOUGH": 400,
    "NOT_ENOUGH_BALANCE": 403,
    "ILLEGAL_PROMPT": 400,
    "ILLEGAL_IMAGE_CONTENT": 400,
    "INVALID_REQUEST_BODY": 400,
    "IMAGE_FILE_EXCEEDS_MAX_SIZE": 400,
    "INVALID_IMAGE_FORMAT": 400,
    "IMAGE_EXCEEDS_MAX_RESOLUTION": 400,
    "INVALID_IMAGE_SIZE": 400,
    "API_NOT_FOUND": 404,
    "RATE_LIMIT_EXCEEDED": 429,
    "BILLING_FAILED": 500,
    "CREATE_TASK_FAILED": 500,
    "GET_RESULT_FAILED": 500,
    "TASK_FAILED": 500,
    "TASK_NOT_FOUND": 404,
}


def error_reply(reason: str, message: str = "", status: int | None = None) -> Reply:
    """Return an error in the form of the service, with a trace id."""
    code = status or STATUS_OF_REASON.get(reason, 500)
    words = message or f"{reason.replace('_', ' ').lower()} (from the emulator)"
    body = {"code": code, "reason": reason, "message": f"{words} trace_id: emulator", "metadata": {}}
    return json_reply(body, code)
