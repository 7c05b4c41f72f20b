"""Checks the targets of the downloads after a submit, where they are known, before a video is bought."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.errors import KlingError, Money
from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.models.inputs import plain_value
from airflow_provider_kling.operators.download import KlingDownloadOperator
from airflow_provider_kling.storage.allowed_paths import is_local

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_kling.operators.video_download import VideoDownload

#: Seconds for which other submits of the run respect the claim on a target. It is short: when the wait
#: fails, it is not given back. A video that is there already is found by its sidecar.
_CLAIM_SECONDS = 900
#: What a template can only know in the download itself.
_OF_THE_TASK = re.compile(r"\b(ti|task|task_instance|task_instance_key_str|map_index\w*|xcom\w*)\b")


@contextmanager
def claim_downstream_targets(operator: BaseOperator, context: Context) -> Iterator[None]:
    """Raise what would keep the video from the target of a download, and claim a target that is a file.

    Where nothing is bought in the block, the claims are given back.

    :param operator: the submit.
    :raises KlingInputError: what must be changed before a video is bought.
    """
    claimed: list[VideoDownload] = []
    try:
        for download in _known_downloads(operator, context):
            download.check_before_submit("", time.time() + _CLAIM_SECONDS)
            claimed.append(download)
        yield
    except KlingError as error:
        if error.money is Money.UNTOUCHED:
            for download in claimed:
                download.release("")
        raise


def _known_downloads(operator: BaseOperator, context: Context) -> Iterator[VideoDownload]:
    """Yield what each download will do whose arguments are known in the submit."""
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
        options = DownloadOptions.of({**arguments, "target": target})
        owner = SimpleNamespace(
            dag_id=ti.dag_id, run_id=ti.run_id, task_id=task.task_id, map_index=ti.map_index
        )
        yield VideoDownload(KlingHook(conn_id), options, owner, operator.log)


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
    tasks: Iterable[Any] = operator.get_flat_relatives(upstream=False) if operator.has_dag() else ()
    for task in tasks:
        mapped = hasattr(task, "partial_kwargs")
        kind = task.operator_class if mapped else type(task)
        if not (isinstance(kind, type) and issubclass(kind, KlingDownloadOperator)):
            continue
        arguments = vars(task)
        if mapped:
            expanded = task.expand_input.value
            if not isinstance(expanded, dict) or set(expanded) != {"kling_task_id"}:
                continue  # what is mapped is known in the download
            arguments = {**task.partial_kwargs, **expanded}
        if _comes_from(arguments.get("kling_task_id"), operator):
            yield task, arguments


def _comes_from(value: Any, operator: BaseOperator) -> bool:
    if isinstance(value, str):
        return bool(re.search(rf"['\"]{re.escape(operator.task_id)}['\"]", value))
    references = getattr(value, "iter_references", None)
    return references is not None and any(task.task_id == operator.task_id for task, _ in references())
