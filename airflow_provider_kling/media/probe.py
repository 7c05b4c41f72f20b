"""Reads the properties of a video with PyAV, an optional package, and compares them with the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from airflow_provider_kling.errors import KlingInputError, KlingJobFailedError, KlingVideoError, Money
from airflow_provider_kling.values import read_number

#: Seconds by which a video may be shorter or longer than requested.
_TOLERANCE = 1.0
#: Relative difference that is allowed in width to height: Kling rounds the sides for the codec.
_RATIO_TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Media:
    """The properties of a video: seconds, pixels, and whether it has a sound track."""

    duration: float
    width: int
    height: int
    audio: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the properties as JSON-ready data."""
        return asdict(self)


def require_pyav() -> None:
    """Raise :class:`KlingInputError` if PyAV is not installed. Called before anything is downloaded."""
    try:
        import av  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        what = "verify_media=True needs PyAV, which is not installed."
        raise KlingInputError(
            what, money=Money.PAID, advice="Install the package 'av' on the workers."
        ) from error


def inspect_media(file: BinaryIO) -> Media:
    """Return the properties of the video in *file*.

    :raises KlingVideoError: no frame can be decoded.
    """
    import av  # noqa: PLC0415 - an extra

    try:
        with av.open(file, "r") as container:
            stream = container.streams.video[0]
            next(container.decode(stream))
            seconds = float((container.duration or 0) / av.time_base)
            return Media(round(seconds, 3), stream.width, stream.height, bool(container.streams.audio))
    except (av.FFmpegError, IndexError, StopIteration) as error:
        raise KlingVideoError(f"No picture can be read from the video ({type(error).__name__}).") from error


def probe_video(file: BinaryIO, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of the video in *file*, and its differences from the request, for the sidecar.

    :param request: the job's ``inputs`` and ``defaults``; missing inputs are not compared.
    :raises KlingVideoError: no frame can be decoded.
    """
    media = inspect_media(file)
    return {"media": media.to_dict(), "media_problems": differences(media, request)}


def differences(media: Media, request: Mapping[str, Any]) -> list[str]:
    """Return the differences between a video and its request, each as a text.

    The model's default counts for duration and sound that are not set.
    """
    inputs, defaults = request.get("inputs") or {}, request.get("defaults") or ()
    words = {name: "is the model's default" if name in defaults else "was requested" for name in inputs}
    problems = []
    length = read_number(inputs.get("duration"))
    if length is not None and abs(media.duration - length) > _TOLERANCE:
        problems.append(f"it lasts {media.duration:g} s, but {length:g} s {words['duration']}")
    if inputs.get("sound") is True and not media.audio:
        problems.append(f"it has no sound track, but sound {words['sound']}")
    ratio = "" if "aspect_ratio" in defaults else str(inputs.get("aspect_ratio"))
    across, up = (read_number(side) for side in (*ratio.split(":"), "", "")[:2])
    if across and up and abs(media.width * up / across / media.height - 1) > _RATIO_TOLERANCE:
        problems.append(f"it is {media.width} x {media.height}, but {ratio} was requested")
    return problems


def check_media(problems: Sequence[str], path: str) -> None:
    """Raise if a video differs from its request.

    :param problems: the result of :func:`differences`.
    :param path: the path of the video.
    :raises KlingJobFailedError: there are differences; another download would not help.
    """
    if problems:
        what = f"The video at {path} is whole, but differs from the request: {'; '.join(problems)}."
        advice = "Check it, and ask the gateway's support with its task id."
        raise KlingJobFailedError(what, money=Money.PAID, advice=advice)
