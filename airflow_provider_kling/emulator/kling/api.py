"""Kling's paths: the new design, and the legacy one, also behind a proxy's prefix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from airflow_provider_kling.emulator.job_request import JobRequest
from airflow_provider_kling.emulator.jobs import Job
from airflow_provider_kling.emulator.kling import legacy, tasks
from airflow_provider_kling.emulator.kling.bodies import read_request
from airflow_provider_kling.emulator.kling.callbacks import watch
from airflow_provider_kling.emulator.kling.errors import error_reply
from airflow_provider_kling.emulator.kling.models import MODELS, UNCHECKED
from airflow_provider_kling.emulator.messages import Json, RefusedError, Reply
from airflow_provider_kling.emulator.state import Exchange, GatewayState
from airflow_provider_kling.emulator.submits import Endpoint, submit

PROXY = "/proxy/kling"
TASKS = "/tasks"
OPERATIONS = ("/text-to-video/", "/image-to-video/", "/omni-video/", "/motion-control/")


def has(path: str) -> bool:
    """Return whether a path is one of Kling's."""
    path = path.removeprefix(PROXY)
    return path == TASKS or path.startswith((*OPERATIONS, legacy.PREFIX))


async def answer(gateway: GatewayState, exchange: Exchange) -> Reply:
    """Answer a call to a path of Kling."""
    call = exchange.call
    refusal = _check_key(gateway.settings.api_key, call.header("Authorization"))
    if refusal is not None:
        return refusal
    path = call.path.removeprefix(PROXY)
    if path == TASKS:
        handler = {"GET": tasks.query, "POST": tasks.list_tasks}.get(call.method)
        return handler(gateway, exchange) if handler else error_reply("1202")
    if path.startswith(legacy.PREFIX):
        return await _answer_legacy(gateway, exchange, path.removeprefix(legacy.PREFIX))
    if call.method != "POST":
        return error_reply("1202")
    name = path.removeprefix("/")
    model = MODELS.get(name) or (UNCHECKED if name in gateway.settings.models else None)
    if model is None:
        return error_reply("1203", f"there is no model {name}")
    read = partial(read_request, name, model, strict=gateway.settings.strict)
    return await submit(gateway, exchange, _endpoint(gateway, read, tasks.accepted, max_megabytes=50))


async def _answer_legacy(gateway: GatewayState, exchange: Exchange, rest: str) -> Reply:
    product, _, wanted = rest.partition("/")
    method = exchange.call.method
    if product not in legacy.OPERATIONS:
        return error_reply("1203")
    if method == "GET":
        if wanted:
            return legacy.query(gateway, exchange, product, wanted)
        return legacy.list_tasks(gateway, exchange, product)
    if method != "POST" or wanted:
        return error_reply("1202")
    read = partial(legacy.read_request, product)
    return await submit(gateway, exchange, _endpoint(gateway, read, legacy.accepted, max_megabytes=10))


def _endpoint(
    gateway: GatewayState,
    read: Callable[[Json], JobRequest],
    accepted: Callable[[Job], Reply],
    *,
    max_megabytes: int,
) -> Endpoint:
    def admit(request: JobRequest) -> None:
        if request.client_id and gateway.job_store.find_by_client_id(request.client_id):
            raise RefusedError(f"external_task_id {request.client_id} already exists")
        gateway.slots.check(gateway, request.model)

    def created(job: Job) -> None:
        gateway.slots.take(job)
        watch(gateway, job)

    return Endpoint(
        error=error_reply,
        read=read,
        answer=accepted,
        # Two ids that follow each other are equal as floating-point numbers.
        new_id=lambda: str(gateway.first_id + gateway.job_store.next_number),
        admit=admit,
        created=created,
        max_megabytes=max_megabytes,
    )


def _check_key(api_key: str, authorization: str) -> Reply | None:
    scheme, _, key = authorization.strip().partition(" ")
    if not authorization.strip():
        return error_reply("1001")
    if scheme.lower() != "bearer" or not key.strip():
        return error_reply("1000")
    if key.strip() == api_key:
        return None
    return error_reply("1002", "this type of key is not supported here" if key.count(".") == 2 else "")
