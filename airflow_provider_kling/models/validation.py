"""Checks a request by its model's rules and makes a job of it, before anything is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.models.catalog import MODELS
from airflow_provider_kling.models.fields import Confidence, Model
from airflow_provider_kling.models.input_names import MEDIA_INPUTS, TEXT_INPUTS
from airflow_provider_kling.models.inputs import is_public_url, parse_if_json, read_input
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.kling import MAX_SHOT_CHARACTERS, MAX_SHOTS, shots_as_text
from airflow_provider_kling.models.prices import input_or_default
from airflow_provider_kling.redaction import PICTURES_IN_BASE64, redacted, shorten
from airflow_provider_kling.values import as_list, is_placeholder, is_unset

#: A slug, or the path of a model on Kling's own API.
_SLUG = re.compile(r"[^\s/?#]+|[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
#: Characters that count as printable and show nothing.
_INVISIBLE = " \u034f\u115f\u1160\u2800\u3164\uffa0"
#: Control characters except TAB, LF and CR, and lone surrogates.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def build_job(
    model: str, inputs: Mapping[str, Any], extra_body: Mapping[str, Any] | str | None = None
) -> tuple[VideoJob, list[str]]:
    """Return the job that the arguments describe, and warnings about what only the service can check.

    An input that is None, an empty text or a rendered ``"None"`` counts as not set. Numbers and booleans may
    be texts, as templates produce them. A model that the catalogue does not know is passed on unvalidated.

    :param model: the model's slug, or its path on Kling's own API.
    :param inputs: the inputs by the operator's names.
    :param extra_body: further JSON keys by the gateway's names. Documented ones are checked too; the others
        are sent unchanged.
    :raises KlingInputError: it names every wrong argument, its value and what is allowed.
    """
    if not isinstance(model, str) or not _SLUG.fullmatch(model):
        raise KlingInputError(f"model={model!r} is not a model's name, such as {next(iter(MODELS))!r}.")
    given = {name: value for name, value in inputs.items() if not is_unset(value)}
    known, extra = MODELS.get(model), _read_extra_body(extra_body)
    if known is None:
        body, problems = {**given, **extra}, [_given_twice(name) for name in given if name in extra]
        problems += _check_json(body)
        warnings = [f"Model {model!r} is not in the catalogue{_suggest(model)}: it is passed on unvalidated."]
        problems += _check_shots_of_kling(Model(model, ()), body) if "/" in model else []
    else:
        extra = {name: value for name, value in extra.items() if not (known.field(name) and is_unset(value))}
        body, problems = _check_inputs(known, given, extra)
        present = {field.name for name in (*given, *extra) if (field := known.field(name))}
        problems += _check_combinations(known, present, body)
        problems += _check_json(body)
        if known.gateway == "Kling" and not problems:
            problems += _check_shots_of_kling(known, body)
        warnings = [] if problems else [*_undocumented(known, extra), *_warn_of_texts(known, body)]
    problems = problems or _check_texts(known or Model(model, ()), body)
    if problems:
        raise KlingInputError(f"{model} does not accept this request: {'; '.join(problems)}.")
    return VideoJob(model, body), warnings


def _suggest(model: str) -> str:
    same_gateway = [name for name in MODELS if ("/" in name) == ("/" in model)]
    close = get_close_matches(model, same_gateway, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _read_extra_body(value: Any) -> dict[str, Any]:
    extra = parse_if_json(value)
    if is_unset(extra):
        return {}
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        what = f"extra_body={shorten(repr(value), 60)}: must be an object such as {{'seed': 7}}."
        raise KlingInputError(what)
    return dict(extra)


def _undocumented(model: Model, extra: Mapping[str, Any]) -> list[str]:
    names = [name for name in extra if not model.field(name)]
    return [f"{model.slug} does not document {name!r} of extra_body; it is passed on." for name in names]


def _check_inputs(
    model: Model, given: Mapping[str, Any], extra: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    body: dict[str, Any] = {}
    problems = []
    for name, value in (*given.items(), *extra.items()):
        field = model.field(name)
        if field is None and name in extra:
            body[name] = value
        elif field is None:
            problems.append(f"{name} is not an input of this model{_models_with(name, model)}")
        elif field.json_key in body:
            problems.append(_given_twice(name))
        else:
            try:
                body[field.json_key] = read_input(field, value)
            except ValueError as problem:
                problems.append(str(problem))
    return body, problems


def _given_twice(name: str) -> str:
    return f"{name} is given twice, as an argument and in extra_body"


def _models_with(name: str, asked: Model) -> str:
    if name in asked.lacks:
        return f" ({asked.lacks[name]})"
    models = [model for model in MODELS.values() if model.field(name)]
    slugs = [model.slug for model in models if model.gateway == asked.gateway]
    if models and not slugs:
        return f" (only {models[0].gateway} has it)"
    return f" (it is one of {', '.join(slugs)})" if slugs else ""


def _check_combinations(model: Model, present: set[str], body: Mapping[str, Any]) -> list[str]:
    problems = [f"{name} is required" for name in model.required if name not in present]
    if model.exactly_one and len(present.intersection(model.exactly_one)) != 1:
        problems.append(f"exactly one of {' and '.join(model.exactly_one)} must be given")
    problems += [f"{a} and {b} exclude each other" for a, b in model.excludes if {a, b} <= present]
    needs = (need for need in model.needs if need[0] in present and body.get(need[1]) != need[2])
    problems += [f"{name} needs {other}={value!r}" for name, other, value in needs]
    return [*problems, *(model.check(body) if model.check else ())]


def _check_shots_of_kling(model: Model, body: dict[str, Any]) -> list[str]:
    """Return what Kling's own API would refuse of the shots. The video lasts as long as they do."""
    shots = parse_if_json(body.get("multi_prompt"))
    if is_unset(shots) or not shots:
        return []
    if not isinstance(shots, list) or not all(isinstance(s, dict) and "duration" in s for s in shots):
        return ["multi_prompt: on Kling's own API each shot is an object with prompt and duration"]
    problems = [problem for number, shot in enumerate(shots, 1) for problem in _check_shot(number, shot)]
    if len(shots) > MAX_SHOTS:
        problems.append(f"multi_prompt has {len(shots)} shots; at most {MAX_SHOTS} are allowed")
    return problems or _check_all_shots(model, shots, body)


def _check_all_shots(model: Model, shots: list[Any], body: dict[str, Any]) -> list[str]:
    prompt, length = model.field("prompt"), len(shots_as_text(shots))
    if prompt and prompt.maximum and length > prompt.maximum:
        return [f"multi_prompt makes a prompt of {length} characters; at most {prompt.maximum} are allowed"]
    total = sum(shot["duration"] for shot in shots)
    given, seconds = body.setdefault("duration", total), model.field("duration")
    if given != total:
        return [f"the shots last {total} s together, the video {given} s; they must be equal"]
    if seconds and not (seconds.minimum or 0) <= total <= (seconds.maximum or total):
        limits = f"{seconds.minimum:g} to {seconds.maximum:g} s"
        return [f"the shots last {total} s together; this model makes {limits}"]
    return []


def _check_shot(number: int, shot: Mapping[str, Any]) -> Iterator[str]:
    name, prompt, seconds = f"multi_prompt[{number}]", shot.get("prompt"), shot["duration"]
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > MAX_SHOT_CHARACTERS:
        yield f"{name}: its prompt must have 1 to {MAX_SHOT_CHARACTERS} characters"
    elif ";" in prompt:
        yield f"{name}: its prompt has a semicolon, which ends a shot"
    if type(seconds) is not int or seconds < 1:
        yield f"{name}: its duration must be a whole number of seconds, at least 1"


def _check_texts(model: Model, body: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the texts: a form or a script can break a prompt, which would be paid."""
    media = {field.json_key if (field := model.field(name)) else name for name in MEDIA_INPUTS}
    problems = []
    for name, value in body.items():
        for text in _texts(value) if name not in media else ():
            if "[object " in text and is_placeholder(text):
                what = f"{name}={shorten(text, 60)!r}: a form has turned an object into this text"
                problems.append(f"{what}; give each prompt as a text")
            elif found := _CONTROL.search(text):
                problems.append(f"{name} has the control character U+{ord(found[0]):04X}")
            elif name not in TEXT_INPUTS or not text:
                continue
            elif not any(c.isprintable() and c not in _INVISIBLE for c in text):
                problems.append(f"{name}={text!r}: has no visible character")
            elif is_placeholder(text) or _is_data(name, text):
                problems.append(f"{name}={shorten(text, 60)!r}: a template, a form or a script has left this")
    return list(dict.fromkeys(problems))


def _is_data(name: str, text: str) -> bool:
    """Return whether a text is a list, an empty object, or a whole shot. A prompt may be a JSON object."""
    data = parse_if_json(text)
    return isinstance(data, list) or data == {} or (name == "multi_prompt" and isinstance(data, dict))


def check_media(job: VideoJob) -> None:
    """Check that the pictures and the video of a prepared job are URLs or data: ``extra_body`` takes no path.

    :raises KlingInputError: naming what is neither.
    """
    model = MODELS.get(job.model, Model(job.model, ()))
    for name, value in job.inputs.items():
        media = field.name if (field := model.field(name)) else name
        given = parse_if_json(value) if media in MEDIA_INPUTS and not is_unset(value) else []
        for item in as_list(given):
            is_data = isinstance(item, str) and item.startswith(("data:", *PICTURES_IN_BASE64))
            if not is_public_url(item) and not is_data:
                shown = shorten(repr(redacted(item)), 60)
                raise KlingInputError(f"{name}={shown}: in extra_body it must be a URL or data.")


def _texts(value: Any) -> Iterator[str]:
    """Yield each text in a value, and the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        parts = [*value, *value.values()] if isinstance(value, Mapping) else value
        for part in parts:
            yield from _texts(part)


def _check_json(body: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, value in body.items():
        try:
            json.dumps({name: value}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            problems.append(f"{name} cannot be written as JSON ({error})")
    return problems


def _warn_of_texts(model: Model, body: Mapping[str, Any]) -> list[str]:
    """Return what may be too long, or in the wrong form, and only the service can tell."""
    prompt, written = model.field("prompt"), body.get("prompt") or ""
    warnings = []
    if prompt and prompt.advised and len(written) > prompt.advised:
        warnings.append(f"prompt has {len(written)} characters; Kling advises at most {prompt.advised}.")
    return [*warnings, *_warn_of_shots(model, body)]


def _warn_of_shots(model: Model, body: Mapping[str, Any]) -> list[str]:
    field, shots = model.field("multi_prompt"), body.get("multi_prompt")
    if not field or not shots or model.gateway == "Kling":  # which are checked
        return []
    warnings = []
    texts = [shot["prompt"] if isinstance(shot, dict) else shot for shot in shots]
    if field.confidence is Confidence.DOCUMENTED and texts == shots:
        warnings.append(f"{model.slug} documents shots as objects; these are texts, and are passed on.")
    if len(shots) > MAX_SHOTS:
        warnings.append(f"multi_prompt has {len(shots)} shots; Kling itself takes up to {MAX_SHOTS}.")
    if any(len(text) > MAX_SHOT_CHARACTERS for text in texts):
        warnings.append(
            f"A shot is longer than the {MAX_SHOT_CHARACTERS} characters that Kling itself takes."
        )
    lengths = [shot["duration"] for shot in shots if isinstance(shot, dict) and "duration" in shot]
    total = int(input_or_default(VideoJob(model.slug, body), model, "duration"))
    if len(lengths) == len(shots) and sum(lengths) != total:
        warnings.append(
            f"The shots last {sum(lengths)} s together, the video {total} s; Kling wants them equal."
        )
    return warnings
