"""The API host: submit and query."""

from __future__ import annotations

import json
from dataclasses import replace

from airflow_provider_kling.emulator.faults import Fault
from airflow_provider_kling.emulator.jobs import (
    MAX_STORED_PROMPT,
    Job,
    JobFault,
    Phase,
    fingerprint,
    prompt_of,
)
from airflow_provider_kling.emulator.messages import Json, Reply, Transfer, error_reply, json_reply
from airflow_provider_kling.emulator.myrouter.models import Model
from airflow_provider_kling.emulator.pictures import RefusedError, digest
from airflow_provider_kling.emulator.render_request import RenderRequest
from airflow_provider_kling.emulator.state import Exchange, GatewayState
from airflow_provider_kling.emulator.myrouter.validation import check_body, check_pictures, pictures_in, unknown_fields

SUBMIT = "/v3/async/"
QUERY = "/v3/async/task-result"


async def answer(gateway: GatewayState, exchange: Exchange) -> Reply:
    """Answer a call to the API host."""
    call = exchange.call
    wanted = "GET" if call.path == QUERY else "POST"
    if not call.path.startswith(SUBMIT) or call.method != wanted:
        return error_reply("API_NOT_FOUND")
    refusal = _check_key(gateway.settings.api_key, call.header("Authorization"))
    if refusal is not None:
        return refusal
    return query(gateway, exchange) if call.path == QUERY else await submit(gateway, exchange)


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


async def submit(gateway: GatewayState, exchange: Exchange) -> Reply:
    """Create a job. A fault may prevent this, or lose the answer."""
    slug = exchange.call.path.removeprefix(SUBMIT)
    model = gateway.models.get(slug)
    if model is None:
        return error_reply("API_NOT_FOUND", f"there is no model {slug}")
    body = _read(exchange)
    early = gateway.take_fault(exchange, "submit")
    if early is not None and not early.late:
        failure = await _apply_early_fault(gateway, exchange, early)
        if failure is not None:
            return failure
    try:
        exchange.job = await _create_job(gateway, slug, model, body)
    except RefusedError as refused:
        return error_reply(refused.reason, str(refused))
    reply = json_reply({"task_id": exchange.job.task_id})
    late = early or gateway.take_fault(exchange, "submit", late=True)
    if late is None:
        return reply
    reply = late.apply_to_reply(reply)
    return reply if late.late else replace(reply, transfer=replace(reply.transfer, delay=0.0))


def _read(exchange: Exchange) -> Json | None:
    try:
        body = json.loads(exchange.call.body, parse_constant=_refuse_constant)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    exchange.prompt = prompt_of(body)
    return body


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


async def _apply_early_fault(gateway: GatewayState, exchange: Exchange, fault: Fault) -> Reply | None:
    """Apply a fault before the job is created. Return None if the submit continues."""
    transfer = fault.effect.transfer
    if fault.effect.reply is not None or transfer.cut:
        return fault.apply_to_reply(Reply())
    await gateway.pause(transfer.delay)
    return Reply(transfer=Transfer(cut=True)) if exchange.call.disconnected() else None


async def _create_job(gateway: GatewayState, slug: str, model: Model, body: Json | None) -> Job:
    if body is None:
        raise RefusedError("the body is not a JSON object")
    check_body(model, body)
    texts = list(pictures_in(model, body))
    pictures = await check_pictures(iter(texts))
    job = gateway.job_store.create(
        model=slug,
        created_at=gateway.now(),
        queue_seconds=gateway.queue_seconds,
        render_seconds=gateway.render_seconds,
        fingerprint=fingerprint(slug, body),
        prompt=prompt_of(body)[:MAX_STORED_PROMPT],
        pictures=tuple(map(digest, texts)),
        unknown_fields=unknown_fields(model, body) if model.fields else (),
    )
    gateway.faults.attach(job)
    gateway.render_queue.begin(job.task_id, RenderRequest.of(model, body, pictures))
    return job


def query(gateway: GatewayState, exchange: Exchange) -> Reply:
    """Return the state of a job."""
    task_id = exchange.call.query.get("task_id", "")
    if not task_id:
        return error_reply("INVALID_REQUEST_BODY", "task_id is required")
    job = exchange.job = gateway.job_store.find(task_id)
    job_faults = () if job is None else gateway.faults.attach(job)
    passing = gateway.take_fault(exchange, "query")
    faults = [*(applicable(gateway, job, job_faults) if job else ()), *([passing] if passing else [])]
    exchange.fault = faults[-1] if faults else None
    if job is None:
        reply = error_reply("TASK_NOT_FOUND", f"there is no task {task_id}")
    else:
        answer = describe(gateway, job)
        for fault in faults:
            fault.edit(answer)
        reply = json_reply(answer)
    for fault in faults:
        reply = fault.apply_to_reply(reply)
    return reply


def applicable(gateway: GatewayState, job: Job, job_faults: tuple[JobFault, ...]) -> list[JobFault]:
    """Return the faults that a job shows now."""
    age, phase = gateway.now() - job.created_at, gateway.state(job).phase
    return [fault for fault in job_faults if fault.applies(age, phase)]


def describe(gateway: GatewayState, job: Job) -> Json:
    """Describe a job as the service does."""
    state = gateway.state(job)
    done = state.phase == Phase.SUCCEED
    task = {
        "task_id": job.task_id,
        "task_type": job.model.upper().replace("-", "_"),
        "status": state.phase,
        "reason": gateway.render_queue.failure(job.task_id) if state.phase == Phase.FAILED else "",
        "eta": state.eta,
        "progress_percent": state.progress,
    }
    return {
        "task": task,
        "images": [],
        "videos": [_video(gateway, job)] if done else [],
        "audios": [],
        "extra": {"debug_info": _debug_info(job)} if done else {},
    }


def _video(gateway: GatewayState, job: Job) -> Json:
    return {
        "video_url": gateway.links.make(gateway.storage_url, job.task_id, gateway.now()),
        "video_url_ttl": str(int(gateway.links.seconds)),
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
