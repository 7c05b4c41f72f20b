"""Videos are written whole or not at all, whatever the storage does."""

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from targets import VIDEO, names, store, target

from airflow_provider_kling.errors import KlingDownloadError


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
