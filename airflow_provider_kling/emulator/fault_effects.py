"""The effects of faults, by the words that docs/emulator.md lists."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_kling.emulator.jobs import Phase
from airflow_provider_kling.emulator.messages import (
    NORMAL_TRANSFER,
    Json,
    Reply,
    Transfer,
    error_reply,
    json_reply,
)

Edit = Callable[[Json], None]
TO_STORAGE = "storage:"  # a redirect to the storage host; the server fills in its address

PROXY_PAGE = (
    "<html><head><title>{0} Bad Gateway</title></head>"
    "<body><center><h1>{0} Bad Gateway</h1></center><hr><center>nginx</center></body></html>"
)
MODERATION = "The content was rejected by moderation: it may contain sensitive information"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The effect of a fault: it replaces the answer, edits it, or disturbs its transfer."""

    reply: Reply | None = None
    edit: Edit | None = None
    transfer: Transfer = NORMAL_TRANSFER
    phase: Phase | None = None  # applies only in this phase of the job
    until_age: float = math.inf  # applies only to younger jobs; in seconds
    queue_seconds: float | None = None
    render_seconds: float | None = None

    def and_then(self, other: Effect) -> Effect:
        """Return both effects together. If both set a field, the value of *other* is used."""
        plain = Effect()
        chosen: dict[str, Any] = {
            f.name: getattr(self if getattr(other, f.name) == getattr(plain, f.name) else other, f.name)
            for f in fields(Effect)
        }
        return Effect(**chosen)


def _error(value: str) -> Effect:
    """Read `error=REASON` or, for an unusual status, `error=REASON/418`."""
    reason, _, status = value.partition("/")
    return Effect(reply=error_reply(reason, status=int(status) if status else None))


def _nested(reason: str) -> Effect:
    """Put the error below `error`, without metadata, as some paths of the service do."""
    plain = error_reply(reason)
    inner = json.loads(plain.body)
    del inner["metadata"]
    return Effect(reply=json_reply({"error": inner}, plain.status))


def _status(value: str) -> Effect:
    return Effect(reply=error_reply("UNKNOWN", "internal error", int(value)))


def _html(value: str) -> Effect:
    status = int(value or 502)
    return Effect(reply=Reply(status, {"Content-Type": "text/html"}, PROXY_PAGE.format(status).encode()))


def _rate_limit(retry_after: str) -> Effect:
    reply = error_reply("RATE_LIMIT_EXCEEDED")
    headers = {**reply.headers, **({"Retry-After": retry_after} if retry_after else {})}
    return Effect(reply=Reply(reply.status, headers, reply.body))


def _malformed(_: str) -> Effect:
    return Effect(reply=Reply(200, {"Content-Type": "application/json"}, b'{"task_id": "0b1c'))


def _redirect(value: str) -> Effect:
    """Read `redirect=URL` or `redirect=302/URL`; no URL means the storage host."""
    found = value.split("/", 1) if value[:3].isdigit() else ["307", value]
    target = found[1] if len(found) > 1 and found[1] else TO_STORAGE
    return Effect(reply=Reply(int(found[0]), {"Location": target}))


def _dead(value: str) -> Effect:
    body = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>'
    return Effect(reply=Reply(int(value or 403), {"Content-Type": "application/xml"}, body))


def _not_video(_: str) -> Effect:
    page = b"<!doctype html><title>Please sign in</title><p>This is not a video."
    return Effect(reply=Reply(200, {"Content-Type": "text/html"}, page))


def _ends(status: str, reason: str) -> Effect:
    def edit(answer: Json) -> None:
        answer["task"] |= {"status": status, "reason": reason}
        answer["videos"] = []

    return Effect(edit=edit, phase=Phase.SUCCEED)


def _fail(value: str) -> Effect:
    reason = MODERATION if value == "moderation" else value or "The model could not generate the video"
    return _ends(Phase.FAILED, reason)


def _says(value: str) -> Effect:
    def edit(answer: Json) -> None:
        answer["task"]["status"] = value
        answer["videos"] = []

    return Effect(edit=edit)


def _empty(_: str) -> Effect:
    return Effect(edit=lambda answer: answer.update(videos=[]), phase=Phase.SUCCEED)


def _stuck(_: str) -> Effect:
    def edit(answer: Json) -> None:
        answer["task"] |= {"status": Phase.PROCESSING, "progress_percent": 99, "eta": 0}
        answer["videos"] = []

    return Effect(edit=edit, phase=Phase.SUCCEED)


def _ttl(value: str) -> Effect:
    def edit(answer: Json) -> None:
        for video in answer["videos"]:
            video["video_url_ttl"] = value or "0"

    return Effect(edit=edit)


_FORMS: dict[str, Callable[[Any], Any]] = {"float": float, "text": str, "blank": lambda _: ""}


def _numbers(form: str) -> Effect:
    """Write the numbers as `float`, `text` or `blank` (empty text), or omit them (`missing`)."""
    if form != "missing" and form not in _FORMS:
        raise ValueError(f"numbers={form}: must be one of {', '.join(_FORMS)}, missing")

    def edit(answer: Json) -> None:
        numbers = [(answer["task"], "progress_percent"), (answer["task"], "eta")]
        numbers += [(video, "video_url_ttl") for video in answer["videos"]]
        for parent, key in numbers:
            number = parent.pop(key)
            if form in _FORMS:
                parent[key] = _FORMS[form](number)

    return Effect(edit=edit)


def _invisible(value: str) -> Effect:
    return Effect(reply=error_reply("TASK_NOT_FOUND"), until_age=float(value))


def _transfer(**faults: Any) -> Effect:
    return Effect(transfer=Transfer(**faults))


EFFECTS: dict[str, Callable[[str], Effect]] = {
    # any call
    "error": _error,
    "nested": _nested,
    "status": _status,
    "html": _html,
    "rate-limit": _rate_limit,
    "malformed": _malformed,
    "redirect": _redirect,
    "hang": lambda value: _transfer(delay=float(value or 30)),
    "cut": lambda _: _transfer(cut=True),
    # answers to queries: one answer (query:) or all answers for a job (job:)
    "fail": _fail,
    "cancel": lambda _: _ends("TASK_STATUS_CANCELED", ""),
    "says": _says,
    "empty": _empty,
    "stuck": _stuck,
    "ttl": _ttl,
    "numbers": _numbers,
    "invisible": _invisible,
    "queue": lambda value: Effect(queue_seconds=float(value)),
    "render": lambda value: Effect(render_seconds=float(value)),
    # downloads
    "dead": _dead,
    "truncate": lambda value: _transfer(cut=True, keep_bytes=int(value or 100)),
    "wrong-length": lambda value: _transfer(extra_length=int(value or 100)),
    "not-video": _not_video,
    "slow": lambda value: _transfer(seconds=float(value or 5)),
}
