"""Videos are written whole or not at all, whatever the storage does."""

import errno
import io
import os
import traceback

import pytest
from airflow.sdk import ObjectStoragePath
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from fsspec.implementations.memory import MemoryFileSystem
from targets import OTHER_VIDEO, VIDEO, later, names, owner, store, target

from airflow_provider_kling.errors import KlingDownloadError, KlingInputError, KlingUnavailableError, Money
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.files import signed_url
from airflow_provider_kling.storage.target import Target


@pytest.mark.parametrize("length", [len(VIDEO) + 1, len(VIDEO) - 1, 0])
def test_another_length_than_was_promised_is_not_taken(tmp_path, length):
    with pytest.raises(KlingDownloadError, match=f"{len(VIDEO)} of {length} bytes"):
        store(target(f"{tmp_path}/cat.mp4"), length=length)
    assert names(tmp_path) == []


@pytest.mark.parametrize("length", [len(VIDEO), None])
def test_the_promised_length_or_none_is_taken(tmp_path, length):
    chunks = [VIDEO[:7], b"", VIDEO[7:]]
    told = target(f"{tmp_path}/cat.mp4").store(chunks, length, {"kling_task_id": "job"})
    assert told["size"] == len(VIDEO)
    assert names(tmp_path) == ["cat.mp4", "cat.mp4.json"]


@pytest.mark.parametrize("length", [None, len(VIDEO)])
def test_a_stream_without_end_is_left_as_soon_as_it_is_too_large(tmp_path, length):
    took = []

    def chunks():
        yield VIDEO
        for number in range(1000):
            took.append(number)
            yield bytes(100)

    limited = target(f"{tmp_path}/cat.mp4", max_bytes=len(VIDEO) + 250)
    with pytest.raises(KlingDownloadError, match=f"has more bytes; at most {len(VIDEO) + 250} bytes"):
        limited.store(chunks(), length, {"kling_task_id": "job"})
    assert took == [0, 1, 2]
    assert names(tmp_path) == []


def test_a_storage_that_swallows_bytes_is_caught(attached):
    class Swallowing(MemoryFileSystem):
        cachable, store = False, {}

        def size(self, path):
            return super().size(path) - 1

    folder = attached(Swallowing())
    with pytest.raises(KlingDownloadError, match=f"took {len(VIDEO) - 1} of {len(VIDEO)} bytes"):
        store(target(f"{folder}cat.mp4"))
    assert names(folder) == []


class NoReplace(MemoryFileSystem):
    """A storage whose rename replaces no file: it raises *refusal*, or does nothing and reports nothing."""

    cachable, refusal = False, None

    def mv(self, path1, path2, **_):
        if not self.exists(path2):
            self.cp_file(path1, path2)
            self.rm_file(path1)
        elif self.refusal:
            raise self.refusal(path2)


@pytest.mark.parametrize("refusal", [FileExistsError, OSError, None])
def test_a_rename_that_does_not_replace_keeps_no_video_from_its_place(attached, refusal):
    folder = attached(type("Storage", (NoReplace,), {"store": {}, "refusal": refusal})())
    path = f"{folder}cat.mp4"
    for job, data in (("first", VIDEO), ("second", OTHER_VIDEO)):
        where = target(path, owner(run_id=job))
        where.check_writable()
        where.claim(later())
        store(where, job, data)
        where.release()
        assert ObjectStoragePath(path).read_bytes() == data
        assert where.sidecar()["kling_task_id"] == job
    assert names(folder) == ["cat.mp4", "cat.mp4.json"]


@pytest.mark.parametrize("check", [Target.check_writable, lambda where: where.claim(later())])
def test_a_storage_that_cannot_replace_a_file_is_found_before_the_purchase(attached, check):
    def renames_nothing_twice(self, path1, path2, **_):
        if path2 not in self.seen:
            NoReplace.mv(self, path1, path2)
        self.seen.add(path2)

    members = {"store": {}, "seen": set(), "mv": renames_nothing_twice}
    folder = attached(type("Storage", (NoReplace,), members)())
    with pytest.raises(KlingUnavailableError, match="was not renamed") as caught:
        check(target(f"{folder}cat.mp4"))
    assert caught.value.money is Money.UNTOUCHED


@pytest.mark.parametrize("method", ["cp_file", "_open"])
def test_a_storage_that_breaks_at_the_last_step_leaves_nothing_behind(attached, method):
    def breaking(*_, **__):
        raise OSError("the bucket is full")

    folder = attached(
        type("Breaking", (MemoryFileSystem,), {"cachable": False, "store": {}, method: breaking})()
    )
    with pytest.raises(KlingDownloadError, match=r"cannot be written to .*cat\.mp4 .*the bucket is full"):
        store(target(f"{folder}cat.mp4"))
    assert names(folder) == []


@pytest.mark.parametrize(
    ("death", "raised"),
    [
        (KeyboardInterrupt, KeyboardInterrupt),
        (OSError, KlingDownloadError),
        (KlingDownloadError, KlingDownloadError),
    ],
)
def test_a_stream_that_breaks_leaves_nothing(tmp_path, death, raised):
    def chunks():
        yield VIDEO[:100]
        raise death("bang")

    with pytest.raises(raised, match="bang"):
        target(f"{tmp_path}/cat.mp4").store(chunks(), None, {"kling_task_id": "job"})
    assert names(tmp_path) == []


def test_who_finds_fault_at_the_last_look_keeps_the_video_from_its_name(tmp_path):
    def look():
        assert not (tmp_path / "cat.mp4").exists()
        raise KlingDownloadError("no sound")

    with pytest.raises(KlingDownloadError, match="no sound"):
        store(target(f"{tmp_path}/cat.mp4"), then=look)
    assert names(tmp_path) == []


PASSING = (errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EMFILE)
FINAL = (errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP)


class FullDisk(io.FileIO):
    """A file that fails while it is written."""

    def write(self, data):
        raise self.error


def check_and_store(where):
    """Do with a target what a download does."""
    where.check("job")
    store(where)


@pytest.mark.parametrize("number", PASSING + FINAL, ids=errno.errorcode.get)
@pytest.mark.parametrize("step", ["stat", "open", "mkdir", "fdopen", "fsync", "listdir"])
def test_what_a_disk_raises_at_any_step_is_our_error_and_leaves_nothing(tmp_path, monkeypatch, step, number):
    where, real = target(f"{tmp_path}/new/cat.mp4"), getattr(os, step)

    def failing(*arguments, **options):
        error = OSError(number, os.strerror(number))
        if step != "fdopen":
            raise error
        file = real(*arguments, **options)
        if arguments[1] == "wb":
            file.close()
            file = FullDisk(os.devnull, "w")
            file.error = error
        return file

    monkeypatch.setattr(os, step, failing)
    raised = KlingInputError if number in FINAL else KlingDownloadError
    with pytest.raises(raised, match=rf"{tmp_path}/new/cat\.mp4.*{os.strerror(number)}") as caught:
        check_and_store(where)
    assert (caught.value.money, caught.value.reason) == (Money.PAID, "STORAGE_FAILED")
    monkeypatch.undo()
    assert "cat.mp4" not in names(tmp_path / "new")


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "SlowDown", "Message": "Reduce\x1b your rate"}}, "PutObject"),
        EndpointConnectionError(endpoint_url="https://s3.test/bucket?X-Amz-Signature=abcdef0123456789"),
        NoCredentialsError(),
        RuntimeError("HttpError 503"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("method", ["info", "glob", "_open", "cp_file"])
def test_what_a_bucket_raises_at_any_step_is_our_error_without_its_secrets(attached, method, error):
    def failing(*_, **__):
        raise error

    storage = type("Failing", (MemoryFileSystem,), {"cachable": False, "store": {}, method: failing})()
    where = target(f"{attached(storage)}cat.mp4")
    with pytest.raises(KlingDownloadError, match=rf"cat\.mp4.*{type(error).__name__}") as caught:
        check_and_store(where)
    shown = "".join(traceback.format_exception(caught.value))
    assert "abcdef0123456789" not in shown
    assert "\x1b" not in shown


def test_a_storage_may_write_the_scheme_of_a_signed_url_in_any_case(attached):
    class Signing(MemoryFileSystem):
        cachable = False

        def sign(self, path, expiration=100, **_):
            return f"HTTPS://storage.test/{path}?signature=x"

    path = resolve_path(f"{attached(Signing())}cat.png", "image")
    assert signed_url(path, "image").startswith("HTTPS://storage.test/")
