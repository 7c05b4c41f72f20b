"""One name, one video: a task claims the name before it buys, and only videos of ours are replaced."""

import errno
import hashlib
import json
import os
import threading
import time
import uuid

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.emulator.render_queue import tiny_video
from airflow_provider_kling.errors import KlingDownloadError, KlingInputError, KlingUnavailableError, Money
from airflow_provider_kling.storage import target as sidecars
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.target import (
    check_target,
    check_writable,
    claim_target,
    owner_name,
    receive_video,
    release_target,
    write_sidecar,
)

VIDEO = tiny_video()


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    """A folder on each kind of storage, with a slash at the end."""
    if request.param == "memory":
        attach("memory", fs=MemoryFileSystem())
        return f"memory://bucket/{uuid.uuid4()}/videos/"
    return f"{tmp_path}/videos/"


def at(path):
    return resolve_path(path, "target")


def owner(task_id="download", run_id="r", map_index=-1):
    return {"dag_id": "d", "run_id": run_id, "task_id": task_id, "map_index": map_index}


def later():
    return time.time() + 3600


def names(folder):
    path = ObjectStoragePath(folder)
    return sorted(found.name for found in path.iterdir()) if path.exists() else []


def deliver(path, job="job", who=None, data=VIDEO, *, replace=True):
    who = who or owner()
    with receive_video(
        iter([data]), None, at(path), max_bytes=10**9, owner=owner_name(who), replace=replace
    ) as (stored, _):
        told = {**who, "kling_task_id": job, "size": stored.size, "sha256": stored.sha256}
        write_sidecar(at(path), told, owner_name(who), replace=replace)


def test_a_claim_keeps_another_task_from_the_name_and_a_retry_finds_its_own(folder):
    path = at(f"{folder}cat.mp4")
    claim_target(path, owner(map_index=0), later())
    claim_target(path, owner(map_index=0), later())
    with pytest.raises(
        KlingInputError, match=r"cat\.mp4.*task download\[0\] of Dag d, run r, has claimed it"
    ):
        claim_target(path, owner(map_index=1), later())
    for choice in ("overwrite", "skip", "fail"):
        assert check_target(path, choice, owner=owner(map_index=0)) is None
        with pytest.raises(KlingInputError, match="has claimed it"):
            check_target(path, choice, owner=owner(map_index=1))
    claim_target(at(f"{folder}cat.mp4.mov"), owner(map_index=1), later())
    claim_target(at(f"{folder}cat.mp"), owner(map_index=2), later())
    release_target(path, owner(map_index=0))
    claim_target(path, owner(map_index=1), later())


def test_a_claim_in_the_way_of_a_paid_video_passes(folder):
    path = at(f"{folder}cat.mp4")
    claim_target(path, owner(run_id="later"), later())
    with pytest.raises(KlingDownloadError, match="has claimed it") as caught:
        check_target(path, "overwrite", kling_task_id="t-1", owner=owner())
    assert caught.value.money is Money.PAID


def test_a_claim_leaves_nothing_when_it_is_released(folder):
    path = at(f"{folder}cat.mp4")
    claim_target(path, owner(), later())
    assert len(names(folder)) == 1
    release_target(path, owner())
    release_target(path, owner())
    assert names(folder) == []
    claim_target(path, owner("a"), later())
    with pytest.raises(KlingInputError):
        claim_target(path, owner("b"), later())
    assert len(names(folder)) == 1


def test_a_claim_that_has_expired_or_cannot_be_read_keeps_nobody_out(folder):
    path = at(f"{folder}cat.mp4")
    claim_target(path, owner("dead"), time.time() - 1)
    for number, odd in enumerate(["not json", "[]", '{"expires_at": "never"}', '{"expires_at": [9e99]}']):
        ObjectStoragePath(f"{folder}.cat.mp4.0123abc{number}.claim").write_text(odd)
    claim_target(path, owner("next"), later())
    with pytest.raises(KlingInputError, match="task next of Dag d") as caught:
        claim_target(path, owner("dead"), later())
    claim = caught.value.advice.split("remove ")[1].split()[0]
    ObjectStoragePath(f"{folder}{claim}").unlink()
    claim_target(path, owner("dead"), later())


def test_of_many_tasks_that_claim_one_name_at_once_one_wins(folder):
    path, won, lost = at(f"{folder}cat.mp4"), [], []
    together = threading.Barrier(8)

    def claim(number):
        together.wait()
        try:
            claim_target(path, owner(map_index=number), later())
            won.append(number)
        except KlingInputError:
            lost.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert len(names(folder)) == 1


def test_a_file_that_is_no_video_of_ours_is_not_replaced(folder):
    path = f"{folder}cat.mp4"
    for foreign in (VIDEO, b"my thesis", b""):
        ObjectStoragePath(folder).mkdir(parents=True, exist_ok=True)
        ObjectStoragePath(path).write_bytes(foreign)
        with pytest.raises(KlingInputError, match="exists already, made by no known job"):
            check_target(at(path), "overwrite")
    ObjectStoragePath(path).unlink()
    for foreign in (b"{}", b"[1]", b"\xff", b"", b'{"sha256": "x"}', b"[" * 100_000):
        ObjectStoragePath(f"{path}.json").write_bytes(foreign)
        with pytest.raises(KlingInputError, match=r"cat\.mp4\.json exists already and is not ours"):
            check_target(at(path), "overwrite")


def test_a_video_of_an_earlier_run_is_replaced_and_one_of_this_run_is_not(folder):
    path = f"{folder}cat.mp4"
    deliver(path, "first", owner("one", run_id="yesterday"))
    assert check_target(at(path), "overwrite", owner=owner("two")) is None
    deliver(path, "second", owner("two"))
    assert check_target(at(path), "overwrite", owner=owner("two")) is None  # cleared, it buys another
    assert check_target(at(path), "overwrite", owner=owner("two", run_id="tomorrow")) is None
    with pytest.raises(KlingInputError, match="task two of this run has the same target"):
        check_target(at(path), "overwrite", owner=owner("one"))


def test_a_video_that_somebody_has_changed_is_not_ours_any_more(folder):
    path = f"{folder}cat.mp4"
    deliver(path)
    ObjectStoragePath(path).write_bytes(VIDEO + (8).to_bytes(4) + b"free")
    with pytest.raises(KlingInputError, match="made by no known job"):
        check_target(at(path), "overwrite", kling_task_id="job")


def test_after_a_crash_between_sidecar_and_video_the_old_video_is_still_ours(folder):
    path = f"{folder}cat.mp4"
    deliver(path, "first")
    for job in ("second", "third"):
        write_sidecar(at(path), {"kling_task_id": job, "sha256": job}, "me")  # and then it was killed
        assert check_target(at(path), "overwrite", kling_task_id=job) is None
        for choice in ("skip", "fail"):
            with pytest.raises(KlingInputError, match="exists already"):
                check_target(at(path), choice, kling_task_id=job)
    deliver(path, "fourth", data=VIDEO + (8).to_bytes(4) + b"free")
    assert json.loads(ObjectStoragePath(f"{path}.json").read_text())["kling_task_id"] == "fourth"


def test_a_foreign_file_that_comes_while_the_video_is_fetched_is_not_replaced(folder):
    path = f"{folder}cat.mp4"

    def receive():
        with receive_video(iter([VIDEO]), None, at(path), max_bytes=10**9, owner="me"):
            ObjectStoragePath(path).write_bytes(b"my thesis")
            write_sidecar(at(path), {"kling_task_id": "job", "sha256": "x"}, "me")

    with pytest.raises(KlingDownloadError, match="Meanwhile another task"):
        receive()
    assert ObjectStoragePath(path).read_bytes() == b"my thesis"
    assert names(folder) == ["cat.mp4"]


def test_a_folder_that_can_be_written_is_as_it_was_afterwards(folder):
    check_writable(at(f"{folder}cat.mp4"), owner())
    assert names(folder) == []


@pytest.mark.parametrize("check", [check_writable, lambda path, who: claim_target(path, who, later())])
@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (errno.EACCES, KlingInputError),
        (errno.EROFS, KlingInputError),
        (errno.ENAMETOOLONG, KlingInputError),
        (errno.ENOSPC, KlingUnavailableError),
        (errno.EDQUOT, KlingUnavailableError),
        (errno.EIO, KlingUnavailableError),
    ],
)
def test_what_keeps_a_file_from_its_place_is_found_before_the_purchase(attached, check, number, raised):
    class Broken(MemoryFileSystem):
        cachable, store = False, {}

        def _open(self, path, mode="rb", **_):
            raise OSError(number, os.strerror(number))

    with pytest.raises(raised, match=rf"target='memory://.*cat\.mp4'.*{os.strerror(number)}"):
        check(at(f"{attached(Broken())}cat.mp4"), owner())


@pytest.mark.parametrize("missing", ["info", "glob", "rm_file"])
def test_a_missing_right_to_look_list_or_remove_is_found_before_the_purchase(attached, missing):
    def refuse(*_, **__):
        raise PermissionError("Forbidden")

    storage = type("Policy", (MemoryFileSystem,), {"cachable": False, "store": {}, missing: refuse})()
    path = at(f"{attached(storage)}cat.mp4")
    with pytest.raises(
        KlingInputError, match=r"cat\.mp4.*PermissionError: Forbidden.*listed, written and removed"
    ):
        claim_target(path, owner(), later())


def test_a_name_that_no_file_can_have_is_found_before_the_purchase(tmp_path):
    for name in ("x" * 300 + ".mp4", "x" * 230 + ".mp4"):  # its temporary name is longer
        with pytest.raises(KlingInputError, match="target="):
            claim_target(at(f"{tmp_path}/{name}"), owner(), later())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KlingInputError, match=r"target=.*NotADirectoryError"):
        claim_target(at(f"{tmp_path}/file/cat.mp4"), owner(), later())


def test_a_disk_without_room_is_found_before_the_purchase(tmp_path, monkeypatch):
    full = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result([*full[:4], 10, *full[5:]]))
    with pytest.raises(KlingInputError, match=r"cat\.mp4.*bytes left, too few for a video"):
        claim_target(at(f"{tmp_path}/cat.mp4"), owner(), later())
    assert names(tmp_path) == []


def test_one_hash_is_known_of_a_video(folder):
    path = f"{folder}cat.mp4"
    deliver(path)
    told = check_target(at(path), "skip", kling_task_id="job")
    assert told["sha256"] == hashlib.sha256(VIDEO).hexdigest()
    assert sidecars.read_sidecar(at(path)) == told
