"""Kling's legacy design: the paths of text and image to video, in front of the same jobs."""

from __future__ import annotations

from airflow_provider_kling.emulator.fields import Field, check_value
from airflow_provider_kling.emulator.job_request import JobRequest
from airflow_provider_kling.emulator.jobs import Job, prompt_of
from airflow_provider_kling.emulator.kling.bodies import check_picture, read_options
from airflow_provider_kling.emulator.kling.errors import error_reply, success
from airflow_provider_kling.emulator.kling.prices import units
from airflow_provider_kling.emulator.kling.tasks import describe_legacy, is_kling
from airflow_provider_kling.emulator.messages import Json, RefusedError, Reply
from airflow_provider_kling.emulator.render_request import RenderRequest
from airflow_provider_kling.emulator.state import Exchange, GatewayState

PREFIX = "/v1/videos/"
OPERATIONS = {"image2video": "image-to-video", "text2video": "text-to-video"}
MODELS = {"kling-v3": "kling-3.0", "kling-v2-6": "kling-2.6", "kling-v2-5-turbo": "kling-2.5-turbo"}
RETIRED = (
    *("kling-v1", "kling-v1-5", "kling-v1-6"),
    *("kling-v2-master", "kling-v2-1", "kling-v2-1-master"),
)
RESOLUTION_OF_MODE = {"std": "720p", "pro": "1080p", "4k": "4k"}
TEXT = Field("text", maximum=2500)
FIELDS = {
    "model_name": Field("text"),
    "prompt": TEXT,
    "negative_prompt": TEXT,
    "sound": Field("text", choices=("on", "off")),
    "mode": Field("text", choices=tuple(RESOLUTION_OF_MODE)),
    "duration": Field("text", choices=tuple(map(str, range(3, 16)))),
    "aspect_ratio": Field("text", choices=("16:9", "9:16", "1:1")),
    "cfg_scale": Field("number", minimum=0, maximum=1),
    "multi_shot": Field("boolean"),
    "shot_type": Field("text", choices=("customize", "intelligence")),
    "multi_prompt": Field("list"),
    "element_list": Field("list", maximum=3),
    "voice_list": Field("list", maximum=2),
    "callback_url": Field("url"),
    "external_task_id": Field("text"),
}
PICTURES = ("image", "image_tail")


def read_request(product: str, body: Json) -> JobRequest:
    """Return what a body asks for."""
    for name, field in FIELDS.items():
        if body.get(name) is not None:
            check_value(name, field, body[name])
    pictures = [name for name in PICTURES if body.get(name)] if product == "image2video" else []
    for name in pictures:
        check_picture(name, body[name])
    if product == "image2video" and not pictures:
        raise RefusedError("at least one of image and image_tail is required")
    if product == "text2video" and not body.get("prompt") and not body.get("multi_prompt"):
        raise RefusedError("prompt is required")
    named = body.get("model_name") or "kling-v1"
    if named not in MODELS and named not in RETIRED:
        raise RefusedError(f"model_name: there is no model {named}")
    model, sound = MODELS.get(named, named), body.get("sound") == "on"
    seconds, resolution = int(body.get("duration") or 5), RESOLUTION_OF_MODE[body.get("mode") or "std"]
    if model == "kling-2.6" and sound and resolution == "720p":
        raise RefusedError("sound needs the mode pro")
    client_id, callback_url = read_options(body)
    return JobRequest(
        dialect="kling-legacy",
        model=f"{OPERATIONS[product]}/{model}",
        body={k: v for k, v in body.items() if k not in ("external_task_id", "callback_url")},
        pictures=tuple(body[name] for name in pictures),
        render=RenderRequest(
            has_last="image_tail" in pictures and len(pictures) > 1,
            prompt=prompt_of(body),
            seconds=seconds,
            aspect_ratio=body.get("aspect_ratio") or "16:9",
            sound=sound,
        ),
        unknown_fields=tuple(sorted(set(body) - set(FIELDS) - set(PICTURES))),
        client_id=client_id,
        callback_url=callback_url,
        units=units(model, "sound" if sound else "silent", resolution, seconds),
    )


def accepted(job: Job) -> Reply:
    """Answer a submit."""
    at, info = int(1000 * job.created_at), {"external_task_id": job.client_id}
    known = {"task_id": job.task_id, "task_status": "submitted", "task_info": info}
    return success({**known, "created_at": at, "updated_at": at})


def query(gateway: GatewayState, exchange: Exchange, product: str, wanted: str) -> Reply:
    """Return the state of a job by its id or the client's own."""
    job = gateway.job_store.find(wanted) or gateway.job_store.find_by_client_id(wanted)
    views, faults = gateway.views(exchange, [job] if job and _is_of(job, product) else [])
    reply = (
        success(describe_legacy(gateway, views[0]))
        if views
        else error_reply("1201", "Task not found by id/external id")
    )
    for fault in faults:
        reply = fault.apply_to_reply(reply, error_reply)
    return reply


def list_tasks(gateway: GatewayState, exchange: Exchange, product: str) -> Reply:
    """Return one page of a product's jobs, the newest first."""
    try:
        page, size = (
            int(exchange.call.query.get(*known)) for known in (("pageNum", "1"), ("pageSize", "30"))
        )
    except ValueError:
        return error_reply("1201")
    if not (1 <= page <= 1000 and 1 <= size <= 500):
        return error_reply("1201", "pageNum must be 1 to 1000, pageSize 1 to 500")
    jobs = [job for job in reversed(gateway.jobs) if _is_of(job, product)]
    views, _ = gateway.views(exchange, jobs[(page - 1) * size : page * size])
    return success([describe_legacy(gateway, view) for view in views])


def _is_of(job: Job, product: str) -> bool:
    return is_kling(job) and job.model.startswith(OPERATIONS[product] + "/")
