"""``{name}`` and ``{date}`` in a target."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.models.inputs import plain_value

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_kling.operators.base import KlingBaseOperator

WORD = re.compile(r"\{\w+\}")
_SUFFIX = re.compile(r"\.(jpe?g|png|mp4|mov)$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w.-]+")


def fill_target(target: Any, operator: KlingBaseOperator, context: Context) -> Any:
    """Return a target with the name of the request and the date of the run in it. Other words stay.

    All tries get the same target, and so do a submit and the download after it.

    :param operator: the task that submits, or that downloads what a task before it has submitted.
    """
    text = plain_value(target)
    if not isinstance(text, str) or not WORD.search(text):
        return target
    if "{name}" in text:
        name = _SUFFIX.sub("", operator.request_name(context["ti"]))
        text = text.replace("{name}", _UNSAFE.sub("-", name).strip(".-") or "video")
    if "{date}" in text:
        run = context["dag_run"]
        text = text.replace("{date}", (run.logical_date or run.run_after).strftime("%Y-%m-%d"))
    return text
