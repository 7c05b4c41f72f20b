"""How a task finds the request of its job, and the tasks that buy, in the XComs of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.operators.request_arguments import RequestOperator
from airflow_provider_kling.xcom_keys import PREVIEW_KEY, REQUEST_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator


def task_instance_key(ti: Any) -> dict[str, Any]:
    """Return which task instance of its run pushes an XCom."""
    return {"task_id": ti.task_id, "map_index": ti.map_index}


def is_submit(task: Any) -> bool:
    """Return whether a task, mapped or not, buys videos."""
    return issubclass(getattr(task, "operator_class", type(task)), RequestOperator)


def submit_task_ids(operator: BaseOperator) -> list[str]:
    """Return the ids of all tasks of the operator's Dag that buy, its own among them."""
    tasks = operator.dag.tasks if operator.has_dag() else [operator]
    return sorted(task.task_id for task in tasks if is_submit(task))


def own_task_id(ti: Any) -> str:
    """Return the id of the job that this try of the task has bought; empty if none is known."""
    try:
        pushed = ti.xcom_pull(task_ids=[ti.task_id], key=REQUEST_KEY, map_indexes=ti.map_index) or [{}]
        return "" if pushed[0].get("reused") else str(pushed[0].get("kling_task_id") or "")
    except Exception:  # noqa: BLE001 - whatever an XCom backend raises
        return ""


def find_request(operator: BaseOperator, ti: Any, kling_task_id: str) -> dict[str, Any]:
    """Return what *operator*, or a submit upstream of it, has pushed about the job; empty without any.

    The own map index comes first, then the tasks that are not mapped.
    """
    tasks = [operator, *operator.get_flat_relatives(upstream=True)]
    submits = sorted(task.task_id for task in tasks if is_submit(task))
    for map_index in dict.fromkeys((ti.map_index, -1)) if submits else ():
        for request in ti.xcom_pull(task_ids=submits, key=REQUEST_KEY, map_indexes=map_index) or []:
            if isinstance(request, dict) and request.get("kling_task_id") == kling_task_id:
                return request
    return {}


def find_source(ti: Any, request: Mapping[str, Any]) -> str | None:
    """Return the small picture of the source that the submit of a request has pushed, if it has."""
    from airflow_provider_kling.media.preview import checked_preview

    task_id, map_index = request.get("task_id"), request.get("map_index")
    found = ti.xcom_pull(task_ids=[task_id], key=PREVIEW_KEY, map_indexes=map_index) if task_id else None
    pushed = [value for value in found or [] if isinstance(value, dict)]
    same = (value for value in pushed if value.get("kling_task_id") == request.get("kling_task_id"))
    return checked_preview(next(same, {}).get("source"))
