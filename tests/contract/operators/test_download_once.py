"""One name, one video: whoever else writes, nobody takes another's place unless that was chosen."""

import errno
import os
import threading

import pytest
from airflow.sdk import ObjectStoragePath
from airflow_fakes import TI, context_of
from odd_servers import serving
from sensor_modes import bought
from targets import VIDEO, names, owner, store, store_killed, target

from airflow_provider_kling.errors import KlingDownloadError, KlingInputError
from airflow_provider_kling.operators import KlingDownloadOperator


def download(kling_task_id, target, task_id="t", **arguments):
    told = {"kling_task_id": kling_task_id, "target": str(target), **arguments}
    return KlingDownloadOperator(task_id="download", **told).execute(context_of(TI(task_id=task_id)))


def read(path):
    return ObjectStoragePath(path).read_bytes()


@pytest.mark.parametrize("choice", ["fail", "skip"])
def test_who_comes_second_to_a_name_does_not_take_it_from_the_first(gateway, folder, monkeypatch, choice):
    slow, fast, path = bought(gateway), bought(gateway), folder + "cat.mp4"
    asked, home, ends = threading.Event(), threading.Event(), []

    def late(handler):
        asked.set()
        assert home.wait(30)
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(VIDEO + (8).to_bytes(4) + b"free")

    def bring_slowly():
        try:
            ends.append(download(slow, path, "slow", if_exists=choice))
        except KlingInputError as error:
            ends.append(error)

    with serving(late) as server:
        real = gateway.links.make
        monkeypatch.setattr(gateway.links, "make", lambda *_: f"{server.url}/v.mp4")
        thread = threading.Thread(target=bring_slowly)
        thread.start()
        assert asked.wait(30)
        monkeypatch.setattr(gateway.links, "make", real)
        assert download(fast, path, "fast", if_exists=choice) == path
        home.set()
        thread.join(30)
    assert f"exists already, made by job {fast}" in str(ends[0])
    assert (read(path), names(folder)) == (VIDEO, ["cat.mp4", "cat.mp4.json"])
    assert target(path).sidecar()["kling_task_id"] == fast


@pytest.mark.parametrize("choice", ["fail", "overwrite"])
def test_on_a_local_disk_not_even_a_look_that_came_too_early_lets_two_write(tmp_path, monkeypatch, choice):
    real = os.link

    def too_late(old, new, **folders):
        if new == "cat.mp4":
            (tmp_path / new).write_bytes(b"another's")
        real(old, new, **folders)

    monkeypatch.setattr(os, "link", too_late)
    with pytest.raises(KlingDownloadError, match="Meanwhile another program"):
        store(target(f"{tmp_path}/cat.mp4", if_exists=choice))
    assert (tmp_path / "cat.mp4").read_bytes() == b"another's"


def test_a_disk_without_links_gets_its_videos_too(tmp_path, monkeypatch):
    def link(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    new = target(f"{tmp_path}/cat.mp4", if_exists="fail")
    store(new)
    assert read(f"{tmp_path}/cat.mp4") == VIDEO
    with pytest.raises(KlingInputError, match="exists already"):
        store(target(f"{tmp_path}/cat.mp4", owner("another"), if_exists="fail"))
    assert names(tmp_path) == ["cat.mp4", "cat.mp4.json"]


@pytest.mark.parametrize("choice", ["fail", "skip"])
def test_a_sidecar_lays_claim_to_the_name_before_its_video_has_it(gateway, folder, choice):
    first, second, path = bought(gateway), bought(gateway), folder + "cat.mp4"
    store_killed(target(path, if_exists=choice), first)
    with pytest.raises(KlingInputError, match=rf"cat\.mp4\.json exists already, made by job {first}"):
        download(second, path, if_exists=choice)
    with pytest.raises(KlingInputError, match="exists already"):
        store(target(path, if_exists=choice), second)
    assert download(first, path, if_exists=choice) == path
    assert target(path).sidecar()["kling_task_id"] == first
    assert download(second, path) == path
    assert target(path).sidecar()["kling_task_id"] == second


def test_a_file_of_the_right_size_is_not_believed_for_its_size(gateway, folder):
    kling_task_id, path = bought(gateway), folder + "cat.mp4"
    download(kling_task_id, path)
    ObjectStoragePath(path).write_bytes(bytes(len(VIDEO)))
    with pytest.raises(KlingInputError, match="exists already, made by no known job"):
        download(kling_task_id, path, if_exists="skip")
    with pytest.raises(KlingInputError, match="exists already, made by no known job"):
        download(kling_task_id, path)
    ObjectStoragePath(path).unlink()
    assert download(kling_task_id, path) == path
    assert download(kling_task_id, path, if_exists="skip") == path


def test_two_tries_of_one_task_write_under_names_of_their_own(folder):
    path = folder + "cat.mp4"

    def second_try():
        store(target(path))
        assert len(names(folder)) == 3

    store(target(path), then=second_try)
    assert names(folder) == ["cat.mp4", "cat.mp4.json"]
