"""The differences of a video from its request."""

import re
import sys

import pytest

from airflow_provider_kling.errors import KlingInputError, KlingJobFailedError, Money
from airflow_provider_kling.media.probe import check_media, differences, require_pyav
from airflow_provider_kling.models.job import VideoJob


def media(duration, width, height, *, audio):
    return {"duration": duration, "width": width, "height": height, "audio": audio}


FIVE, SILENT = media(5.04, 640, 480, audio=True), media(5.04, 640, 480, audio=False)

PRO, LOUD = "kling-v3.0-pro-t2v", "kling-v2.6-pro-t2v"
TEN = media(10, 640, 480, audio=True)


@pytest.mark.parametrize(
    ("found", "model", "asked"),
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
        (media(5, 1284, 716, audio=False), PRO, {"aspect_ratio": "16:9"}),
        (media(5, 720, 1280, audio=False), PRO, {"aspect_ratio": "9:16"}),
        (FIVE, PRO, {"aspect_ratio": "1.3333:1"}),
        *((FIVE, PRO, {"aspect_ratio": ratio}) for ratio in ("auto", "", "1", "0:1", "1:0", ":", None)),
    ],
)
def test_a_video_that_matches_its_request_has_no_differences(found, model, asked):
    assert differences(found, VideoJob(model, asked).to_dict()) == []
    check_media([], "/a.mp4")


@pytest.mark.parametrize(
    ("found", "model", "asked", "words"),
    [
        (FIVE, PRO, {"duration": 10}, "it lasts 5.04 s, but 10 s was requested"),
        (FIVE, PRO, {"duration": "3"}, "it lasts 5.04 s, but 3 s was requested"),
        (FIVE, "a-model-of-tomorrow", {"duration": 3}, "it lasts 5.04 s, but 3 s was requested"),
        (TEN, PRO, {}, "it lasts 10 s, but 5 s is the model's default"),
        (SILENT, PRO, {"sound": True}, "it has no sound track, but sound was requested"),
        (SILENT, LOUD, {}, "it has no sound track, but sound is the model's default"),
        (FIVE, PRO, {"aspect_ratio": "16:9"}, "it is 640 x 480, but 16:9 was requested"),
        (FIVE, PRO, {"aspect_ratio": "1:1"}, "it is 640 x 480, but 1:1 was requested"),
        (media(5, 1280, 720, audio=False), PRO, {"aspect_ratio": "9:16"}, "1280 x 720, but 9:16 was"),
    ],
)
def test_differences_from_the_request_are_reported(found, model, asked, words):
    (problem,) = differences(found, VideoJob(model, asked).to_dict())
    assert words in problem
    with pytest.raises(KlingJobFailedError, match=re.escape(problem)) as caught:
        check_media([problem], "/a.mp4")
    assert caught.value.money is Money.PAID
    assert "The video at /a.mp4 is whole" in str(caught.value)


def test_a_missing_library_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(KlingInputError, match="needs PyAV") as caught:
        require_pyav()
    assert "'av'" in caught.value.advice
