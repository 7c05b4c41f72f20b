"""Judges paths: turns a path from an argument into a checked, resolved storage path, or refuses it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow_provider_kling.errors import KlingInputError, KlingUnavailableError
from airflow_provider_kling.redaction import clean, redacted

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

#: Storages with real folders, which must be made, below a host that the URL may leave out.
WITH_FOLDERS = frozenset({"dbfs", "ftp", "hdfs", "sftp", "smb", "ssh", "webdav", "webhdfs"})
_LOCAL = ("file", "local")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
_CONNECTION = re.compile(r"[\w.-]+")
#: C0, DEL, C1, line and paragraph separators, bidirectional overrides, lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PASSWORD = re.compile(r"(?<=//)[^/@]*:[^/]*@")
#: How often a path may be percent-encoded before it is refused unread.
_DECODINGS = 5


@dataclass(frozen=True, slots=True)
class StoragePath:
    """A path that was checked. Only :func:`resolve_path` makes it; all reads and writes take it.

    :param text: absolute, as it is shown and handed on; links are not followed in it.
    :param resolved: what is opened: an absolute local path without links, or the storage's own path.
    :param protocol: the storage's scheme; ``file`` on the worker's disk.
    :param conn_id: the Airflow connection that the URL names.
    """

    text: str
    resolved: str = field(repr=False)
    protocol: str = "file"
    conn_id: str | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def is_local(self) -> bool:
        """Whether it is on the worker's disk."""
        return self.protocol == "file"

    @property
    def folder(self) -> str:
        """The resolved path without its last part."""
        return self.resolved.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The last part of the resolved path."""
        return self.resolved.rpartition("/")[2]

    def filesystem(self) -> AbstractFileSystem:
        """Return Airflow's file system for it; only of a scheme that Airflow knows."""
        from airflow.sdk.io import attach  # noqa: PLC0415 - when a Dag is parsed, not needed

        store = attach(self.protocol, self.conn_id)
        if (store.protocol, store.conn_id) != (self.protocol, self.conn_id):  # another store's alias
            raise ValueError(f"No filesystem registered for scheme {self.protocol}")
        return store.fs


def resolve_path(
    given: str | os.PathLike[str], argument: str, *limits: Sequence[str], for_writing: bool = False
) -> StoragePath:
    """Return the checked path that is opened for *given*.

    A local path becomes absolute, and its links are followed. A storage URL must be of a scheme that
    Airflow knows. Control characters, ``..`` in a URL (also percent-encoded), backslashes, drive letters
    and chained URLs are refused.

    :param given: a local path, a ``file:`` URL or a storage URL.
    :param argument: the operator's argument, for the message.
    :param limits: lists of allowed folders. The path must lie in one folder of each list that is not
        empty. The Airflow connection in a URL counts too.
    :param for_writing: the path must lie below an allowed folder and not be one: other files are written
        beside it.
    :raises KlingInputError: naming the argument, what was given and what is allowed.
    :raises KlingUnavailableError: where the storage's connection cannot be read now.
    """
    path = _parse(given, argument)
    if for_writing and not path.is_local and "/" not in path.resolved.strip("/"):
        raise _refused(argument, path.text, "it names no file in the bucket")
    for folders in filter(None, limits):
        if not any(_covers(folder, path, for_writing) for folder in _parse_folders(folders)):
            raise _outside(path, given, argument, folders)
    if path.is_local:
        return path
    try:
        filesystem = path.filesystem()
        opened = _as_opened(path, filesystem)
    except Exception as error:
        raise _unusable(path, argument, error) from error
    for folders in filter(None, limits):
        around = [folder for folder in _parse_folders(folders) if _covers(folder, path)]
        if not any(_covers(_as_opened(folder, filesystem), opened, for_writing) for folder in around):
            raise _outside(opened, given, argument, folders)
    return opened


def is_local(given: str) -> bool:
    """Return whether a path leads to a disk of the worker, and not to a storage elsewhere."""
    found = _SCHEME.match(given)
    return not found or found[1].lower() in _LOCAL


def _parse(given: Any, argument: str) -> StoragePath:
    """Return the path as it is written; a storage's own path is not known yet."""
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str):
        raise _refused(argument, given, "it must be a path or a storage URL")
    if problem := _problem(text):
        raise _refused(argument, text, problem)
    found = _SCHEME.match(text)
    if not found or (scheme := found[1].lower()) in _LOCAL:
        return _local(found[2] if found else text, text, argument, is_url=bool(found))
    if not found[2].startswith("//"):
        raise _refused(argument, text, f"it must be written as {scheme}://bucket/path")
    authority, slash, key = found[2][2:].partition("/")
    conn_id, at, host = authority.rpartition("@")
    if not host and scheme == "memory":  # Airflow writes memory://a/b as memory:///a/b
        host, slash, key = key.partition("/")
    if not _HOST.fullmatch(host) and not (host == "" and key and scheme in WITH_FOLDERS):
        raise _refused(argument, text, f"it must be written as {scheme}://bucket/path")
    if at and not _CONNECTION.fullmatch(conn_id):
        raise _refused(
            argument, text, "before the @ stands the id of an Airflow connection, and nothing else"
        )
    if "?versionId=" in key:  # s3fs would open another key
        raise _refused(argument, text, "a storage URL names no version")
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise _refused(argument, text, "a storage URL has no '.' or '..' in its path")
    return StoragePath(f"{scheme}:{found[2]}", f"{host}{slash}{key}", scheme, conn_id or None)


def _problem(text: str) -> str:
    """Return why no path may be written so, or an empty text."""
    readings = [text, *_decoded(text)]
    climbs = ["/../" in f"/{reading}/" for reading in readings]
    problems = {
        "it is empty; it must be a path or a storage URL": not text.strip(),
        "it begins or ends with a blank": text != text.strip(),
        "chained URLs (with '::') are not allowed": "::" in text,
        "drive letters are not allowed": bool(re.match(r"[A-Za-z]:", text)),
        "control characters are not allowed in a path": any(map(_CONTROL.search, readings)),
        "backslashes are not allowed in a path": any("\\" in reading for reading in readings),
        "a percent-encoded '..' is not allowed in a path": any(climbs[1:]) and not climbs[0],
        "it is percent-encoded too often": len(readings) > _DECODINGS,
    }
    return next((problem for problem, found in problems.items() if found), "")


def _decoded(text: str) -> Iterator[str]:
    """Yield the text percent-decoded once, and again while that changes it."""
    for _ in range(_DECODINGS):
        if (decoded := unquote(text)) == text:
            return
        yield (text := decoded)


def _local(path: str, given: str, argument: str, *, is_url: bool) -> StoragePath:
    if is_url:
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path.startswith("/") or path.startswith("//"):
            raise _refused(argument, given, "a file URL is written as file:///folder/name")
    if path.startswith("~"):
        path = os.path.expanduser(path)  # noqa: PTH111 - pathlib raises where there is no such user
        if path.startswith("~"):
            raise _refused(argument, given, "the home folder of this user is not known")
    try:
        resolved = "/" + os.path.realpath(path).lstrip("/")
        absolute = resolved if ".." in path.split("/") else os.path.abspath(path)  # noqa: PTH100 - links stay
    except OSError as error:
        raise _refused(argument, given, f"it cannot be resolved ({error.strerror})") from error
    return StoragePath(f"file://{absolute}" if is_url else absolute, resolved)


def _as_opened(path: StoragePath, filesystem: AbstractFileSystem) -> StoragePath:
    """Return the path with what the storage makes of its URL: this is what is opened and judged."""
    url = f"{path.protocol}://{path.resolved}"
    opened = str(filesystem._strip_protocol(url))  # noqa: SLF001 - fsspec's own hook for storages
    key = path.resolved.partition("/")[2].rstrip("/")
    if not opened.endswith(f"/{key}") and key:  # a storage that drops a part of it
        raise ValueError(f"the storage reads it as {opened!r}")
    return StoragePath(path.text, opened, path.protocol, path.conn_id)


def _parse_folders(folders: Sequence[str]) -> list[StoragePath]:
    return [_parse(folder, "allowed_paths") for folder in folders]


def _covers(folder: StoragePath, path: StoragePath, below: bool = False) -> bool:  # noqa: FBT001, FBT002
    same = (folder.protocol, folder.conn_id) == (path.protocol, path.conn_id)
    inner = path.resolved.rstrip("/") + ("" if below else "/")
    return same and inner.startswith(folder.resolved.rstrip("/") + "/")


def _shown(given: Any) -> str:
    return repr(redacted(_PASSWORD.sub("", given)) if isinstance(given, str) else given)


def _refused(argument: str, given: Any, why: str) -> KlingInputError:
    return KlingInputError(f"{argument}={_shown(given)}: {why}.")


def _outside(path: StoragePath, given: Any, argument: str, folders: Sequence[str]) -> KlingInputError:
    allowed = " or ".join(repr(folder) for folder in folders)
    real = f" (it leads to {path.resolved})" if path.is_local and path.resolved != path.text else ""
    return KlingInputError(f"{argument}={_shown(given)} is outside of what is allowed: {allowed}{real}.")


def _unusable(path: StoragePath, argument: str, error: Exception) -> KlingInputError | KlingUnavailableError:
    cause = clean(f"{type(error).__name__}: {error}")
    what = f"{argument}={_shown(path.text)}: this storage cannot be used here ({cause})."
    if isinstance(error, ImportError):
        advice = "Install what it needs on the workers (for s3: apache-airflow-providers-amazon[s3fs])."
        return KlingInputError(what, advice=advice)
    if isinstance(error, (ValueError, AttributeError)) or "NotFound" in type(error).__name__:
        return KlingInputError(what, advice="Check the scheme and the connection id in the URL.")
    return KlingUnavailableError(what)
