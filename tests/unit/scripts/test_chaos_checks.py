"""The checks of `make chaos`: each of them can fail."""

import base64
import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from chaos.person import CLEARED, REFUSED, RESCUED, SUBMITTED_AGAIN, Person
from chaos.secrets import Secrets
from chaos.stage import TaskInstance, VideoSpec
from chaos.verdict import VIDEO, judge

KEY, PICTURE = "sk-chaos-0123456789abcdef", base64.b64encode(bytes(range(256)) * 2).decode()
LINK = "http://127.0.0.1:1/videos/x.mp4?X-Expires=1&X-Signature=abc"


class Bill:
    """A gateway that only has a bill."""

    api_key, takes_client_ids = KEY, False

    def __init__(self):
        self.bill = {}
        self.key_reached_storage = False

    def jobs(self):
        return self.bill

    def submits(self):
        return [{"status": 200, "fault": ""} for jobs in self.bill.values() for _ in jobs]

    def call(self, *_):
        return {"key_reached_storage": self.key_reached_storage}


class Database:
    """Two tables."""

    xcom = log = ""

    def dump(self):
        tables = {"public.xcom (key, value)": self.xcom, "public.log (id)": self.log}
        return "".join(f"COPY {table} FROM stdin;\n{text}\n\\.\n" for table, text in tables.items())


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "logs").mkdir()
    return SimpleNamespace(
        gateway=Bill(),
        videos=tmp_path / "videos",
        logs=tmp_path / "logs",
        postgres=Database(),
        picture_base64=lambda: PICTURE,
        rows=lambda _: [],
        fleet=None,
        files=lambda: {str(file): file.read_bytes() for file in (tmp_path / "videos").iterdir()},
    )


@pytest.fixture
def spec(stage):
    """A video that was ordered, paid for once and fetched whole."""
    spec = VideoSpec("picture.jpg", "job-0001", str(stage.videos / "1.mp4"))
    stage.gateway.bill["job-0001"] = ["id-1"]
    store(spec, VIDEO, "id-1")
    return spec


def store(spec, video, job):
    Path(spec.target).write_bytes(video)
    sidecar = {"kling_task_id": job, "size": len(video), "sha256": sha256(video).hexdigest()}
    Path(f"{spec.target}.json").write_text(json.dumps(sidecar))


def test_a_whole_video_that_was_paid_for_once_is_good(stage, spec):
    verdict = judge(stage, [spec], [], [])
    assert verdict.good
    assert (verdict.videos_whole, verdict.jobs_paid_for, verdict.submits_at_the_gateway) == (1, 1, 1)


def test_a_second_job_for_one_video_counts_as_paid_twice_and_as_lost(stage, spec):
    stage.gateway.bill["job-0001"].append("id-2")
    verdict = judge(stage, [spec], [], [])
    assert (verdict.good, verdict.paid_for_twice, verdict.videos_lost) == (False, 1, 1)


def test_a_paid_video_without_a_file_is_lost(stage, spec):
    Path(spec.target).unlink()
    verdict = judge(stage, [spec], [], [])
    assert (verdict.good, verdict.videos_whole, verdict.videos_lost) == (False, 0, 1)


@pytest.mark.parametrize(
    ("video", "job"),
    [
        (VIDEO[:-1], "id-1"),
        (b"<!doctype html>", "id-1"),
        (VIDEO[:-1] + bytes([VIDEO[-1] ^ 1]), "id-1"),
        (VIDEO, "id-of-another-spec"),
    ],
    ids=["cut off", "no video", "another video", "another job"],
)
def test_a_cut_off_or_wrong_video_is_lost(stage, spec, video, job):
    store(spec, video, job)
    assert judge(stage, [spec], [], []).videos_lost == 1


def test_a_video_without_its_sidecar_is_not_whole(stage, spec):
    Path(f"{spec.target}.json").unlink()
    assert not judge(stage, [spec], [], []).good


def test_a_video_that_was_never_bought_is_not_good(stage, spec):
    other = VideoSpec("picture.jpg", "job-0002", str(stage.videos / "2.mp4"))
    assert not judge(stage, [spec, other], [], []).good


def test_partial_files_and_second_copies_are_left_over(stage, spec):
    (stage.videos / ".1.mp4.0123abcd.part").touch()
    (stage.videos / "copy.mp4").write_bytes(VIDEO)
    verdict = judge(stage, [spec], [], [])
    assert (verdict.good, verdict.leftovers) == (False, 2)


def test_a_run_with_a_limit_buys_no_more_than_it_may_and_what_it_buys_is_wanted(stage, spec):
    refused = VideoSpec("picture.jpg", "job-0002", str(stage.videos / "2.mp4"))
    verdict = judge(stage, [], [], [], limited=[spec, refused], limit=1)
    assert (verdict.good, verdict.jobs, verdict.bought_in_the_limited_run) == (True, 1, 1)
    verdict = judge(stage, [], [], [], limited=[spec, refused], limit=0)
    assert (verdict.good, verdict.bought_over_the_limit) == (False, 1)
    Path(spec.target).unlink()
    assert judge(stage, [], [], [], limited=[spec, refused], limit=1).videos_lost == 1


@pytest.mark.parametrize("state", [None, "queued", "running", "deferred", "up_for_retry"])
def test_a_task_that_did_not_end_is_stuck(stage, spec, state):
    task = TaskInstance("id", "kling_chaos", "run", "animate.wait", 0, state, 1, 0.0)
    verdict = judge(stage, [spec], [task], [])
    assert (verdict.good, verdict.tasks_stuck) == (False, 1)


def test_no_person_is_asked_where_each_submit_settles_itself(stage, spec):
    assert judge(stage, [spec], [], [], decisions=1).good
    stage.gateway.takes_client_ids = True
    assert judge(stage, [spec], [], []).good
    assert not judge(stage, [spec], [], [], decisions=1).good


def test_nothing_is_found_without_a_secret(stage):
    stage.postgres.xcom = LINK
    (stage.logs / "a.log").write_text("Job id-1: queued")
    assert Secrets(stage).search() == []


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_the_key_is_found_in_base64_at_any_offset(stage, shift):
    (stage.logs / "a.log").write_text(base64.b64encode(b"abc"[:shift] + KEY.encode() + b"xyz").decode())
    assert Secrets(stage).search() == ["API key in base64 in the log a.log"]


def test_secrets_are_found_in_the_database_and_in_logs(stage):
    stage.postgres.xcom, stage.postgres.log = PICTURE[20:200], LINK
    (stage.logs / "deep").mkdir()
    (stage.logs / "deep" / "a.log").write_text(f"Bearer {KEY}\n{LINK}")
    stage.gateway.key_reached_storage = True
    assert Secrets(stage).search() == [
        "API key in the log deep/a.log",
        "API key sent to the storage host",
        "picture in the table xcom",
        "signed link in the log deep/a.log",
        "signed link in the table log",
    ]


def test_secrets_are_found_in_a_stored_trigger(stage):
    stage.rows = lambda _: [(1, json.dumps({"video_url": LINK}))]
    secrets = Secrets(stage)
    secrets.search_triggers()
    assert (secrets.triggers_searched, secrets.search()) == (1, ["signed link in a trigger's row"])


@pytest.mark.parametrize(
    ("name", "error", "bill", "decision"),
    [
        ("submit", "KlingSubmitUncertainError", ["id-1"], RESCUED),
        ("submit", "KlingSubmitUncertainError", [], SUBMITTED_AGAIN),
        ("video", "KlingSubmitUncertainError", ["id-1"], RESCUED),
        ("video", "KlingDownloadError: Job id-1", ["id-1"], CLEARED),
        ("video", "KlingInputError", [], REFUSED),
    ],
)
def test_a_person_clears_only_what_does_not_pay_again(stage, name, error, bill, decision):
    spec, calls = VideoSpec("picture.jpg", "job-0001", "1.mp4"), []
    task = TaskInstance("id", "kling_chaos", "run", name, 0, "failed", 7, 0.0)
    kind, _, value = error.partition(": ")
    stage.gateway.bill["job-0001"] = bill
    stage.task_instances = lambda *_: [task]
    stage.api = SimpleNamespace(
        log=lambda *_, **__: [{"error_detail": [{"exc_type": kind, "exc_value": value}]}],
        call=lambda *_: calls.append(CLEARED),
        trigger=lambda *_: calls.append(RESCUED),
    )
    assert Person(stage, {("run", 0): spec}, [spec]).tick() == [decision]
    done = {RESCUED: [RESCUED], REFUSED: []}
    assert calls == done.get(decision, [CLEARED])
