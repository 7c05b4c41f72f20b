"""Files in and out, on any ``ObjectStoragePath``: pictures read whole, videos written whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

from airflow_provider_kling.errors import KlingDownloadError, KlingInputError, Money
from airflow_provider_kling.images import LARGEST_FILE, Picture, check_picture, from_base64
from airflow_provider_kling.jobs import PICTURES_IN_BASE64
from airflow_provider_kling.mp4 import Mp4Check

_LONGEST_PATH = 4096


def load_picture(value: str, argument: str) -> Picture | None:
    """Return the checked picture behind an argument, or None for a public URL, which the gateway fetches.

    :param value: an http(s) URL, a data URI, base64, or a path or URL of any storage Airflow knows.
    :param argument: the operator's argument, for the messages.
    :raises KlingInputError: where there is no such file, or its content is not allowed. Troubles of the
        storage that may pass are raised as they are; nothing has been paid yet, and a retry may help.
    """
    if value.startswith(("http://", "https://")):
        return None
    if not is_path(value):
        data = from_base64(value)
        if data is None:
            raise KlingInputError(f"{argument}={value[:20] + '…'!r}: neither a base64 data URI nor base64.")
        return check_picture(data, argument, f"{value[:20]}…")
    try:
        with ObjectStoragePath(value).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (FileNotFoundError, IsADirectoryError, PermissionError, ValueError, ImportError) as error:
        what = f"{argument}={value!r}: no such picture can be read ({type(error).__name__}: {error})."
        raise KlingInputError(what) from error
    return check_picture(data, argument, value)


def is_path(value: str) -> bool:
    """Return whether a picture's value names a file, rather than a URL or the picture's own data."""
    if value.startswith(PICTURES_IN_BASE64) and from_base64(value) is not None:
        return False
    return not value.startswith(("http://", "https://", "data:")) and len(value) <= _LONGEST_PATH


@dataclass(frozen=True, slots=True)
class Stored:
    """A video in its place: where, how many bytes, and their SHA-256."""

    path: str
    size: int
    sha256: str


def video_path(target: str, kling_task_id: str) -> str:
    """Return the file that *target* means: itself, or ``<kling_task_id>.mp4`` in it after a slash.

    :raises KlingInputError: where it is no text.
    """
    if not isinstance(target, str) or not target.strip():
        raise KlingInputError(f"target={target!r}: must be a path or a storage URL.", money=Money.PAID)
    return f"{target}{kling_task_id}.mp4" if target.endswith("/") else target


def sidecar_path(path: str) -> str:
    """Return the name of the JSON file that tells what made the video at *path*."""
    return f"{path}.json"


def read_sidecar(path: str) -> dict[str, Any]:
    """Return what is told of the video at *path*; nothing where there is no video or no telling."""
    video, sidecar = ObjectStoragePath(path), ObjectStoragePath(sidecar_path(path))
    if not (video.exists() and sidecar.exists()):
        return {}
    try:
        told = json.loads(sidecar.read_text())
    except ValueError:
        return {}
    return told if isinstance(told, dict) and told.get("size") == video.stat().st_size else {}


def check_target(path: str) -> None:
    """Raise :class:`KlingInputError` where no file can have that name; before anything is fetched."""
    try:
        folder = ObjectStoragePath(path).is_dir()
    except (ValueError, ImportError) as error:
        what = f"target={path!r}: this storage cannot be used here ({type(error).__name__}: {error})."
        advice = "Install what it needs on the workers (for s3: apache-airflow-providers-amazon[s3fs])."
        raise KlingInputError(what, money=Money.PAID, advice=advice) from error
    if folder:
        what = f"target={path!r} is a folder; with a slash at its end, the video goes into it."
        raise KlingInputError(what, money=Money.PAID)


def exists(path: str) -> bool:
    """Return whether something stands under that name."""
    return ObjectStoragePath(path).exists()


@contextmanager
def received_video(
    chunks: Iterator[bytes], length: int | None, path: str, *, largest: int, owner: str
) -> Iterator[tuple[Stored, BinaryIO]]:
    """Receive a video under a temporary name, for a last look, and give it its name when the block ends well.

    :param chunks: the bytes.
    :param length: how many the storage host promised, or None.
    :param path: where it appears, whole or not at all.
    :param largest: more bytes than these are not taken.
    :param owner: who writes; stands in the temporary name, see :func:`sweep_parts`.
    :raises KlingDownloadError: where the video is not whole; nothing is left behind.
    """
    if length is not None and length > largest:
        raise KlingDownloadError(f"The video has {length} bytes; at most {largest} are allowed.")
    target = ObjectStoragePath(path)
    check, digest = Mp4Check(), hashlib.sha256()
    with _part_of(target, owner) as part:
        with part.fs.open(part.path, "wb") as file:
            for chunk in chunks:
                check.feed(chunk)
                if check.size > largest:
                    raise KlingDownloadError(f"The video has more than the {largest} bytes that are allowed.")
                digest.update(chunk)
                file.write(chunk)
        check.finish(length)
        if (written := part.fs.size(part.path)) != check.size:
            raise KlingDownloadError(f"The storage took {written} of {check.size} bytes for {path}.")
        with part.fs.open(part.path, "rb") as file:
            yield Stored(path, check.size, digest.hexdigest()), file
        _move(part, target)


def write_sidecar(path: str, told: Mapping[str, Any], owner: str) -> None:
    """Write the JSON beside the video at *path*, whole or not at all."""
    target = ObjectStoragePath(sidecar_path(path))
    with _part_of(target, owner) as part:
        text = json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False)
        part.fs.pipe_file(part.path, f"{text}\n".encode())
        _move(part, target)


def sweep_parts(path: str, owner: str) -> None:
    """Remove what a killed try of the same owner left under its temporary names; no other's."""
    target = ObjectStoragePath(path)
    if not target.parent.exists():
        return
    name = f"{target.parent.path.rstrip('/')}/.{target.name}"
    for left in target.fs.glob(f"{glob.escape(name)}*.{owner}.*.part"):
        target.fs.rm_file(left)


@contextmanager
def _part_of(target: ObjectStoragePath, owner: str) -> Iterator[ObjectStoragePath]:
    """Yield a temporary name beside the target, and leave nothing under it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{target.name}.{owner}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
    finally:
        if part.exists():
            part.fs.rm_file(part.path)


def _move(part: ObjectStoragePath, target: ObjectStoragePath) -> None:
    """Move one file; the ``mv`` of a storage that can only copy takes a ``[`` in its name for a pattern."""
    if type(part.fs).mv is AbstractFileSystem.mv:
        part.fs.cp_file(part.path, target.path)
        part.fs.rm_file(part.path)
    else:
        part.fs.mv(part.path, target.path)
