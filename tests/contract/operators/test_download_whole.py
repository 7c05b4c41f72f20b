"""A video is brought home whole or not at all, whatever the storage host does, on any storage."""

import hashlib
import json
import re
import tracemalloc

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.sdk import DAG, ObjectStoragePath
from airflow_fakes import TI, Store, connect, context_of
from dialects import dialect, rows
from odd_servers import answering, serving
from sensor_modes import bought
from targets import VIDEO, names

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingDownloadError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    KlingVideoError,
    Money,
)
from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.storage.target import owner_name


def download(kling_task_id, target, ti=None, **arguments):
    told = {"kling_task_id": kling_task_id, "target": str(target), **arguments}
    return KlingDownloadOperator(task_id="download", **told).execute(context_of(ti))


def downloads(gateway):
    return [request for request in gateway.requests if request.host == "storage"]


@pytest.mark.parametrize("name", ["", "cat.mp4", "a cat's (1) vidéo.mp4", "50%.mp4"])
def test_a_video_and_its_story_come_home(gateway, folder, name):
    ti, kling_task_id = TI(map_index=2), bought(gateway)
    path = download(kling_task_id, folder + name, ti)
    assert path == folder + (name or f"{kling_task_id}.mp4")
    assert ObjectStoragePath(path).read_bytes() == VIDEO
    assert names(folder) == sorted([path.removeprefix(folder), path.removeprefix(folder) + ".json"])
    sha256 = hashlib.sha256(VIDEO).hexdigest()
    home = ti.xcoms.pop("kling_video")
    assert (home["kling_task_id"], home["path"], home["reused"]) == (kling_task_id, path, False)
    assert (home["task_id"], home["map_index"]) == ("t", 2)
    cost = ti.xcoms.pop("kling_bill", {}).get("cost_usd")
    assert cost == {"myrouter": None, "kling": 0.56}[gateway.spoken]
    assert ti.xcoms == {"size": len(VIDEO), "sha256": sha256, "content_type": "video/mp4"}
    told = json.loads(ObjectStoragePath(f"{path}.json").read_text())
    assert (told["kling_task_id"], told["size"], told["sha256"]) == (kling_task_id, len(VIDEO), sha256)
    assert (told["dag_id"], told["run_id"], told["task_id"], told["map_index"]) == ("d", "r", "t", 2)
    assert told["timings"]["submit_time_ms"] > 1e12
    assert not gateway.key_reached_storage


PASSING = {
    "dead once": "dead=403",
    "not there once": "dead=404",
    "gone once": "dead=410",
    "cut": "cut",
    "cut off at once": "truncate=1",
    "cut off": "truncate=700",
    "cut off again and again, each time a bit further": "truncate=700,times=always",
    "longer than told": "wrong-length=100",
    "shorter than told": "wrong-length=-100",
    "a page": "not-video",
    "slow": "slow=0.2",
    "failing twice": "dead=403,times=2",
}


@pytest.mark.parametrize("trouble", PASSING)
def test_what_passes_is_overcome_within_one_try(gateway, folder, trouble):
    kling_task_id = bought(gateway)
    gateway.add_fault(f"download:{PASSING[trouble]}")
    path = download(kling_task_id, folder)
    assert ObjectStoragePath(path).read_bytes() == VIDEO
    assert names(folder) == [f"{kling_task_id}.mp4", f"{kling_task_id}.mp4.json"]


LASTING = ["dead=403", "dead=404", "dead=410", "cut", "truncate=1", "wrong-length=100"]
#: What is no whole video although all that was promised came.
WRONG = ["wrong-length=-100", "not-video", "html=200"]


@pytest.mark.parametrize("trouble", [*LASTING, "redirect=302/http://127.0.0.1:1/", "status=304", "dead=500"])
def test_what_lasts_leaves_nothing_and_may_be_retried(gateway, folder, logged, trouble):
    kling_task_id = bought(gateway)
    gateway.add_fault(f"download:{trouble},times=always")
    with pytest.raises(KlingDownloadError) as caught:
        download(kling_task_id, folder)
    assert isinstance(caught.value, AirflowException)
    assert not isinstance(caught.value, AirflowFailException)
    assert caught.value.money is Money.PAID
    assert names(folder) == []
    assert "X-Signature" not in f"{caught.value} {caught.value.__dict__} {logged.text()}"
    gateway.clear_faults()
    assert ObjectStoragePath(download(kling_task_id, folder)).read_bytes() == VIDEO


@pytest.mark.parametrize("trouble", WRONG)
def test_what_is_no_video_is_fetched_once_more_with_a_fresh_link_and_then_fails_for_good(
    gateway, folder, trouble
):
    kling_task_id = bought(gateway)
    gateway.add_fault(f"download:{trouble},times=always")
    with pytest.raises(KlingVideoError) as caught:
        download(kling_task_id, folder)
    assert isinstance(caught.value, AirflowFailException)
    assert (caught.value.money, caught.value.kling_task_id) == (Money.PAID, kling_task_id)
    assert kling_task_id in caught.value.what
    assert len(downloads(gateway)) == 2
    assert names(folder) == []


def test_a_link_that_is_no_url_of_the_web_fails_for_good(gateway, tmp_path, monkeypatch):
    monkeypatch.setattr(gateway.links, "make", lambda *_: "file:///etc/passwd")
    with pytest.raises(KlingJobFailedError, match="without a video") as caught:
        download(bought(gateway), tmp_path / "cat.mp4")
    assert isinstance(caught.value, AirflowFailException)
    assert names(tmp_path) == []


def test_a_host_in_trouble_is_given_minutes(gateway, clock, tmp_path):
    kling_task_id = bought(gateway)
    gateway.add_fault("download:dead=503,times=4")
    began = clock.time()
    assert download(kling_task_id, tmp_path / "cat.mp4")
    assert clock.time() - began > 60


@pytest.mark.parametrize("trouble", [*LASTING, *WRONG])
def test_a_failure_leaves_the_video_that_stood_there_before_untouched(gateway, folder, trouble):
    kling_task_id = bought(gateway)
    path = download(kling_task_id, folder + "cat.mp4")
    before = {name: ObjectStoragePath(folder + name).read_bytes() for name in names(folder)}
    gateway.add_fault(f"download:{trouble},times=always")
    with pytest.raises(KlingDownloadError):
        download(bought(gateway), path)
    assert {name: ObjectStoragePath(folder + name).read_bytes() for name in names(folder)} == before


def test_a_storage_that_nobody_knows_is_told_before_anything_is_asked(gateway):
    with pytest.raises(KlingInputError, match="this storage cannot be used here"):
        download("t-1", "nowhere://videos/")
    assert not gateway.requests


def test_each_new_attempt_has_a_fresh_link(gateway, tmp_path):
    kling_task_id = bought(gateway)
    gateway.links.seconds = -1
    with pytest.raises(KlingDownloadError, match="HTTP 403"):
        download(kling_task_id, tmp_path / "cat.mp4")
    assert sum(request.method == "GET" and request.host == "api" for request in gateway.requests) == 5
    gateway.links.seconds = 60
    assert download(kling_task_id, tmp_path / "cat.mp4")


@pytest.mark.parametrize("name", ["cat.mp4", "[1]cat*.mp4"])
def test_what_a_killed_try_left_is_swept_and_nothing_else(gateway, folder, name):
    place = ObjectStoragePath(folder)
    place.mkdir(parents=True, exist_ok=True)
    mine = owner_name({"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1})
    for left in (f".{name}.{mine}.0a1b2c3d.part", f".{name}.{mine}.4e5f6071.part"):
        (place / left).write_bytes(b"half a")
    kept = [f".1cats.mp4.{mine}.0a1b2c3d.part", f".{name}.another.0a1b2c3d.part", f"{name}.part", f".{name}"]
    for other in kept:
        (place / other).write_bytes(b"another's")
    download(bought(gateway), folder + name)
    assert names(folder) == sorted([name, f"{name}.json", *kept])


@pytest.mark.parametrize("name", ["cat[1].mp4", "cat*.mp4", "c?t.mp4", "[a]/cat.mp4"])
def test_a_name_that_looks_like_a_pattern_is_a_name(gateway, folder, name):
    kling_task_id = bought(gateway)
    path = download(kling_task_id, folder + name)
    assert path == folder + name
    assert ObjectStoragePath(path).read_bytes() == VIDEO
    assert download(kling_task_id, folder + name) == path
    assert len(names(path.rpartition("/")[0] + "/")) == 2


CHOICES = {
    ("overwrite", "same"): None,
    ("overwrite", "other"): None,
    ("overwrite", "untold"): KlingInputError,
    ("skip", "same"): None,
    ("skip", "other"): KlingInputError,
    ("skip", "untold"): KlingInputError,
    ("fail", "own"): None,  # a retry, after the first try was killed behind its last step
    ("fail", "same"): KlingInputError,
    ("fail", "other"): KlingInputError,
    ("fail", "untold"): KlingInputError,
}


@pytest.mark.parametrize(("choice", "there"), CHOICES)
def test_what_stands_there_already_is_met_as_was_chosen(gateway, folder, choice, there):
    kling_task_id = bought(gateway)
    target = folder + "cat.mp4"
    first = download(kling_task_id if there in ("own", "same") else bought(gateway), target)
    if there == "untold":
        ObjectStoragePath(f"{target}.json").unlink()
    before, ti = len(downloads(gateway)), TI(map_index=3 if there == "same" else -1)
    if error := CHOICES[choice, there]:
        with pytest.raises(error, match="exists already") as caught:
            download(kling_task_id, target, ti, if_exists=choice)
        assert isinstance(caught.value, AirflowFailException)
        assert caught.value.money is Money.PAID
    else:
        assert download(kling_task_id, target, ti, if_exists=choice) == first
        assert ti.xcoms["size"] == len(VIDEO)
        told = json.loads(ObjectStoragePath(f"{target}.json").read_text())
        assert told["kling_task_id"] == kling_task_id
    fetched = len(downloads(gateway)) - before
    assert fetched == (1 if choice == "overwrite" and not error else 0)


@pytest.mark.parametrize("broken", ["{", "[]", "{}", '{"kling_task_id": "ID", "size": 1}'])
def test_a_story_that_does_not_fit_its_video_is_not_believed(gateway, tmp_path, broken):
    kling_task_id = bought(gateway)
    (tmp_path / "cat.mp4").write_bytes(VIDEO)
    (tmp_path / "cat.mp4.json").write_text(broken.replace("ID", kling_task_id))
    with pytest.raises(KlingInputError, match="exists already"):
        download(kling_task_id, tmp_path / "cat.mp4", if_exists="skip")


def test_a_choice_that_does_not_exist_is_refused_when_the_dag_is_parsed():
    with pytest.raises(ValueError, match="if_exists='ask'"):
        KlingDownloadOperator(task_id="download", kling_task_id="t", target="/x", if_exists="ask")


STATES = [
    ("job:stuck", KlingUnavailableError, Money.RUNNING, False),
    ("job:fail", KlingJobFailedError, Money.ENDED, True),
    ("job:fail=moderation", KlingModerationError, Money.ENDED, True),
    ("job:cancel", KlingJobFailedError, Money.ENDED, True),
    ("job:empty", KlingJobFailedError, Money.ENDED, True),
    ("query:html=502,times=always", KlingUnavailableError, Money.RUNNING, False),
    ("query:error=INVALID_API_KEY,times=2", KlingAccessError, Money.RUNNING, True),
]


@rows(
    "fault error money final",
    STATES,
    myrouter=[("query:error=TASK_NOT_FOUND,times=always", KlingTaskNotFoundError, Money.UNAFFECTED, True)],
    kling=[("job:invisible=100000", KlingTaskNotFoundError, Money.UNAFFECTED, True)],
)
def test_a_job_that_has_no_video_is_told_as_what_it_is(gateway, tmp_path, fault, error, money, final):
    gateway.add_fault(fault)
    kling_task_id = bought(gateway)
    with pytest.raises(error) as caught:
        download(kling_task_id, tmp_path / "cat.mp4")
    assert caught.value.money is money
    assert isinstance(caught.value, AirflowFailException) is final
    assert names(tmp_path) == []
    assert not downloads(gateway)


def test_a_stale_state_out_of_a_cache_costs_no_try(gateway, clock, tmp_path):
    gateway.set_timing(queue_seconds=0, render_seconds=40)
    assert download(bought(gateway), tmp_path / "cat.mp4")
    assert sum(clock.slept) < 60


@pytest.mark.parametrize("trouble", ["query:html=502,times=always", "job:stuck"])
def test_the_gateway_is_asked_for_a_bounded_time(gateway, clock, tmp_path, trouble):
    gateway.add_fault(trouble)
    kling_task_id, began = bought(gateway), clock.time()
    with pytest.raises(KlingUnavailableError) as caught:
        download(kling_task_id, tmp_path / "cat.mp4")
    assert 0 < clock.time() - began <= 301
    assert caught.value.kling_task_id == kling_task_id


def outside(tmp_path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret")
    inside = f"{tmp_path}/allowed"
    return inside, [
        f"{tmp_path}/cat.mp4", f"{inside}/../cat.mp4", f"{inside}/link/cat.mp4", f"file://{tmp_path}/cat.mp4",
        f"file://{inside}/../secret/", "memory://allowed/cat.mp4", f"s3://conn@bucket{inside}/cat.mp4",
        f"{inside}/%2e%2e/cat.mp4", "cat.mp4", "~/cat.mp4", f"file:{tmp_path}/cat.mp4",
    ]  # fmt: skip


def test_a_target_outside_of_what_is_allowed_is_refused_before_anything_is_asked(
    gateway, tmp_path, monkeypatch
):
    inside, targets = outside(tmp_path)
    kling_task_id = bought(gateway)
    asked = len(gateway.requests)
    for arguments, extra in [({"allowed_paths": inside}, {}), ({}, {"allowed_paths": [inside]})]:
        connect(gateway, monkeypatch, **extra)
        for target in targets:
            with pytest.raises(
                KlingInputError, match=r"outside of what is allowed|encoded '\.\.' is not allowed"
            ):
                download(kling_task_id, target, **arguments)
    assert len(gateway.requests) == asked
    connect(gateway, monkeypatch, allowed_paths=[inside])
    assert download(kling_task_id, f"{inside}/x/../cat.mp4", allowed_paths=[f"file://{inside}"])


def test_a_job_id_cannot_lead_out_of_the_folder(gateway, tmp_path):
    with pytest.raises(KlingInputError, match="is not a task id"):
        download("../../etc/cron.d/x", f"{tmp_path}/videos/")
    assert not gateway.requests


def test_more_than_the_largest_is_not_taken(gateway, tmp_path):
    with pytest.raises(KlingVideoError, match=f"at most {len(VIDEO) - 1} bytes are allowed") as caught:
        download(bought(gateway), tmp_path / "cat.mp4", max_bytes=len(VIDEO) - 1)
    assert isinstance(caught.value, AirflowFailException)
    assert "max_bytes" in caught.value.advice
    assert len(downloads(gateway)) == 1
    assert names(tmp_path) == []
    assert download(bought(gateway), tmp_path / "cat.mp4", max_bytes=len(VIDEO))


def test_a_private_storage_host_is_refused_unless_the_connection_allows_it(gateway, tmp_path, monkeypatch):
    connect(gateway, monkeypatch, allow_private_hosts=False)
    with pytest.raises(KlingAccessError, match="not a public address") as caught:
        download(bought(gateway), tmp_path / "cat.mp4")
    assert isinstance(caught.value, AirflowFailException)
    assert not downloads(gateway)
    assert names(tmp_path) == []


def test_the_story_tells_what_the_submit_upstream_asked_for(gateway, tmp_path):
    with DAG("d", schedule=None):
        submit = KlingSubmitOperator(task_id="submit", model="kling-v3.0-pro-t2v", prompt="a cat", sound=True)
        target = f"{tmp_path}/cat.mp4"
        task = KlingDownloadOperator(task_id="download", kling_task_id="later", target=target)
        submit >> task
    bought_by = TI()
    task.kling_task_id = submit.execute(context_of(bought_by, Store()))
    request, ti = bought_by.xcoms["kling_request"], TI()
    another = {**request, "kling_task_id": "another"}
    ti.upstream = [("submit", -1, "kling_request", another), ("submit", -1, "kling_request", request)]
    task.execute(context_of(ti))
    told = json.loads((tmp_path / "cat.mp4.json").read_text())
    assert (told["inputs"]["prompt"], told["inputs"]["sound"]) == ("a cat", True)
    assert told["model"] == dialect(gateway).text_model
    assert told["estimated_cost_usd"] == 0.84


def test_a_long_video_takes_no_more_memory_than_a_short_one(gateway, tmp_path, monkeypatch):
    size = {"bytes": 0}
    block = bytes(1 << 20)

    def stream(handler):
        total = len(VIDEO) + 16 + size["bytes"]
        handler.send_response(200)
        handler.send_header("Content-Length", str(total))
        handler.end_headers()
        free = (1).to_bytes(4) + b"free" + (16 + size["bytes"]).to_bytes(8)
        handler.wfile.write(VIDEO + free)
        for _ in range(size["bytes"] // len(block)):
            handler.wfile.write(block)

    def peak(megabytes):
        size["bytes"] = megabytes << 20
        tracemalloc.start()
        download(bought(gateway), tmp_path / "cat.mp4")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (tmp_path / "cat.mp4").stat().st_size > megabytes << 20
        return peak

    with serving(stream) as server:
        monkeypatch.setattr(gateway.links, "make", lambda *_: f"{server.url}/v.mp4")
        peak(2)
        short, long = peak(2), peak(200)
    assert long < 2 * short + (1 << 20)


@pytest.mark.parametrize("sound", [True, False])
def test_a_real_video_is_compared_with_what_was_asked_for(decoders, running, tmp_path, sound):
    with running(render=True) as gateway:
        with DAG("d", schedule=None):
            submit = KlingSubmitOperator(
                task_id="submit", model="kling-v3.0-pro-t2v", prompt="a cat", duration=3, sound=sound
            )
            told = {"target": f"{tmp_path}/cat.mp4", "verify_media": True, "kling_task_id": "later"}
            task = KlingDownloadOperator(task_id="download", **told)
            submit >> task
        upstream, ti = TI(), TI()
        task.kling_task_id = submit.execute(context_of(upstream, Store()))
        request = upstream.xcoms["kling_request"]
        gateway.wait_until(lambda: gateway.render_queue.is_done(task.kling_task_id), timeout=60)
        ti.upstream = [("submit", -1, "kling_request", request)]
        task.execute(context_of(ti))
        media = json.loads((tmp_path / "cat.mp4.json").read_text())["media"]
        assert abs(media["duration"] - 3) < 0.2
        assert media["audio"] is sound
        request["inputs"] |= {"duration": 10} if sound else {"sound": True}
        (tmp_path / "cat.mp4").unlink()
        with pytest.raises(KlingJobFailedError, match="differs from the request"):
            task.execute(context_of(ti))
        assert names(tmp_path) == ["cat.mp4", "cat.mp4.json"]
        told = json.loads((tmp_path / "cat.mp4.json").read_text())
        assert len(told["media_problems"]) == 1
        before, task.if_exists = len(downloads(gateway)), "skip"
        with pytest.raises(KlingJobFailedError, match=re.escape(told["media_problems"][0])):
            task.execute(context_of(ti))
        task.verify_media = False
        assert task.execute(context_of(ti)) == f"{tmp_path}/cat.mp4"
        assert len(downloads(gateway)) == before


def test_a_video_that_nobody_has_looked_into_is_looked_into_where_it_stands(decoders, running, tmp_path):
    with running(render=True) as gateway:
        kling_task_id, path = bought(gateway), tmp_path / "cat.mp4"
        gateway.wait_until(lambda: gateway.render_queue.is_done(kling_task_id), timeout=60)
        download(kling_task_id, path)
        skip = {"if_exists": "skip", "verify_media": True}
        assert download(kling_task_id, path, **skip) == str(path)
        told = json.loads((tmp_path / "cat.mp4.json").read_text())
        told |= {"model": "kling-v3.0-pro-t2v", "inputs": {"aspect_ratio": "9:16"}}
        (tmp_path / "cat.mp4.json").write_text(json.dumps(told))
        with pytest.raises(KlingJobFailedError, match="9:16 was requested"):
            download(kling_task_id, path, **skip)
        assert len(downloads(gateway)) == 1


def test_a_video_that_shows_nothing_is_not_taken_where_that_is_checked(
    decoders, gateway, tmp_path, monkeypatch
):
    boxes = [(b"ftyp", b"isom"), (b"moov", b"nothing"), (b"mdat", bytes(64))]
    blind = b"".join((8 + len(data)).to_bytes(4) + kind + data for kind, data in boxes)
    with serving(answering(blind)) as server:
        monkeypatch.setattr(gateway.links, "make", lambda *_: f"{server.url}/v.mp4")
        with pytest.raises(KlingDownloadError, match="No picture can be read"):
            download(bought(gateway), tmp_path / "cat.mp4", verify_media=True)
        assert names(tmp_path) == []
        assert download(bought(gateway), tmp_path / "cat.mp4")
