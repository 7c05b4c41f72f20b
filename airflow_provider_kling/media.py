"""What is in a video, asked of PyAV; only for who wants it, PyAV is an extra."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from airflow_provider_kling.errors import KlingDownloadError, KlingInputError, KlingJobFailedError, Money
from airflow_provider_kling.replies import read_number

#: A generated video may be this much shorter or longer than asked for, in seconds.
_TOLERANCE = 1.0


@dataclass(frozen=True, slots=True)
class Media:
    """Properties of a video: seconds, pixels, and whether there is a sound track."""

    duration: float
    width: int
    height: int
    sound: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the properties as JSON-ready data."""
        return asdict(self)


def require_pyav() -> None:
    """Raise :class:`KlingInputError` where PyAV is not installed; before anything is fetched."""
    try:
        import av  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        what = "verify_media=True needs PyAV, which is not installed."
        raise KlingInputError(
            what, money=Money.PAID, advice="Install the package 'av' on the workers."
        ) from error


def inspect_media(file: BinaryIO) -> Media:
    """Return the properties of the video in *file*.

    :raises KlingDownloadError: where no picture can be read from it.
    """
    import av  # noqa: PLC0415 - an extra

    try:
        with av.open(file, "r") as container:
            stream = container.streams.video[0]
            next(container.decode(stream))
            seconds = float((container.duration or 0) / av.time_base)
            return Media(round(seconds, 3), stream.width, stream.height, bool(container.streams.audio))
    except (av.FFmpegError, IndexError, StopIteration) as error:
        raise KlingDownloadError(
            f"No picture can be read from the video ({type(error).__name__})."
        ) from error


def check_media(media: Media, asked: dict[str, Any], path: str) -> None:
    """Raise unless the video is as long, and sounds, as was asked for.

    :param asked: the inputs of the job; what it does not name is not checked.
    :param path: where it stands.
    :raises KlingJobFailedError: saying what was asked for and what came; fetching it again would not help.
    """
    problems = []
    seconds = read_number(asked.get("duration"))
    if seconds is not None and abs(media.duration - seconds) > _TOLERANCE:
        problems.append(f"it lasts {media.duration:g} s where {seconds:g} s were asked for")
    if asked.get("sound") is True and not media.sound:
        problems.append("it has no sound track where sound was asked for")
    if problems:
        what = f"The video at {path} is whole but not what was asked for: {'; '.join(problems)}."
        advice = "Look at it, and ask the gateway's support with its task id."
        raise KlingJobFailedError(what, money=Money.PAID, advice=advice)
