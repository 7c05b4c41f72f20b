"""The nouns: what is asked for (a video job) and what comes back (a task and its videos)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

#: How the base64 of a PNG and of a JPEG begins.
PICTURES_IN_BASE64 = ("iVBORw0KGgo", "/9j/")
#: How bytes look that a template has made a text of.
BYTES_AS_TEXT = tuple(f"b{quote}{begin}" for quote in "'\"" for begin in (r"\x89PNG", r"\xff\xd8"))
_DATA = ("data:", *PICTURES_IN_BASE64, *BYTES_AS_TEXT)
_LONGEST_TEXT = 4096


@runtime_checkable
class StoragePath(Protocol):
    """As much of Airflow's ``ObjectStoragePath`` as is known here; its text names the connection too."""

    @property
    def protocol(self) -> str:
        """The kind of storage."""

    @property
    def conn_id(self) -> str | None:
        """The Airflow connection."""


#: What may name a video, and what may name a picture or be it.
Place = str | os.PathLike[str] | StoragePath
PictureSource = Place | bytes


@dataclass(frozen=True, slots=True)
class VideoJob:
    """One order for one video: a model and its inputs, as they go over the wire.

    :param model: the model's slug, such as ``kling-v3.0-pro-i2v``; it names the path.
    :param inputs: the JSON body: only what the user set and what the model requires.
    :param signed: what each URL that was signed for this request stands for: the same words whenever it is
        signed anew.
    """

    model: str
    inputs: Mapping[str, Any] = field(repr=False)
    signed: Mapping[str, str] = field(default_factory=dict, repr=False)

    def describe(self) -> str:
        """Return the inputs for a log line, without a picture's data or a URL's signature."""
        return ", ".join(f"{name}={told(value)!r}" for name, value in self.inputs.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON-ready data to show and keep, likewise without data and signatures."""
        return {"model": self.model, "inputs": told(self.inputs)}


def told(value: Any) -> Any:
    """Return an input as it may be shown: pictures' data as a hash, URLs without their query."""
    if isinstance(value, Mapping):
        return {name: told(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _hashed(bytes(value), f"{len(value)} bytes")
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return re.sub(r"//[^/@]*@", "//", value.split("?", maxsplit=1)[0])
    if isinstance(value, str) and (value.startswith(_DATA) or len(value) > _LONGEST_TEXT):
        return _hashed(value.encode("utf-8", "surrogatepass"), f"{len(value)} characters")
    return value


def _hashed(data: bytes, what: str) -> str:
    return f"<{what}, sha256 {hashlib.sha256(data).hexdigest()}>"


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
