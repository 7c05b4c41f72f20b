"""One name, one video: a task claims the name before it buys, and only videos of ours are replaced."""

import errno
import hashlib
import json
import os
import threading
import time

import pytest
from airflow.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem
from targets import OTHER_VIDEO, VIDEO, before_the_name, later, names, owner, store, store_killed, target

from airflow_provider_kling.errors import KlingDownloadError, KlingInputError, KlingUnavailableError, Money
from airflow_provider_kling.storage.folders import _LocalFolder, _ObjectFolder
from airflow_provider_kling.storage.target import Target


def test_a_claim_keeps_another_task_from_the_name_and_a_retry_finds_its_own(folder):
    path = f"{folder}cat.mp4"
    target(path, owner(map_index=0)).claim(later())
    target(path, owner(map_index=0)).claim(later())
    with pytest.raises(
        KlingInputError, match=r"cat\.mp4.*task download\[0\] of Dag d, run r, has claimed it"
    ):
        target(path, owner(map_index=1)).claim(later())
    for choice in ("overwrite", "skip", "fail"):
        assert target(path, owner(map_index=0), if_exists=choice).check() is None
        with pytest.raises(KlingInputError, match="has claimed it"):
            target(path, owner(map_index=1), if_exists=choice).check()
    target(f"{folder}cat.mp4.mov", owner(map_index=1)).claim(later())
    target(f"{folder}cat.mp", owner(map_index=2)).claim(later())
    target(path, owner(map_index=0)).release()
    target(path, owner(map_index=1)).claim(later())


def test_a_claim_in_the_way_of_a_paid_video_passes(folder):
    path = f"{folder}cat.mp4"
    target(path, owner(run_id="later")).claim(later())
    with pytest.raises(KlingDownloadError, match="has claimed it") as caught:
        target(path, owner()).check("t-1")
    assert caught.value.money is Money.PAID


def test_a_claim_leaves_nothing_when_it_is_released(folder):
    path = f"{folder}cat.mp4"
    target(path, owner()).claim(later())
    assert len(names(folder)) == 1
    target(path, owner()).release()
    target(path, owner()).release()
    assert names(folder) == []
    target(path, owner("a")).claim(later())
    with pytest.raises(KlingInputError):
        target(path, owner("b")).claim(later())
    assert len(names(folder)) == 1


def test_what_a_task_that_died_amid_its_claim_has_left_goes_with_its_next_claim(folder, monkeypatch):
    path = f"{folder}cat.mp4"
    with monkeypatch.context() as dying:
        for kind in (_LocalFolder, _ObjectFolder):
            dying.setattr(kind, "rename", lambda *_, **__: None)
            dying.setattr(kind, "remove", lambda *_: None)
        target(path, owner()).claim(later())
    assert {name.split(".")[-1] for name in names(folder)} == {"part"}
    target(path, owner()).claim(later())
    target(path, owner()).release()
    assert names(folder) == []


def test_a_claim_that_has_expired_or_cannot_be_read_keeps_nobody_out(folder):
    path = f"{folder}cat.mp4"
    target(path, owner("dead")).claim(time.time() - 1)
    for number, odd in enumerate(["not json", "[]", '{"expires_at": "never"}', '{"expires_at": [9e99]}']):
        ObjectStoragePath(f"{folder}.cat.mp4.0123abc{number}.claim").write_text(odd)
    target(path, owner("next")).claim(later())
    assert len(names(folder)) == 1 + 4  # the claim that has expired is gone; what cannot be read stays
    with pytest.raises(KlingInputError, match="task next of Dag d") as caught:
        target(path, owner("dead")).claim(later())
    claim = caught.value.advice.split("remove ")[1].split()[0]
    ObjectStoragePath(f"{folder}{claim}").unlink()
    target(path, owner("dead")).claim(later())


@pytest.mark.parametrize("kind", ["claim", "json"])
def test_what_a_foreign_file_says_is_cleaned_before_it_is_shown(folder, kind):
    path, odd = f"{folder}cat.mp4", "x\x1b[31m\n" + "y" * 5000
    claim = {**owner(odd), "claimed_at": 1, "expires_at": 1e14}
    text = json.dumps(claim if kind == "claim" else {**owner(), "kling_task_id": odd})
    ObjectStoragePath(folder).mkdir(parents=True, exist_ok=True)
    name = ".cat.mp4.01234567.claim" if kind == "claim" else "cat.mp4.json"
    ObjectStoragePath(f"{folder}{name}").write_text(text)
    with pytest.raises(KlingInputError) as caught:
        target(path, if_exists="fail").claim(later())
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 1000


def test_of_many_tasks_that_claim_one_name_at_once_one_wins(folder):
    path, won, lost = f"{folder}cat.mp4", [], []
    together = threading.Barrier(8)

    def claim(number):
        together.wait()
        try:
            target(path, owner(map_index=number)).claim(later())
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
            target(path).check()
    ObjectStoragePath(path).unlink()
    for foreign in (b"{}", b"[1]", b"\xff", b"", b'{"sha256": "x"}', b"[" * 100_000):
        ObjectStoragePath(f"{path}.json").write_bytes(foreign)
        with pytest.raises(KlingInputError, match=r"cat\.mp4\.json exists already and is not ours"):
            target(path).check()


def test_a_video_of_an_earlier_run_is_replaced_and_one_of_this_run_is_not(folder):
    path = f"{folder}cat.mp4"
    store(target(path, owner("one", run_id="yesterday")), "first")
    assert target(path, owner("two")).check() is None
    store(target(path, owner("two")), "second")
    assert target(path, owner("two")).check() is None  # cleared, it buys another
    assert target(path, owner("two", run_id="tomorrow")).check() is None
    with pytest.raises(KlingInputError, match="task two of this run has the same target"):
        target(path, owner("one")).check()


def test_a_video_that_somebody_has_changed_is_not_ours_any_more(folder):
    path = f"{folder}cat.mp4"
    store(target(path))
    ObjectStoragePath(path).write_bytes(OTHER_VIDEO)
    with pytest.raises(KlingInputError, match="made by no known job"):
        target(path).check("job")


def test_after_a_crash_between_sidecar_and_video_the_old_video_is_still_ours(folder):
    path = f"{folder}cat.mp4"
    store(target(path), "first")
    for job in ("second", "third"):
        store_killed(target(path), job, OTHER_VIDEO)
        assert target(path).check(job) is None
        for choice in ("skip", "fail"):
            with pytest.raises(KlingInputError, match="exists already"):
                target(path, if_exists=choice).check(job)
    store(target(path), "fourth", OTHER_VIDEO)
    assert json.loads(ObjectStoragePath(f"{path}.json").read_text())["kling_task_id"] == "fourth"


def test_a_foreign_file_that_comes_while_the_video_is_fetched_is_not_replaced(folder):
    path = f"{folder}cat.mp4"

    with pytest.raises(KlingInputError, match="made by no known job"):
        store(target(path), then=lambda: ObjectStoragePath(path).write_bytes(b"my thesis"))
    assert ObjectStoragePath(path).read_bytes() == b"my thesis"
    assert names(folder) == ["cat.mp4"]


@pytest.mark.parametrize("before", ["new", "replaced"])
def test_a_foreign_file_that_comes_after_the_last_check_is_not_replaced(folder, monkeypatch, before):
    path = f"{folder}cat.mp4"
    if before == "replaced":
        store(target(path), "first")
    check = Target._check

    def check_before(where, *arguments):
        result = check(where, *arguments)
        ObjectStoragePath(path).write_bytes(b"my thesis")
        return result

    monkeypatch.setattr(Target, "_check", check_before)
    with pytest.raises(KlingDownloadError, match="another program has put a file"):
        store(target(path, owner(run_id="later")), "second", OTHER_VIDEO)
    assert ObjectStoragePath(path).read_bytes() == b"my thesis"


def test_a_foreign_file_with_the_name_of_the_sidecar_is_not_replaced_either(folder):
    path = f"{folder}cat.mp4"
    with pytest.raises(KlingInputError, match=r"json exists already and is not ours"):
        store(target(path), then=lambda: ObjectStoragePath(f"{path}.json").write_text("my notes"))
    assert ObjectStoragePath(f"{path}.json").read_text() == "my notes"
    assert names(folder) == ["cat.mp4.json"]


def test_two_downloads_that_end_at_once_leave_a_video_and_its_own_sidecar(folder):
    path = f"{folder}cat.mp4"
    first, second = target(path, owner(run_id="first")), target(path, owner(run_id="second"))

    def end_too():
        with pytest.raises(KlingDownloadError, match="has claimed it"):  # it tries again later
            store(second, "second", OTHER_VIDEO)

    with before_the_name(first, end_too):
        store(first, "first")
    assert first.sidecar()["kling_task_id"] == "first"  # empty where it is not about this video
    store(second, "second", OTHER_VIDEO)
    assert second.sidecar()["kling_task_id"] == "second"
    assert names(folder) == ["cat.mp4", "cat.mp4.json"]


def test_a_folder_that_can_be_written_is_as_it_was_afterwards(folder):
    target(f"{folder}cat.mp4").check_writable()
    assert names(folder) == []


@pytest.mark.parametrize("check", [Target.check_writable, lambda where: where.claim(later())])
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
        check(target(f"{attached(Broken())}cat.mp4"))


@pytest.mark.parametrize("missing", ["info", "glob", "rm_file"])
def test_a_missing_right_to_look_list_or_remove_is_found_before_the_purchase(attached, missing):
    def refuse(*_, **__):
        raise PermissionError("Forbidden")

    storage = type("Policy", (MemoryFileSystem,), {"cachable": False, "store": {}, missing: refuse})()
    path = f"{attached(storage)}cat.mp4"
    with pytest.raises(
        KlingInputError, match=r"cat\.mp4.*PermissionError: Forbidden.*listed, written and removed"
    ):
        target(path, owner()).claim(later())


def test_a_name_that_no_file_can_have_is_found_before_the_purchase(tmp_path):
    for name in ("x" * 300 + ".mp4", "x" * 240 + ".mp4"):  # its temporary name is longer
        with pytest.raises(KlingInputError, match="target="):
            target(f"{tmp_path}/{name}", owner()).claim(later())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KlingInputError, match=r"target=.*NotADirectoryError"):
        target(f"{tmp_path}/file/cat.mp4", owner()).claim(later())


def test_a_disk_without_room_is_found_before_the_purchase(tmp_path, monkeypatch):
    full = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result([*full[:4], 10, *full[5:]]))
    with pytest.raises(KlingInputError, match=r"cat\.mp4.*bytes left, too few for a video"):
        target(f"{tmp_path}/cat.mp4", owner()).claim(later())
    assert names(tmp_path) == []


def test_one_hash_is_known_of_a_video(folder):
    path = f"{folder}cat.mp4"
    store(target(path))
    told = target(path, if_exists="skip").check("job")
    assert told["sha256"] == hashlib.sha256(VIDEO).hexdigest()
    assert target(path).sidecar() == told
