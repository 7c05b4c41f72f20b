"""How a task finds the request of its job, and the tasks that buy, in the XComs of its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.hooks import KlingHook, suppress_and_log
from airflow_provider_kling.operators.request_arguments import RequestOperator
from airflow_provider_kling.xcom_keys import BILL_KEY, PREVIEW_KEY, REQUEST_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator

    from airflow_provider_kling.gateways.base import Task
    from airflow_provider_kling.models.bill import Bill


def task_instance_key(ti: Any) -> dict[str, Any]:
    """Return which task instance of its run pushes an XCom."""
    return {"task_id": ti.task_id, "map_index": ti.map_index}


def is_submit(task: Any) -> bool:
    """Return whether a task, mapped or not, buys videos."""
    return issubclass(_class_of(task), RequestOperator)


def is_ours(task: Any) -> bool:
    """Return whether a task, mapped or not, is of this provider; it may know what a job has cost."""
    from airflow_provider_kling.operators.base import KlingBaseOperator

    return issubclass(_class_of(task), KlingBaseOperator)


def task_ids_of_dag(operator: BaseOperator, which: Callable[[Any], bool]) -> list[str]:
    """Return the ids of those tasks of the operator's Dag, its own among them."""
    tasks = operator.dag.tasks if operator.has_dag() else [operator]
    return sorted(task.task_id for task in tasks if which(task))


def _class_of(task: Any) -> type:
    return getattr(task, "operator_class", type(task))


def bill_facts(hook: KlingHook, task: Task) -> dict[str, Any]:
    """Return what the gateway says that a job has cost, for results and sidecars."""
    from airflow_provider_kling.models.bill import NO_BILL

    bill = task.bill(hook.settings.unit_price_usd)
    return bill.facts() if bill else dict(NO_BILL)


def show_bill(hook: KlingHook, ti: Any, task: Task, log: Any) -> None:
    """Push what the gateway says that a job has cost, if it says something."""
    with suppress_and_log(log, "What the job has cost could not be stored"):
        if bill := task.bill(hook.settings.unit_price_usd):
            log.info("Job %s cost %s.", task.kling_task_id, bill.describe())
            ti.xcom_push(key=BILL_KEY, value={**bill.to_dict(), **task_instance_key(ti)})


def own_bill(ti: Any) -> Bill | None:
    """Return the bill that this try of the task has pushed."""
    from airflow_provider_kling.models.bill import Bill

    pushed = ti.xcom_pull(task_ids=[ti.task_id], key=BILL_KEY, map_indexes=ti.map_index) or [None]
    return Bill.from_dict(pushed[0])


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
