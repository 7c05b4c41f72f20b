"""Reads files from any storage, and turns the storages' exceptions into our errors."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from airflow_provider_kling.errors import (
    KlingDownloadError,
    KlingError,
    KlingInputError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.redaction import NO_SECRETS
from airflow_provider_kling.storage.allowed_paths import StoragePath
from airflow_provider_kling.storage.folders import open_folder
from airflow_provider_kling.values import is_web_url

#: Seconds for which a signed URL is good; the gateway may fetch the picture only when the job's turn comes.
_SIGNED_FOR = 24 * 3600
#: The reason of the errors that are made from a storage's exception.
STORAGE_FAILED = "STORAGE_FAILED"
#: The length to which the text of a storage's exception is cut.
_MAX_CAUSE = 500
#: Exceptions and error numbers that a retry would meet again.
_LASTING = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ValueError,
    AttributeError,
    ImportError,
)
#: By name, because botocore is loaded only if its storage is used.
_LASTING_NAMES = ("ParamValidationError",)
_LASTING_NUMBERS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EROFS, errno.ENXIO)


def read_file(path: StoragePath, argument: str, most: int) -> bytes:
    """Return the first *most* bytes of a file.

    :raises KlingInputError: the file cannot be read, and a retry would fail too.
    :raises KlingUnavailableError: the storage may work at a retry.
    """
    with input_errors(path, argument), open_file(path) as file:
        return file.read(most)


def file_size(path: StoragePath, argument: str) -> int:
    """Return the size of a file in bytes. Raises the same errors as :func:`read_file`."""
    with input_errors(path, argument), open_folder(path) as folder:
        return folder.size(path.name)


def signed_url(path: StoragePath, argument: str) -> str:
    """Return a URL under which the gateway can fetch a file from its storage, for a day.

    :raises KlingInputError: the storage cannot sign URLs.
    """
    url = None
    if not path.is_local:
        try:
            with input_errors(path, argument):
                url = path.filesystem().sign(path.resolved, expiration=_SIGNED_FOR)
        except NotImplementedError:
            pass
    if not is_web_url(url):
        what = f"{argument}={path.text!r}: it has to go to the gateway as a URL, and the storage"
        advice = "Give a public URL, or a path on a storage that can sign URLs (s3, gs, ...)."
        raise KlingInputError(f"{what} {path.protocol!r} cannot sign any.", advice=advice)
    return url


@contextmanager
def open_file(path: StoragePath) -> Iterator[BinaryIO]:
    """Open a file for reading. Links are not followed."""
    with open_folder(path) as folder, folder.open(path.name) as file:
        yield file


@contextmanager
def input_errors(path: StoragePath, argument: str) -> Iterator[None]:
    """Turn exceptions of a storage into our errors while an input is read."""
    try:
        yield
    except (KlingError, NotImplementedError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a storage raises
        where = f" on {socket.gethostname()}" if path.is_local else ""
        what = f"{argument}={path.text!r}: no such file can be read{where}"
        if isinstance(error, OSError):
            del error.filename  # it may be a part of the path
        raise storage_error(error, what) from None


def storage_error(
    error: Exception, what: str, advice: str | None = None, *, paid: bool = False
) -> KlingError:
    """Return an exception of a storage as one of our errors; it is final if a retry would fail too.

    :param what: what failed, without a full stop.
    :param paid: whether the job is paid for; if not, nothing is bought yet.
    """
    lasting = (
        isinstance(error, _LASTING)
        or type(error).__name__ in _LASTING_NAMES
        or getattr(error, "errno", None) in _LASTING_NUMBERS
    )
    if paid and isinstance(error, FileNotFoundError):
        lasting = False  # a folder or bucket that was removed can be made again
    passing = KlingDownloadError if paid else KlingUnavailableError
    kind: type[KlingError] = KlingInputError if lasting else passing
    cause = NO_SECRETS.shown(f"{type(error).__name__}: {error}", _MAX_CAUSE)
    money = Money.PAID if paid else None
    ours = kind(f"{what} ({cause}).", money=money, advice=advice, reason=STORAGE_FAILED)
    # The exception itself must not be chained: its text may have secrets and control characters.
    return ours.with_traceback(error.__traceback__)
