"""The effects of faults, by the words that docs/emulator.md lists."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from airflow_provider_kling.emulator.jobs import CANCELED, Phase
from airflow_provider_kling.emulator.messages import (
    NORMAL_TRANSFER,
    ErrorForm,
    Json,
    Reply,
    Transfer,
    json_reply,
)
from airflow_provider_kling.emulator.views import NUMBER_FORMS, View

Answer = Callable[[ErrorForm], Reply]  # given how the dialect writes an error
TO_STORAGE = "storage:"  # a redirect to the storage host; the server fills in its address

PROXY_PAGE = (
    "<html><head><title>{0} Bad Gateway</title></head>"
    "<body><center><h1>{0} Bad Gateway</h1></center><hr><center>nginx</center></body></html>"
)
MODERATION = "The content was rejected by moderation: it may contain sensitive information"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The effect of a fault: it replaces the answer, edits it, or disturbs its transfer."""

    answer: Answer | None = None
    change: Callable[[View], None] | None = None  # what the answer shows of a job
    edit: Callable[[Json], None] | None = None  # the finished answer; no word of a fault does this
    transfer: Transfer = NORMAL_TRANSFER
    phase: Phase | None = None  # applies only in this phase of the job
    until_age: float = math.inf  # applies only to younger jobs; in seconds
    queue_seconds: float | None = None
    render_seconds: float | None = None
    hidden_seconds: float = 0.0

    def and_then(self, other: Effect) -> Effect:
        """Return both effects together. If both set a field, the value of *other* is used."""
        plain = Effect()
        chosen: dict[str, Any] = {
            f.name: getattr(self if getattr(other, f.name) == getattr(plain, f.name) else other, f.name)
            for f in fields(Effect)
        }
        return Effect(**chosen)


def _error(value: str) -> Effect:
    """Read `error=REASON` or `code=NUMBER`, and for an unusual status `error=REASON/418`."""
    reason, _, status = value.partition("/")
    return Effect(answer=lambda error: error(reason, status=int(status) if status else None))


def _nested(reason: str) -> Effect:
    """Put the error below `error`, without metadata, as some paths of MyRouter do."""

    def answer(error: ErrorForm) -> Reply:
        plain = error(reason)
        inner = {name: value for name, value in json.loads(plain.body).items() if name != "metadata"}
        return json_reply({"error": inner}, plain.status)

    return Effect(answer=answer)


def _status(value: str) -> Effect:
    return Effect(answer=lambda error: error("UNKNOWN", "internal error", int(value)))


def _fixed(status: int, headers: dict[str, str], body: bytes = b"") -> Effect:
    return Effect(answer=lambda _: Reply(status, headers, body))


def _html(value: str) -> Effect:
    status = int(value or 502)
    return _fixed(status, {"Content-Type": "text/html"}, PROXY_PAGE.format(status).encode())


def _rate_limit(retry_after: str) -> Effect:
    def answer(error: ErrorForm) -> Reply:
        reply = error("RATE_LIMIT_EXCEEDED")
        return replace(
            reply, headers={**reply.headers, **({"Retry-After": retry_after} if retry_after else {})}
        )

    return Effect(answer=answer)


def _malformed(_: str) -> Effect:
    return _fixed(200, {"Content-Type": "application/json"}, b'{"task_id": "0b1c')


def _redirect(value: str) -> Effect:
    """Read `redirect=URL` or `redirect=302/URL`; no URL means the storage host."""
    found = value.split("/", 1) if value[:3].isdigit() else ["307", value]
    return _fixed(int(found[0]), {"Location": found[1] if len(found) > 1 and found[1] else TO_STORAGE})


def _dead(value: str) -> Effect:
    body = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>'
    return _fixed(int(value or 403), {"Content-Type": "application/xml"}, body)


def _not_video(_: str) -> Effect:
    page = b"<!doctype html><title>Please sign in</title><p>This is not a video."
    return _fixed(200, {"Content-Type": "text/html"}, page)


def _shows(phase: Phase | None = Phase.SUCCEED, **known: Any) -> Effect:
    """Show these values of a job in this phase, or in all."""

    def change(view: View) -> None:
        for name, value in known.items():
            setattr(view, name, value)

    return Effect(change=change, phase=phase)


def _ends(status: str, reason: str) -> Effect:
    return _shows(status=status, reason=reason, has_video=False)


def _fail(value: str) -> Effect:
    reason = MODERATION if value == "moderation" else value or "The model could not generate the video"
    return _ends(Phase.FAILED, reason)


def _stuck(_: str) -> Effect:
    return _shows(status=Phase.PROCESSING, progress=99, eta=0, has_video=False)


def _numbers(form: str) -> Effect:
    """Write the numbers as `float`, `text` or `blank` (empty text), or omit them (`missing`)."""
    if form not in NUMBER_FORMS:
        raise ValueError(f"numbers={form}: must be one of {', '.join(NUMBER_FORMS)}")
    return _shows(None, number_form=form)


def _invisible(value: str) -> Effect:
    return replace(_shows(None, hidden=True), until_age=float(value))


def _transfer(**faults: Any) -> Effect:
    return Effect(transfer=Transfer(**faults))


EFFECTS: dict[str, Callable[[str], Effect]] = {
    # any call
    "error": _error,
    "code": _error,
    "nested": _nested,
    "status": _status,
    "html": _html,
    "rate-limit": _rate_limit,
    "malformed": _malformed,
    "redirect": _redirect,
    "hang": lambda value: _transfer(delay=float(value or 30)),
    "cut": lambda _: _transfer(cut=True),
    "hidden": lambda value: Effect(hidden_seconds=float(value or 8)),  # only submits
    # answers to queries: one answer (query:) or all answers for a job (job:)
    "fail": _fail,
    "cancel": lambda _: _ends(CANCELED, ""),
    "says": lambda value: _shows(None, status=value, has_video=False),
    "empty": lambda _: _shows(has_video=False),
    "stuck": _stuck,
    "ttl": lambda value: _shows(None, ttl=value or "0"),
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
