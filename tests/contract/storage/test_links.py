"""A local file is opened below its folder's handle: exchanging it for a link leads nowhere."""

import os
import shutil
import threading
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import store, target

from airflow_provider_kling.errors import KlingDownloadError, KlingError, KlingInputError
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.files import file_size, read_file

SECRET = b"a secret"


@pytest.fixture
def disk(tmp_path):
    """An allowed folder, and one beside it that is not."""
    for folder in ("allowed/a/b", "private/a/b"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "allowed/a/b/cat.png").write_bytes(b"a cat")
    (tmp_path / "private/a/b/cat.png").write_bytes(SECRET)
    return tmp_path


def at(disk):
    return resolve_path(f"{disk}/allowed/a/b/cat.png", "image", [f"{disk}/allowed"])


def listing(folder):
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


OPERATIONS = {
    "read": lambda path: read_file(path, "image", 100),
    "size": lambda path: file_size(path, "image"),
    "store": lambda path: store(target(path)),
    "store a new one": lambda path: store(target(path, if_exists="fail")),
    "check": lambda path: target(path).check(),
    "claim": lambda path: target(path).claim(1e12),
}


@pytest.mark.parametrize("part", ["allowed/a", "allowed/a/b", "allowed/a/b/cat.png"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_link_that_comes_after_the_check_is_not_followed(disk, part, operation):
    path, before = at(disk), listing(disk / "private")
    (disk / part).rename(disk / "aside")
    (disk / part).symlink_to(disk / part.replace("allowed", "private"))
    found = None
    with suppress(KlingError):
        found = OPERATIONS[operation](path)
    assert found not in (SECRET, len(SECRET))
    assert listing(disk / "private") == before


def test_a_folder_that_is_exchanged_all_the_time_never_leads_outside(disk):
    inside, outside, going = disk / "allowed/a/b", disk / "private/a/b", threading.Event()
    path, before, seen = at(disk), listing(disk / "private"), set()

    def exchange():
        aside = disk / "aside"
        steps = [
            lambda: inside.rename(aside),
            lambda: inside.symlink_to(outside),
            inside.unlink,
            lambda: aside.exists() and shutil.rmtree(inside),  # a receiver has made it anew
            lambda: aside.rename(inside),
        ]
        while not going.is_set():
            for step in steps:
                with suppress(OSError):
                    step()

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for number in range(1500):
            try:
                seen.add(read_file(path, "image", 100))
            except KlingInputError:
                seen.add(None)
            with suppress(KlingInputError, KlingDownloadError):
                new = resolve_path(f"{disk}/allowed/a/b/{number}.mp4", "target", [f"{disk}/allowed"])
                if number % 10 == 0:
                    store(target(new))
    finally:
        going.set()
        thread.join()
    assert SECRET not in seen
    assert b"a cat" in seen
    assert listing(disk / "private") == before


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "device"])
def test_only_a_regular_file_is_read(disk, kind):
    path = disk / "allowed" / "odd"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    given = "/dev/zero" if kind == "device" else str(path)
    with pytest.raises(KlingError, match="image="):
        read_file(resolve_path(given, "image"), "image", 100)


def test_a_sidecar_that_is_a_link_is_neither_read_nor_followed(disk):
    (disk / "private/notes.json").write_text('{"kling_task_id": "x"}')
    (disk / "allowed/cat.mp4.json").symlink_to(disk / "private/notes.json")
    path = resolve_path(f"{disk}/allowed/cat.mp4", "target")
    with pytest.raises(KlingInputError):
        target(path).check()
    with pytest.raises(KlingInputError):
        store(target(path))
    assert (disk / "private/notes.json").read_text() == '{"kling_task_id": "x"}'


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["a", "b", "link", "..", "."]), max_size=6))
def test_links_and_dots_in_any_order_lead_to_what_was_judged(tmp_path_factory, parts):
    disk = tmp_path_factory.mktemp("disk")
    (disk / "allowed/a/b").mkdir(parents=True)
    (disk / "private/b").mkdir(parents=True)
    (disk / "allowed/a/link").symlink_to(disk / "private")
    (disk / "allowed/link").symlink_to(disk / "allowed/a")
    for folder in ("allowed", "allowed/a", "allowed/a/b"):
        (disk / folder / "cat.png").write_bytes(b"a cat")
    for folder in ("private", "private/b", "."):
        (disk / folder / "cat.png").write_bytes(SECRET)
    given_path = "/".join([f"{disk}/allowed", *parts, "cat.png"])
    with suppress(KlingInputError):
        assert read_file(resolve_path(given_path, "image", [f"{disk}/allowed"]), "image", 100) == b"a cat"
