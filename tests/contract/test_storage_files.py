"""Files in and out, where the storage itself is the trouble."""

import uuid

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from airflow_fakes import png
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.emulator.studio import tiny_video
from airflow_provider_kling.errors import KlingDownloadError, KlingInputError
from airflow_provider_kling.storage import load_picture, received_video, write_sidecar

VIDEO = tiny_video()
MINE = {"largest": 10**9, "owner": "me"}


@pytest.fixture
def attached():
    """Attach a storage to Airflow, for good, as a connection of its own, and return a folder on it."""

    def attach_it(storage):
        connection = f"c{uuid.uuid4().hex}"
        attach("memory", conn_id=connection, fs=storage)
        return f"memory://{connection}@bucket/{connection}/"

    return attach_it


def names(folder):
    return sorted(path.name for path in ObjectStoragePath(folder).iterdir())


def receive(chunks, length, path):
    with received_video(iter(chunks), length, path, **MINE) as (stored, _):
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
        ("cp_file", lambda path: write_sidecar(path, {"size": 1}, "me")),
        ("pipe_file", lambda path: write_sidecar(path, {"size": 1}, "me")),
    ],
)
def test_a_storage_that_breaks_at_the_last_step_leaves_nothing_behind(attached, method, step):
    def breaking(*_, **__):
        raise OSError("the bucket is full")

    folder = attached(
        type("Breaking", (MemoryFileSystem,), {"cachable": False, "store": {}, method: breaking})()
    )
    with pytest.raises(OSError, match="the bucket is full"):
        step(f"{folder}cat.mp4")
    assert names(folder) == []


@pytest.mark.parametrize("death", [KeyboardInterrupt, OSError, KlingDownloadError])
def test_whatever_ends_a_stream_leaves_nothing(tmp_path, death):
    def chunks():
        yield VIDEO[:100]
        raise death("bang")

    with pytest.raises(death):
        receive(chunks(), None, f"{tmp_path}/cat.mp4")
    assert names(tmp_path) == []


def test_who_finds_fault_at_the_last_look_keeps_the_video_from_its_name(tmp_path):
    def look():
        with received_video(iter([VIDEO]), None, f"{tmp_path}/cat.mp4", **MINE) as (_, file):
            assert file.read() == VIDEO
            assert not (tmp_path / "cat.mp4").exists()
            raise KlingDownloadError("no sound")

    with pytest.raises(KlingDownloadError, match="no sound"):
        look()
    assert names(tmp_path) == []


def test_a_picture_is_read_from_any_storage(attached, tmp_path):
    folder = attached(MemoryFileSystem())
    ObjectStoragePath(f"{folder}cat.png").write_bytes(png())
    (tmp_path / "a cat.png").write_bytes(png())
    for place in (f"{folder}cat.png", f"{tmp_path}/a cat.png", f"file://{tmp_path}/a cat.png"):
        assert load_picture(place, "image").data == png()
    assert load_picture("https://pictures.example/cat.png", "image") is None


@pytest.mark.parametrize(
    "place", ["{}/gone.png", "{}", "nowhere://x/cat.png", "file://{}/gone.png", "x" * 300]
)
def test_a_picture_that_cannot_be_read_is_told_by_name(tmp_path, place):
    with pytest.raises((KlingInputError, OSError)) as caught:
        load_picture(place.format(tmp_path), "end_image")
    assert isinstance(caught.value, OSError) or "end_image=" in str(caught.value)


def test_a_trouble_of_the_storage_that_may_pass_is_not_called_a_wrong_input(attached):
    def away(*_, **__):
        raise ConnectionError("the storage is away")

    folder = attached(type("Away", (MemoryFileSystem,), {"cachable": False, "_open": away})())
    with pytest.raises(ConnectionError):
        load_picture(f"{folder}cat.png", "image")
