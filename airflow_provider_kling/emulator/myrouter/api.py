"""MyRouter's paths: submit and query."""

from __future__ import annotations

import json
import uuid
from functools import partial

from airflow_provider_kling.emulator.jobs import Job, Phase
from airflow_provider_kling.emulator.messages import Json, Reply, json_reply
from airflow_provider_kling.emulator.myrouter.bodies import read_request
from airflow_provider_kling.emulator.myrouter.errors import error_reply
from airflow_provider_kling.emulator.myrouter.models import MODELS, Model
from airflow_provider_kling.emulator.state import Exchange, GatewayState
from airflow_provider_kling.emulator.submits import Endpoint, submit
from airflow_provider_kling.emulator.views import View

SUBMIT = "/v3/async/"
QUERY = "/v3/async/task-result"


async def answer(gateway: GatewayState, exchange: Exchange) -> Reply:
    """Answer a call to a path of MyRouter."""
    call = exchange.call
    wanted = "GET" if call.path == QUERY else "POST"
    if not call.path.startswith(SUBMIT) or call.method != wanted:
        return error_reply("API_NOT_FOUND")
    refusal = _check_key(gateway.settings.api_key, call.header("Authorization"))
    if refusal is not None:
        return refusal
    if call.path == QUERY:
        return query(gateway, exchange)
    slug = call.path.removeprefix(SUBMIT)
    model = MODELS.get(slug) or (Model({}) if slug in gateway.settings.models else None)
    if model is None:
        return error_reply("API_NOT_FOUND", f"there is no model {slug}")
    endpoint = Endpoint(
        error=error_reply,
        read=partial(read_request, slug, model),
        answer=lambda job: json_reply({"task_id": job.task_id}),
        new_id=lambda: str(uuid.uuid4()),
    )
    return await submit(gateway, exchange, endpoint)


def _check_key(api_key: str, authorization: str) -> Reply | None:
    """Check the key. Like the service, it also accepts a key without the word Bearer."""
    scheme, _, key = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        scheme, key = "", key.strip()
    elif not key:
        scheme, key = "", scheme
    if not key:
        return error_reply("MISSING_API_KEY")
    if scheme:
        return error_reply("FAILED_TO_AUTH")
    return None if key == api_key else error_reply("INVALID_API_KEY")


def query(gateway: GatewayState, exchange: Exchange) -> Reply:
    """Return the state of a job."""
    task_id = exchange.call.query.get("task_id", "")
    if not task_id:
        return error_reply("INVALID_REQUEST_BODY", "task_id is required")
    job = gateway.job_store.find(task_id)
    views, faults = gateway.views(exchange, [job] if job and job.dialect == "myrouter" else [])
    if views:
        answer = describe(gateway, views[0])
        for fault in faults:
            fault.edit(answer)
        reply = json_reply(answer)
    else:
        reply = error_reply("TASK_NOT_FOUND", f"there is no task {task_id}")
    for fault in faults:
        reply = fault.apply_to_reply(reply, error_reply)
    return reply


def describe(gateway: GatewayState, view: View) -> Json:
    """Describe a job as the service does."""
    job = view.job
    done = gateway.state(job).phase == Phase.SUCCEED
    task = {
        "task_id": job.task_id,
        "task_type": job.model.upper().replace("-", "_"),
        "status": view.status,
        "reason": view.reason,
        **view.numbers(eta=view.eta, progress_percent=view.progress),
    }
    return {
        "task": task,
        "images": [],
        "videos": [_video(gateway, view)] if view.has_video else [],
        "audios": [],
        "extra": {"debug_info": _debug_info(job)} if done else {},
    }


def _video(gateway: GatewayState, view: View) -> Json:
    return {
        "video_url": gateway.links.make(gateway.storage_url, view.job.task_id, gateway.now()),
        **view.numbers(video_url_ttl=view.ttl or str(int(gateway.links.seconds))),
        "video_type": "mp4",
    }


def _debug_info(job: Job) -> Json:
    started = job.created_at + job.queue_seconds
    return {
        "request_info": json.dumps({"model": job.model, "prompt": job.prompt}),
        "submit_time_ms": str(int(1000 * job.created_at)),
        "execute_time_ms": str(int(1000 * started)),
        "complete_time_ms": str(int(1000 * (started + job.render_seconds))),
    }
