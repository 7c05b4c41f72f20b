"""The inputs of a model as data, and the check of their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_kling.emulator.messages import Json, RefusedError
from airflow_provider_kling.emulator.pictures import is_url


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a model. `kind` is text, integer, number, flag, picture, pictures, url, list, shots."""

    kind: str
    required: bool = False
    minimum: float | None = None  # of a number its value, of a list its length, of each shot its seconds
    maximum: float | None = None  # likewise; of a text its characters
    choices: tuple[object, ...] = ()


def required(field: Field) -> Field:
    """Return a copy of the field that is required."""
    return replace(field, required=True)


def check_value(name: str, field: Field, value: Any) -> None:
    """Refuse a value that an input cannot have."""
    if not _KINDS[field.kind](value):
        raise RefusedError(f"{name} must be {_NAMES.get(field.kind, field.kind)}, got {type(value).__name__}")
    if field.choices and value not in field.choices:
        raise RefusedError(f"{name} must be one of {', '.join(map(str, field.choices))}")
    if field.required and is_empty(value):
        raise RefusedError(f"{name} must not be empty")
    if field.kind == "shots":
        _check_shots(field, value)
        return
    size = value if isinstance(value, (int, float)) else len(value)
    if field.minimum is not None and size < field.minimum:
        raise RefusedError(f"{name} must be at least {field.minimum}")
    if field.maximum is not None and size > field.maximum:
        raise RefusedError(f"{name} must be at most {field.maximum}{_UNITS.get(field.kind, '')}")


def _check_shots(field: Field, shots: list[Any]) -> None:
    if not shots:
        raise RefusedError("multi_prompt has no shots")
    if len({type(shot) for shot in shots}) > 1:
        raise RefusedError("multi_prompt mixes texts and objects")
    for shot in shots:
        _check_shot(field, {"prompt": shot} if isinstance(shot, str) else shot)


def _check_shot(field: Field, shot: Json) -> None:
    text: Any = shot.get("prompt")
    seconds: Any = shot.get("duration", field.minimum)
    if not isinstance(text, str) or is_empty(text):
        raise RefusedError("every shot of multi_prompt needs a prompt")
    if not _is_integer(seconds):
        raise RefusedError("the duration of a shot must be an integer")
    if seconds < (field.minimum or 0) or seconds > (field.maximum or seconds):
        raise RefusedError(f"a shot of {seconds} seconds is too short or too long")


def is_empty(value: Any) -> bool:
    """Return whether a value counts as not set."""
    return value == [] or (isinstance(value, str) and not value.strip())


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "text": _is_text,
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "picture": _is_text,
    "pictures": lambda value: _is_list(value) and all(map(_is_text, value)),
    "url": lambda value: _is_text(value) and is_url(value),
    "list": lambda value: _is_list(value) and "" not in value and None not in value,
    "shots": lambda value: _is_list(value) and all(isinstance(shot, (str, dict)) for shot in value),
}
_NAMES = {
    "text": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "picture": "a string: a URL or base64",
    "pictures": "a list of URLs or base64 strings",
    "url": "an http(s) URL",
    "list": "a list",
    "shots": "a list of strings or objects",
}
_UNITS = {"text": " characters", "list": " items", "pictures": " items"}
