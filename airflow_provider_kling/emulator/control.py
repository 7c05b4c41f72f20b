"""The control paths, for tests in another process. No key is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from airflow_provider_kling.emulator.jobs import Job
from airflow_provider_kling.emulator.messages import Call, Json, Reply, json_reply
from airflow_provider_kling.emulator.myrouter.errors import error_reply
from airflow_provider_kling.emulator.state import GatewayState

PREFIX = "/_emulator/"
MAX_ROWS = 1000


def answer(gateway: GatewayState, call: Call) -> Reply:
    """Answer a call to a control path."""
    handler = HANDLERS.get((call.method, call.path.removeprefix(PREFIX)))
    if handler is None:
        return error_reply("API_NOT_FOUND")
    try:
        return json_reply(handler(gateway, call))
    except (ValueError, TypeError, KeyError) as wrong:
        return error_reply("INVALID_REQUEST_BODY", f"{type(wrong).__name__}: {wrong}")


def describe_job(gateway: GatewayState, job: Job) -> Json:
    """Return the properties and the state of a job, and its faults."""
    names = "number task_id dialect model client_id created_at prompt fingerprint unknown_fields"
    return {
        **{name: getattr(job, name) for name in names.split()},
        "units": str(job.units),
        "status": gateway.view(job).status,
        "pictures": [asdict(picture) for picture in job.pictures],
        "faults": [fault.text for fault in job.faults],
    }


def _summary(gateway: GatewayState, _: Call) -> Json:
    return {
        "jobs": len(gateway.job_store),
        "requests": len(gateway.log),
        "double_payments": gateway.double_payments,
        "key_reached_storage": gateway.key_reached_storage,
    }


def _jobs(gateway: GatewayState, call: Call) -> list[Json]:
    return [describe_job(gateway, job) for job in gateway.jobs[-_limit(call) :]]


def _requests(gateway: GatewayState, call: Call) -> list[Json]:
    return [asdict(request) for request in gateway.requests[-_limit(call) :]]


def _faults(gateway: GatewayState, _: Call) -> list[str]:
    return [fault.text for fault in gateway.faults.pending]


def _add_faults(gateway: GatewayState, call: Call) -> list[str]:
    wanted = _body(call)["faults"]
    gateway.add_fault(*([wanted] if isinstance(wanted, str) else wanted))
    return _faults(gateway, call)


def _clear_faults(gateway: GatewayState, call: Call) -> list[str]:
    gateway.clear_faults()
    return _faults(gateway, call)


def _advance(gateway: GatewayState, call: Call) -> Json:
    gateway.advance(float(_body(call)["seconds"]))
    return {"now": gateway.now()}


def _set_timing(gateway: GatewayState, call: Call) -> Json:
    gateway.set_timing(**{name: float(value) for name, value in _body(call).items()})
    return {"queue_seconds": gateway.queue_seconds, "render_seconds": gateway.render_seconds}


def _limit(call: Call) -> int:
    return max(1, int(call.query.get("limit", MAX_ROWS)))


def _body(call: Call) -> dict[str, Any]:
    body = json.loads(call.body)
    if not isinstance(body, dict):
        raise TypeError("the body is not a JSON object")
    return body


HANDLERS: dict[tuple[str, str], Callable[[GatewayState, Call], object]] = {
    ("GET", "jobs"): _jobs,
    ("GET", "requests"): _requests,
    ("GET", "summary"): _summary,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_faults,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "advance"): _advance,
    ("POST", "timing"): _set_timing,
}
