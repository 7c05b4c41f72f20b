"""The properties of a video, and its differences from the request."""

import io
import re
import sys

import pytest

from airflow_provider_kling.emulator.render_queue import tiny_video
from airflow_provider_kling.errors import KlingDownloadError, KlingInputError, KlingJobFailedError, Money
from airflow_provider_kling.media.probe import (
    Media,
    check_media,
    differences,
    inspect_media,
    probe_video,
    require_pyav,
)
from airflow_provider_kling.models.job import VideoJob

FIVE, SILENT = Media(5.04, 640, 480, audio=True), Media(5.04, 640, 480, audio=False)


PRO, LOUD = "kling-v3.0-pro-t2v", "kling-v2.6-pro-t2v"
TEN = Media(10, 640, 480, audio=True)


@pytest.mark.parametrize(
    ("media", "model", "asked"),
    [
        (FIVE, PRO, {}),
        (FIVE, PRO, {"duration": 5}),
        (TEN, PRO, {"duration": "10", "sound": True}),
        (SILENT, LOUD, {"sound": False}),
        (FIVE, PRO, {"duration": 6}),
        (FIVE, PRO, {"duration": "as long as the song"}),
        (FIVE, PRO, {"duration": ["5"]}),
        (SILENT, PRO, {}),
        (TEN, "a-model-of-tomorrow", {}),
        (TEN, "kling-v2.6-pro-motion-control", {}),
        (TEN, PRO, {"multi_prompt": ["a", "b"]}),
        (TEN, "kling-o1-ref2v", {"video": "https://videos.example/v.mp4"}),
        (FIVE, "kling-o1-t2v", {"duration": 5}),
        (Media(5, 1284, 716, audio=False), PRO, {"aspect_ratio": "16:9"}),
        (Media(5, 720, 1280, audio=False), PRO, {"aspect_ratio": "9:16"}),
        (FIVE, PRO, {"aspect_ratio": "1.3333:1"}),
        *((FIVE, PRO, {"aspect_ratio": ratio}) for ratio in ("auto", "", "1", "0:1", "1:0", ":", None)),
    ],
)
def test_a_video_that_matches_its_request_has_no_differences(media, model, asked):
    assert differences(media, VideoJob(model, asked).to_dict()) == []
    check_media([], "/a.mp4")


@pytest.mark.parametrize(
    ("media", "model", "asked", "words"),
    [
        (FIVE, PRO, {"duration": 10}, "it lasts 5.04 s, but 10 s was requested"),
        (FIVE, PRO, {"duration": "3"}, "it lasts 5.04 s, but 3 s was requested"),
        (FIVE, "a-model-of-tomorrow", {"duration": 3}, "it lasts 5.04 s, but 3 s was requested"),
        (TEN, PRO, {}, "it lasts 10 s, but 5 s is the model's default"),
        (SILENT, PRO, {"sound": True}, "it has no sound track, but sound was requested"),
        (SILENT, LOUD, {}, "it has no sound track, but sound is the model's default"),
        (FIVE, PRO, {"aspect_ratio": "16:9"}, "it is 640 x 480, but 16:9 was requested"),
        (FIVE, PRO, {"aspect_ratio": "1:1"}, "it is 640 x 480, but 1:1 was requested"),
        (Media(5, 1280, 720, audio=False), PRO, {"aspect_ratio": "9:16"}, "1280 x 720, but 9:16 was"),
    ],
)
def test_differences_from_the_request_are_reported(media, model, asked, words):
    (problem,) = differences(media, VideoJob(model, asked).to_dict())
    assert words in problem
    with pytest.raises(KlingJobFailedError, match=re.escape(problem)) as caught:
        check_media([problem], "/a.mp4")
    assert caught.value.money is Money.PAID
    assert "The video at /a.mp4 is whole" in str(caught.value)


def test_the_known_inputs_are_compared_and_the_differences_are_returned():
    with_order = probe_video(io.BytesIO(tiny_video()), {"model": PRO, "inputs": {"duration": 15}})
    assert with_order["media"] == inspect_media(io.BytesIO(tiny_video())).to_dict()
    (problem,) = with_order["media_problems"]
    assert "15 s was requested" in problem
    assert probe_video(io.BytesIO(tiny_video()), {})["media_problems"] == []


def test_a_videos_properties_are_read_from_it():
    require_pyav()
    media = inspect_media(io.BytesIO(tiny_video()))
    assert media.duration > 0
    assert media.to_dict().keys() == {"duration", "width", "height", "audio"}


@pytest.mark.parametrize("data", [b"", b"no video", tiny_video()[:200]])
def test_a_file_without_a_picture_is_reported(data):
    with pytest.raises(KlingDownloadError, match="No picture can be read"):
        inspect_media(io.BytesIO(data))


def test_a_missing_library_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(KlingInputError, match="needs PyAV") as caught:
        require_pyav()
    assert "'av'" in caught.value.advice
