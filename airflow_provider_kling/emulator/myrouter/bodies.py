"""Reads the body of a submit: checks it by the documented rules, and refuses it at the first broken one."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_kling.emulator.fields import check_value, is_empty
from airflow_provider_kling.emulator.job_request import JobRequest
from airflow_provider_kling.emulator.jobs import prompt_of
from airflow_provider_kling.emulator.messages import Json, RefusedError
from airflow_provider_kling.emulator.myrouter.models import Model
from airflow_provider_kling.emulator.render_request import RenderRequest


def read_request(slug: str, model: Model, body: Json) -> JobRequest:
    """Return what a body asks for."""
    check_body(model, body)
    return JobRequest(
        dialect="myrouter",
        model=slug,
        body=body,
        pictures=tuple(pictures_in(model, body)),
        render=render_request(model, body),
        unknown_fields=unknown_fields(model, body) if model.fields else (),
    )


def render_request(model: Model, body: Json) -> RenderRequest:
    """Return the properties of the video that a checked body asks for."""
    return RenderRequest(
        has_last=any(body.get(name) for name in ("end_image", "last_image", "end_image_url")),
        prompt=prompt_of(body),
        seconds=int(body.get("duration") or 5),
        aspect_ratio=body.get("aspect_ratio") or "16:9",
        sound=bool(body.get("sound", model.sound)),
    )


def check_body(model: Model, body: Json) -> None:
    """Refuse a body that breaks a rule of its model. Unknown inputs are accepted."""
    for name, field in model.fields.items():
        value = body.get(name)
        if value is not None:
            check_value(name, field, value)
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


def _check_rules(model: Model, body: Json) -> None:
    given = {name for name, value in body.items() if value is not None and not is_empty(value)}
    if model.exactly_one and len(given.intersection(model.exactly_one)) != 1:
        raise RefusedError(f"exactly one of {' and '.join(model.exactly_one)} is required")
    for one, other in model.excludes:
        if {one, other} <= given:
            raise RefusedError(f"{one} and {other} exclude each other")
    for one, other, value in model.needs:
        if one in given and body.get(other) != value:
            raise RefusedError(f"{one} needs {other}={value}")
