"""Temporary names, and how a file gets its own: whole, and only if nobody else has it."""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec import AbstractFileSystem  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from airflow_provider_kling.errors import KlingDownloadError


def sweep_parts(path: str, owner: str) -> None:
    """Remove what a killed try of the same owner left under its temporary names; no other's."""
    target = ObjectStoragePath(path)
    if not target.parent.exists():
        return
    name = f"{target.parent.path.rstrip('/')}/.{target.name}"
    for left in target.fs.glob(f"{glob.escape(name)}*.{owner}.*.part"):
        target.fs.rm_file(left)


@contextmanager
def part_of(target: ObjectStoragePath, owner: str) -> Iterator[ObjectStoragePath]:
    """Yield a temporary name beside the target, and leave nothing under it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{target.name}.{owner}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
    finally:
        if part.exists():
            part.fs.rm_file(part.path)


def move(part: ObjectStoragePath, target: ObjectStoragePath, *, replace: bool) -> None:
    """Give a file its name.

    :param replace: whether another file of that name is replaced. If not, a local file gets its name in one
        step; on other storages a look just before has to do.
    :raises KlingDownloadError: where the name is taken.
    """
    if not replace and _linked(part, target):
        return  # the temporary name goes with the block that made it
    if not replace and target.exists():
        raise taken(str(target))
    if type(part.fs).mv is AbstractFileSystem.mv:  # it takes a "[" in a name for a pattern
        part.fs.cp_file(part.path, target.path)
        part.fs.rm_file(part.path)
    else:
        part.fs.mv(part.path, target.path)


def _linked(part: ObjectStoragePath, target: ObjectStoragePath) -> bool:
    """Give a local file its name if nobody has it, in one step; return False where links are not known."""
    if not isinstance(part.fs, LocalFileSystem):
        return False
    try:
        os.link(part.path, target.path)
    except FileExistsError:
        raise taken(str(target)) from None
    except OSError:
        return False
    return True


def taken(path: str) -> KlingDownloadError:
    """Return the error for a name that another has taken meanwhile; a look at who it was comes next."""
    return KlingDownloadError(f"Meanwhile another task has put a file at {path}.")
