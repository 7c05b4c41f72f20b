"""When a night of the Dag `kling_nightly_catalogue` is over, its videos become one film.

**It costs nothing, and it starts by itself** if it is not paused: its schedule is the asset `kling_night`,
which the last task of that Dag updates. Each download there has added an event to the alias `kling_videos`,
with the path and the SHA-256 of its video. The film has the videos of that run in the order of the pictures.
It lies in the folder `films` beside the videos.

The videos are joined without encoding them again. So all must have the same size, and all or none have sound.
It needs Airflow 3.2, the extra `media`, and a storage that all workers can access.
"""

import hashlib
import logging
import re
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import DAG, Asset, AssetAlias, task

from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.storage.allowed_paths import StoragePath, resolve_path
from airflow_provider_kling.storage.files import open_file
from airflow_provider_kling.storage.folders import open_folder, temporary_name

NIGHT, VIDEOS = Asset("kling_night"), AssetAlias("kling_videos")

log = logging.getLogger(__name__)


def videos_of(night: Any, events: Any) -> list[Any]:
    """Return the event of each video of the run that has updated the asset, in the order of the pictures."""
    latest = {  # a download that was cleared has added another event
        (event.source_task_id, event.source_map_index): event
        for event in events.after(night.source_dag_run.run_after.isoformat())
        if (event.source_dag_id, event.source_run_id) == (night.source_dag_id, night.source_run_id)
    }
    return [latest[key] for key in sorted(latest)]


def fetch(event: Any, copy: Path, allowed: Sequence[str]) -> None:
    """Copy the video of an event; raise if it is missing or another one."""
    job, path = event.extra.get("kling_task_id"), event.extra.get("path")
    if not (job and path):
        raise AirflowFailException(f"{event.asset.uri}: its event names no job of Kling and no path.")
    try:
        with open_file(resolve_path(path, "path", allowed)) as video, copy.open("wb") as file:
            shutil.copyfileobj(video, file)
    except FileNotFoundError:
        where = f"{path} is missing on the worker {socket.gethostname()}"
        raise FileNotFoundError(f"{where}. The Dag kling_rescue stores the video of job {job}.") from None
    with copy.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != event.extra.get("sha256"):
            raise AirflowFailException(f"{path} is not the video of job {job}: its SHA-256 is another one.")


def form(video: Path) -> str:
    """Return what must be equal in all videos of a film."""
    import av  # noqa: PLC0415 - not needed to parse the Dag

    with av.open(str(video)) as file:
        size = [f"{stream.width}x{stream.height} {stream.name}" for stream in file.streams.video]
        sound = [f"{stream.rate} Hz {stream.layout.name} {stream.name}" for stream in file.streams.audio]
        return ", ".join(size + (sound or ["no sound"]))


def join(videos: Sequence[Path], film: Path) -> float:
    """Join videos of one form; return the seconds of the film."""
    import av  # noqa: PLC0415 - not needed to parse the Dag

    names = film.with_suffix(".txt")
    names.write_text("ffconcat version 1.0\n" + "".join(f"file {video.name}\n" for video in videos))
    ends: dict[int, int] = {}
    with (
        av.open(str(names), format="concat") as source,
        av.open(str(film), "w", format="mp4", options={"movflags": "+faststart"}) as target,
    ):
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is None or packet.pts is None:  # the end of a stream
                continue
            index = packet.stream.index
            # The sound of one video may reach some milliseconds into the next one.
            packet.dts = max(packet.dts, ends.get(index, packet.dts))
            packet.pts, ends[index] = max(packet.pts, packet.dts), packet.dts + 1
            packet.stream = streams[index]
            target.mux(packet)
    with av.open(str(film)) as file:
        return (file.duration or 0) / av.time_base


def store(film: Path, target: StoragePath) -> None:
    """Store the film: the target has it whole or not at all."""
    with open_folder(target, create=True) as folder, temporary_name(folder, f".{target.name}") as part:
        with film.open("rb") as source, folder.create(part) as file:
            shutil.copyfileobj(source, file)
            folder.sync(file)
        folder.rename(part, target.name, replace=True)


with DAG(
    "kling_film",
    description="When the nightly catalogue is done, its videos become one film",
    doc_md=__doc__,
    schedule=NIGHT,
    tags=["kling"],
) as dag:

    @task(inlets=[VIDEOS], retries=2)
    def film(**context: Any) -> list[str]:
        """Make the film of each night that is over; return the paths."""
        allowed, films = KlingHook().settings.allowed_paths, []
        for night in context["triggering_asset_events"][NIGHT]:
            events = videos_of(night, context["inlet_events"][VIDEOS])
            if not events:
                log.info("The run %s has stored no video.", night.source_run_id)
                continue
            with tempfile.TemporaryDirectory() as folder:
                videos = [Path(folder, f"{number}.mp4") for number in range(len(events))]
                for event, video in zip(events, videos, strict=True):
                    fetch(event, video, allowed)
                    if form(video) != form(videos[0]):
                        what = f"{event.extra['path']}: {form(video)}; the first video: {form(videos[0])}."
                        raise AirflowFailException(f"{what} Videos are joined only if they are of one form.")
                name = re.sub(r"[^\w.-]", "-", night.source_run_id)
                beside = events[0].extra["path"].rpartition("/")[0]
                target = resolve_path(f"{beside}/films/{name}.mp4", "film", allowed, for_writing=True)
                seconds = join(videos, Path(folder, "film.mp4"))
                store(Path(folder, "film.mp4"), target)
            log.info("%s: %d videos, %.1f seconds", target, len(videos), seconds)
            films.append(str(target))
        if not films:
            raise AirflowSkipException("There is no night with videos.")
        return films

    film()
