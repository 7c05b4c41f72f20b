"""A submit, in any dialect. A fault may prevent it, or lose its answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from airflow_provider_kling.emulator.faults import Fault
from airflow_provider_kling.emulator.job_request import JobRequest
from airflow_provider_kling.emulator.jobs import MAX_STORED_PROMPT, Job, fingerprint, prompt_of
from airflow_provider_kling.emulator.messages import ErrorForm, Json, RefusedError, Reply, Transfer
from airflow_provider_kling.emulator.pictures import check_pictures, digest
from airflow_provider_kling.emulator.state import Exchange, GatewayState


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """How one path reads a submit and answers it."""

    error: ErrorForm
    read: Callable[[Json], JobRequest]  # raises RefusedError
    answer: Callable[[Job], Reply]
    new_id: Callable[[], str]
    admit: Callable[[JobRequest], None] = lambda _: None  # raises RefusedError where no job may be created
    created: Callable[[Job], None] = lambda _: None
    max_megabytes: int = 10  # of a picture


async def submit(gateway: GatewayState, exchange: Exchange, endpoint: Endpoint) -> Reply:
    """Create a job. A fault may prevent this, or lose the answer."""
    body = _read(exchange)
    early = gateway.take_fault(exchange, "submit")
    if early is not None and not early.late:
        failure = await _apply_early_fault(gateway, exchange, early, endpoint.error)
        if failure is not None:
            return failure
    try:
        job = await _create_job(gateway, endpoint, body)
    except RefusedError as refused:
        return endpoint.error(refused.reason, str(refused))
    exchange.jobs = (job,)
    reply = endpoint.answer(job)
    late = early or gateway.take_fault(exchange, "submit", late=True)
    if late is None:
        return reply
    if late.effect.hidden_seconds:
        Fault.parse(f"job:invisible={late.effect.hidden_seconds}").apply_to_job(job)
    reply = late.apply_to_reply(reply, endpoint.error)
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


async def _apply_early_fault(
    gateway: GatewayState, exchange: Exchange, fault: Fault, error: ErrorForm
) -> Reply | None:
    """Apply a fault before the job is created. Return None if the submit continues."""
    transfer = fault.effect.transfer
    if fault.effect.answer is not None or transfer.cut:
        return fault.apply_to_reply(Reply(), error)
    await gateway.pause(transfer.delay)
    return Reply(transfer=Transfer(cut=True)) if exchange.call.disconnected() else None


async def _create_job(gateway: GatewayState, endpoint: Endpoint, body: Json | None) -> Job:
    if body is None:
        raise RefusedError("the body is not a JSON object")
    request = endpoint.read(body)
    pictures = await check_pictures(request.pictures, endpoint.max_megabytes)
    endpoint.admit(request)
    job = gateway.job_store.create(
        task_id=endpoint.new_id(),
        dialect=request.dialect,
        model=request.model,
        client_id=request.client_id,
        callback_url=request.callback_url,
        seconds=request.render.seconds,
        units=request.units,
        created_at=gateway.now(),
        queue_seconds=gateway.queue_seconds,
        render_seconds=gateway.render_seconds,
        fingerprint=fingerprint(request.model, request.body),
        prompt=request.render.prompt[:MAX_STORED_PROMPT],
        pictures=tuple(map(digest, request.pictures)),
        unknown_fields=request.unknown_fields,
    )
    gateway.faults.attach(job)
    endpoint.created(job)
    gateway.render_queue.begin(job.task_id, request.render.of(pictures))
    return job
