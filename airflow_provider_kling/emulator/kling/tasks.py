"""Jobs as Kling describes them, in both designs, and the query and the list of the new one."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

from airflow_provider_kling.emulator.jobs import CANCELED, Job, Phase
from airflow_provider_kling.emulator.kling.errors import error_reply, success
from airflow_provider_kling.emulator.kling.prices import USD_PER_UNIT, written
from airflow_provider_kling.emulator.messages import Json, Reply
from airflow_provider_kling.emulator.state import Exchange, GatewayState
from airflow_provider_kling.emulator.views import View

MAX_IDS = 20
MAX_PAGE = 500
LISTED = timedelta(days=30)
STATUS = {
    Phase.QUEUED: "submitted",
    Phase.PROCESSING: "processing",
    Phase.SUCCEED: "succeeded",
    Phase.FAILED: "failed",
    CANCELED: "failed",
}


def is_kling(job: Job | None) -> bool:
    """Return whether a job was created through one of Kling's designs."""
    return job is not None and job.dialect != "myrouter"


def accepted(job: Job) -> Reply:
    """Answer a submit in the new design."""
    at = _ms(job.created_at)
    known = {"id": job.task_id, "status": "submitted", "create_time": at, "update_time": at}
    return success(known | _external_id(job))


def describe(gateway: GatewayState, view: View) -> Json:
    """Describe a job in the new design: what a query and a callback have."""
    job = view.job
    task = {
        "id": job.task_id,
        "status": STATUS.get(view.status, view.status),
        "message": view.reason,
        "create_time": _ms(job.created_at),
        "update_time": _ms(changed_at(gateway, view)),
    } | _external_id(job)
    if view.has_video:
        duration = view.numbers(duration=f"{job.seconds}.041")
        video = {"type": "video", "id": _video_id(job), "url": _link(gateway, job), "watermark_url": ""}
        task["outputs"] = [video | duration]
    if view.status == Phase.SUCCEED:
        task["billing"] = [_billing(gateway, view)]
    return task


def describe_legacy(gateway: GatewayState, view: View) -> Json:
    """Describe a job in the legacy design."""
    job, status = view.job, STATUS.get(view.status, view.status)
    task = {
        "task_id": job.task_id,
        "task_status": "succeed" if status == "succeeded" else status,
        "task_status_msg": view.reason,
        "task_info": {"external_task_id": job.client_id},
        "created_at": _ms(job.created_at),
        "updated_at": _ms(changed_at(gateway, view)),
    }
    if view.has_video:
        duration = view.numbers(duration=f"{job.seconds}.041")
        video = {"id": _video_id(job), "url": _link(gateway, job), "watermark_url": ""}
        task["task_result"] = {"videos": [video | duration]}
    if view.status == Phase.SUCCEED:
        task["final_unit_deduction"] = written(job.units)
    return task


def query(gateway: GatewayState, exchange: Exchange) -> Reply:
    """Return the states of the jobs that are asked for; the others are missing. They come in any order."""
    wanted = exchange.call.query
    if ("task_ids" in wanted) == ("external_task_ids" in wanted):
        return error_reply("1201", "exactly one of task_ids and external_task_ids is required")
    find = gateway.job_store.find if "task_ids" in wanted else gateway.job_store.find_by_client_id
    ids = [
        id_.strip() for id_ in (wanted.get("task_ids") or wanted.get("external_task_ids") or "").split(",")
    ]
    if not any(ids) or len(ids) > MAX_IDS:
        return error_reply("1201", f"1 to {MAX_IDS} ids are required")
    found = {job.task_id: job for id_ in ids if (job := find(id_)) is not None and is_kling(job)}
    return _answer(gateway, exchange, [*found.values()], lambda tasks: tasks)


def _answer(gateway: GatewayState, exchange: Exchange, jobs: list[Job], shape: Any) -> Reply:
    views, faults = gateway.views(exchange, jobs)
    tasks = [describe(gateway, view) for view in views]
    gateway.random.shuffle(tasks)
    answer = success(shape(tasks))
    for fault in faults:
        answer = fault.apply_to_reply(answer, error_reply)
    return answer


def list_tasks(gateway: GatewayState, exchange: Exchange) -> Reply:
    """Return one page of the account's jobs, the newest page first."""
    try:
        body = json.loads(exchange.call.body or b"{}")
        asked = _read_cursor(body["cursor"]) if body.get("cursor") else _read_list(gateway, body)
        limit = int(body.get("limit", 100))
    except (ValueError, TypeError, AttributeError, KeyError):
        return error_reply("1201")
    if not 1 <= limit <= MAX_PAGE:
        return error_reply("1201", f"limit must be 1 to {MAX_PAGE}")
    matching = [job for job in reversed(gateway.jobs) if is_kling(job) and _matches(gateway, job, asked)]
    page, more = matching[:limit], len(matching) > limit
    following = {**asked, "before": page[-1].number} if more else None

    def shape(tasks: list[Json]) -> Json:
        about = {"count": len(tasks), "has_more": more, "next_cursor": _cursor(following) if more else ""}
        return {"result": tasks, **about} if tasks else about

    return _answer(gateway, exchange, page, shape)


def _read_list(gateway: GatewayState, body: Json) -> Json:
    """Read the filters of a list. Times are numbers or strings: the documents show both."""
    now = _ms(gateway.now())
    asked: Json = {
        "from": int(body.get("start_time", now - _ms(LISTED.total_seconds()))),
        "to": int(body.get("end_time", now)),
    }
    for entry in body.get("filters") or []:
        if entry["key"] not in ("status", "product_type"):
            raise ValueError(entry["key"])
        asked[entry["key"]] = list(entry["values"])
    return asked


def _matches(gateway: GatewayState, job: Job, asked: Json) -> bool:
    status = asked.get("status")
    return (
        job.number < asked.get("before", job.number + 1)
        and asked["from"] <= _ms(job.created_at) <= asked["to"]
        and "video" in asked.get("product_type", ["video"])
        and (status is None or STATUS.get(gateway.view(job).status) in status)
    )


def _cursor(asked: Json | None) -> str:
    return base64.urlsafe_b64encode(json.dumps(asked).encode()).decode()


def _read_cursor(text: str) -> Json:
    asked = json.loads(base64.urlsafe_b64decode(text))
    return {**asked, "before": int(asked["before"])}


def changed_at(gateway: GatewayState, view: View) -> float:
    """Return when the status that is shown began."""
    job = view.job
    started = job.created_at + job.queue_seconds
    if view.ended:
        return min(gateway.now(), started + job.render_seconds)
    return started if view.status == Phase.PROCESSING else job.created_at


def _billing(gateway: GatewayState, view: View) -> Json:
    units = view.job.units
    if not gateway.settings.cash:
        amount = view.numbers(amount=written(units))
        return {"charge_type": "unit", "package_type": "video", **amount}
    price = written(units * USD_PER_UNIT)
    paid = view.numbers(amount=price, list_price=price)
    return {"charge_type": "cash", "cash_type": "balance", "currency": "USD", **paid}


def _external_id(job: Job) -> Json:
    return {"external_id": job.client_id} if job.client_id else {}


def _video_id(job: Job) -> str:
    return str(int(job.task_id) + 1_000_000_000)


def _link(gateway: GatewayState, job: Job) -> str:
    return gateway.links.make(gateway.storage_url, job.task_id, gateway.now())


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
