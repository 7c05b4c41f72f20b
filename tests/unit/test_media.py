"""A video is what was asked for, or it is told what came instead."""

import io
import sys

import pytest

from airflow_provider_kling.emulator.studio import tiny_video
from airflow_provider_kling.errors import KlingDownloadError, KlingInputError, KlingJobFailedError, Money
from airflow_provider_kling.media import Media, check_media, inspect_media, require_pyav

FIVE, SILENT = Media(5.04, 640, 480, sound=True), Media(5.04, 640, 480, sound=False)


@pytest.mark.parametrize(
    ("media", "asked"),
    [
        (FIVE, {}),
        (FIVE, {"duration": 5}),
        (FIVE, {"duration": "5", "sound": True}),
        (SILENT, {"sound": False}),
        (FIVE, {"duration": 6}),
        (FIVE, {"duration": "as long as the song"}),
        (FIVE, {"duration": ["5"]}),
    ],
)
def test_a_video_as_it_was_asked_for_passes(media, asked):
    check_media(media, asked, "/a.mp4")


@pytest.mark.parametrize(
    ("media", "asked", "words"),
    [
        (FIVE, {"duration": 10}, "lasts 5.04 s where 10 s were asked for"),
        (FIVE, {"duration": "3"}, "lasts 5.04 s where 3 s were asked for"),
        (SILENT, {"sound": True}, "no sound track where sound was asked for"),
    ],
)
def test_another_video_is_told(media, asked, words):
    with pytest.raises(KlingJobFailedError, match=words) as caught:
        check_media(media, asked, "/a.mp4")
    assert caught.value.money is Money.PAID
    assert "The video at /a.mp4 is whole" in str(caught.value)


def test_a_videos_properties_are_read_from_it():
    require_pyav()
    media = inspect_media(io.BytesIO(tiny_video()))
    assert media.duration > 0
    assert media.to_dict().keys() == {"duration", "width", "height", "sound"}


@pytest.mark.parametrize("data", [b"", b"no video", tiny_video()[:200]])
def test_what_shows_no_picture_is_told(data):
    with pytest.raises(KlingDownloadError, match="No picture can be read"):
        inspect_media(io.BytesIO(data))


def test_a_missing_library_is_told_before_anything_is_fetched(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(KlingInputError, match="needs PyAV") as caught:
        require_pyav()
    assert "'av'" in caught.value.advice
