"""What the tasks of a Dag tell each other about the jobs that they have asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kling.operators.request_arguments import RequestOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator

#: XCom key of what was asked for: model, inputs, pictures by source and hash, estimated cost.
REQUEST_KEY = "kling_request"
#: XCom key of the video that was brought home: its job, and where it is.
VIDEO_KEY = "kling_video"
#: XCom key of the failure that ended a task.
ERROR_KEY = "kling_error"


def task_instance_key(ti: Any) -> dict[str, Any]:
    """Return which task of its run tells something, to tell it with it."""
    return {"task_id": ti.task_id, "map_index": ti.map_index}


def is_submit(task: Any) -> bool:
    """Return whether a task, mapped or not, buys videos."""
    return issubclass(getattr(task, "operator_class", type(task)), RequestOperator)


def submit_task_ids(operator: BaseOperator) -> list[str]:
    """Return the ids of all tasks of the operator's Dag that buy, its own among them."""
    tasks = operator.dag.tasks if operator.has_dag() else [operator]
    return sorted(task.task_id for task in tasks if is_submit(task))


def find_request(operator: BaseOperator, ti: Any, kling_task_id: str) -> dict[str, Any]:
    """Return what *operator*, or a submit upstream of it, pushed about the job, if any did."""
    tasks = [operator, *operator.get_flat_relatives(upstream=True)]
    submits = sorted(task.task_id for task in tasks if is_submit(task))
    for map_index in {ti.map_index, -1} if submits else ():
        for request in ti.xcom_pull(task_ids=submits, key=REQUEST_KEY, map_indexes=map_index) or []:
            if isinstance(request, dict) and request.get("kling_task_id") == kling_task_id:
                return request
    return {}
