"""Checks the targets of the downloads after a submit, where they are known, before a video is bought."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.errors import KlingError, KlingSubmitUncertainError, Money
from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.models.inputs import plain_value
from airflow_provider_kling.operators.deferral import DEFAULT_TIMEOUT, WaitingOperator
from airflow_provider_kling.operators.download import KlingDownloadOperator
from airflow_provider_kling.operators.submit import CLAIM_MARGIN, KlingSubmitOperator
from airflow_provider_kling.storage.allowed_paths import is_local
from airflow_provider_kling.values import checked_seconds

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_kling.operators.video_download import VideoDownload

#: What a template can only know in the download itself.
_OF_THE_TASK = re.compile(r"\b(ti|task|task_instance|task_instance_key_str|map_index\w*|xcom\w*)\b")


@contextmanager
def claim_downstream_targets(operator: KlingSubmitOperator, context: Context) -> Iterator[None]:
    """Raise what would keep the video from the target of a download, and claim a target that is a file.

    Where nothing is bought in the block, the claims are given back. A person decides about an uncertain
    submit, and a rescue needs the target: then they are given back, too.

    :param operator: the submit.
    :raises KlingInputError: what must be changed before a video is bought.
    """
    claimed: list[VideoDownload] = []
    try:
        for download, wait_seconds in _known_downloads(operator, context):
            expires_at = time.time() + operator.busy_timeout + wait_seconds + CLAIM_MARGIN
            download.check_before_submit("", expires_at)
            claimed.append(download)
        yield
    except KlingError as error:
        if error.money is Money.UNTOUCHED or isinstance(error, KlingSubmitUncertainError):
            for download in claimed:
                download.release("")
        raise


def _known_downloads(
    operator: KlingSubmitOperator, context: Context
) -> Iterator[tuple[VideoDownload, float]]:
    """Yield what each download will do whose arguments are known in the submit, and the seconds before it."""
    from airflow_provider_kling.operators.target_words import fill_target
    from airflow_provider_kling.operators.video_download import DownloadOptions, VideoDownload

    ti = context["ti"]
    for task, arguments in _downloads(operator):
        target, conn_id = arguments.get("target"), arguments.get("kling_conn_id", KlingHook.default_conn_name)
        if any(_is_of_task(value, task, operator) for value in (target, conn_id)):
            continue
        target, conn_id = (
            operator.render_template(plain_value(value), context) for value in (target, conn_id)
        )
        if isinstance(target, str) and is_local(target) and task.queue != operator.queue:
            continue  # it means another worker's disk
        options = DownloadOptions.of({**arguments, "target": fill_target(target, operator, context)})
        owner = SimpleNamespace(
            dag_id=ti.dag_id, run_id=ti.run_id, task_id=task.task_id, map_index=ti.map_index
        )
        download = VideoDownload(KlingHook(conn_id), options, owner, operator.log)
        yield download, _longest_wait(operator, task)


def _longest_wait(operator: BaseOperator, download: Any) -> float:
    """Return the longest timeout, in seconds, of the sensors between a submit and a download."""
    before = download.get_flat_relative_ids(upstream=True)
    sensors = [
        arguments
        for task, kind, arguments in _downstream(operator)
        if issubclass(kind, WaitingOperator) and task.task_id in before
    ]
    timeouts = [arguments.get("timeout", DEFAULT_TIMEOUT) for arguments in sensors]
    return max((checked_seconds("timeout", timeout, 0) for timeout in timeouts), default=0.0)


def _is_of_task(value: Any, task: Any, operator: BaseOperator) -> bool:
    """Return whether only the task itself knows a value: another task's output, or a template of its own."""
    if not isinstance(value, str) or "{" not in value:
        return hasattr(value, "iter_references")
    own_params = _defaults(task) != _defaults(operator) and "params" in value
    return own_params or bool(_OF_THE_TASK.search(value))


def _defaults(task: Any) -> dict[str, Any]:
    return {name: param.value for name, param in task.params.items()}


def _downloads(operator: BaseOperator) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Yield task and arguments of each download that takes its task id from *operator*."""
    for task, kind, arguments in _downstream(operator):
        if not issubclass(kind, KlingDownloadOperator):
            continue
        expanded = task.expand_input.value if hasattr(task, "expand_input") else {}
        if not isinstance(expanded, dict) or set(expanded) - {"kling_task_id"}:
            continue  # what is mapped is known in the download
        known = {**arguments, **expanded}
        if _comes_from(known.get("kling_task_id"), operator):
            yield task, known


def _downstream(operator: BaseOperator) -> Iterator[tuple[Any, type, Mapping[str, Any]]]:
    """Yield each task after *operator*, its class, and its arguments that are not mapped."""
    tasks: Iterable[Any] = operator.get_flat_relatives(upstream=False) if operator.has_dag() else ()
    for task in tasks:
        if not hasattr(task, "partial_kwargs"):
            yield task, type(task), vars(task)
        elif isinstance(task.operator_class, type):
            yield task, task.operator_class, task.partial_kwargs


def _comes_from(value: Any, operator: BaseOperator) -> bool:
    if isinstance(value, str):
        return bool(re.search(rf"['\"]{re.escape(operator.task_id)}['\"]", value))
    references = getattr(value, "iter_references", None)
    return references is not None and any(task.task_id == operator.task_id for task, _ in references())
