"""Jobs and tasks as values."""

import json

import pytest

from airflow_provider_kling.gateways.base import Outcome, Task, Video
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.redaction import redacted

LINK = "https://storage.example/v.mp4?sig=secret"


def task(**facts):
    return Task(
        **{"kling_task_id": "t-1", "status": "TASK_STATUS_PROCESSING", "outcome": Outcome.UNFINISHED} | facts
    )


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "processing"),
        ({"progress_percent": 0.0}, "processing"),
        ({"progress_percent": 12.5}, "processing, 12.5 %"),
        ({"progress_percent": 99.0}, "processing, 99 %"),
        ({"status": "TASK_STATUS_FAILED", "outcome": Outcome.FAILED, "progress_percent": 99.0}, "failed"),
        ({"status": "DREAMING"}, "dreaming"),
    ],
)
def test_a_task_describes_itself_in_a_phrase(facts, words):
    assert task(**facts).describe() == words


def test_a_task_becomes_json_ready_data():
    done = task(videos=(Video(LINK, 3600, "mp4"), Video(LINK)), timings={"submit_time_ms": 1.0})
    assert done.to_dict() == {
        "kling_task_id": "t-1",
        "status": "TASK_STATUS_PROCESSING",
        "model": None,
        "videos": [
            {"video_url": LINK, "video_url_ttl": 3600, "video_type": "mp4"},
            {"video_url": LINK, "video_url_ttl": None, "video_type": None},
        ],
        "timings": {"submit_time_ms": 1.0},
    }


@pytest.mark.parametrize(
    ("value", "field"), [(task(), "status"), (Video(LINK), "video_url"), (VideoJob("m", {}), "model")]
)
def test_the_values_are_frozen(value, field):
    with pytest.raises(AttributeError):
        setattr(value, field, "other")


PICTURE = "data:image/png;base64," + "x" * 5000
JOB = VideoJob(
    "m", {"image": LINK, "prompt": "a cat", "o": {"end_image": PICTURE}, "images": [LINK], "duration": 5}
)


@pytest.mark.parametrize("words", [JOB.describe(), json.dumps(JOB.to_dict())])
def test_a_job_is_shown_without_pictures_data_and_signatures(words):
    assert "https://storage.example/v.mp4" in words
    assert "a cat" in words
    assert "characters" in words
    assert "secret" not in words
    assert "xxxxx" not in words


@pytest.mark.parametrize("data", [b"\x89PNG" + bytes(20), b"", str(b"\x89PNG\r\n"), str(b"\xff\xd8'\"")])
def test_a_pictures_bytes_are_shown_as_a_hash(data):
    (shown,) = redacted([data])
    assert shown.startswith(f"<{len(data)} ")
    assert "PNG" not in shown
    assert redacted("\ud800" * 5000).startswith("<5000 characters, sha256 ")
