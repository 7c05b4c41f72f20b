"""Reads values that come from templates and JSON, and checks arguments: numbers, choices, spans."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any, TypeGuard, TypeVar, get_args

T = TypeVar("T")

#: JavaScript's text of an object.
_OBJECT = r"\[object [A-Z]\w*\]"
#: The status in `kling_progress` while no job is started because no slot is free.
NO_SLOT = "WAITING_FOR_SLOT"


def read_number(value: Any) -> float | None:
    """Return a number that is given as a number or as a text, or None if it is neither."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and (not value.isascii() or "_" in value):
        return None  # Python reads "0_56" as 56
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e15 else None  # this excludes nan and infinity


def as_object(value: Any) -> dict[str, Any]:
    """Return a JSON object; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list; anything else is the only item of one."""
    return value if isinstance(value, list) else [value]


def is_unset(value: Any) -> bool:
    """Return whether a value means "not set": None, an empty text, or a template's ``None``."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))


def is_placeholder(value: Any) -> bool:
    """Return whether a text stands where a template, a form or a script had no text to give."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    return text == "None" or text.lower() in ("null", "undefined", "nan") or bool(re.search(_OBJECT, text))


def is_link(text: str) -> bool:
    """Return whether a text begins as an http(s) URL does, in any case."""
    return text[:8].lower().startswith(("http://", "https://"))


def is_web_url(value: Any) -> TypeGuard[str]:
    """Return whether a value is an http(s) URL, in any case, printable and without blanks."""
    return isinstance(value, str) and is_link(value) and value.isprintable() and " " not in value


def one_of(argument: str, value: T, literal: Any) -> T:
    """Return *value* if it is one of a ``Literal``.

    :raises ValueError: naming the argument and what is allowed.
    """
    if value not in (allowed := get_args(literal)):
        raise ValueError(f"{argument}={value!r}: must be one of {', '.join(allowed)}")
    return value


def checked_seconds(argument: str, value: timedelta | float, least: float) -> float:
    """Return a time span in seconds.

    :raises ValueError: it is no time span, or shorter than *least* seconds.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    usual = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not usual or seconds < least:
        raise ValueError(f"{argument}={value!r}: must be a number of seconds, at least {least:g}")
    return float(seconds)
