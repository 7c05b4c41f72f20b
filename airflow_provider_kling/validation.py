"""From arguments to a job: a request is checked by its model's own rules before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_kling.catalog import DEFAULT_DURATION, MODELS, SOUND_FACTOR, Field, Kind, Model
from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.jobs import VideoJob
from airflow_provider_kling.replies import read_number, shorten

_FLAGS = {"true": True, "false": False}
_USUAL_SHOTS, _USUAL_SHOT_CHARACTERS = 6, 512


def build_job(
    model: str, inputs: Mapping[str, Any], extra_body: Mapping[str, Any] | None = None
) -> tuple[VideoJob, list[str]]:
    """Return the job that the arguments ask for, and warnings for what only the service can judge.

    An input that is None or an empty text counts as not set. Numbers and flags may come as text, as
    templates give them. A model that the catalogue does not know is passed on unvalidated.

    :param model: the model's slug.
    :param inputs: the inputs under the operator's names.
    :param extra_body: further JSON keys under the gateway's names; those that the model documents are
        checked as well, the others go out as they are.
    :raises KlingInputError: naming every argument that is wrong, what was given and what is allowed.
    """
    given = {name: value for name, value in inputs.items() if not _unset(value)}
    extra = dict(extra_body or {})
    known = MODELS.get(model)
    if known is None:
        if not model or "/" in model or model != model.strip():
            raise KlingInputError(f"model={model!r} is not a model's name, such as {next(iter(MODELS))!r}.")
        body, problems = {**given, **extra}, _not_json({**given, **extra})
        warnings = [f"Model {model!r} is not in the catalogue: its inputs are passed on unvalidated."]
    else:
        body, problems = _checked(known, given, extra)
        problems += _combinations(known, {f.name for f in known.fields if f.wire_name in body})
        problems += _not_json(body)
        warnings = [] if problems else _warnings(body)
    if problems:
        raise KlingInputError(f"{model} does not accept this request: {'; '.join(problems)}.")
    return VideoJob(model, body), warnings


def estimate(job: VideoJob, prices: Mapping[str, Decimal] | None = None) -> Decimal | None:
    """Return the estimated cost of the job in US dollars, or None where it cannot be known.

    :param prices: dollars a second without sound by model, in place of the catalogue's.
    """
    model = MODELS.get(job.model)
    price = (prices or {}).get(job.model, model.price if model else None)
    if price is None:
        return None
    seconds = read_number(job.inputs.get("duration", DEFAULT_DURATION))
    if seconds is None:
        return None
    sound = job.inputs.get("sound", model.sound_by_default if model else False)
    return Decimal(str(seconds)) * price * (SOUND_FACTOR if sound else 1)


def cost_words(cost: Decimal | None) -> str:
    """Say an estimate in a sentence; an unknown price is said, not guessed."""
    return "a price that is not published" if cost is None else f"an estimated {cost:.2f} USD"


def _unset(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _checked(
    model: Model, given: Mapping[str, Any], extra: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    body: dict[str, Any] = {}
    problems = []
    for name, value in (*given.items(), *extra.items()):
        field = model.field(name)
        if field is None and name in extra:
            body[name] = value
        elif field is None:
            problems.append(f"{name} is not an input of this model{_who_has(name)}")
        elif field.wire_name in body:
            problems.append(f"{name} is given twice, as an argument and in extra_body")
        else:
            try:
                body[field.wire_name] = _READERS[field.kind](field, value)
            except ValueError as problem:
                problems.append(str(problem))
    return body, problems


def _who_has(name: str) -> str:
    slugs = [model.slug for model in MODELS.values() if model.field(name)]
    return f" (it is one of {', '.join(slugs)})" if slugs else ""


def _combinations(model: Model, present: set[str]) -> list[str]:
    problems = [f"{name} is required" for name in model.required if name not in present]
    if model.exactly_one and len(present.intersection(model.exactly_one)) != 1:
        problems.append(f"exactly one of {' and '.join(model.exactly_one)} must be given")
    problems += [f"{a} and {b} exclude each other" for a, b in model.excludes if {a, b} <= present]
    return problems


def _refuse(field: Field, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{field.name}={shorten(repr(value), 60)}: must be {allowed}")


def _text(field: Field, value: Any) -> str:
    if not isinstance(value, str) or (field.choices and value not in field.choices):
        raise _refuse(field, value, _one_of(field) if field.choices else field.kind.value)
    if field.maximum is not None and len(value) > field.maximum:
        raise _refuse(field, f"{value[:20]}…", f"at most {field.maximum:g} characters, not {len(value)}")
    return value


def _whole(field: Field, value: Any) -> int | str:
    number = _parse(value)
    if number is None or number != int(number) or not _in_range(field, number):
        raise _refuse(field, value, _range(field))
    return str(int(number)) if field.as_text else int(number)


def _number(field: Field, value: Any) -> float:
    number = _parse(value)
    if number is None or not _in_range(field, number):
        raise _refuse(field, value, _range(field))
    return int(number) if number == int(number) else number


def _flag(field: Field, value: Any) -> bool:
    flag = _FLAGS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise _refuse(field, value, field.kind.value)
    return flag


def _list(field: Field, value: Any) -> list[Any]:
    items = _from_json(value)
    low, high = field.minimum or 0, field.maximum
    if not isinstance(items, (list, tuple)) or len(items) < low or (high is not None and len(items) > high):
        size = (
            f" with {low:g} to {high:g} entries" if high is not None else " that is not empty" if low else ""
        )
        raise _refuse(field, value, f"{field.kind.value}{size}")
    return list(items)


def _pictures(field: Field, value: Any) -> list[Any]:
    return [
        _text(Field(f"{field.name}[{n}]", Kind.PICTURE), item) for n, item in enumerate(_list(field, value))
    ]


def _shots(field: Field, value: Any) -> list[Any]:
    shots = _list(field, value)
    kinds = {type(shot) for shot in shots}
    if kinds not in ({str}, {dict}):
        raise _refuse(field, value, field.kind.value)
    for number, shot in enumerate(shots, 1):
        prompt = shot.get("prompt") if isinstance(shot, dict) else shot
        if not isinstance(prompt, str) or not prompt.strip():
            raise _refuse(field, shot, f"a prompt that is not empty, in shot {number}")
        if isinstance(shot, dict) and type(shot.get("duration", 0)) is not int:
            raise _refuse(field, shot, f"a whole number of seconds as duration, in shot {number}")
    return shots


_READERS: dict[Kind, Callable[[Field, Any], Any]] = {
    Kind.TEXT: _text,
    Kind.WHOLE: _whole,
    Kind.NUMBER: _number,
    Kind.FLAG: _flag,
    Kind.PICTURE: _text,
    Kind.PICTURES: _pictures,
    Kind.LINK: _text,
    Kind.LIST: _list,
    Kind.SHOTS: _shots,
}


def _parse(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e9 else None  # also refuses nan and infinity


def _in_range(field: Field, number: float) -> bool:
    if field.choices:
        return number in field.choices
    low, high = field.minimum, field.maximum
    return (low is None or number >= low) and (high is None or number <= high)


def _one_of(field: Field) -> str:
    return " or ".join(repr(choice) for choice in field.choices)


def _range(field: Field) -> str:
    return (
        _one_of(field) if field.choices else f"{field.kind.value} from {field.minimum:g} to {field.maximum:g}"
    )


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _not_json(body: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, value in body.items():
        try:
            json.dumps({name: value}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            problems.append(f"{name} cannot be written as JSON ({error})")
    return problems


def _warnings(body: Mapping[str, Any]) -> list[str]:
    shots = body.get("multi_prompt", [])
    warnings = []
    if len(shots) > _USUAL_SHOTS:
        warnings.append(f"multi_prompt has {len(shots)} shots; Kling itself takes up to {_USUAL_SHOTS}.")
    if any(len(s["prompt"] if isinstance(s, dict) else s) > _USUAL_SHOT_CHARACTERS for s in shots):
        warnings.append(
            f"A shot is longer than the {_USUAL_SHOT_CHARACTERS} characters that Kling itself takes."
        )
    lengths = [s["duration"] for s in shots if isinstance(s, dict) and "duration" in s]
    total = int(body.get("duration", DEFAULT_DURATION))
    if lengths and len(lengths) == len(shots) and sum(lengths) != total:
        warnings.append(
            f"The shots last {sum(lengths)} s together, the video {total} s; Kling wants them equal."
        )
    return warnings
