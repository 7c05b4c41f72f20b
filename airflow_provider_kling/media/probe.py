"""Compares the properties of a video with its request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from airflow_provider_kling.errors import KlingInputError, KlingJobFailedError, Money
from airflow_provider_kling.values import read_number

#: Seconds by which a video may be shorter or longer than requested.
_TOLERANCE = 1.0
#: Relative difference that is allowed in width to height: Kling rounds the sides for the codec.
_RATIO_TOLERANCE = 0.03


def require_pyav() -> None:
    """Raise :class:`KlingInputError` if PyAV is not installed. Called before anything is downloaded."""
    if not find_spec("av"):
        what = "verify_media=True needs PyAV, which is not installed."
        raise KlingInputError(what, money=Money.PAID, advice="Install the package 'av' on the workers.")


def differences(media: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """Return the differences between a video and its request, each as a text.

    The model's default counts for duration and sound that are not set.

    :param media: see :class:`~airflow_provider_kling.media.preview.Decoded`.
    :param request: the job's ``inputs`` and ``defaults``; missing inputs are not compared.
    """
    inputs, defaults = request.get("inputs") or {}, request.get("defaults") or ()
    words = {name: "is the model's default" if name in defaults else "was requested" for name in inputs}
    problems = []
    length = read_number(inputs.get("duration"))
    if length is not None and abs(media["duration"] - length) > _TOLERANCE:
        problems.append(f"it lasts {media['duration']:g} s, but {length:g} s {words['duration']}")
    if inputs.get("sound") is True and not media["audio"]:
        problems.append(f"it has no sound track, but sound {words['sound']}")
    ratio = "" if "aspect_ratio" in defaults else str(inputs.get("aspect_ratio"))
    across, up = (read_number(side) for side in (*ratio.split(":"), "", "")[:2])
    if across and up and abs(media["width"] * up / across / media["height"] - 1) > _RATIO_TOLERANCE:
        problems.append(f"it is {media['width']} x {media['height']}, but {ratio} was requested")
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
