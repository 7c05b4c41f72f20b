"""Writes files atomically: whole and under their name, or not at all."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from airflow_provider_kling.errors import KlingDownloadError, KlingVideoError
from airflow_provider_kling.media.mp4 import Mp4Check
from airflow_provider_kling.storage.allowed_paths import StoragePath
from airflow_provider_kling.storage.files import write_errors
from airflow_provider_kling.storage.folders import Folder, open_folder

#: The reason of the error for a video that has more.
TOO_LARGE = "TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Stored:
    """A video in its place: where, how many bytes, and their SHA-256."""

    path: str
    size: int
    sha256: str


@contextmanager
def receive_video(
    chunks: Iterator[bytes],
    length: int | None,
    path: StoragePath,
    *,
    max_bytes: int,
    owner: str,
    replace: bool = True,
) -> Iterator[tuple[Stored, BinaryIO]]:
    """Receive a video under a temporary name, and give it its name when the block ends without an error.

    Yields the video's facts and the file, open for reading.

    :param chunks: the bytes.
    :param length: how many the storage host promised, or None.
    :param path: where it appears, whole or not at all.
    :param max_bytes: more bytes than these are not taken.
    :param owner: who writes; stands in the temporary name.
    :param replace: whether a file that stands there in the end is replaced.
    :raises KlingVideoError: where all bytes came but are no whole mp4, or too many.
    :raises KlingDownloadError: where bytes are missing or cannot be written, or the name is taken.
    """
    if length is not None and length > max_bytes:
        raise _too_large(f"{length} bytes", max_bytes)
    check, digest = Mp4Check(), hashlib.sha256()
    with (
        write_errors(path),
        open_folder(path, create=True) as folder,
        _temporary_name(folder, path.name, owner) as part,
    ):
        with folder.create(part) as file:
            for chunk in chunks:
                check.feed(chunk)
                if check.size > max_bytes:
                    raise _too_large("more bytes", max_bytes)
                digest.update(chunk)
                file.write(chunk)
            folder.sync(file)
        check.finish(length)
        if (written := folder.size(part)) != check.size:
            raise KlingDownloadError(f"The storage took {written} of {check.size} bytes for {path}.")
        with folder.open(part) as received:
            yield Stored(str(path), check.size, digest.hexdigest()), received
        try:
            folder.rename(part, path.name, replace=replace)
        except FileExistsError:
            raise taken(path) from None


def write_whole(folder: Folder, name: str, data: bytes, owner: str, *, replace: bool = True) -> None:
    """Write a small file, whole or not at all.

    :param owner: who writes; stands in the temporary name.
    :raises FileExistsError: where the name is taken and *replace* is False.
    """
    with _temporary_name(folder, name, owner) as part:
        with folder.create(part) as file:
            file.write(data)
            folder.sync(file)
        folder.rename(part, name, replace=replace)


def remove_leftovers(path: StoragePath, owner: str) -> None:
    """Remove the temporary files of a killed try of the same owner; no other's."""
    with write_errors(path), suppress(FileNotFoundError), open_folder(path) as folder:
        for name in folder.names(f".{path.name}", ".part"):
            if f".{owner}." in name:
                folder.remove(name)


def taken(path: StoragePath) -> KlingDownloadError:
    """Return the error for a name that another task has taken since it was checked."""
    return KlingDownloadError(f"Meanwhile another task has put a file at {path}.")


def _too_large(size: str, max_bytes: int) -> KlingVideoError:
    advice = "Allow more with max_bytes, then clear this task: it does not pay again."
    what = f"The video has {size}; at most {max_bytes} bytes are allowed."
    return KlingVideoError(what, advice=advice, reason=TOO_LARGE)


@contextmanager
def _temporary_name(folder: Folder, name: str, owner: str) -> Iterator[str]:
    """Yield a name that nothing else uses, and leave no file under it.

    Where it cannot be removed now, :func:`remove_leftovers` does it; the error of the block counts.
    """
    part = f".{name}.{owner}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
    finally:
        with suppress(Exception):
            folder.remove(part)
