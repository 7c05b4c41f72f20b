"""Targets on any storage, for tests, and what happens to them."""

import time
import uuid
from contextlib import contextmanager, suppress
from unittest import mock

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.emulator.render_queue import tiny_video
from airflow_provider_kling.storage.allowed_paths import StoragePath, resolve_path
from airflow_provider_kling.storage.folders import _LocalFolder, _ObjectFolder
from airflow_provider_kling.storage.target import Target

VIDEO = tiny_video()
#: Another whole video.
OTHER_VIDEO = VIDEO + (8).to_bytes(4) + b"free"


def owner(task_id="download", run_id="r", map_index=-1):
    """Return a task instance."""
    return {"dag_id": "d", "run_id": run_id, "task_id": task_id, "map_index": map_index}


def later():
    """Return a time in an hour, in epoch seconds."""
    return time.time() + 3600


def target(path, who=None, if_exists="overwrite", max_bytes=10**9):
    """Return the target at a path, of a task instance."""
    path = path if isinstance(path, StoragePath) else resolve_path(path, "target")
    return Target(path, owner() if who is None else who, if_exists, max_bytes)


def store(where, job="job", data=VIDEO, *, length=None, then=lambda: None):
    """Store a video; *then* is called when it is whole, before it has its name."""

    def examine(open_video):
        with open_video() as file:
            assert file.read() == data
        then()
        return {}

    return where.store(iter([data]), length, {"kling_task_id": job}, examine)


@contextmanager
def before_the_name(where, action):
    """Do something when the sidecar is there and the video does not have its name yet."""

    def acting(rename):
        def renamed(folder, old, new, *, replace):
            if new == where.path.name and actions:
                actions.pop()()
            rename(folder, old, new, replace=replace)

        return renamed

    actions = [action]
    patches = [
        mock.patch.object(kind, "rename", acting(kind.rename)) for kind in (_LocalFolder, _ObjectFolder)
    ]
    with patches[0], patches[1]:
        yield
    assert not actions


class Killed(BaseException):
    """The process dies."""


def store_killed(where, job="job", data=VIDEO):
    """Store a video, and die when its sidecar is there and the video does not have its name yet."""

    def die():
        raise Killed

    with before_the_name(where, die), suppress(Killed):
        store(where, job, data)


@pytest.fixture(params=["local", "file", "memory"])
def folder(request, tmp_path):
    """A folder on each kind of storage, with a slash at the end."""
    if request.param == "memory":  # an object storage: it has no rename
        attach("memory", fs=MemoryFileSystem())
        return f"memory://bucket/{uuid.uuid4()}/videos/"
    return f"{tmp_path}/a/b/" if request.param == "local" else f"file://{tmp_path}/a/b/"


def names(folder):
    """Return what stands in a folder, sorted."""
    path = ObjectStoragePath(folder)
    return sorted(found.name for found in path.iterdir()) if path.exists() else []
