"""Reads the body of a submit in the new design: checks it, and refuses it at the first broken rule."""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_kling.emulator.fields import Field, check_value, is_empty
from airflow_provider_kling.emulator.job_request import JobRequest
from airflow_provider_kling.emulator.jobs import prompt_of
from airflow_provider_kling.emulator.kling.models import UNCHECKED, Model
from airflow_provider_kling.emulator.kling.prices import SOURCE_SECONDS, units
from airflow_provider_kling.emulator.messages import Json, RefusedError
from airflow_provider_kling.emulator.render_request import RenderRequest

TEXT = Field("text")
URL = Field("url")
PICTURES = ("first_frame", "last_frame", "refer_image", "image")
VIDEOS = ("feature_video", "base_video", "video")
# What each type of `contents` has; the ids are optional where they are not required.
PARTS = {
    "prompt": ("text",),
    **dict.fromkeys((*PICTURES, *VIDEOS), ("url",)),
    "element": ("element_id", "id"),
    "voice": ("voice_id", "id"),
}
SHOT = re.compile(r"\s*shot\s+(\d+)\s*,\s*(\d+)\s*,\s*([^;]*);", re.IGNORECASE)
MAX_SHOT_WORDS = 512
MAX_SHOTS = 6


def read_request(path: str, model: Model, body: Json, *, strict: bool) -> JobRequest:
    """Return what a body asks for.

    :param strict: refuse settings and material that the model does not have; else they are noted.
    """
    settings, options = _object(body, "settings"), _object(body, "options")
    parts = _parts(body)
    foreign = _foreign(model, body, settings, parts)
    if strict and foreign:
        raise RefusedError(f"{foreign[0]} is not a parameter of {path}")
    if model is not UNCHECKED:
        _check_settings(model, settings)
        _check_parts(model, parts)
        _check_prompts(model, parts, settings, body)
        _check_rules(path, model, settings, parts)
    client_id, callback_url = read_options(options)
    return JobRequest(
        dialect="kling",
        model=path,
        body={name: value for name, value in body.items() if name != "options"},
        pictures=tuple(part["url"] for type_ in PICTURES for part in _of(parts, type_)),
        render=RenderRequest(
            has_last=bool(_of(parts, "last_frame")),
            prompt=prompt_of(body),
            seconds=_seconds(path, settings, parts),
            aspect_ratio=settings.get("aspect_ratio") or "16:9",
            sound=settings.get("audio", model.sound) == "native",
        ),
        unknown_fields=foreign,
        client_id=client_id,
        callback_url=callback_url,
        units=_units(path, model, settings, parts),
    )


def read_options(options: Json) -> tuple[str, str]:
    """Return the client's id and the address for callbacks."""
    known = {"external_task_id": TEXT, "callback_url": URL}
    given = {name: options[name] for name in known if options.get(name) not in (None, "")}
    for name, value in given.items():
        check_value(name, known[name], value)
    return given.get("external_task_id", ""), given.get("callback_url", "")


def check_picture(name: str, value: Any) -> None:
    """Refuse what is no picture: Kling takes an address or bare base64."""
    check_value(name, Field("picture", required=True), value)
    if value[:5].lower() == "data:":
        raise RefusedError(f"{name}: base64 must not have the prefix data:")


def _object(body: Json, name: str) -> Json:
    value = body.get(name)
    if not isinstance(value, dict | None):
        raise RefusedError(f"{name} must be an object")
    return value or {}


def _parts(body: Json) -> list[Json]:
    parts = body.get("contents") or []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise RefusedError("contents must be a list of objects")
    for part in parts:
        names = PARTS.get(str(part.get("type")))
        if names is None:
            raise RefusedError(f"contents: there is no type {part.get('type')!r}")
        for name in names:
            _check_member(part["type"], name, part.get(name))
    return parts


def _check_member(type_: str, name: str, value: Any) -> None:
    if type_ in PICTURES:
        check_picture(type_, value)
    elif isinstance(value, int) and name == "element_id":  # the documents show both forms
        return
    else:
        kind = "url" if name == "url" else "text"
        check_value(f"{name} of {type_}", Field(kind, required=True), "" if value is None else value)


def _of(parts: list[Json], *types: str) -> list[Json]:
    return [part for part in parts if part["type"] in types]


def _foreign(model: Model, body: Json, settings: Json, parts: list[Json]) -> tuple[str, ...]:
    """Return the parameters that the model does not have."""
    if model is UNCHECKED:
        return ()
    members = {"settings", "options", "prompt" if model.contents is None else "contents"}
    found = {name for name in body if name not in members}
    found |= {f"settings.{name}" for name in settings if name not in model.settings}
    found |= {f"contents.{part['type']}" for part in parts if part["type"] not in (model.contents or {})}
    return tuple(sorted(found))


def _check_settings(model: Model, settings: Json) -> None:
    for name, field in model.settings.items():
        value = settings.get(name)
        if value is not None:
            check_value(name, field, value)
        elif field.required:
            raise RefusedError(f"{name} is required")


def _check_parts(model: Model, parts: list[Json]) -> None:
    for type_, most in (model.contents or {}).items():
        if len(_of(parts, type_)) > most:
            raise RefusedError(f"contents: at most {most} of type {type_}")
    for type_ in model.needs:
        if not _of(parts, type_):
            raise RefusedError(f"contents: {type_} is required")
    if _of(parts, "last_frame") and not _of(parts, "first_frame"):
        raise RefusedError("contents: last_frame needs a first_frame")
    ids = [part["id"] for part in parts if not is_empty(part.get("id", ""))]
    if any(one in other for i, one in enumerate(ids) for j, other in enumerate(ids) if i != j):
        raise RefusedError("contents: no id may be a part of another")


def _check_prompts(model: Model, parts: list[Json], settings: Json, body: Json) -> None:
    prompts = [part["text"] for part in _of(parts, "prompt")]
    if model.contents is None:
        check_value("prompt", Field("text", required=True), body.get("prompt", ""))
        prompts = [body["prompt"]]
    for prompt in prompts:
        if len(prompt) > model.prompt:
            raise RefusedError(f"the prompt must be at most {model.prompt} characters")
        if model.shots and settings.get("multi_shot", True):
            _check_shots(prompt, settings.get("duration", 5))


def _check_rules(path: str, model: Model, settings: Json, parts: list[Json]) -> None:
    sound = settings.get("audio") or model.sound
    if settings.get("resolution", "720p") != "1080p":
        for thing in model.wants_1080p:
            if thing == sound or _of(parts, thing):
                raise RefusedError(f"{thing} needs the resolution 1080p")
    if _of(parts, "voice") and sound == "off":
        raise RefusedError("a voice needs sound")
    if path.startswith("omni-video/"):
        _check_omni(path, settings, parts, sound)


def _check_omni(path: str, settings: Json, parts: list[Json], sound: str) -> None:
    o1 = path.endswith("/kling-o1")
    first, last = _of(parts, "first_frame"), _of(parts, "last_frame")
    feature, base = _of(parts, "feature_video"), _of(parts, "base_video")
    others = _of(parts, "refer_image", "element")
    if len(feature) + len(base) > 1:
        raise RefusedError("contents: at most one video")
    if len(others) > (4 if feature or base else 7):
        raise RefusedError("contents: too many reference images and elements")
    if not (first or feature or base or settings.get("aspect_ratio")):
        raise RefusedError("aspect_ratio is required without a first frame and without a video")
    if feature and (sound != "off" or settings.get("multi_shot") is False):
        raise RefusedError("feature_video needs audio off and multi_shot true")
    if base and (first or sound == "native" or settings.get("multi_shot")):
        raise RefusedError("base_video excludes frames, native sound and multi_shot")
    if o1 and feature and last:
        raise RefusedError("feature_video excludes last_frame")
    if o1 and last and others:
        raise RefusedError("first and last frame exclude reference images and elements")
    if o1 and first and not (last or others or feature) and settings.get("duration", 5) not in (5, 10):
        raise RefusedError("duration must be 5 or 10 with a first frame alone")
    if first and not o1 and len(_of(parts, "element")) > 3:
        raise RefusedError("contents: at most 3 elements with a first frame")


def _check_shots(prompt: str, seconds: int) -> None:
    """Check a prompt that lists its shots: `shot 1, 3, words; shot 2, 2, words;`."""
    if not SHOT.match(prompt):
        return
    shots = SHOT.findall(prompt)
    if SHOT.sub("", prompt).strip():
        raise RefusedError("prompt: each shot is written as `shot 1, 3, words;`")
    if [int(number) for number, *_ in shots] != list(range(1, len(shots) + 1)) or len(shots) > MAX_SHOTS:
        raise RefusedError(f"prompt: at most {MAX_SHOTS} shots, numbered from 1")
    if any(int(length) < 1 or len(words) > MAX_SHOT_WORDS for _, length, words in shots):
        raise RefusedError(f"prompt: a shot takes a second or more, and at most {MAX_SHOT_WORDS} characters")
    if sum(int(length) for _, length, _ in shots) != seconds:
        raise RefusedError(f"prompt: the seconds of the shots do not add up to {seconds}")


def _seconds(path: str, settings: Json, parts: list[Json]) -> int:
    follows_source = path.startswith("motion-control/") or _of(parts, "base_video")
    return SOURCE_SECONDS if follows_source else int(settings.get("duration") or 5)


def _units(path: str, model: Model, settings: Json, parts: list[Json]) -> Any:
    kind = "silent" if (settings.get("audio") or model.sound) == "off" else "sound"
    if path.startswith("motion-control/"):
        kind = "motion"
    elif _of(parts, *VIDEOS):
        kind = "with video"
    elif _of(parts, "voice"):
        kind = "voice"
    resolution = settings.get("resolution") or "720p"
    return units(path.partition("/")[2], kind, resolution, _seconds(path, settings, parts))
