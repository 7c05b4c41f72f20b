"""Reads what any task may have pushed under our keys: nothing is trusted, and everything has a bound."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from airflow_provider_kling.media.picture_formats import DamagedPictureError, read_shape
from airflow_provider_kling.media.pictures import from_base64
from airflow_provider_kling.media.preview import checked_preview
from airflow_provider_kling.values import as_object, read_number

#: Characters of a text on a card.
MAX_TEXT = 4000
#: Characters of a JSON object on a card.
MAX_OBJECT = 20_000
#: Pixels of a small picture's side: one of few bytes could have many.
MAX_SIDE = 640
#: Control characters but tabs and line breaks, separators, bidirectional overrides, lone surrogates.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def parsed(text: Any) -> Any:
    """Return the value of a JSON text; None where it is none, or too deep, or has numbers without end.

    Some ways into Airflow's database encode an XCom twice.
    """
    value: Any = None
    try:
        value = json.loads(text)
        return json.loads(value) if isinstance(value, str) and value.startswith("{") else value
    except (TypeError, ValueError, RecursionError):
        return value


def text(value: Any, limit: int = MAX_TEXT) -> str:
    """Return a text that can be shown, an empty one for anything else."""
    return _CONTROL.sub("\ufffd", value[:limit]) if isinstance(value, str) else ""


def number(value: Any) -> float | None:
    """Return a number that is not negative, or None."""
    found = read_number(value)
    return found if found is not None and found >= 0 else None


def plain(value: Any, limit: int = MAX_OBJECT) -> dict[str, Any]:
    """Return an object that can be shown as it is; an empty one if it is larger than *limit* characters."""
    try:
        cleaned = _cleaned(as_object(value))
        is_small = len(json.dumps(cleaned, ensure_ascii=False)) <= limit
    except (RecursionError, ValueError):
        return {}
    return cleaned if is_small else {}


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {text(key, 200): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, str):
        return text(value)
    is_endless = isinstance(value, float) and not math.isfinite(value)
    return None if is_endless else value


def picture(value: Any) -> str | None:
    """Return a small JPEG as a data URL, or None for anything else."""
    found = checked_preview(value)
    try:
        shape = read_shape(from_base64(found) or b"", whole=False) if found else None
    except DamagedPictureError:
        return None
    return found if shape and max(shape.width, shape.height) <= MAX_SIDE else None
