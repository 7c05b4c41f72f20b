"""The storage host: videos behind signed links."""

from __future__ import annotations

import re

from airflow_provider_kling.emulator.jobs import Digest
from airflow_provider_kling.emulator.messages import Call, Reply
from airflow_provider_kling.emulator.myrouter.errors import error_reply
from airflow_provider_kling.emulator.state import Exchange, GatewayState

PATH = re.compile(r"/videos/([\w-]+)\.mp4")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def answer(gateway: GatewayState, exchange: Exchange) -> Reply:
    """Answer a call to the storage host."""
    call = exchange.call
    found = PATH.fullmatch(call.path)
    if found is None:
        return _refuse(404, "NoSuchKey")
    if call.method not in ("GET", "HEAD"):
        return _refuse(405, "MethodNotAllowed")
    task_id = found.group(1)
    problem = gateway.links.problem(task_id, call.query, gateway.now())
    if problem:
        return _refuse(403, problem)
    job = gateway.job_store.find(task_id)
    exchange.jobs = (job,) if job else ()
    fault = gateway.take_fault(exchange, "download")
    video = None if job is None else await gateway.render_queue.video(task_id)
    reply = _refuse(404, "NoSuchKey") if video is None else serve(video, call)
    return reply if fault is None else fault.apply_to_reply(reply, error_reply)


def _refuse(status: int, problem: str) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{problem}</Code></Error>'
    return Reply(status, {"Content-Type": "application/xml"}, body.encode())


def serve(video: bytes, call: Call) -> Reply:
    """Return a video, or the requested range of it."""
    etag = f'"{Digest.of(video).sha256[:32]}"'
    headers = {"Content-Type": "video/mp4", "Accept-Ranges": "bytes", "ETag": etag}
    if call.header("If-None-Match") == etag:
        return Reply(304, headers)
    wanted = RANGE.fullmatch(call.header("Range"))
    if wanted is None or not any(wanted.groups()) or call.header("If-Range") not in ("", etag):
        return Reply(200, headers, video)
    first, last = _bounds(wanted.group(1), wanted.group(2), len(video))
    if first > last:
        return Reply(416, headers | {"Content-Range": f"bytes */{len(video)}"})
    content_range = {"Content-Range": f"bytes {first}-{last}/{len(video)}"}
    return Reply(206, headers | content_range, video[first : last + 1])


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size - 1 if int(last) else -1
    return int(first), min(int(last), size - 1) if last else size - 1
