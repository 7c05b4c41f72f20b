"""The film of a night: all videos of the run, in order, whole or not at all."""

import hashlib
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk.definitions.asset import AssetAliasUniqueKey, AssetUniqueKey
from airflow.sdk.execution_time.context import TriggeringAssetEventsAccessor
from airflow_fakes import connect
from example_dags import dag_module

from airflow_provider_kling.errors import KlingInputError

BEGAN = datetime(2026, 3, 1, 23, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("decoders")


@pytest.fixture
def dag_file(gateway, monkeypatch, tmp_path):
    connect(gateway, monkeypatch, allowed_paths=str(tmp_path))
    return dag_module("kling_film")


class Events(list):
    """The events of the alias, as Airflow gives them."""

    def after(self, moment):
        return [event for event in self if event.timestamp > datetime.fromisoformat(moment)]


def night(run_id="scheduled__2026-03-01T00:00:00+00:00"):
    run = SimpleNamespace(run_after=BEGAN)
    return SimpleNamespace(source_dag_id="night", source_run_id=run_id, source_dag_run=run)


def clip(path, seconds=1, shade=0, size=(64, 48), *, sound=False):
    """Write a video of one grey, with or without a tone."""
    import av

    with av.open(str(path), "w", format="mp4") as file:
        video = file.add_stream("libx264", rate=24, options={"crf": str(18 + shade // 16)})
        (video.width, video.height), video.pix_fmt = size, "yuv420p"
        audio = file.add_stream("aac", rate=44100, layout="mono") if sound else None
        for _ in range(24 * seconds):
            frame = av.VideoFrame(*size, "yuv420p")
            for plane, value in zip(frame.planes, (shade, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            file.mux(video.encode(frame))
        file.mux(video.encode())
        for start in range(0, 44100 * seconds, 1024) if audio else ():
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
            file.mux(audio.encode(frame))
        if audio:
            file.mux(audio.encode())
    return path


def event(path, index, of=None, **changes):
    """Return the event of a video, as a download has added it."""
    of, data = of or night(), Path(path).read_bytes()
    facts = {"kling_task_id": f"j{index}", "path": str(path), "sha256": hashlib.sha256(data).hexdigest()}
    return SimpleNamespace(
        source_dag_id=of.source_dag_id,
        source_run_id=of.source_run_id,
        source_task_id="animate.download",
        source_map_index=index,
        timestamp=datetime.now(UTC),
        asset=SimpleNamespace(uri=f"file://{path}"),
        extra=facts | changes,
    )


def film_of(dag_file, events, nights=None):
    task = dag_file.dag.get_task("film")
    nights = {AssetUniqueKey.from_asset(dag_file.NIGHT): [night()] if nights is None else nights}
    events = {AssetAliasUniqueKey.from_asset_alias(dag_file.VIDEOS): Events(events)}
    by_asset = TriggeringAssetEventsAccessor  # in Airflow 3.1 an asset is no key of a dict
    return task.python_callable(triggering_asset_events=by_asset(nights), inlet_events=by_asset(events))


def shades(path):
    """Return the brightness of each second of a film."""
    import av

    with av.open(str(path)) as file:
        frames = [bytes(frame.planes[0])[0] for frame in file.decode(video=0)]
    return frames[12::24]


@pytest.mark.parametrize("sound", [True, False])
def test_the_film_has_all_videos_of_the_run_in_the_order_of_the_pictures(dag_file, tmp_path, sound):
    import av

    made = [clip(tmp_path / f"{n}.mp4", n + 1, 60 * n + 30, sound=sound) for n in range(3)]
    events = [event(video, index) for index, video in enumerate(made)]
    other = event(clip(tmp_path / "other.mp4", shade=250), 0, night("another run"))
    (film,) = film_of(dag_file, [events[2], other, events[0], events[1]])
    assert film == f"{tmp_path}/films/scheduled__2026-03-01T00-00-00-00-00.mp4"
    assert shades(film) == pytest.approx([30, 90, 90, 150, 150, 150], abs=3)
    with av.open(film) as file:
        assert file.duration / av.time_base == pytest.approx(6, abs=0.1)
        assert len(file.streams.audio) == sound


def test_the_latest_video_of_a_picture_counts(dag_file, tmp_path):
    old, new = (event(clip(tmp_path / f"{shade}.mp4", shade=shade), 0) for shade in (30, 200))
    assert shades(*film_of(dag_file, [old, new])) == pytest.approx([200], abs=3)


def test_each_night_has_a_film_of_its_own(dag_file, tmp_path):
    nights = [night("one"), night("two")]
    events = [event(clip(tmp_path / f"{of.source_run_id}.mp4"), 0, of) for of in nights]
    assert [Path(film).name for film in film_of(dag_file, events, nights)] == ["one.mp4", "two.mp4"]


def test_a_missing_video_is_named_with_its_job_and_the_worker(dag_file, tmp_path):
    gone = event(clip(tmp_path / "gone.mp4"), 0)
    (tmp_path / "gone.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=r"gone.mp4 is missing on the worker .*rescue.*job j0"):
        film_of(dag_file, [gone])
    assert not (tmp_path / "films").exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sha256": "0" * 64}, "cat.mp4 is not the video of job j0"),
        ({"kling_task_id": None}, "cat.mp4: its event names no job of Kling"),
    ],
)
def test_a_foreign_video_ends_the_task_for_good(dag_file, tmp_path, changes, why):
    with pytest.raises(AirflowFailException, match=why):
        film_of(dag_file, [event(clip(tmp_path / "cat.mp4"), 0, **changes)])


def test_a_video_outside_of_the_allowed_folders_is_not_read(dag_file, tmp_path):
    outside = event(__file__, 0)
    with pytest.raises(KlingInputError, match="outside of what is allowed"):
        film_of(dag_file, [outside])


@pytest.mark.parametrize("other", [{"size": (48, 64)}, {"sound": True}])
def test_videos_of_different_forms_are_not_joined(dag_file, tmp_path, other):
    events = [event(clip(tmp_path / "a.mp4"), 0), event(clip(tmp_path / "b.mp4", **other), 1)]
    with pytest.raises(AirflowFailException, match=r"b.mp4: .*; the first video: 64x48 h264, no sound"):
        film_of(dag_file, events)


def test_a_film_that_cannot_be_written_whole_is_not_there_and_the_old_one_stays(
    dag_file, tmp_path, monkeypatch
):
    events = [event(clip(tmp_path / "a.mp4"), 0)]
    (film,) = map(Path, film_of(dag_file, events))
    before = film.read_bytes()

    def full(source, target):
        target.write(source.read(100))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dag_file, "fetch", lambda event, copy, allowed: copy.write_bytes(before))
    monkeypatch.setattr(dag_file.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        film_of(dag_file, events)
    assert [file.name for file in film.parent.iterdir()] == [film.name]
    assert film.read_bytes() == before


@pytest.mark.parametrize("nights", [None, []])
def test_a_night_without_videos_makes_no_film(dag_file, nights):
    with pytest.raises(AirflowSkipException):
        film_of(dag_file, [], nights)
