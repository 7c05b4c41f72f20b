"""The control paths: what a test in another process asks and sets. No key is needed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.emulator.jobs import Job
from airflow_provider_kling.emulator.messages import Call, Json, Reply, error_reply, json_reply

if TYPE_CHECKING:
    from airflow_provider_kling.emulator.gateway import Gateway

MOST_TOLD = 1000


def answer(gateway: Gateway, call: Call) -> Reply:
    """Answer a call to a control path."""
    word = call.path.removeprefix("/_emulator/")
    try:
        match call.method, word:
            case "GET", "jobs":
                return json_reply([tell_job(gateway, job) for job in gateway.jobs[-_limit(call) :]])
            case "GET", "requests":
                return json_reply([asdict(request) for request in gateway.requests[-_limit(call) :]])
            case "GET", "summary":
                return json_reply(_summary(gateway))
            case ("GET" | "POST" | "DELETE"), "faults":
                return json_reply(_faults(gateway, call))
            case "POST", "clock":
                gateway.advance(float(_body(call)["advance"]))
                return json_reply({"now": gateway.now()})
            case "POST", "timing":
                gateway.set_timing(**_body(call))
                return json_reply({"queue": gateway.queue_seconds, "render": gateway.render_seconds})
    except (ValueError, TypeError, KeyError) as wrong:
        return error_reply("INVALID_REQUEST_BODY", f"{type(wrong).__name__}: {wrong}")
    return error_reply("API_NOT_FOUND")


def tell_job(gateway: Gateway, job: Job) -> Json:
    """Tell what is known of a job, its fate included."""
    age, state = gateway.now() - job.created_at, gateway.state(job)
    told = {"task": {"status": state.phase, "reason": ""}, "videos": []}
    told["task"] |= {"eta": state.eta, "progress_percent": state.progress}
    for fate in gateway.faults.bind(job):
        if fate.applies(age, state.phase):
            fate.edit(told)
    kept = ("number", "task_id", "model", "created_at", "prompt", "fingerprint", "unknown_fields")
    return {
        **{name: getattr(job, name) for name in kept},
        "status": told["task"]["status"],
        "pictures": [asdict(picture) for picture in job.pictures],
        "faults": [fault.text for fault in job.faults],
    }


def _summary(gateway: Gateway) -> Json:
    return {
        "jobs": len(gateway.book),
        "requests": len(gateway.log),
        "double_payments": gateway.double_payments,
        "key_reached_storage": gateway.key_reached_storage,
    }


def _faults(gateway: Gateway, call: Call) -> list[str]:
    if call.method == "DELETE":
        gateway.clear_faults()
    elif call.method == "POST":
        wanted = _body(call)["faults"]
        gateway.add_fault(*([wanted] if isinstance(wanted, str) else wanted))
    return [fault.text for fault in gateway.faults.waiting]


def _limit(call: Call) -> int:
    return max(1, int(call.query.get("limit", MOST_TOLD)))


def _body(call: Call) -> dict[str, Any]:
    body = json.loads(call.body)
    if not isinstance(body, dict):
        raise TypeError("the body is not a JSON object")
    return body
