"""The dialect of MyRouter, Novita AI, PPIO and JieKou: its paths, its JSON, and what its errors mean.

Pure functions: a :class:`Call` is a plain value; a client sends it and gives the reply to the call's reader.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import quote

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import (
    MAX_VIDEOS,
    MAX_WORD,
    REFUSED_UNREAD,
    Call,
    JSONObject,
    Outcome,
    Reply,
    Task,
    Video,
    ids_beyond,
    read_task_id,
    read_video,
    refusal,
    remembering,
    undocumented_query_refusal,
)
from airflow_provider_kling.models import names
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.myrouter import DEFAULT_MODEL, MODELS
from airflow_provider_kling.redaction import MASK
from airflow_provider_kling.values import as_list, as_object, read_number

name = "MyRouter"
hosts = {"myrouter": "https://api.myrouter.ai"}
domain = ".myrouter.ai"
default_model = DEFAULT_MODEL
resolve_model = names.on_myrouter
picture_form: Literal["data_uri", "base64"] = "data_uri"
jobs_per_query = 1
query_jobs = find = list_tasks = None


def key_problem(key: str, login: str) -> str:  # noqa: ARG001 - of the protocol
    """Return an empty text: any key may be right."""
    return ""


def submit(job: VideoJob, client_id: str = "") -> Call[str]:
    """Return the call that starts *job* and yields its task id. It is paid for: send it once."""
    assert not client_id, "the gateway takes none"

    def read(reply: Reply) -> str:
        task_id = _new_task_id(reply)
        if task_id and reply.ok and not reply.redactor.finds_secret(task_id):
            return task_id
        raise _refusal_of_submit(reply)

    path = f"/v3/async/{quote(job.model, safe='')}"
    return Call("POST", path, read, body=job.inputs, starts_job=True)


def query(kling_task_id: str) -> Call[Task]:
    """Return the call that asks for the state of a job and yields its :class:`Task`.

    It may be sent again and again.
    """

    @remembering
    def read(reply: Reply) -> Task:
        if not reply.ok or reply.cut_off:
            raise _refusal_of_query(reply, kling_task_id)
        return _read_task(reply, kling_task_id)

    params = {"task_id": kling_task_id}
    return Call("GET", _QUERY_PATH, read, params=params, kling_task_id=kling_task_id)


def probe() -> Call[None]:
    """Return the call that asks for a job that cannot exist. No error: the gateway accepts the key."""
    kling_task_id = str(uuid.uuid4())

    def read(reply: Reply) -> None:
        reason, _ = _reason_and_message(reply)
        describes_task = "task" in reply.json or _find_task(reply.json)
        accepted = reason == "TASK_NOT_FOUND" or (reply.ok and describes_task and not reason)
        if not accepted or _names_other_job(reply, kling_task_id):
            raise _refusal_of_probe(reply, kling_task_id)

    return Call("GET", _QUERY_PATH, read, params={"task_id": kling_task_id})


_QUERY_PATH = "/v3/async/task-result"


# --- whose answer it is

#: Objects in which a gateway may wrap its answer.
_RESULTS = ("result", "output", "task_result")
_ANSWERS = ("task", "data", *_RESULTS)
_WRAPPERS = (*_ANSWERS, "error", "metadata")
_ID_NAMES = ("task_id", "taskId", "taskID")


def _objects(data: JSONObject, wrappers: tuple[str, ...] = _WRAPPERS) -> Iterator[tuple[str, JSONObject]]:
    """Yield the answer's object and those that it wraps, with the names under which they stand."""
    yield "", data
    level = [data]
    for _ in range(3):
        inner = [
            (name, value[name])
            for value in level
            for name in wrappers
            if isinstance(value.get(name), JSONObject)
        ]
        yield from inner
        level = [value for _, value in inner]


def _id_names(object_name: str) -> tuple[str, ...]:
    return (*_ID_NAMES, "id") if object_name == "task" else _ID_NAMES


def _named_ids(reply: Reply) -> list[Any]:
    """Return all task ids in an answer, in any of its objects; a value that is no id stays as it came.

    The request that an answer repeats may name other jobs: it is left out.
    """
    ids: list[Any] = []
    within: list[tuple[str, Any]] = [("", reply.json)]
    while within:
        name, value = within.pop()
        if isinstance(value, JSONObject):
            ids += [id_ for key, id_ in value.members if key in _id_names(name) and id_ not in (None, "")]
            within += [(key, member) for key, member in value.members if key != "request_info"]
        elif isinstance(value, list):
            within += [("", item) for item in value if isinstance(item, (JSONObject, list))]
    return ids


def _is_same_job(value: Any, kling_task_id: str) -> bool:
    named = read_task_id(value)
    if named is None:
        return False
    return named == kling_task_id or (bool(_UUID.fullmatch(named)) and named.lower() == kling_task_id.lower())


_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TASK_IN_MESSAGE = re.compile(rf"task[\s_-]?(?:id)?\W{{0,4}}({_UUID.pattern})", re.IGNORECASE)


def _names_other_job(reply: Reply, kling_task_id: str) -> bool:
    """Return whether an answer is about another job, as from a cache, or from a request before.

    An answer without an id counts as ours: an answer that is mixed up has its own id. To refuse one without
    an id would lose a paid video if the gateway left the field out. So would an internal id, such as one of a
    video, beside a task that names our job: only an id of the same form contradicts it there.
    """
    others = [value for value in _named_ids(reply) if not _is_same_job(value, kling_task_id)]
    task, _ = _find_task(reply.json) or ({}, "")
    if _UUID.fullmatch(kling_task_id) and any(
        _is_same_job(task.get(key), kling_task_id) for key in _ID_NAMES
    ):
        others = [value for value in others if isinstance(value, (dict, list)) or _UUID.search(str(value))]
    if others:
        return True
    _, message = _reason_and_message(reply)
    named = _TASK_IN_MESSAGE.findall(message)
    return bool(named) and not any(_is_same_job(value, kling_task_id) for value in named)


def _new_task_id(reply: Reply) -> str | None:
    """Return the id in the answer to a submit, if it is in its place and no other id is in the answer."""
    ids = {read_task_id(value) for value in _named_ids(reply)}
    in_place = any(key in value for name, value in _objects(reply.json) for key in _id_names(name))
    return ids.pop() if len(ids) == 1 and in_place else None


# --- what a task looks like

KNOWN_STATUSES = frozenset(
    f"TASK_STATUS_{word}" for word in ("QUEUED", "PROCESSING", "SUCCEED", "FAILED", "UNKNOWN", "CANCELED")
)
_SUCCESS_WORDS = frozenset({"SUCCEED", "SUCCEEDED", "SUCCESS"})
_TIMINGS = ("submit_time_ms", "execute_time_ms", "complete_time_ms")


def outcome_of(status: str) -> Outcome:
    """Return what a status word means.

    An unknown word means "not finished", unless it speaks of failing or cancelling.
    """
    word = status.strip().upper()
    if word.removeprefix("TASK_STATUS_") in _SUCCESS_WORDS:
        return Outcome.SUCCEEDED
    if "CANCEL" in word:
        return Outcome.CANCELLED
    return Outcome.FAILED if "FAIL" in word else Outcome.UNFINISHED


def _read_task(reply: Reply, kling_task_id: str) -> Task:
    found = _find_task(reply.json)
    ambiguous = any(value.contradicts_itself for _, value in _objects(reply.json))
    if found is None or ambiguous or _names_other_job(reply, kling_task_id):
        raise _refusal_of_query(reply, kling_task_id)
    task, status = found
    outcome = outcome_of(status)
    known = status in KNOWN_STATUSES
    debug = as_object(as_object(reply.json.get("extra")).get("debug_info"))
    timings = {key: read_number(debug.get(key)) for key in _TIMINGS}
    videos = tuple(_videos(reply)) if outcome is Outcome.SUCCEEDED else ()
    reason = task.get("reason") or task.get("task_status_msg") or ""
    return Task(
        kling_task_id=kling_task_id,
        status=status if known else reply.shown(status, MAX_WORD),
        outcome=outcome,
        status_known=known,
        reason=reply.shown(reason, 2000) if reason else "",
        progress_percent=read_number(task.get("progress_percent")),
        eta=read_number(task.get("eta")),
        videos=videos,
        timings={key: value for key, value in timings.items() if value is not None},
        model=_MODELS.get(_letters(task.get("task_type"))),
        answer=reply.shown(_body(reply), 1000) if outcome is Outcome.SUCCEEDED and not videos else "",
    )


def _letters(model: Any) -> str:
    """Return a model's name without its separators, for comparisons."""
    return re.sub(r"[\W_]", "", str(model)).lower() if isinstance(model, str) else ""


#: Our models by the letters of their names: a task's type is often such a name.
_MODELS = {_letters(slug): slug for slug in MODELS}


def _find_task(data: JSONObject) -> tuple[dict[str, Any], str] | None:
    """Return the object that describes the task, and its status; None where two statuses disagree.

    It is called ``task`` or holds a task id; ``task`` goes first. Any other object may have a status of its
    own, such as "ok".
    """
    found = [
        (name, value, status.strip())
        for name, value in _objects(data)
        if name == "task" or any(key in value for key in _ID_NAMES)
        for status in (value.get("status"), value.get("task_status"))
        if isinstance(status, str)
    ]
    if not found:
        return None
    _, task, status = min(found, key=lambda one: one[0] != "task")
    outcomes = {outcome_of(word) for _, _, word in found if _means_something(word)}
    return (task, status) if outcomes <= {outcome_of(status)} else None


def _means_something(status: str) -> bool:
    word = f"TASK_STATUS_{status.upper().removeprefix('TASK_STATUS_')}"
    return word in KNOWN_STATUSES or outcome_of(word) is not Outcome.UNFINISHED


def _videos(reply: Reply) -> Iterator[Video]:
    """Yield the videos of the result. ``video`` is also the name of an input, which an answer may repeat."""
    objects = [*_objects(reply.json, _ANSWERS)]
    key = "videos" if any("videos" in value for _, value in objects) else "video"
    for name, value in objects:
        given = as_list(value.get(key))[:MAX_VIDEOS]
        if key == "video" and name not in _RESULTS:
            given = [video for video in given if not isinstance(video, str)]
        if videos := [video for each in given if (video := _read_video(reply, each))]:
            yield from videos
            return


def _read_video(reply: Reply, value: Any) -> Video | None:
    video = {"video_url": value} if isinstance(value, str) else as_object(value)
    link = next((video[key] for key in ("video_url", "url") if isinstance(video.get(key), str)), None)
    return read_video(reply, link, video.get("video_url_ttl"), video.get("video_type"))


# --- what a refusal means

_BY_REASON: dict[str, type[KlingError]] = {
    "MISSING_API_KEY": KlingAccessError,
    "FAILED_TO_AUTH": KlingAccessError,
    "INVALID_API_KEY": KlingAccessError,
    "API_NOT_ALLOWED": KlingAccessError,
    "FEATURE_NOT_ALLOWED": KlingAccessError,
    "NEED_REAL_NAME_VERIFY": KlingAccessError,
    "ACCESS_DENY": KlingAccessError,
    "BILLING_AUTH_FAILED": KlingAccessError,
    "BILLING_BALANCE_NOT_ENOUGH": KlingBalanceError,
    "NOT_ENOUGH_BALANCE": KlingBalanceError,
    "ILLEGAL_PROMPT": KlingModerationError,
    "ILLEGAL_IMAGE_CONTENT": KlingModerationError,
    "INVALID_REQUEST_BODY": KlingInputError,
    "IMAGE_FILE_EXCEEDS_MAX_SIZE": KlingInputError,
    "INVALID_IMAGE_FORMAT": KlingInputError,
    "IMAGE_EXCEEDS_MAX_RESOLUTION": KlingInputError,
    "INVALID_IMAGE_SIZE": KlingInputError,
    "API_NOT_FOUND": KlingInputError,
    "RATE_LIMIT_EXCEEDED": KlingUnavailableError,
    "BILLING_FAILED": KlingUnavailableError,
    "CREATE_TASK_FAILED": KlingUnavailableError,
}
_BY_QUERY_REASON: dict[str, type[KlingError]] = {
    "TASK_FAILED": KlingJobFailedError,
    "TASK_NOT_FOUND": KlingTaskNotFoundError,
    "GET_RESULT_FAILED": KlingUnavailableError,
}
_BY_SUBMIT_STATUS = {**REFUSED_UNREAD, 429: KlingUnavailableError}


def _refusal_of_submit(reply: Reply) -> KlingError:
    """Return what a reply without a task id means: final, safe to repeat, or uncertain.

    Only a documented refusal says that no job was started, and the few statuses that refuse the HTTP message
    itself. Anything else may come from a proxy that has passed the request on.
    """
    reason, message = _reason_and_message(reply)
    kind = _BY_REASON.get(reason) or _BY_SUBMIT_STATUS.get(reply.status)
    ids = _named_ids(reply)
    if kind and not ids:
        return refusal(kind, f"The gateway answered {_describe(reply, message)}.", reply, reason)
    said = _describe(reply, "")
    what = f"The gateway answered {said}.{ids_beyond(reply, said, ids, _UUID)}"
    return refusal(KlingSubmitUncertainError, what, reply, reason)


def _refusal_of_query(reply: Reply, kling_task_id: str) -> KlingError:
    """Return what a reply without a task means.

    Only the gateway's own final words end a wait, and only those about this job: proxies answer nonsense
    for a while, with any status. Where a key is refused without a documented reason, the error's ``reason``
    is None.
    """
    reason, message = _reason_and_message(reply)
    if _names_other_job(reply, kling_task_id):
        kind: type[KlingError] = KlingUnavailableError
        what = f"The gateway answered for another job than {kling_task_id}: {_describe(reply, message)}."
    else:
        what = f"The gateway answered for job {kling_task_id} {_describe(reply, message)}."
        documented = _BY_REASON.get(reason) or _BY_QUERY_REASON.get(reason)
        kind = documented or undocumented_query_refusal(reply, reason)
        reason = "" if kind is KlingAccessError and not documented else reason
    return refusal(kind, what, reply, reason, kling_task_id=kling_task_id)


def _refusal_of_probe(reply: Reply, kling_task_id: str) -> KlingError:
    reason, message = _reason_and_message(reply)
    kind = _BY_REASON.get(reason) or undocumented_query_refusal(reply, reason)
    if _names_other_job(reply, kling_task_id):
        kind = KlingUnavailableError
    what = f"The gateway answered {_describe(reply, message)}."
    return refusal(kind, what, reply, reason, money=Money.UNTOUCHED)


_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,79}")


def _reason_and_message(reply: Reply) -> tuple[str, str]:
    """Return the machine-readable reason and the message of an error, or empty texts."""
    reason, message = (_error_object(reply).get(name) for name in ("reason", "message"))
    reason = reason.strip() if isinstance(reason, str) else ""
    return (
        reason if _REASON.fullmatch(reason) and not reply.redactor.finds_secret(reason) else "",
        message if isinstance(message, str) and message.strip() else "",
    )


def _error_object(reply: Reply) -> dict[str, Any]:
    return {**reply.json, **as_object(reply.json.get("error"))}


def _describe(reply: Reply, message: str) -> str:
    """Return the answer in words; without a message of the gateway, with its body."""
    if message:
        return reply.describe(str(_error_object(reply).get("reason") or ""), message, 2000)
    return reply.describe(_reason_and_message(reply)[0], _body(reply))


def _body(reply: Reply) -> str:
    """Return the body without what may hold the prompt, or the body's beginning where that is cut off."""
    text = reply.text[:_MAX_SHOWN] if reply.has_very_many_members else reply.text
    parts: list[str] = []
    at = 0
    while found := _REQUEST_INFO.search(text, at):
        parts += text[at : found.end()], f'"{MASK}"'
        try:
            _, at = _JSON.raw_decode(text, found.end())
        except (ValueError, RecursionError):
            at = len(text)
    return "".join((*parts, text[at:]))


_REQUEST_INFO = re.compile(r'"request_info"\s*:\s*')
_JSON = json.JSONDecoder()
#: Characters of an answer that are looked at, where it has very many members.
_MAX_SHOWN = 64 * 1024
