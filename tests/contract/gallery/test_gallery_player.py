"""The player: which file it opens, and how it sends it."""

import hashlib
import json
import os
import random
import urllib.parse
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.gallery import player


def mp4(*boxes):
    """Return a file of boxes: pairs of a kind and what is in it."""
    return b"".join((8 + len(data)).to_bytes(4) + kind + data for kind, data in boxes)


FTYP, MOOV = (b"ftyp", b"isom"), (b"moov", b"")
VIDEO = mp4(FTYP, MOOV, (b"mdat", random.Random(7).randbytes(3_000_000)))
JOB = "job-1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__KLING__GALLERY_FOLDERS", f" s3:wrong, {tmp_path}/videos , {tmp_path}/more")
    return tmp_path / "videos"


def store(path, data=VIDEO, **changes):
    """Store a video with its sidecar, as a download does."""
    owner = {"dag_id": "shop", "run_id": "r1", "task_id": "download", "map_index": -1}
    sidecar = {
        "kling_task_id": JOB,
        **owner,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.with_name(f"{path.name}.json").write_text(json.dumps(sidecar))
    return path


@pytest.fixture
def play(gallery, folder):
    """Return a function that plays what an XCom of the Dag *shop* names."""

    def played(path, job=JOB, user="ada", method="GET", query="", **headers):
        value = (
            {"kling_task_id": job, "path": str(path), "reused": False}
            if isinstance(path, (str, os.PathLike))
            else path
        )
        gallery.clean()
        gallery.add("other", dag_id="other")
        gallery.add("download", operator="KlingDownloadOperator", kling_video=value)
        headers = {name.replace("_", "-"): text for name, text in headers.items()}
        return gallery.get(f"/kling/api/video/shop/r1/download/-1{query}", user, method, headers=headers)

    return played


def test_a_video_of_ours_is_played_as_video_and_nothing_else(play, folder):
    answer = play(store(folder / 'kätzchen "1".mp4'), user="vera")
    assert (answer.status_code, answer.content) == (200, VIDEO)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"].startswith("inline")
    answer = play(folder / 'kätzchen "1".mp4', query="?download=1")
    shown, _, name = answer.headers["content-disposition"].partition("; filename*=UTF-8''")
    assert (shown, urllib.parse.unquote(name)) == ("attachment", 'kätzchen "1".mp4')


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=0-", 206, slice(0, None)),
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=1000000-1999999", 206, slice(1_000_000, 2_000_000)),
        ("bytes=2999999-99999999", 206, slice(2_999_999, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=5-4", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
    ],
)
def test_a_part_of_a_video_is_sent(play, folder, asked, status, span):
    answer = play(store(folder / "cat.mp4"), Range=asked)
    assert (answer.status_code, answer.content) == (status, VIDEO[span])
    assert int(answer.headers["content-length"]) == len(VIDEO[span])
    if status == 206:
        start, stop, _ = span.indices(len(VIDEO))
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(VIDEO)}"


@pytest.mark.parametrize("asked", [f"bytes={len(VIDEO)}-", "bytes=999999999999-", "bytes=-0"])
def test_a_part_that_there_is_not_is_refused(play, folder, asked):
    answer = play(store(folder / "cat.mp4"), Range=asked)
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(VIDEO)}")


def test_a_player_that_has_another_version_gets_the_whole_video(play, folder):
    etag = play(store(folder / "cat.mp4"), method="HEAD").headers["etag"]
    assert play(folder / "cat.mp4", Range="bytes=0-9", If_Range=etag).status_code == 206
    assert play(folder / "cat.mp4", Range="bytes=0-9", If_Range='"another"').status_code == 200
    assert play(folder / "cat.mp4", If_None_Match=etag).status_code == 304


@pytest.mark.parametrize(
    ("folders", "note"),
    [
        ("{folder}", None),
        ("s3:wrong,{folder}/", None),
        ("file://{folder}", None),
        ("{folder}/../link", None),
        ("", "an admin has to name their folders in [kling] gallery_folders"),
        ("{folder}/cat", "not in a folder that [kling] gallery_folders names"),
        ("s3://media", "not in a folder that [kling] gallery_folders names"),
    ],
)
def test_a_card_says_beforehand_whether_its_video_can_be_played(gallery, folder, monkeypatch, folders, note):
    video = {"kling_task_id": JOB, "path": str(store(folder / "cat.mp4"))}
    (folder.parent / "link").symlink_to(folder)
    monkeypatch.setenv("AIRFLOW__KLING__GALLERY_FOLDERS", folders.format(folder=folder))
    gallery.add("download", operator="KlingDownloadOperator", kling_video=video)
    (card,) = gallery.videos()["cards"]
    assert (card["player"] is None) == bool(note)
    assert (note or "") in (card["player_note"] or "")
    status = gallery.get("/kling/api/video/shop/r1/download/-1").status_code
    assert status == (403 if note else 200)


def test_head_tells_the_size_and_sends_nothing(play, folder):
    answer = play(store(folder / "cat.mp4"), method="HEAD")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(VIDEO))


def test_without_the_setting_nothing_is_played_and_the_answer_names_it(play, folder, monkeypatch):
    monkeypatch.setenv("AIRFLOW__KLING__GALLERY_FOLDERS", " , ")
    answer = play(store(folder / "cat.mp4"))
    assert answer.status_code == 403
    assert "[kling] gallery_folders" in answer.json()["detail"]


SECRET = mp4(FTYP, MOOV, (b"mdat", b" a video of another folder"))


def outside(folder):
    return store(folder.parent / "private" / "cat.mp4", SECRET)


def symlink(folder):
    store(folder / "cat.mp4", SECRET)
    (folder / "cat.mp4").unlink()
    (folder / "cat.mp4").symlink_to(outside(folder))
    return folder / "cat.mp4"


def linked_folder(folder):
    outside(folder)
    folder.mkdir()
    (folder / "inside").symlink_to(folder.parent / "private")
    return folder / "inside" / "cat.mp4"


def linked_sidecar(folder):
    video = store(folder / "cat.mp4", SECRET)
    sidecar = folder / "cat.mp4.json"
    sidecar.rename(folder.parent / "elsewhere.json")
    sidecar.symlink_to(folder.parent / "elsewhere.json")
    return video


def no_video(folder):
    return store(folder / "cat.mp4", b"root:x:0:0:root:/root:/bin/bash\n")


def without_sidecar(folder):
    video = store(folder / "cat.mp4", SECRET)
    (folder / "cat.mp4.json").unlink()
    return video


def with_broken_sidecar(folder):
    video = store(folder / "cat.mp4", SECRET)
    (folder / "cat.mp4.json").write_text("[" * 100_000)
    return video


def pipe(folder):
    video = store(folder / "cat.mp4", SECRET)
    video.unlink()
    os.mkfifo(video)
    return video


@pytest.mark.parametrize(
    "make",
    [
        outside,
        symlink,
        linked_folder,
        linked_sidecar,
        no_video,
        without_sidecar,
        with_broken_sidecar,
        pipe,
        lambda folder: store(folder / "cat.mp4", SECRET, kling_task_id="another job"),
        lambda folder: store(folder / "cat.mp4", SECRET, kling_task_id=[JOB]),
        lambda folder: store(folder / "cat.mp4", SECRET, dag_id=None),
        lambda folder: store(folder / "cat.mp4", SECRET, dag_id=["shop"]),
        lambda folder: store(folder / "cat.mp4", SECRET, size=7),
        lambda folder: f"{store(folder / 'cat.mp4', SECRET).parent}/../private/../videos/../private/cat.mp4",
        lambda folder: f"{folder}-private/cat.mp4",
        lambda folder: f"{folder}/none.mp4",
        lambda folder: f"{folder}",
        lambda folder: f"{folder}/",
        lambda folder: f"{store(folder / 'cat.mp4', SECRET)}\x00.mp4",
        lambda folder: f"{store(folder / 'cat.mp4', SECRET).parent}/%2e%2e/private/cat.mp4",
        lambda folder: "cat.mp4",
        lambda folder: "~root/cat.mp4",
        lambda folder: "https://gateway.example.com/cat.mp4",
        lambda folder: "s3://media/cat.mp4",
        lambda folder: f"filecache::file://{folder}/cat.mp4",
        lambda folder: "/" + "a" * 100_000,
        lambda folder: {"kling_task_id": JOB, "path": ["/etc/passwd"]},
        lambda folder: {
            "kling_task_id": None,
            "path": str(store(folder / "cat.mp4", SECRET, kling_task_id=None)),
        },
        lambda folder: "",
        lambda folder: [],
        lambda folder: 7,
        lambda folder: None,
    ],
)
def test_what_is_not_a_video_of_ours_in_the_right_place_is_not_opened(play, folder, make):
    answer = play(make(folder))
    assert answer.status_code in (403, 404, 502), answer.content[:100]
    assert answer.headers["content-type"] == "application/json"
    assert "private" not in answer.text
    assert SECRET[12:] not in answer.content


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x18ftypisom" + b"root:x:0:0:root:/root:/bin/bash\n" * 9,
        mp4(FTYP, (b"mdat", b"root:x:0:0:root:/root:/bin/bash\n")),
        VIDEO[:-1],
        VIDEO + b"end",
    ],
)
def test_a_file_that_only_begins_like_a_video_is_not_sent(play, folder, data):
    answer = play(store(folder / "cat.mp4", data))
    assert (answer.status_code, answer.json()["detail"]) == (
        403,
        "The file is not the video that was downloaded.",
    )


def test_a_video_is_checked_once_and_not_for_each_of_its_parts(play, folder, monkeypatch):
    checked = []
    monkeypatch.setattr(player, "check_headers", lambda *_: checked.append(1))
    store(folder / "cat.mp4")
    for start in range(3):
        assert play(folder / "cat.mp4", Range=f"bytes={start}-9").status_code == 206
    assert len(checked) == 1
    store(folder / "cat.mp4", VIDEO + VIDEO)
    play(folder / "cat.mp4")
    assert len(checked) == 2


def test_a_dag_plays_no_video_of_a_dag_that_the_user_may_not_read(gallery, folder):
    """Any task can push the path of another Dag's video."""
    video = store(folder / "cat.mp4", dag_id="shop")
    stolen = {"kling_task_id": JOB, "path": str(video)}
    gallery.add("download", dag_id="other", kling_video=stolen)
    path = "/kling/api/video/other/r1/download/-1"
    assert gallery.get(path, "otto").status_code == 403
    assert gallery.get(path, "vera").status_code == 200  # who may read both: the video may be a reused one
    assert gallery.get(path.replace("other", "shop"), "otto").status_code == 403
    assert gallery.get("/kling/api/video/shop/none/none/-1", "otto").status_code == 403
    assert gallery.get(path, user=None).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("shop/r1/none/-1", 404),
        ("shop/r1/download/0", 404),
        ("none/r1/download/-1", 404),
        ("%00/%00/%00/1", 400),
        ("shop/r1/download/x", 422),
        ("shop/r1/download/99999999999999999999", 422),
    ],
)
def test_an_unknown_task_instance_has_no_video(gallery, folder, path, status):
    assert gallery.get(f"/kling/api/video/{path}").status_code == status


def test_a_browser_that_goes_away_leaves_no_open_file(play, folder, gallery):
    play(store(folder / "cat.mp4", VIDEO * 10), query="?stream=1", method="HEAD")
    with gallery.get("/kling/api/video/shop/r1/download/-1", stream=True) as answer:
        answer.raw.read(1000)
    for _ in range(200):
        if folder / "cat.mp4" not in open_files():
            return
        gallery.get("/kling/")
    pytest.fail("the video is still open")


def open_files():
    """Return the files that this process, with the server in it, has open."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(descriptor.readlink())
    return found


class Storage(MemoryFileSystem):
    """A storage in memory; it may sign links."""

    store, pseudo_dirs = {}, [""]
    link = None

    def sign(self, path, expiration=100, **_):
        """Return the link that a test wants."""
        if self.link is None:
            raise NotImplementedError
        return self.link.format(path=path, expiration=expiration)


@pytest.fixture
def on_storage(attached, monkeypatch):
    """Return the path of a video on a storage, and the storage."""
    storage = Storage(skip_instance_cache=True)
    folder = attached(storage)
    monkeypatch.setenv("AIRFLOW__KLING__GALLERY_FOLDERS", folder)
    with TemporaryDirectory() as local:
        video = store(Path(local) / "cat.mp4")
        where = folder.partition("@")[2]
        for name in ("cat.mp4", "cat.mp4.json"):
            storage.pipe_file(f"/{where}{name}", (video.parent / name).read_bytes())
    return f"{folder}cat.mp4", storage


def test_a_storage_that_signs_links_sends_the_video_itself(play, on_storage):
    path, storage = on_storage
    storage.link = "https://storage.example{path}?expires={expiration}"
    answer = play(path)
    assert answer.status_code == 307
    assert answer.headers["location"].startswith("https://storage.example/bucket/")
    assert answer.headers["location"].endswith("/cat.mp4?expires=3600")
    assert answer.headers["cache-control"] == "no-store"
    assert play(path, query="?stream=1", Range="bytes=5-9").content == VIDEO[5:10]
    assert play(path, job="another job").status_code == 403


@pytest.mark.parametrize(
    "link", [None, "", "javascript:alert(1)", "file:///etc/passwd", "https://x.example/a\r\nSet-Cookie: a=b"]
)
def test_a_storage_without_usable_links_is_read_by_airflow(play, on_storage, link):
    path, storage = on_storage
    storage.link = link
    answer = play(path, Range="bytes=-7")
    assert (answer.status_code, answer.content) == (206, VIDEO[-7:])


def test_a_storage_is_read_through_no_other_connection_than_the_admin_has_named(play, on_storage):
    path, _ = on_storage
    connection = path.partition("//")[2].partition("@")[0]
    assert play(path.replace(connection, "another", 1)).status_code == 403
    assert play(path.replace(f"{connection}@", "", 1)).status_code == 403


def test_a_storage_that_fails_is_told_without_its_words(play, on_storage, monkeypatch):
    path, storage = on_storage
    monkeypatch.setattr(storage, "info", lambda *_, **__: 1 / 0)
    answer = play(path)
    assert answer.status_code == 502
    assert answer.json()["detail"] == "The API server cannot read the file (ZeroDivisionError)."
