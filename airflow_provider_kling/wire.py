"""
The gateway's dialect as pure functions: requests to send, replies to read, errors to judge.

The only place that knows a URL path or a JSON key of the gateway. A :class:`Call` is a plain value; a
client sends it and gives the :class:`Reply` back to the call's own reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.jobs import Outcome, Task, Video, VideoJob

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What came back.

    :param status: the HTTP status.
    :param headers: the headers, their names in lower case.
    :param body: the bytes of the body.
    :param received_at: when it came, in epoch seconds.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """
    A request and the way to read its reply.

    :param method: the HTTP method.
    :param path: path below the gateway's base URL.
    :param read: makes the value out of the reply, or raises a :class:`KlingError`.
    :param params: the query string.
    :param body: the JSON body, if any.
    :param paid: sending it buys a job: after an unclear failure it is never sent again.
    :param kling_task_id: the job it asks for, if any.
    """

    method: str
    path: str
    read: Callable[[Reply], T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    paid: bool = False
    kling_task_id: str | None = None

    def lost(self, cause: str, *, sent: bool) -> KlingError:
        """
        Return the error for a request that got no reply.

        :param cause: what the transport said.
        :param sent: whether the request may have reached the gateway.
        """
        uncertain = self.paid and sent
        return (KlingSubmitUncertainError if uncertain else KlingUnavailableError)(
            f"No answer from the gateway ({cause}).",
            money=Money.MAYBE if uncertain else _money(self),
            kling_task_id=self.kling_task_id,
        )


def submit(job: VideoJob) -> Call[str]:
    """Return the call that starts *job* and yields its task id."""

    def read(reply: Reply) -> str:
        data = _json_object(reply.body)
        task_id = data.get("task_id")
        if reply.ok and isinstance(task_id, str) and task_id.strip():
            return task_id.strip()
        raise _judge(reply, call)

    path = f"/v3/async/{quote(job.model, safe='')}"
    call = Call("POST", path, read, body=job.inputs, paid=True)
    return call


def query(kling_task_id: str) -> Call[Task]:
    """Return the call that asks for the state of a job and yields its :class:`Task`."""

    def read(reply: Reply) -> Task:
        data = _json_object(reply.body)
        task = data.get("task")
        if reply.ok and isinstance(task, dict) and isinstance(task.get("status"), str):
            return _read_task(kling_task_id, data, task)
        raise _judge(reply, call)

    params = {"task_id": kling_task_id}
    call = Call("GET", "/v3/async/task-result", read, params=params, kling_task_id=kling_task_id)
    return call


def outcome_of(status: str) -> Outcome:
    """
    Return what a status word means.

    A word that nobody knows means "not finished", unless it speaks of failing or cancelling.
    """
    word = status.upper()
    if word == "TASK_STATUS_SUCCEED":
        return Outcome.SUCCEEDED
    if "CANCEL" in word:
        return Outcome.CANCELLED
    return Outcome.FAILED if "FAIL" in word else Outcome.UNFINISHED


KNOWN_STATUSES = frozenset(
    f"TASK_STATUS_{word}" for word in ("QUEUED", "PROCESSING", "SUCCEED", "FAILED", "UNKNOWN", "CANCELED")
)


def failed_task(task: Task) -> KlingError:
    """Return the error for a job that failed, was cancelled, or succeeded with nothing in it."""
    if task.outcome is Outcome.SUCCEEDED:
        what = f"Job {task.kling_task_id} ended as {task.status}, but without a video: {json.dumps(task.to_dict())}"
        advice = "Ask the gateway's support with this task id before you submit anew."
        return KlingJobFailedError(f"{what}.", advice=advice, kling_task_id=task.kling_task_id)
    how = "was cancelled" if task.outcome is Outcome.CANCELLED else "failed"
    reason = task.reason or "no reason given"
    what = f"Job {task.kling_task_id} {how} at the gateway ({task.status}): {_shorten(reason)}."
    if any(word in reason.lower() for word in _MODERATION_WORDS):
        return KlingModerationError(what, money=Money.ENDED, kling_task_id=task.kling_task_id)
    return KlingJobFailedError(what, kling_task_id=task.kling_task_id)


_MODERATION_WORDS = ("moderat", "sensitive", "illegal", "nsfw", "risk control", "policy", "violat", "prohibited")

_INPUT_REASONS = (
    "INVALID_REQUEST_BODY IMAGE_FILE_EXCEEDS_MAX_SIZE INVALID_IMAGE_FORMAT IMAGE_EXCEEDS_MAX_RESOLUTION "
    "INVALID_IMAGE_SIZE API_NOT_FOUND"
)
_ACCESS_REASONS = (
    "MISSING_API_KEY FAILED_TO_AUTH INVALID_API_KEY API_NOT_ALLOWED FEATURE_NOT_ALLOWED NEED_REAL_NAME_VERIFY "
    "ACCESS_DENY BILLING_AUTH_FAILED"
)
_CLASS_BY_REASON: dict[str, type[KlingError]] = {
    **dict.fromkeys(_INPUT_REASONS.split(), KlingInputError),
    **dict.fromkeys(_ACCESS_REASONS.split(), KlingAccessError),
    "BILLING_BALANCE_NOT_ENOUGH": KlingBalanceError,
    "NOT_ENOUGH_BALANCE": KlingBalanceError,
    "ILLEGAL_PROMPT": KlingModerationError,
    "ILLEGAL_IMAGE_CONTENT": KlingModerationError,
    "RATE_LIMIT_EXCEEDED": KlingUnavailableError,
    "BILLING_FAILED": KlingUnavailableError,
    "CREATE_TASK_FAILED": KlingUnavailableError,
}
_CLASS_BY_QUERY_REASON: dict[str, type[KlingError]] = {
    "GET_RESULT_FAILED": KlingUnavailableError,
    "TASK_FAILED": KlingJobFailedError,
    "TASK_NOT_FOUND": KlingTaskNotFoundError,
}
_CLASS_BY_SUBMIT_STATUS: dict[int, type[KlingError]] = {
    401: KlingAccessError,
    402: KlingBalanceError,
    403: KlingAccessError,
    408: KlingSubmitUncertainError,
    429: KlingUnavailableError,
}


def _judge(reply: Reply, call: Call[Any]) -> KlingError:
    """Return the error that a reply without a usable answer means: by reason first, then by status."""
    reason, message = _error_words(reply.body)
    kind = _CLASS_BY_REASON.get(reason) or (_submit_kind(reply) if call.paid else _query_kind(reply, reason))
    to = f" pointing to {reply.headers['location'].split('?')[0]}" if "location" in reply.headers else ""
    job = f" for job {call.kling_task_id}" if call.kling_task_id else ""
    return kind(
        f"The gateway answered{job} HTTP {reply.status}{to} {reason}".rstrip() + f": {message}.",
        money=kind.default_money if kind.default_money is not Money.UNTOUCHED else _money(call),
        kling_task_id=call.kling_task_id,
        reason=reason or None,
        http_status=reply.status,
        retry_after=_retry_after(reply),
    )


def _submit_kind(reply: Reply) -> type[KlingError]:
    """A submit is final or uncertain: what is not a plain refusal may have started a job."""
    if reply.status in _CLASS_BY_SUBMIT_STATUS:
        return _CLASS_BY_SUBMIT_STATUS[reply.status]
    by_hundreds = {3: KlingAccessError, 4: KlingInputError}
    return by_hundreds.get(reply.status // 100, KlingSubmitUncertainError)


def _query_kind(reply: Reply, reason: str) -> type[KlingError]:
    """A query is asked again unless the gateway itself said something final: proxies answer nonsense."""
    if reply.status == 401:  # noqa: PLR2004
        return KlingAccessError
    return _CLASS_BY_QUERY_REASON.get(reason, KlingUnavailableError)


def _money(call: Call[Any]) -> Money:
    return Money.UNTOUCHED if call.paid or call.kling_task_id is None else Money.RUNNING


def _error_words(body: bytes) -> tuple[str, str]:
    data = _json_object(body)
    nested = data.get("error")
    if isinstance(nested, dict):
        data = {**data, **nested}
    message = data.get("message") or (nested if isinstance(nested, str) else "")
    if not message:
        message = _shorten(body.decode("utf-8", "replace")) or "an empty answer"
    reason = data.get("reason")
    return (reason.strip() if isinstance(reason, str) else ""), str(message)[:2000].rstrip(".")


def _retry_after(reply: Reply) -> float | None:
    value = reply.headers.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is None and value:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - reply.received_at
    return None if seconds is None else max(0.0, seconds)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _read_task(kling_task_id: str, data: dict[str, Any], task: dict[str, Any]) -> Task:
    extra = data.get("extra")
    debug = extra.get("debug_info") if isinstance(extra, dict) else None
    debug = debug if isinstance(debug, dict) else {}
    videos = data.get("videos")
    timings = {key: _number(debug.get(key)) for key in ("submit_time_ms", "execute_time_ms", "complete_time_ms")}
    status = task["status"].strip()
    return Task(
        kling_task_id=kling_task_id,
        status=status,
        outcome=outcome_of(status),
        reason=str(task.get("reason") or ""),
        progress_percent=_number(task.get("progress_percent")),
        eta=_number(task.get("eta")),
        videos=tuple(_read_videos(videos if isinstance(videos, list) else [])),
        timings={key: value for key, value in timings.items() if value is not None},
    )


def _read_videos(videos: list[Any]) -> list[Video]:
    return [
        Video(url.strip(), _ttl(video.get("video_url_ttl")), _optional_text(video.get("video_type")))
        for video in videos
        if isinstance(video, dict) and isinstance(url := video.get("video_url"), str) and url.strip()
    ]


def _ttl(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _optional_text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    """Read a number that comes as integer, float, numeric text, empty text or not at all."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e15 else None  # noqa: PLR2004 - also drops nan and infinity


def _shorten(text: str, limit: int = 500) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit]}…"
