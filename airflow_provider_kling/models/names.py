"""Which model a name means at a gateway: one spelling works on both, where both have the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.models import kling, myrouter
from airflow_provider_kling.values import is_unset

_1080P = {"resolution": "1080p"}
#: What MyRouter's slugs mean on Kling's own API: the path, and the inputs that make it the same video.
MYROUTER_ON_KLING: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"kling-v3.0-{tier}-{short}": (f"{operation}/kling-3.0", {"resolution": resolution})
        for tier, resolution in (("std", "720p"), ("pro", "1080p"), ("4k", "4k"))
        for short, operation in (("i2v", "image-to-video"), ("t2v", "text-to-video"))
    },
    "kling-v3.0-motion-control": ("motion-control/kling-3.0", {"resolution": "720p"}),
    "kling-v2.6-pro-i2v": ("image-to-video/kling-2.6", {**_1080P, "sound": True}),
    "kling-v2.6-pro-t2v": ("text-to-video/kling-2.6", {**_1080P, "sound": True, "aspect_ratio": "1:1"}),
    "kling-v2.6-pro-motion-control": ("motion-control/kling-2.6", _1080P),
    "kling-2.5-turbo-i2v": ("image-to-video/kling-2.5-turbo", _1080P),
    "kling-2.5-turbo-t2v": ("text-to-video/kling-2.5-turbo", _1080P),
    "kling-o1-i2v": ("omni-video/kling-o1", _1080P),
    "kling-o1-t2v": ("omni-video/kling-o1", _1080P),
    "kling-o1-ref2v": ("omni-video/kling-o1", {**_1080P, "refer_type": "feature"}),
    "kling-o1-video-edit": ("omni-video/kling-o1", {**_1080P, "refer_type": "base"}),
}
#: Kling's own names of its models, such as `kling-3.0`.
KLING_NAMES = tuple(dict.fromkeys(path.partition("/")[2] for path in kling.MODELS))


def on_kling(name: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the path that a name means on Kling's own API, and the inputs that the name implies.

    Without a path, the inputs say what is asked for. A name that is unknown passes.

    :param inputs: what is set, by the operator's names.
    :raises KlingInputError: only MyRouter has such a model.
    """
    if not isinstance(name, str):
        return name, {}  # the validation refuses it
    if name in MYROUTER_ON_KLING:
        path, implied = MYROUTER_ON_KLING[name]
        needless = "" if _is_given(inputs, "video") else "refer_type"
        return path, {key: value for key, value in implied.items() if key != needless}
    if name in myrouter.MODELS:
        raise KlingInputError(
            f"model={name!r}: Kling's own API does not have this model; it has {', '.join(KLING_NAMES)}."
        )
    if "/" in name:
        return name, {}
    path = f"{_operation(name, inputs)}/{name}"
    if name in KLING_NAMES and path not in kling.MODELS:  # the validation names the input that it lacks
        path = f"{_frames_or_text(inputs)}/{name}"
    return path, {}


def on_myrouter(name: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:  # noqa: ARG001 - as on_kling
    """Return the slug that a name means at MyRouter. A name that is unknown passes.

    :raises KlingInputError: it is a name of Kling's own API.
    """
    if _is_of_kling(name):
        same = [
            slug for slug, (path, _) in MYROUTER_ON_KLING.items() if name in (path, path.partition("/")[2])
        ]
        hint = f"; MyRouter calls it {' or '.join(same)}" if same else ""
        raise KlingInputError(f"model={name!r} is a name of Kling's own API, and this is MyRouter{hint}.")
    return name, {}


def anywhere(name: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the model that a name means where no connection says which gateway it is for."""
    return on_kling(name, inputs) if _is_of_kling(name) else (name, {})


def _is_of_kling(name: Any) -> bool:
    return isinstance(name, str) and (name in KLING_NAMES or "/" in name)


def _operation(name: str, inputs: Mapping[str, Any]) -> str:
    if _is_given(inputs, "character_orientation"):
        return "motion-control"
    is_omni = "omni" in name or name.startswith("kling-o")
    if is_omni or _is_given(inputs, "video") or _is_given(inputs, "images"):
        return "omni-video"
    return _frames_or_text(inputs)


def _frames_or_text(inputs: Mapping[str, Any]) -> str:
    has_picture = _is_given(inputs, "image") or _is_given(inputs, "end_image")
    return "image-to-video" if has_picture else "text-to-video"


def _is_given(inputs: Mapping[str, Any], name: str) -> bool:
    return not is_unset(inputs.get(name))
