"""Values from outside: odd numbers are read, what is empty counts as not set."""

from __future__ import annotations

from typing import Any


def read_number(value: Any) -> float | None:
    """Read a number that comes as integer, float, numeric text, empty text or not at all."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e15 else None  # so neither nan nor infinity


def is_unset(value: Any) -> bool:
    """Return whether a value means "not set": None, an empty text, or a template's ``None``."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))
