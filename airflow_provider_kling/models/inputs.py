"""Reads and checks one input of a model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_kling.models.fields import Field, Kind
from airflow_provider_kling.models.job import StoragePath
from airflow_provider_kling.redaction import redacted, shorten
from airflow_provider_kling.values import is_link, is_placeholder, is_unset, is_web_url, read_number

_BOOLEANS = {"true": True, "false": False}


def read_input(field: Field, value: Any) -> Any:
    """Return *value* as it is sent to the gateway. Numbers and booleans may be given as text.

    :raises ValueError: the value is not allowed; the message names the field, the value and what is allowed.
    """
    return _READERS[field.kind](field, value)


def _error(field: Field, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{field.name}={shorten(repr(redacted(value)), 60)}: must be {allowed}")


def _read_text(field: Field, value: Any) -> str:
    if not isinstance(value, str) or (field.choices and value not in field.choices):
        raise _error(field, value, _choices(field) if field.choices else field.kind.value)
    if field.maximum is not None and len(value) > field.maximum:
        raise _error(field, f"{value[:20]}…", f"at most {field.maximum:g} characters, not {len(value)}")
    return value


def _read_integer(field: Field, value: Any) -> int | str:
    number = read_number(value)
    if number is None or number != int(number) or not _in_range(field, number):
        raise _error(field, value, _range(field))
    return str(int(number)) if field.as_text else int(number)


def _read_number(field: Field, value: Any) -> float:
    number = read_number(value)
    if number is None or not _in_range(field, number):
        raise _error(field, value, _range(field))
    return int(number) if number == int(number) else number


def _read_boolean(field: Field, value: Any) -> bool:
    flag = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise _error(field, value, field.kind.value)
    return flag


def _read_list(field: Field, value: Any) -> list[Any]:
    items = parse_if_json(value)
    if not isinstance(items, (list, tuple)) or len(items) > (field.maximum or 0):
        raise _error(field, value, f"{field.kind.value} with 0 to {field.maximum} entries")
    if field.kind is Kind.LIST and any(is_unset(item) or is_placeholder(item) for item in items):
        raise _error(field, value, f"{field.kind.value} without empty entries")
    return list(items)


def _read_url(field: Field, value: Any) -> str:
    if not is_public_url(_read_text(field, value)):
        raise _error(field, value, field.kind.value)
    return str(value)


def is_public_url(value: Any) -> bool:
    """Return whether a value is an http(s) URL with a host and without blanks."""
    try:
        return is_web_url(value) and bool(urlsplit(value).hostname)
    except ValueError:
        return False


def _read_picture(field: Field, value: Any) -> str:
    text = _read_text(field, value)
    if not text.strip() or is_placeholder(text) or (is_link(text) and not is_public_url(text)):
        raise _error(field, value, field.kind.value)
    return text


def _read_pictures(field: Field, value: Any) -> list[Any]:
    items = _read_list(field, value)
    for number, item in enumerate(items):
        _read_picture(Field(f"{field.name}[{number}]", Kind.PICTURE), item)
    return items


def _read_shots(field: Field, value: Any) -> list[Any]:
    shots = parse_if_json(value)
    if not isinstance(shots, (list, tuple)) or {type(shot) for shot in shots} not in ({str}, {dict}):
        raise _error(field, value, field.kind.value)
    for number, shot in enumerate(shots, 1):
        _check_shot(replace(field, name=f"{field.name}[{number}]"), shot)
    return list(shots)


def _check_shot(field: Field, shot: Any) -> None:
    parts = shot if isinstance(shot, dict) else {"prompt": shot}
    prompt, seconds = parts.get("prompt"), parts.get("duration", field.minimum)
    if not isinstance(prompt, str) or not prompt.strip():
        raise _error(field, shot, "a shot with a prompt, such as {'prompt': 'It waves', 'duration': 5}")
    if type(seconds) is not int or not _in_range(field, seconds):
        limit = "" if field.maximum is None else f" and at most {field.maximum}"
        raise _error(field, shot, f"a shot of a whole number of seconds, at least {field.minimum}{limit}")


_READERS: dict[Kind, Callable[[Field, Any], Any]] = {
    Kind.TEXT: _read_text,
    Kind.INTEGER: _read_integer,
    Kind.NUMBER: _read_number,
    Kind.BOOLEAN: _read_boolean,
    Kind.PICTURE: _read_picture,
    Kind.PICTURES: _read_pictures,
    Kind.URL: _read_url,
    Kind.LIST: _read_list,
    Kind.SHOTS: _read_shots,
}


def _in_range(field: Field, number: float) -> bool:
    if field.choices:
        return number in field.choices
    low, high = field.minimum, field.maximum
    return (low is None or number >= low) and (high is None or number <= high)


def _choices(field: Field) -> str:
    return " or ".join(repr(choice) for choice in field.choices)


def _range(field: Field) -> str:
    return (
        _choices(field)
        if field.choices
        else f"{field.kind.value} from {field.minimum:g} to {field.maximum:g}"
    )


def parse_if_json(value: Any) -> Any:
    """Parse a JSON text, which is what a template makes of a list. Return any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def plain_value(value: Any) -> Any:
    """Return an input without its Python type: a path or asset as text, a list in JSON as a list."""
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, os.PathLike):
        return plain_value(os.fspath(value))
    if isinstance(value, StoragePath):
        return str(value)
    read = parse_if_json(value) if isinstance(value, str) and value.lstrip().startswith(("[", "{")) else value
    return read if isinstance(read, (list, dict)) else value
