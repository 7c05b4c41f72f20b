"""Files in and out, on any ``ObjectStoragePath``: pictures read whole, videos written whole or not at all."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_kling.errors import KlingDownloadError, KlingInputError, Money
from airflow_provider_kling.images import LARGEST_FILE, Picture, check_picture, from_base64
from airflow_provider_kling.mp4 import Mp4Check

_LONGEST_PATH = 4096


def load_picture(value: str, argument: str) -> Picture | None:
    """Return the checked picture behind an argument, or None for a public URL, which the gateway fetches.

    :param value: an http(s) URL, a data URI, base64, or a path or URL of any storage Airflow knows.
    :param argument: the operator's argument, for the messages.
    :raises KlingInputError: where there is no such file, or its content is not allowed.
    """
    if value.startswith(("http://", "https://")):
        return None
    data = from_base64(value) if value.startswith("data:") or len(value) > _LONGEST_PATH else None
    if data is not None:
        return check_picture(data, argument, f"{value[:20]}…")
    if value.startswith("data:") or len(value) > _LONGEST_PATH:
        raise KlingInputError(f"{argument}={value[:20] + '…'!r}: neither a base64 data URI nor base64.")
    try:
        with ObjectStoragePath(value).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError, ImportError) as error:
        what = f"{argument}={value!r}: no such picture can be read ({type(error).__name__}: {error})."
        raise KlingInputError(what) from error
    return check_picture(data, argument, value)


@dataclass(frozen=True, slots=True)
class Stored:
    """A video in its place: where, how many bytes, and their SHA-256."""

    path: str
    size: int
    sha256: str


def video_path(target: str, kling_task_id: str) -> str:
    """Return the file that *target* means: itself, or ``<kling_task_id>.mp4`` in it after a slash."""
    return f"{target}{kling_task_id}.mp4" if target.endswith("/") else target


def store_video(chunks: Iterator[bytes], expected_size: int | None, path: str, *, overwrite: bool) -> Stored:
    """Write a video to *path*, where it appears when it is whole and not before.

    :param chunks: the bytes.
    :param expected_size: how many the storage host promised, or None.
    :param overwrite: replace a file that stands there.
    :raises KlingDownloadError: where the video is not whole; nothing is left behind.
    """
    target = ObjectStoragePath(path)
    if not overwrite:
        refuse_existing(target)
    check, digest = Mp4Check(), hashlib.sha256()
    with _part_of(target) as part:
        with part.fs.open(part.path, "wb") as file:
            for chunk in chunks:
                check.feed(chunk)
                digest.update(chunk)
                file.write(chunk)
        check.finish(expected_size)
        if (written := part.fs.size(part.path)) != check.size:
            raise KlingDownloadError(f"The storage took {written} of {check.size} bytes for {path}.")
        part.fs.mv(part.path, target.path)
    return Stored(path, check.size, digest.hexdigest())


def refuse_existing(target: ObjectStoragePath) -> None:
    """Raise where something stands under the target's name already."""
    if target.exists():
        what = f"target={str(target)!r} exists already, and overwrite=False."
        raise KlingInputError(
            what, money=Money.PAID, advice="Choose another target, or allow overwrite=True."
        )


@contextmanager
def _part_of(target: ObjectStoragePath) -> Iterator[ObjectStoragePath]:
    """Yield a temporary name beside the target, and leave nothing under it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
    finally:
        if part.exists():
            part.unlink()
