"""Reads values that come from templates and JSON: numbers, and whether a value is set."""

from __future__ import annotations

import re
from typing import Any, TypeGuard

#: JavaScript's text of an object.
_OBJECT = re.compile(r"\[object [A-Z]\w*\]")


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


def is_unset(value: Any) -> bool:
    """Return whether a value means "not set": None, an empty text, or a template's ``None``."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))


def is_placeholder(value: Any) -> bool:
    """Return whether a text stands where a template, a form or a script had no text to give."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    return text == "None" or text.lower() in ("null", "undefined", "nan") or bool(_OBJECT.search(text))


def is_link(text: str) -> bool:
    """Return whether a text begins as an http(s) URL does, in any case."""
    return text[:8].lower().startswith(("http://", "https://"))


def is_web_url(value: Any) -> TypeGuard[str]:
    """Return whether a value is an http(s) URL, in any case, printable and without blanks."""
    return isinstance(value, str) and is_link(value) and value.isprintable() and " " not in value
