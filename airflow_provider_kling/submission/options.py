"""The choices of a submission that an operator checks when the Dag file is read."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

Choice = Literal["fail", "submit_again"]
Transport = Literal["auto", "data_uri", "base64", "url"]


def checked_choice(argument: str, value: str) -> Choice:
    """Return *value* if it is one of :data:`Choice`.

    :raises ValueError: naming the argument and what is allowed.
    """
    if value not in get_args(Choice):
        raise ValueError(f"{argument}={value!r}: must be 'fail' or 'submit_again'")
    return value  # type: ignore[return-value]  # just checked


def checked_transport(value: str) -> Transport:
    """Return *value* if it is one of :data:`Transport`.

    :raises ValueError: naming the argument and what is allowed.
    """
    if value not in get_args(Transport):
        raise ValueError(f"image_transport={value!r}: must be one of {', '.join(get_args(Transport))}")
    return value  # type: ignore[return-value]  # just checked


def checked_busy_timeout(value: Any) -> float:
    """Return *value* if it is a number of seconds.

    :raises ValueError: naming the argument and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"busy_timeout={value!r}: must be a number of seconds, at least 0")
    return value


def check_reuse(reuse: str | None, library: Any) -> None:
    """Raise :class:`ValueError` unless both arguments of the reuse are given, or none."""
    if reuse not in (None, "fingerprint"):
        raise ValueError(f"reuse={reuse!r}: must be 'fingerprint' or None")
    if bool(reuse) != bool(library):
        raise ValueError(f"reuse={reuse!r}, library={library!r}: give both or none")
