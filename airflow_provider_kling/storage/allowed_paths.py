"""Which files a task may touch: a path out of a template stays inside, and what stands there may matter."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from typing import Literal, get_args
from urllib.parse import unquote

from airflow_provider_kling.errors import KlingInputError

#: What to do when a file stands where a video shall go.
IfExists = Literal["overwrite", "skip", "fail"]
#: Bytes that a video may have, unless the user says otherwise.
LARGEST = 4 * 1024**3
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")


def checked_if_exists(value: str) -> IfExists:
    """Return *value* if it is one of :data:`IfExists`.

    :raises ValueError: naming the argument and what is allowed.
    """
    if value not in get_args(IfExists):
        raise ValueError(f"if_exists={value!r}: must be 'overwrite', 'skip' or 'fail'")
    return value  # type: ignore[return-value]  # just checked


def check_inside(path: str, argument: str, allowed: Sequence[str]) -> None:
    """Raise unless *path* lies in one of the *allowed* folders; no folders named means no limit.

    Links of a local file system are followed first. A storage URL must not climb with ``..``: to a
    storage that is a name like any other. The Airflow connection in a storage URL counts too.

    :param path: a local path or a storage URL.
    :param argument: the operator's argument, for the message.
    :param allowed: local folders or storage URLs.
    :raises KlingInputError: naming the argument, what was given and what is allowed.
    """
    climbs = ".." in unquote(path).split("/") and _normal(path)[0] != ""
    if not allowed or (not climbs and any(_inside(folder, path) for folder in allowed)):
        return
    folders = " or ".join(repr(folder) for folder in allowed)
    raise KlingInputError(f"{argument}={path!r} is outside of what is allowed: {folders}.")


def is_local(path: str) -> bool:
    """Return whether a path leads to a disk of the worker, and not to a storage elsewhere."""
    return not _normal(path)[0]


def _inside(folder: str, path: str) -> bool:
    """Return whether *path* lies in *folder*, as it is written and also with what is percent-encoded read."""
    return all(_covers(_normal(read(folder)), _normal(read(path))) for read in (str, unquote))


def _normal(path: str) -> tuple[str, str]:
    """Return scheme with host, and the path without ``.``, ``..``, ``~`` and local links.

    Airflow takes ``file:/x``, without slashes after the colon, for a URL too.
    """
    found = _SCHEME.match(path)
    scheme, rest = (found[1].lower(), path[found.end() :]) if found else ("", path)
    if scheme in ("", "file", "local"):
        return "", os.path.realpath(os.path.expanduser(rest))  # noqa: PTH111 - fsspec does just this
    host, _, way = rest.partition("/")
    return f"{scheme}://{host}", posixpath.normpath(f"/{way}")


def _covers(folder: tuple[str, str], path: tuple[str, str]) -> bool:
    return folder[0] == path[0] and (path[1] + "/").startswith(folder[1].rstrip("/") + "/")
