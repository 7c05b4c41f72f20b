"""Checks the targets of the downloads after a submit, where they are known, before a video is bought."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.operators.download import KlingDownloadOperator
from airflow_provider_kling.storage.allowed_paths import is_local

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

#: Seconds for which other submits of the run respect the claim on a target. It is short: when the wait
#: fails, nobody gives it back. A video that is there already is found by its sidecar.
_CLAIM_SECONDS = 900
#: What a template can only know in the download itself.
_OF_THE_TASK = re.compile(r"\b(ti|task|task_instance|task_instance_key_str|map_index\w*|xcom\w*)\b")


def check_downstream_targets(operator: BaseOperator, context: Context) -> None:
    """Raise what would keep the video from the target of a download, and claim a target that is a file.

    :param operator: the submit.
    :raises KlingInputError: what must be changed before a video is bought.
    """
    from airflow_provider_kling.operators.video_download import DownloadOptions, VideoDownload

    ti = context["ti"]
    for task, arguments in _downloads(operator):
        target = arguments.get("target")
        if not isinstance(target, str) or ("{" in target and _OF_THE_TASK.search(target)):
            continue
        target = operator.render_template(target, context)
        if is_local(target) and task.queue != operator.queue:
            continue  # it means another worker's disk
        allowed = arguments.get("allowed_paths") or ()
        options = DownloadOptions(
            target,
            arguments.get("if_exists", "overwrite"),
            [allowed] if isinstance(allowed, str) else list(allowed),
            bool(arguments.get("verify_media")),
            0,
        )
        owner = SimpleNamespace(
            dag_id=ti.dag_id, run_id=ti.run_id, task_id=task.task_id, map_index=ti.map_index
        )
        hook = KlingHook(arguments.get("kling_conn_id", KlingHook.default_conn_name))
        download = VideoDownload(hook, options, owner, operator.log)
        download.check_before_submit("", time.time() + _CLAIM_SECONDS)


def _downloads(operator: BaseOperator) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Yield task and arguments of each download that takes its task id from *operator*."""
    tasks: Iterable[Any] = operator.get_flat_relatives(upstream=False) if operator.has_dag() else ()
    for task in tasks:
        mapped = hasattr(task, "partial_kwargs")
        kind = task.operator_class if mapped else type(task)
        if not (isinstance(kind, type) and issubclass(kind, KlingDownloadOperator)):
            continue
        arguments = vars(task)
        if mapped:
            expanded = task.expand_input.value
            if not isinstance(expanded, dict) or "target" in expanded:
                continue  # the target is known in the download
            arguments = {**task.partial_kwargs, **expanded}
        if _comes_from(arguments.get("kling_task_id"), operator):
            yield task, arguments


def _comes_from(value: Any, operator: BaseOperator) -> bool:
    if isinstance(value, str):
        return bool(re.search(rf"['\"]{re.escape(operator.task_id)}['\"]", value))
    references = getattr(value, "iter_references", None)
    return references is not None and any(task.task_id == operator.task_id for task, _ in references())
