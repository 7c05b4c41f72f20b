"""The gateway's dialect as pure functions: calls to send, and how to read their replies.

With :mod:`airflow_provider_kling.gateways.replies`, the only place that knows a URL path or a JSON key of the
gateway. A :class:`Call` is a plain value; a client sends it and gives the reply to the call's own reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from airflow_provider_kling.errors import (
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    Money,
)
from airflow_provider_kling.gateways.base import Call, Outcome, Reply, T, Task, Video
from airflow_provider_kling.gateways.replies import refusal_of_query, refusal_of_submit
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.redaction import clean, printable, shorten
from airflow_provider_kling.values import read_number

#: A task id becomes part of paths, URLs and database rows. The gateway's are UUIDs.
_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=+-]{0,249}")


def checked_task_id(value: Any) -> str:
    """Return the task id in an argument: a text, or the sensor's result, which has it.

    :raises KlingInputError: where there is none, as when a template found nothing.
    """
    given = value.get("kling_task_id") if isinstance(value, Mapping) else value
    if isinstance(given, str) and given.strip() != "None" and _TASK_ID.fullmatch(given.strip()):
        return given.strip()
    what = f"kling_task_id={shorten(repr(value), 60)} is not a task id; the submit's return value is one."
    advice = "Look at the log of the task that should have given it."
    raise KlingInputError(what, money=Money.ASIDE, advice=advice)


def submit(job: VideoJob) -> Call[str]:
    """Return the call that starts *job* and yields its task id. It is paid for: send it once."""

    def read(reply: Reply) -> str:
        task_id = reply.json().get("task_id")
        if reply.ok and isinstance(task_id, str) and _TASK_ID.fullmatch(task_id.strip()):
            return task_id.strip()
        raise refusal_of_submit(reply)

    return Call("POST", f"/v3/async/{quote(job.model, safe='')}", read, body=job.inputs)


def query(kling_task_id: str) -> Call[Task]:
    """Return the call that asks for the state of a job and yields its :class:`Task`.

    It may be sent again and again: what has not changed since the last time is not read anew.
    """
    last: tuple[bytes, Task] | None = None

    def read(reply: Reply) -> Task:
        nonlocal last
        if last and last[0] == reply.body and reply.ok:
            return last[1]
        data = reply.json()
        task = data.get("task")
        if reply.ok and isinstance(task, dict) and isinstance(task.get("status"), str):
            last = reply.body, _read_task(kling_task_id, data, task)
            return last[1]
        raise refusal_of_query(reply, kling_task_id)

    return _ask(kling_task_id, read)


def probe(kling_task_id: str) -> Call[None]:
    """Return the call that finds out about the key by asking for a job that cannot exist.

    A :class:`KlingTaskNotFoundError` or no error at all: the key is good.
    """

    def read(reply: Reply) -> None:
        if not (reply.ok and reply.json()):
            raise refusal_of_query(reply, kling_task_id)

    return _ask(kling_task_id, read)


def _ask(kling_task_id: str, read: Callable[[Reply], T]) -> Call[T]:
    path, params = "/v3/async/task-result", {"task_id": kling_task_id}
    return Call("GET", path, read, params=params, kling_task_id=kling_task_id)


KNOWN_STATUSES = frozenset(
    f"TASK_STATUS_{word}" for word in ("QUEUED", "PROCESSING", "SUCCEED", "FAILED", "UNKNOWN", "CANCELED")
)


def outcome_of(status: str) -> Outcome:
    """Return what a status word means.

    A word that nobody knows means "not finished", unless it speaks of failing or cancelling.
    """
    word = status.upper()
    if word == "TASK_STATUS_SUCCEED":
        return Outcome.SUCCEEDED
    if "CANCEL" in word:
        return Outcome.CANCELLED
    return Outcome.FAILED if "FAIL" in word else Outcome.UNFINISHED


def failed_task(task: Task) -> KlingError:
    """Return the error for a job that failed, was cancelled, or succeeded with nothing in it."""
    if task.outcome is Outcome.SUCCEEDED:
        said = json.dumps(task.to_dict())
        return KlingJobFailedError(
            f"Job {task.kling_task_id} ended as {task.status}, but without a video: {said}.",
            advice="Ask the gateway's support with this task id before you submit anew.",
            kling_task_id=task.kling_task_id,
        )
    how = "was cancelled" if task.outcome is Outcome.CANCELLED else "failed"
    reason = task.reason or "no reason given"
    what = f"Job {task.kling_task_id} {how} at the gateway ({task.status}): {shorten(reason).rstrip('.')}."
    if any(word in reason.lower() for word in _MODERATION_WORDS):
        return KlingModerationError(what, money=Money.ENDED, kling_task_id=task.kling_task_id)
    return KlingJobFailedError(what, kling_task_id=task.kling_task_id)


_MODERATION_WORDS = (
    *("moderat", "sensitive", "illegal", "nsfw"),
    *("risk control", "policy", "violat", "prohibited"),
)
_LONGEST_STATUS = 80
_TIMINGS = ("submit_time_ms", "execute_time_ms", "complete_time_ms")


def _read_task(kling_task_id: str, data: dict[str, Any], task: dict[str, Any]) -> Task:
    debug = _object(_object(data.get("extra")).get("debug_info"))
    timings = {key: read_number(debug.get(key)) for key in _TIMINGS}
    status = shorten(clean(task["status"]), _LONGEST_STATUS)
    reason, videos = task.get("reason"), data.get("videos")
    return Task(
        kling_task_id=kling_task_id,
        status=status,
        outcome=outcome_of(status),
        reason=clean(reason) if isinstance(reason, str) else "",
        progress_percent=read_number(task.get("progress_percent")),
        eta=read_number(task.get("eta")),
        videos=tuple(_read_videos(videos if isinstance(videos, list) else [])),
        timings={key: value for key, value in timings.items() if value is not None},
    )


def _read_videos(videos: list[Any]) -> list[Video]:
    found = []
    for video in map(_object, videos):
        url, kind, ttl = (
            video.get("video_url"),
            video.get("video_type"),
            read_number(video.get("video_url_ttl")),
        )
        if isinstance(url, str) and url.strip():
            kind = shorten(clean(kind), _LONGEST_STATUS) if isinstance(kind, str) and kind else None
            found.append(Video(printable(url.strip()), None if ttl is None else int(ttl), kind))
    return found


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
