"""The pictures of a request: found, checked and encoded before any money is spent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from airflow_provider_kling.jobs import told
from airflow_provider_kling.places import check_inside
from airflow_provider_kling.storage import is_path, load_picture

#: The inputs that are pictures.
PICTURES = ("image", "end_image")


def prepare_pictures(
    inputs: dict[str, Any], limits: Iterable[Sequence[str]], *, bare: bool, log: Any
) -> dict[str, dict[str, Any]]:
    """Put each picture of *inputs* into the form that goes to the gateway; return what may be told of them.

    :param inputs: the request's inputs under the operator's names; changed in place.
    :param limits: folders that a picture's path must lie in, one list for each who sets a limit.
    :param bare: the model takes base64 without the ``data:`` prefix.
    :param log: the task's log.
    :raises KlingInputError: naming the argument, what was given and what is allowed.
    """
    facts = {}
    for name in PICTURES:
        if isinstance(inputs[name], os.PathLike):
            inputs[name] = os.fspath(inputs[name])
        if isinstance(value := inputs[name], str) and value.strip() not in ("", "None"):
            inputs[name], facts[name] = _prepared(name, value.strip(), limits, bare=bare, log=log)
    return facts


def _prepared(
    name: str, value: str, limits: Iterable[Sequence[str]], *, bare: bool, log: Any
) -> tuple[str, dict[str, Any]]:
    for allowed in limits if is_path(value) else ():
        check_inside(value, name, allowed)
    picture = load_picture(value, name)
    if picture is None:
        log.info("%s: a URL, which the gateway fetches", name)
        return value, {"source": told(value)}
    log.info("%s: %s", name, picture.describe())
    source = value if is_path(value) else "data"
    facts = {"source": source, "sha256": picture.sha256, "width": picture.width, "height": picture.height}
    return value if value.startswith("data:") else picture.as_base64(bare=bare), facts
