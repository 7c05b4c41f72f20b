"""The same picture, inputs and model are paid for once, where that is wanted. The gateway's log tells."""

import base64
import json
import os
import uuid

import pytest
from airflow.sdk import DAG, ObjectStoragePath
from airflow.sdk.io import attach
from airflow_fakes import TI, Store, connect, context_of, png, submits
from fsspec.implementations.memory import MemoryFileSystem
from odd_servers import answering, serving

from airflow_provider_kling.errors import KlingDownloadError, KlingInputError
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
    KlingSummaryOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor
from airflow_provider_kling.submission.reuse import read_reused_video
from airflow_provider_kling.transport.sync_client import USER_AGENT


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path, gateway, monkeypatch):
    connect(gateway, monkeypatch, allowed_paths="")
    if request.param == "memory":  # an object storage: it has no rename
        attach("memory", fs=MemoryFileSystem())
        return f"memory://bucket/{uuid.uuid4()}/"
    return f"{tmp_path}/"


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "cat.png"
    file.write_bytes(png())
    return file


def asked(place, picture, **changes):
    """Return a request that an earlier video may answer."""
    known = {"image": str(picture), "prompt": "It waves", "reuse": "fingerprint"}
    return {**known, "library": f"{place}library", **changes}


class Chain:
    """A submit and the download of its job, as a run."""

    def __init__(self, request, target):
        self.dag, self.run = DAG("d", schedule=None), {}
        self.submit = KlingSubmitOperator(task_id="submit", dag=self.dag, **request)
        self.job = self.execute(self.submit, Store())
        self.download = KlingDownloadOperator(
            task_id="download", dag=self.dag, kling_task_id=self.job, target=target
        )
        self.submit >> self.download

    def execute(self, task, store=None):
        return task.execute(context_of(TI(task_id=task.task_id, run=self.run), store))


def chain(place, picture, day, **changes):
    """Run submit, wait, download and summary of one day; return where the video is, and the summary."""
    run = Chain(asked(place, picture, **changes), f"{place}{day}/cat.mp4")
    wait = KlingTaskSensor(task_id="wait", dag=run.dag, kling_task_id=run.job, deferrable=False)
    summary = KlingSummaryOperator(task_id="summary", dag=run.dag)
    run.submit >> wait >> run.download >> summary
    run.execute(wait)
    return run.execute(run.download), run.execute(summary)


def test_a_month_of_the_same_catalogue_is_paid_for_once(gateway, place, picture):
    first, told = chain(place, picture, "day1")
    cost = {"myrouter": 0.56, "kling": 0.42}[gateway.spoken]  # of the default model
    assert (len(told["made"]), told["estimated_cost_usd"]) == (1, cost)
    gateway.add_fault("job:invisible=100000")  # it has forgotten the job
    for day in range(2, 31):
        path, told = chain(place, picture, f"day{day}")
        assert ObjectStoragePath(path).read_bytes() == ObjectStoragePath(first).read_bytes()
        assert (len(told["reused"]), told["estimated_cost_usd"]) == (1, 0)
    assert submits(gateway) == 1
    story = json.loads(ObjectStoragePath(f"{path}.json").read_text())
    assert story["reused"]["path"] == first
    assert story["kling_task_id"] == gateway.jobs[0].task_id


def test_a_video_that_is_where_it_is_wanted_stays(gateway, place, picture):
    path, _ = chain(place, picture, "day")
    story = ObjectStoragePath(f"{path}.json").read_text()
    assert chain(place, picture, "day")[0] == path
    assert ObjectStoragePath(f"{path}.json").read_text() == story
    assert submits(gateway) == 1


def test_by_default_everything_is_bought(gateway, place, picture):
    for day in range(2):
        chain(place, picture, day, reuse=None, library=None)
    assert submits(gateway) == 2
    assert not ObjectStoragePath(f"{place}library").exists()


@pytest.mark.parametrize(
    "change", [{"prompt": "It sleeps"}, {"model": "kling-v3.0-std-i2v"}, {"duration": 10}]
)
def test_another_request_is_bought(gateway, place, picture, change):
    chain(place, picture, 1)
    chain(place, picture, 2, **change)
    assert submits(gateway) == 2


def test_another_picture_under_the_same_name_is_bought_and_the_same_one_under_another_is_not(
    gateway, place, picture
):
    chain(place, picture, 1)
    other = picture.with_name("other.png")
    other.write_bytes(picture.read_bytes())
    chain(place, other, 2)
    assert submits(gateway) == 1
    picture.write_bytes(png(340, 340))
    chain(place, picture, 3)
    assert submits(gateway) == 2


def test_a_public_picture_is_known_by_its_content_not_by_its_link(gateway, place, monkeypatch, picture):
    files = {"a.png": png(), "b.png": png(), "c.png": png(340, 340), "hidden.png": png()}

    def answer(handler):
        body = files.get(handler.path.strip("/").split("?")[0])
        if "hidden" in handler.path and handler.headers["User-Agent"] == USER_AGENT:
            body = None  # from us, not from the gateway
        answering(body or b"", 200 if body else 404)(handler)

    with serving(answer) as server:
        url = server.url
        chain(place, f"{url}/a.png", 1)
        chain(place, f"{url}/b.png?signature=1", 2)
        chain(place, picture, "a file of the same bytes")
        assert submits(gateway) == 1
        chain(place, f"{url}/c.png", 3)
        assert submits(gateway) == 2
        files["a.png"] = png(360, 360)
        chain(place, f"{url}/a.png", 4)
        assert submits(gateway) == 3
        chain(place, f"{url}/hidden.png", 5)
        chain(place, f"{url}/hidden.png", 6)
    assert submits(gateway) == 5


def spoil_index(place, path):
    index = next(iter(ObjectStoragePath(f"{place}library").iterdir()))
    index.write_text("{")


def spoil_path(place, path):
    index = next(iter(ObjectStoragePath(f"{place}library").iterdir()))
    told = json.loads(index.read_text())
    index.write_text(json.dumps({**told, "path": f"{place}elsewhere.mp4"}))


def spoil_video(place, path):
    ObjectStoragePath(path).write_bytes(b"x" * ObjectStoragePath(path).stat().st_size)


def lose_video(place, path):
    ObjectStoragePath(path).unlink()


def lose_story(place, path):
    ObjectStoragePath(f"{path}.json").unlink()


def change_story(place, path):
    ObjectStoragePath(f"{path}.json").write_text('{"kling_task_id": "another"}')


@pytest.mark.parametrize(
    "spoil", [spoil_index, spoil_path, spoil_video, lose_video, lose_story, change_story]
)
def test_what_is_damaged_or_gone_is_bought_again_and_then_found_again(gateway, place, picture, logged, spoil):
    path, _ = chain(place, picture, 1)
    spoil(place, path)
    chain(place, picture, 2)
    assert submits(gateway) == 2
    assert "bought" in logged.text()
    chain(place, picture, 3)
    assert submits(gateway) == 2


def change_a_byte(path):
    data = ObjectStoragePath(path).read_bytes()
    ObjectStoragePath(path).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(lambda path: ObjectStoragePath(path).unlink(), "to be reused"), (change_a_byte, "is not what it was")],
)
def test_a_video_that_is_spoilt_between_submit_and_download_is_told_and_nothing_is_left(
    gateway, place, picture, spoil, words
):
    path, _ = chain(place, picture, 1)
    run = Chain(asked(place, picture), f"{place}new.mp4")
    spoil(path)
    with pytest.raises(KlingDownloadError, match=words):
        run.execute(run.download)
    assert not ObjectStoragePath(f"{place}new.mp4").exists()


def test_the_one_task_is_answered_without_a_wait(gateway, place, picture):
    chain(place, picture, 1)
    gateway.add_fault("job:invisible=100000")
    one = KlingImageToVideoOperator(task_id="video", target=f"{place}one/", **asked(place, picture))
    ti = TI(task_id="video")
    path = one.execute(context_of(ti, Store()))
    assert ObjectStoragePath(path).exists()
    assert ti.xcoms["kling_video"]["reused"] is True
    assert submits(gateway) == 1


def test_a_retry_of_a_submit_that_paid_waits_for_its_own_job(gateway, place, picture):
    request = asked(place, picture)
    store = Store()
    first = KlingSubmitOperator(task_id="s", **request).execute(context_of(TI(), store))
    assert KlingSubmitOperator(task_id="s", **request).execute(context_of(TI(), store)) == first
    assert submits(gateway) == 1


def test_a_library_outside_of_the_allowed_folders_is_refused(gateway, place, picture, monkeypatch):
    with pytest.raises(KlingInputError, match=r"library=.* outside of what is allowed"):
        chain(place, picture, 1, allowed_paths=[str(picture), str(picture.parent / "only")])
    assert not submits(gateway)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"reuse": "fingerprint"}, "give both or none"),
        ({"library": "/x"}, "give both or none"),
        ({"reuse": "always", "library": "/x"}, "must be 'fingerprint' or None"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_dag_is_read(arguments, words):
    with pytest.raises(ValueError, match=words):
        KlingSubmitOperator(task_id="submit", prompt="x", **arguments)


def test_a_page_that_says_no_makes_no_two_pictures_equal(gateway, place):
    def answer(handler):
        if handler.headers["User-Agent"] == USER_AGENT:
            answering(b"<html>Are you human?</html>")(handler)
        else:
            answering(png() if "a.png" in handler.path else png(340, 340))(handler)

    with serving(answer) as server:
        for day, name in enumerate("ab"):
            chain(place, f"{server.url}/{name}.png", day)
    assert submits(gateway) == 2


def test_a_reused_video_that_vanished_from_its_place_is_not_told_as_delivered(gateway, place, picture):
    path, _ = chain(place, picture, "day")
    run = Chain(asked(place, picture), path)
    ObjectStoragePath(path).unlink()
    with pytest.raises(KlingDownloadError, match="cannot be read"):
        run.execute(run.download)


@pytest.mark.parametrize("limited", ["connection", "submit"])
def test_a_library_that_becomes_a_link_out_of_the_allowed_folders_is_not_written(
    gateway, picture, tmp_path, monkeypatch, logged, limited
):
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    (allowed / "library").mkdir(parents=True)
    outside.mkdir()
    folders = [str(allowed), str(picture)]
    connect(gateway, monkeypatch, allowed_paths=folders if limited == "connection" else "")
    limits = folders if limited == "submit" else []
    target = str(allowed / "cat.mp4")
    run = Chain(asked(f"{allowed}/", picture, allowed_paths=limits), target)
    (allowed / "library").rmdir()
    (allowed / "library").symlink_to(outside)
    assert run.execute(run.download) == target
    assert list(outside.iterdir()) == []
    assert "could not be added to the library" in logged.text()


def test_a_library_may_not_lead_to_a_video_outside_of_the_allowed_folders(gateway, place, picture, logged):
    for day in range(2):
        chain(place, picture, day, allowed_paths=[str(picture), f"{place}library"])
    assert submits(gateway) == 2
    assert "does not lead to a video" in logged.text()
    chain(place, picture, 2, allowed_paths=[str(picture), place])
    assert submits(gateway) == 2


def test_a_video_that_vouches_for_another_content_is_not_reused(gateway, place, picture):
    chain(place, picture, 1)
    chain(place, picture, 2, prompt="It sleeps")
    paths = list(ObjectStoragePath(f"{place}library").iterdir())
    one, two = [json.loads(path.read_text()) for path in paths]
    paths[0].write_text(json.dumps(two))
    paths[1].write_text(json.dumps(one))
    chain(place, picture, 3)
    assert submits(gateway) == 3


def test_every_picture_of_a_list_in_the_extra_body_counts(gateway, place, monkeypatch):
    files = {"a": png(), "b": png(340, 340), "c": png(360, 360)}
    with serving(lambda handler: answering(files[handler.path[1:2]])(handler)) as server:
        for day, names in enumerate(["ab", "ac", "ab", "a"]):
            images = [f"{server.url}/{name}" for name in names]
            chain(place, None, day, image=None, model="kling-o1-ref2v", extra_body={"images": images})
    assert submits(gateway) == 3


@pytest.mark.parametrize("link", ["http://127.0.0.1/a", " HTTPS://p.example/a", "s3://b/a", "//p.example/a"])
def test_a_link_that_nobody_has_looked_behind_is_never_taken_for_the_same(gateway, place, link):
    for day in (1, 2):
        chain(place, None, day, image=None, model="kling-v3.0-pro-t2v", extra_body={"style": [link]})
    assert submits(gateway) == 2


def test_a_picture_in_extra_body_in_place_of_the_argument_is_refused_for_an_unknown_model_too(
    gateway, place, picture
):
    other = "data:image/png;base64," + base64.b64encode(png(340, 340)).decode()
    with pytest.raises(KlingInputError, match="image is given twice"):
        chain(place, picture, 1, model="kling-v9", extra_body={"image": other})
    assert not submits(gateway)


def test_a_reused_video_that_is_no_file_any_more_is_our_error_and_names_it(tmp_path):
    os.mkfifo(tmp_path / "cat.mp4")
    with pytest.raises(KlingDownloadError, match=r"cat\.mp4, which was to be reused, cannot be read"):
        list(read_reused_video({"path": f"{tmp_path}/cat.mp4", "sha256": "x"}))
