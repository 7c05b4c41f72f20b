"""Videos are written whole or not at all, whatever the storage does."""

import pytest
from airflow.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.emulator.render_queue import tiny_video
from airflow_provider_kling.errors import KlingDownloadError
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.target import receive_video, write_sidecar

VIDEO = tiny_video()
MINE = {"max_bytes": 10**9, "owner": "me"}


def at(path):
    return resolve_path(path, "target")


def names(folder):
    path = ObjectStoragePath(folder)
    return sorted(found.name for found in path.iterdir()) if path.exists() else []


def receive(chunks, length, path):
    with receive_video(iter(chunks), length, at(path), **MINE) as (stored, _):
        return stored


@pytest.mark.parametrize("length", [len(VIDEO) + 1, len(VIDEO) - 1, 0])
def test_another_length_than_was_promised_is_not_taken(tmp_path, length):
    with pytest.raises(KlingDownloadError, match=f"{len(VIDEO)} of {length} bytes"):
        receive([VIDEO], length, f"{tmp_path}/cat.mp4")
    assert names(tmp_path) == []


@pytest.mark.parametrize("length", [len(VIDEO), None])
def test_the_promised_length_or_none_is_taken(tmp_path, length):
    stored = receive([VIDEO[:7], b"", VIDEO[7:]], length, f"{tmp_path}/cat.mp4")
    assert (stored.path, stored.size) == (f"{tmp_path}/cat.mp4", len(VIDEO))
    assert names(tmp_path) == ["cat.mp4"]


@pytest.mark.parametrize("length", [None, len(VIDEO)])
def test_a_stream_without_end_is_left_as_soon_as_it_is_too_large(tmp_path, length):
    took = []

    def chunks():
        yield VIDEO
        for number in range(1000):
            took.append(number)
            yield bytes(100)

    path = f"{tmp_path}/cat.mp4"
    with (
        pytest.raises(KlingDownloadError, match=f"has more bytes; at most {len(VIDEO) + 250} bytes"),
        receive_video(chunks(), length, at(path), max_bytes=len(VIDEO) + 250, owner="me"),
    ):
        pass
    assert took == [0, 1, 2]
    assert names(tmp_path) == []


def test_a_storage_that_swallows_bytes_is_caught(attached):
    class Swallowing(MemoryFileSystem):
        cachable, store = False, {}

        def size(self, path):
            return super().size(path) - 1

    folder = attached(Swallowing())
    with pytest.raises(KlingDownloadError, match=f"took {len(VIDEO) - 1} of {len(VIDEO)} bytes"):
        receive([VIDEO], None, f"{folder}cat.mp4")
    assert names(folder) == []


@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("cp_file", lambda path: receive([VIDEO], None, path)),
        ("cp_file", lambda path: write_sidecar(at(path), {"kling_task_id": "x"}, "me")),
        ("_open", lambda path: write_sidecar(at(path), {"kling_task_id": "x"}, "me")),
    ],
)
def test_a_storage_that_breaks_at_the_last_step_leaves_nothing_behind(attached, method, step):
    def breaking(*_, **__):
        raise OSError("the bucket is full")

    folder = attached(
        type("Breaking", (MemoryFileSystem,), {"cachable": False, "store": {}, method: breaking})()
    )
    with pytest.raises(KlingDownloadError, match=r"cannot be written to .*cat\.mp4 .*the bucket is full"):
        step(f"{folder}cat.mp4")
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
        receive(chunks(), None, f"{tmp_path}/cat.mp4")
    assert names(tmp_path) == []


def test_who_finds_fault_at_the_last_look_keeps_the_video_from_its_name(tmp_path):
    def look():
        with receive_video(iter([VIDEO]), None, at(f"{tmp_path}/cat.mp4"), **MINE) as (_, file):
            assert file.read() == VIDEO
            assert not (tmp_path / "cat.mp4").exists()
            raise KlingDownloadError("no sound")

    with pytest.raises(KlingDownloadError, match="no sound"):
        look()
    assert names(tmp_path) == []
