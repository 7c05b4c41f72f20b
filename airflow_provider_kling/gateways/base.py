"""What all gateways have in common: a call to send, its reply, and the task that a reply describes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Generic, TypeVar

from airflow_provider_kling.errors import (
    KlingError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer.

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
        return 200 <= self.status < 300

    def without(self, secret: str) -> Reply:
        """Return the answer without a secret that it repeats, as some do in their complaints."""
        known = secret.encode()
        return replace(self, body=self.body.replace(known, b"***")) if known in self.body else self

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object; anything else is an empty one."""
        try:
            data = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}


class Outcome(Enum):
    """What a status word means for the one who waits."""

    UNFINISHED = "unfinished"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Video:
    """One video of a finished task.

    :param video_url: a presigned link on a storage host; it lives for about an hour.
    :param video_url_ttl: the seconds that the gateway gives it; unreliable, never decide by it.
    :param video_type: the container, such as ``mp4``.
    """

    video_url: str
    video_url_ttl: int | None = None
    video_type: str | None = None

    def to_dict(self, *, with_link: bool) -> dict[str, Any]:
        """Return the video as JSON-ready data under the gateway's own names, with its signed link or not."""
        link = {"video_url": self.video_url} if with_link else {}
        return {**link, "video_url_ttl": self.video_url_ttl, "video_type": self.video_type}


@dataclass(frozen=True, slots=True)
class Task:
    """What the gateway says of a job.

    :param kling_task_id: the id that the submit returned.
    :param status: the gateway's status word, unchanged.
    :param outcome: what that word means.
    :param reason: why it failed, in the gateway's words; empty otherwise.
    :param progress_percent: 0..100, or None where it is not told.
    :param eta: seconds to the end, or None where it is not told; 0 often means "not known".
    :param videos: the videos of a finished task, Kling gives one.
    :param timings: epoch milliseconds under the gateway's names (``submit_time_ms``,
        ``execute_time_ms``, ``complete_time_ms``), as far as they were told.
    """

    kling_task_id: str
    status: str
    outcome: Outcome
    reason: str = ""
    progress_percent: float | None = None
    eta: float | None = None
    videos: tuple[Video, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the state in one short phrase for a log line."""
        words = self.status.removeprefix("TASK_STATUS_").lower()
        if self.outcome is Outcome.UNFINISHED and self.progress_percent:
            return f"{words}, {self.progress_percent:g} %"
        return words

    def to_dict(self, *, with_links: bool = True) -> dict[str, Any]:
        """Return the task as JSON-ready data: what the sensor gives to XCom.

        :param with_links: with the videos' links, which are signed.
        """
        return {
            "kling_task_id": self.kling_task_id,
            "status": self.status,
            "videos": [video.to_dict(with_link=with_links) for video in self.videos],
            "timings": dict(self.timings),
        }


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request and the way to read its reply.

    :param method: the HTTP method.
    :param path: path below the gateway's base URL.
    :param read: makes the value out of the reply, or raises a :class:`KlingError`.
    :param params: the query string.
    :param body: the JSON body, if any.
    :param kling_task_id: the job it asks for; a call without one starts a job and is paid for.
    """

    method: str
    path: str
    read: Callable[[Reply], T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    kling_task_id: str | None = None

    def lost(self, cause: str, *, sent: bool) -> KlingError:
        """Return the error for a request that got no reply.

        :param cause: what the transport said.
        :param sent: whether the request may have reached the gateway.
        """
        what = f"No answer from the gateway ({cause})."
        if self.kling_task_id:
            return KlingUnavailableError(what, money=Money.RUNNING, kling_task_id=self.kling_task_id)
        return KlingSubmitUncertainError(what) if sent else KlingUnavailableError(what)

    def about(self, error: KlingError) -> KlingError:
        """Return an error that came before the request, such as a wrong connection, as one about this job."""
        if self.kling_task_id is None or error.money is not Money.UNTOUCHED:
            return error
        facts = {"money": Money.RUNNING, "kling_task_id": self.kling_task_id}
        return type(error)(**{**error.facts(), **facts})


#: Seconds for which a new job may not be visible to queries yet.
NOT_FOUND_GRACE = 60.0


#: No longer pause of the gateway's own choosing is kept, in seconds.
LONGEST_RETRY_AFTER = 900.0
