"""Checks the body of a submit by the documented rules, and reports the first broken one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow_provider_kling.emulator.messages import Json
from airflow_provider_kling.emulator.myrouter.models import Field, Model
from airflow_provider_kling.emulator.pictures import RefusedError, bytes_of, check, is_url


def check_body(model: Model, body: Json) -> None:
    """Refuse a body that breaks a rule of its model. Unknown inputs are accepted."""
    for name, field in model.fields.items():
        value = body.get(name)
        if value is not None:
            _check_value(name, field, value)
        elif field.required:
            raise RefusedError(f"{name} is required")
    _check_rules(model, body)


def unknown_fields(model: Model, body: Json) -> tuple[str, ...]:
    """Return the inputs that the model does not list."""
    return tuple(sorted(set(body) - set(model.fields)))


def pictures_in(model: Model, body: Json) -> Iterator[str]:
    """Yield all pictures of a checked body, the first frame first."""
    for name, field in model.fields.items():
        if field.kind == "picture" and body.get(name):
            yield body[name]
        elif field.kind == "pictures":
            yield from body.get(name) or ()


async def check_pictures(pictures: Iterator[str]) -> list[bytes | None]:
    """Return the bytes of each picture, or None for a URL. Refuse pictures beyond the limits."""
    found = [await bytes_of(picture) for picture in pictures]
    for picture in found:
        if picture is not None:
            check(picture)
    return found


def _check_rules(model: Model, body: Json) -> None:
    given = {name for name, value in body.items() if value is not None and not _is_empty(value)}
    if model.exactly_one and len(given.intersection(model.exactly_one)) != 1:
        raise RefusedError(f"exactly one of {' and '.join(model.exactly_one)} is required")
    for one, other in model.excludes:
        if {one, other} <= given:
            raise RefusedError(f"{one} and {other} exclude each other")
    for one, other, value in model.needs:
        if one in given and body.get(other) != value:
            raise RefusedError(f"{one} needs {other}={value}")


def _check_value(name: str, field: Field, value: Any) -> None:
    if not _KINDS[field.kind](value):
        raise RefusedError(f"{name} must be {_NAMES.get(field.kind, field.kind)}, got {type(value).__name__}")
    if field.choices and value not in field.choices:
        raise RefusedError(f"{name} must be one of {', '.join(map(str, field.choices))}")
    if field.required and _is_empty(value):
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
    if not isinstance(text, str) or _is_empty(text):
        raise RefusedError("every shot of multi_prompt needs a prompt")
    if not _is_integer(seconds):
        raise RefusedError("the duration of a shot must be an integer")
    if seconds < (field.minimum or 0) or seconds > (field.maximum or seconds):
        raise RefusedError(f"a shot of {seconds} seconds is too short or too long")


def _is_empty(value: Any) -> bool:
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
