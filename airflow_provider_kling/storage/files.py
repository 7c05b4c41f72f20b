"""Reads input files from any storage, and turns the storages' exceptions into our errors."""

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
)
from airflow_provider_kling.redaction import clean
from airflow_provider_kling.storage.allowed_paths import StoragePath
from airflow_provider_kling.storage.folders import open_folder

#: Seconds for which a signed URL is good; the gateway may fetch the picture only when the job's turn comes.
_SIGNED_FOR = 24 * 3600
#: Exceptions and system errors that the next try meets too.
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
#: botocore's, named because it loads only with its storage.
_LASTING_NAMES = ("ParamValidationError",)
_LASTING_NUMBERS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EROFS, errno.ENXIO)


def read_file(path: StoragePath, argument: str, most: int) -> bytes:
    """Return the first *most* bytes of a file.

    :param argument: the operator's argument, for the messages.
    :raises KlingInputError: where there is no such file.
    :raises KlingUnavailableError: where the storage has a trouble that may pass.
    """
    with input_errors(path, argument), open_file(path) as file:
        return file.read(most)


def file_size(path: StoragePath, argument: str) -> int:
    """Return the bytes that a file has; raises as :func:`read_file` does."""
    with input_errors(path, argument), open_folder(path) as folder:
        return folder.size(path.name)


def signed_url(path: StoragePath, argument: str) -> str:
    """Return a URL under which the gateway can fetch a file from its storage, for a day.

    :raises KlingInputError: where that storage cannot sign.
    """
    url = None
    if not path.is_local:
        try:
            with input_errors(path, argument):
                url = path.filesystem().sign(path.resolved, expiration=_SIGNED_FOR)
        except NotImplementedError:
            pass
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        what = f"{argument}={path.text!r}: it has to go to the gateway as a URL, and the storage"
        advice = "Give a public URL, or a path on a storage that can sign URLs (s3, gs, ...)."
        raise KlingInputError(f"{what} {path.protocol!r} cannot sign any.", advice=advice)
    return url


@contextmanager
def open_file(path: StoragePath) -> Iterator[BinaryIO]:
    """Open a file for reading; a link is not followed."""
    with open_folder(path) as folder, folder.open(path.name) as file:
        yield file


@contextmanager
def input_errors(path: StoragePath, argument: str) -> Iterator[None]:
    """Turn what a storage raises while an input is read into our errors."""
    try:
        yield
    except (KlingError, NotImplementedError):
        raise
    except Exception as error:
        where = f" on {socket.gethostname()}" if path.is_local else ""
        what = f"{argument}={path.text!r}: no such file can be read{where} ({_cause(error)})."
        raise _input_error(error, what) from error


@contextmanager
def target_errors(path: StoragePath) -> Iterator[None]:
    """Turn what a storage raises while a target is checked into our errors; nothing is bought yet."""
    try:
        yield
    except KlingError:
        raise
    except Exception as error:
        advice = (
            "Check that its bucket or folder exists, and that files may be listed, written and removed in it."
        )
        what = f"target={path.text!r}: no file can be written there ({_cause(error)})."
        raise _input_error(error, what, advice=advice) from error


@contextmanager
def write_errors(path: StoragePath) -> Iterator[None]:
    """Turn what a storage raises while a paid video is written into our errors."""
    try:
        yield
    except KlingError:
        raise
    except Exception as error:
        advice = "Make room or give the right to write there, then run the download again; it does not pay."
        what = f"The video cannot be written to {path} ({_cause(error)})."
        raise KlingDownloadError(what, advice=advice) from error


def _input_error(error: Exception, what: str, *, advice: str | None = None) -> KlingError:
    lasting = (
        isinstance(error, _LASTING)
        or type(error).__name__ in _LASTING_NAMES
        or getattr(error, "errno", None) in _LASTING_NUMBERS
    )
    return (KlingInputError if lasting else KlingUnavailableError)(what, advice=advice)


def _cause(error: Exception) -> str:
    return clean(f"{type(error).__name__}: {error}")
