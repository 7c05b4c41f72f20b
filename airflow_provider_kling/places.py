"""Which files a task may touch: a path that came out of a template stays inside what was allowed."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from airflow_provider_kling.errors import KlingInputError


def check_inside(path: str, argument: str, allowed: Sequence[str]) -> None:
    """Raise unless *path* lies in one of the *allowed* folders; no folders named means no limit.

    Links of a local file system are followed first, and ``..`` is resolved everywhere.

    :param path: a local path or a storage URL.
    :param argument: the operator's argument, for the message.
    :param allowed: local folders or storage URLs.
    :raises KlingInputError: naming the argument, what was given and what is allowed.
    """
    if not allowed or any(_covers(_normal(folder), _normal(path)) for folder in allowed):
        return
    folders = " or ".join(repr(folder) for folder in allowed)
    raise KlingInputError(f"{argument}={path!r} is outside of what is allowed: {folders}.")


def _normal(path: str) -> tuple[str, str]:
    """Return scheme with host, and the path without ``.``, ``..`` and local links."""
    scheme, separator, rest = path.partition("://")
    if not separator or scheme in ("file", "local"):
        return "", os.path.realpath(rest if separator else path)
    parts = urlsplit(f"//{rest}")
    host = parts.netloc.rpartition("@")[2]
    return f"{scheme}://{host}", posixpath.normpath("/" + unquote(parts.path))


def _covers(folder: tuple[str, str], path: tuple[str, str]) -> bool:
    return folder[0] == path[0] and (path[1] + "/").startswith(folder[1].rstrip("/") + "/")
