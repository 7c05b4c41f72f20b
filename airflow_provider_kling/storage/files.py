"""Files in and out, on any ``ObjectStoragePath``: pictures read whole, videos written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_kling.errors import KlingDownloadError, KlingInputError, Money
from airflow_provider_kling.media.mp4 import Mp4Check
from airflow_provider_kling.storage.atomic_write import move, part_of, taken

#: Seconds for which a signed URL is good; the gateway may fetch the picture only when the job's turn comes.
_SIGNED_FOR = 24 * 3600
_PIECE = 1024 * 1024
#: What a storage raises for a path that is wrong, and will be the next time too.
_NO_SUCH_FILE = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ValueError,
    AttributeError,
    ImportError,
)
#: What the system says of a name that no file can have.
_WRONG_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


def read_file(path: str, argument: str, most: int) -> bytes:
    """Return the first *most* bytes of a file, on any storage that Airflow knows.

    :param argument: the operator's argument, for the messages.
    :raises KlingInputError: where there is no such file. Troubles of the storage that may pass are raised
        as they are; nothing has been paid yet, and a retry may help.
    """
    with _input_errors(path, argument), ObjectStoragePath(path).open("rb") as file:
        data: bytes = file.read(most)
        return data


def size_of_file(path: str, argument: str) -> int:
    """Return the bytes that a file has; raises as :func:`read_file` does."""
    with _input_errors(path, argument):
        return int(ObjectStoragePath(path).size())


def signed_url(path: str, argument: str) -> str:
    """Return a URL under which the gateway can fetch a file from its storage, for a day.

    :raises KlingInputError: where that storage cannot sign.
    """
    place = ObjectStoragePath(path)
    try:
        with _input_errors(path, argument):
            url = place.fs.sign(place.path, expiration=_SIGNED_FOR)
    except NotImplementedError:
        url = None
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        what = f"{argument}={path!r}: it has to go to the gateway as a URL, and the storage"
        advice = "Give a public URL, or a path on a storage that can sign URLs (s3, gs, ...)."
        raise KlingInputError(f"{what} {place.protocol or 'file'!r} cannot sign any.", advice=advice)
    return url


@contextmanager
def _input_errors(path: str, argument: str) -> Iterator[None]:
    try:
        yield
    except _NO_SUCH_FILE as error:
        raise _no_such_file(path, argument, error) from error
    except OSError as error:
        if error.errno in _WRONG_NAME:
            raise _no_such_file(path, argument, error) from error
        raise


def _no_such_file(path: str, argument: str, error: Exception) -> KlingInputError:
    what = f"{argument}={path!r}: no such file can be read ({type(error).__name__}: {error})."
    return KlingInputError(what)


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
    """Return what is told of the very video at *path*, whose SHA-256 is compared; nothing without either."""
    video, told = ObjectStoragePath(path), read_claim(path)
    if not (told and video.exists()) or told.get("size") != video.stat().st_size:
        return {}
    digest = hashlib.sha256()
    with opened(path) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return told if told.get("sha256") == digest.hexdigest() else {}


def read_claim(path: str) -> dict[str, Any]:
    """Return what the sidecar tells, whether its video stands at *path*, or another, or none."""
    sidecar = ObjectStoragePath(sidecar_path(path))
    if not sidecar.exists():
        return {}
    try:
        told = json.loads(sidecar.read_bytes())
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def opened(path: str) -> BinaryIO:
    """Open a file for reading."""
    file: BinaryIO = ObjectStoragePath(path).open("rb")
    return file


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
    chunks: Iterator[bytes], length: int | None, path: str, *, largest: int, owner: str, replace: bool = True
) -> Iterator[tuple[Stored, BinaryIO]]:
    """Receive a video under a temporary name, for a last look, and give it its name when the block ends well.

    :param chunks: the bytes.
    :param length: how many the storage host promised, or None.
    :param path: where it appears, whole or not at all.
    :param largest: more bytes than these are not taken.
    :param owner: who writes; stands in the temporary name.
    :param replace: whether a file that stands there in the end is replaced.
    :raises KlingDownloadError: where the video is not whole, or its name is taken; nothing is left behind.
    """
    if length is not None and length > largest:
        raise KlingDownloadError(f"The video has {length} bytes; at most {largest} are allowed.")
    target = ObjectStoragePath(path)
    check, digest = Mp4Check(), hashlib.sha256()
    with part_of(target, owner) as part:
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
        move(part, target, replace=replace)


def write_sidecar(path: str, told: Mapping[str, Any], owner: str, *, replace: bool = True) -> None:
    """Write the JSON beside the video at *path*, whole or not at all.

    :param replace: whether one is replaced that tells of another job, and lays claim to the name.
    :raises KlingDownloadError: where the name is taken.
    """
    target = ObjectStoragePath(sidecar_path(path))
    with part_of(target, owner) as part:
        text = json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False)
        part.fs.pipe_file(part.path, f"{text}\n".encode())
        if not replace and exists(path):
            raise taken(path)
        own = not replace and read_claim(path).get("kling_task_id") == told["kling_task_id"]
        move(part, target, replace=replace or own)
