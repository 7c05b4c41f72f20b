"""The dialect of Kling's own API: its paths, its JSON, and what its error codes mean.

Pure functions: a :class:`Call` is a plain value; a client sends it and gives the reply to the call's reader.
Of Kling's two designs this is the new one, in which the path names the model. Its query also finds jobs of
the legacy design, which look different.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import permutations
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingError,
    KlingInputError,
    KlingModerationError,
    KlingNoSlotError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
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
from airflow_provider_kling.models.bill import Billing, read_amount
from airflow_provider_kling.models.input_names import INPUTS
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.kling import HAS_MULTI_SHOT, LACKS, shots_as_text
from airflow_provider_kling.redaction import Redactor
from airflow_provider_kling.values import as_list, as_object, read_number

name = "Kling"
hosts = {"singapore": "https://api-singapore.klingai.com", "beijing": "https://api-beijing.klingai.com"}
domain = ".klingai.com"
default_model = "kling-3.0"
resolve_model = names.on_kling
picture_form: Literal["data_uri", "base64"] = "base64"
jobs_per_query = 20
_TASKS = "/tasks"


def key_problem(key: str, login: str) -> str:
    """Return what is wrong with a key: it is the legacy design's pair of keys, or a token of it. Or empty."""
    if not (login or "|" in key or re.fullmatch(r"eyJ[\w-]+\.[\w-]+\.[\w-]*", key)):
        return ""
    pair = "it holds an access key and a secret key, or a token that is made of them"
    return f"{pair}; create an API key in Kling's console, https://kling.ai/dev/api-key, and enter only that"


def submit(job: VideoJob, client_id: str = "") -> Call[str]:
    """Return the call that starts *job* and yields its task id. It is paid for: send it once.

    :param client_id: our own id of the job. A second submit with it starts nothing; its error is a
        :class:`KlingSubmitUncertainError` with the reason ``1201``, and :func:`find` finds the first job.
    """

    def read(reply: Reply) -> str:
        task_id = _new_task_id(reply, client_id)
        if task_id and not reply.redactor.finds_secret(task_id):
            return task_id
        raise _refusal_of_submit(reply, client_id)

    body = _body(job)
    if client_id:
        body = {**body, "options": {**body.get("options", {}), "external_task_id": client_id}}
    return Call("POST", f"/{quote(job.model)}", read, body=body, starts_job=True)


def query(kling_task_id: str) -> Call[Task]:
    """Return the call that asks for the state of a job and yields its :class:`Task`.

    It may be sent again and again.
    """

    @remembering
    def read(reply: Reply) -> Task:
        if task := _tasks(reply).get(kling_task_id):
            return task
        raise _refusal_of_query(reply, f" for job {kling_task_id}", kling_task_id)

    params = {"task_ids": kling_task_id}
    return Call("GET", _TASKS, read, params=params, kling_task_id=kling_task_id)


def query_jobs(kling_task_ids: Sequence[str]) -> Call[Mapping[str, Task]]:
    """Return the call that asks for the states of at most :data:`jobs_per_query` jobs.

    It yields a task for each job that the answer describes. Where one is missing, :func:`query` says why. If
    one of the ids cannot be a task id, Kling refuses the whole request.
    """

    def read(reply: Reply) -> Mapping[str, Task]:
        if not _is_answer(reply):
            raise _refusal_of_query(reply, "")
        tasks = _tasks(reply)
        return {task_id: tasks[task_id] for task_id in kling_task_ids if task_id in tasks}

    return Call("GET", _TASKS, read, params={"task_ids": ",".join(kling_task_ids)})


def find(client_id: str) -> Call[Task | None]:
    """Return the call that finds the job of a client id; it yields None where there is none."""

    def read(reply: Reply) -> Task | None:
        found = [task for task in _tasks(reply).values() if task.client_id == client_id]
        if len(found) == 1:
            return found[0]
        if _says_not_found(reply):
            return None
        raise _refusal_of_query(reply, f" for client id {client_id}")

    return Call("GET", _TASKS, read, params={"external_task_ids": client_id})


def list_tasks(since: float, cursor: str) -> Call[tuple[list[Task], str]]:
    """Return the call that lists the account's jobs, and yields them with the cursor of the next page.

    Kling's pages disagree whether times are numbers or texts. Where numbers are refused, the page is empty
    and its cursor asks for the first page anew.

    :param since: when the oldest one may have been created, in epoch seconds.
    :param cursor: empty for the first page.
    """
    start: int | str = round(since * 1000)
    start = str(start) if cursor == _TIMES_AS_TEXT else start
    first = cursor in ("", _TIMES_AS_TEXT)

    def read(reply: Reply) -> tuple[list[Task], str]:
        if not cursor and _code(reply) == _BAD_PARAMETER:
            return [], _TIMES_AS_TEXT
        if not _is_answer(reply, JSONObject):
            raise _refusal_of_query(reply, " for a list of jobs")
        data = as_object(reply.json["data"])
        more = data.get("next_cursor") if data.get("has_more") is not False else ""
        return [*_tasks(reply).values()], more if isinstance(more, str) and more != cursor else ""

    page = {"start_time": start} if first else {"cursor": cursor}
    return Call("POST", _TASKS, read, body={**page, "limit": _LONGEST_PAGE})


_TIMES_AS_TEXT = "times as text"
_LONGEST_PAGE = 500


def probe() -> Call[None]:
    """Return the call that asks for a job that cannot exist. No error: Kling accepts the key."""

    def read(reply: Reply) -> None:
        if not _says_not_found(reply):
            raise _refusal_of_query(reply, "")

    return Call("GET", _TASKS, read, params={"task_ids": "0"})


# --- the request


def _body(job: VideoJob) -> dict[str, Any]:
    """Return the JSON body of a job.

    :raises KlingInputError: Kling's own API has no such input, or ``extra_body`` has what is an input.
    """
    inputs = {key: value for key, value in job.inputs.items() if value is not None}
    extra = {key: value for key, value in inputs.items() if key not in INPUTS}
    _check_expressible(job.model, inputs)
    _check_extra(extra)
    prompt = shots_as_text(inputs["multi_prompt"]) if inputs.get("multi_prompt") else inputs.get("prompt")
    options = {"callback_url": inputs["callback_url"]} if "callback_url" in inputs else {}
    body = {
        **extra,
        "settings": {**_settings(job.model, inputs), **as_object(extra.get("settings"))},
        "options": {**options, **as_object(extra.get("options"))},
    }
    if job.model.startswith("text-to-video/"):
        body["prompt"] = prompt
    else:
        text = [] if prompt is None else [{"type": "prompt", "text": prompt}]
        materials = [*_materials(job.model, inputs)]
        _check_ids(materials)
        body["contents"] = [*text, *materials]
    return body


#: What ``extra_body`` may not have, because an argument says it: limits and estimates would not see it.
_SAID_BY_ARGUMENT = {
    "settings.resolution": "resolution",
    "settings.duration": "duration",
    "settings.aspect_ratio": "aspect_ratio",
    "settings.character_orientation": "character_orientation",
    "settings.audio": "sound or keep_original_sound",
    "settings.multi_shot": "multi_prompt",
    "options.callback_url": "callback_url",
    "prompt": "prompt",
    "contents": "image, end_image, images, video, element_list or voice_list",
}
#: The inputs that become material, which only `contents` holds.
_MATERIALS = ("image", "end_image", "images", "video", "element_list", "voice_list")


def _check_expressible(model: str, inputs: Mapping[str, Any]) -> None:
    """Check that no input would be left out, also with a model that the catalogue does not know."""
    lost = [f"{key}: {LACKS[key]}" for key in inputs if key in LACKS]
    if model.startswith("text-to-video/"):
        lost += [f"{key}: text-to-video takes none" for key in _MATERIALS if key in inputs]
    if lost:
        raise KlingInputError(f"{model} does not accept this request: {'; '.join(lost)}.")


def _check_extra(extra: Mapping[str, Any]) -> None:
    for key in ("settings", "options"):
        if not isinstance(extra.get(key, {}), Mapping):
            raise KlingInputError(f"extra_body: {key} must be an object.")
    given = {*extra, *(f"{key}.{inner}" for key, value in extra.items() for inner in as_object(value))}
    for key, argument in _SAID_BY_ARGUMENT.items():
        if key in given:
            raise KlingInputError(f"extra_body: {key} is not allowed there; give the argument {argument}.")
    if "options.external_task_id" in given:
        raise KlingInputError("extra_body: options.external_task_id is not allowed: the provider makes it.")


def _settings(model: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    same = ("resolution", "aspect_ratio", "duration", "character_orientation")
    settings = {key: inputs[key] for key in same if key in inputs}
    if inputs.get("keep_original_sound"):
        settings["audio"] = "original"
    elif "sound" in inputs or "keep_original_sound" in inputs:
        settings["audio"] = "native" if inputs.get("sound") else "off"
    if model in HAS_MULTI_SHOT:  # its default is true
        settings["multi_shot"] = bool(inputs.get("multi_prompt")) or inputs.get("refer_type") == "feature"
    if model.startswith("omni-video/") and not ({"image", "video", "aspect_ratio"} & set(inputs)):
        settings["aspect_ratio"] = "16:9"  # Kling needs it there
    return settings


def _materials(model: str, inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pictures, the video, the elements and the voices. The prompt may name them by their ids."""
    moves = model.startswith("motion-control/")
    for key, kind in (("image", "image" if moves else "first_frame"), ("end_image", "last_frame")):
        if key in inputs:
            yield {"type": kind, "url": _bare(inputs[key])}
    for number, picture in enumerate(as_list(inputs.get("images", [])), 1):
        yield {"type": "refer_image", "url": _bare(picture), "id": f"image_{number}"}
    if "video" in inputs and moves:
        yield {"type": "video", "url": inputs["video"]}
    elif "video" in inputs:
        kind = f"{inputs.get('refer_type', 'feature')}_video"
        yield {"type": kind, "url": inputs["video"], "id": "video_1"}
    for kind in ("element", "voice"):
        for number, given in enumerate(as_list(inputs.get(f"{kind}_list", [])), 1):
            yield _reference(kind, number, given)


def _reference(kind: str, number: int, given: Any) -> dict[str, Any]:
    """Return an element or a voice, which is given as its id, or as an object with a name for the prompt."""
    key = f"{kind}_id"
    facts = dict(given) if isinstance(given, Mapping) else {key: given}
    if not isinstance(facts.get(key), (str, int)) or facts[key] == "":
        raise KlingInputError(f"{kind}_list[{number - 1}]={given!r}: must be an id, or an object with {key}.")
    return {"id": f"{kind}_{number}", **facts, "type": kind, key: str(facts[key])}


def _check_ids(materials: Sequence[Mapping[str, Any]]) -> None:
    """Check that the prompt can name each one as ``@id``: Kling allows no id that is a part of another."""
    ids = [str(material["id"]) for material in materials if "id" in material]
    for one, other in permutations(ids, 2):
        if one in other:
            what = f"element_list, voice_list: the id {one!r} is a part of the id {other!r}"
            advice = "so Kling cannot tell which one the prompt names. Choose another id."
            raise KlingInputError(f"{what}, {advice}")


def _bare(picture: Any) -> Any:
    """Return a picture's data without the beginning of a data URI, which Kling refuses."""
    is_data = isinstance(picture, str) and picture.startswith("data:")
    return picture.partition(",")[2] if is_data else picture


# --- whose answer it is


def _code(reply: Reply) -> int | None:
    """Return the code of an answer, 0 of a good one; None of an answer that says none, or two."""
    code = str(reply.json.get("code"))
    return int(code) if re.fullmatch("[0-9]{1,9}", code) and not reply.json.contradicts_itself else None


def _is_answer(reply: Reply, kind: type | tuple[type, ...] = (list, JSONObject)) -> bool:
    """Return whether the answer to a query is a good one, with data of this kind: by default jobs."""
    good = reply.ok and not reply.cut_off and _code(reply) == 0
    return good and isinstance(reply.json.get("data"), kind)


def _says_not_found(reply: Reply) -> bool:
    return _is_answer(reply) and reply.json["data"] == []


_ID_NAMES = ("id", "task_id")


def _ids(value: Any) -> set[str | None]:
    """Return the ids of the job that an object describes, and None for what stands there and is no id."""
    members = value.members if isinstance(value, JSONObject) else ()
    return {read_task_id(id_) for key, id_ in members if key in _ID_NAMES and id_ not in (None, "")}


def _client_id(value: Mapping[str, Any]) -> str:
    client_id = value.get("external_id") or as_object(value.get("task_info")).get("external_task_id")
    return client_id if isinstance(client_id, str) else ""


def _new_task_id(reply: Reply, client_id: str) -> str | None:
    """Return the id in the answer to a submit, if nothing contradicts it."""
    data, ids = reply.json.get("data"), _ids(reply.json.get("data"))
    whole = reply.ok and _code(reply) == 0 and isinstance(data, JSONObject) and not data.contradicts_itself
    ours = not client_id or _client_id(as_object(data)) in ("", client_id)
    return ids.pop() if whole and ours and len(ids) == 1 else None


# --- what a task looks like

_OUTCOMES = {
    "submitted": Outcome.UNFINISHED,
    "processing": Outcome.UNFINISHED,
    "succeeded": Outcome.SUCCEEDED,
    "succeed": Outcome.SUCCEEDED,  # of the legacy design
    "failed": Outcome.FAILED,
}


def _tasks(reply: Reply) -> dict[str, Task]:
    """Return the jobs that an answer describes, by task id, without those that it describes in two ways."""
    if not _is_answer(reply):
        return {}
    data, found = reply.json["data"], dict[str, Task | None]()
    rows = as_list(data["result"] if isinstance(data, JSONObject) and "result" in data else data)
    for row in rows:
        if isinstance(row, JSONObject) and (task := _read_task(reply, row)):
            first = found.setdefault(task.kling_task_id, task)
            if first is not task and first != task:
                found[task.kling_task_id] = None
    return {task_id: task for task_id, task in found.items() if task}


def _read_task(reply: Reply, row: JSONObject) -> Task | None:
    ids = _ids(row)
    words = {str(row[key]).strip() for key in ("status", "task_status") if row.get(key)}
    if len(ids) != 1 or len(words) != 1 or row.contradicts_itself or (task_id := ids.pop()) is None:
        return None
    status = words.pop()
    word = status.lower()
    known = word in _OUTCOMES
    created = read_number(row.get("create_time", row.get("created_at")))
    task = Task(
        task_id,
        status if known else reply.shown(status, MAX_WORD),
        _OUTCOMES.get(word, Outcome.UNFINISHED),
        timings={} if created is None else {"submit_time_ms": created},
        status_known=known,
        client_id=_shown_id(reply.redactor, _client_id(row)),
        created_at=None if created is None else created / 1000,
    )
    return task if task.outcome is Outcome.UNFINISHED else _with_its_end(reply, row, task)


def _with_its_end(reply: Reply, row: JSONObject, task: Task) -> Task:
    """Return a task with what only the row of a job that has ended says."""
    updated = read_number(row.get("update_time", row.get("updated_at")))
    reason = row.get("message") or row.get("task_status_msg") or ""
    succeeded = task.outcome is Outcome.SUCCEEDED
    videos = tuple(_videos(reply, row)) if succeeded else ()
    return task._replace(
        reason=reply.shown(reason, 2000) if reason else "",
        videos=videos,
        timings=task.timings if updated is None else {**task.timings, "complete_time_ms": updated},
        answer=reply.shown(row, 1000) if succeeded and not videos else "",
        billing=tuple(_billing(reply, row)),
    )


@lru_cache(maxsize=20_000)
def _shown_id(redactor: Redactor, client_id: str) -> str:
    """Return a client id as it may be shown. To hide secrets took half of a poll's time."""
    return redactor.shown(client_id)


def _videos(reply: Reply, row: JSONObject) -> Iterator[Video]:
    """Yield the videos of a job without their copies with a watermark."""
    legacy = as_object(row.get("task_result")).get("videos")
    for value in as_list(row.get("outputs") or legacy)[:MAX_VIDEOS]:
        output = as_object(value)
        if output.get("type", "video") == "video" and (video := read_video(reply, output.get("url"))):
            yield video


def _billing(reply: Reply, row: JSONObject) -> Iterator[Billing]:
    """Yield what a job has cost, as far as it can be read."""
    for value in as_list(row.get("billing"))[:MAX_VIDEOS]:
        item = as_object(value)
        if (amount := read_amount(item.get("amount"))) is not None:
            kind, currency, package = (
                reply.shown(word, MAX_WORD) if isinstance(word := item.get(key), str) else ""
                for key in ("charge_type", "currency", "package_type")
            )
            yield Billing(kind, amount, currency, package, read_amount(item.get("list_price")))
    if row.get("billing"):
        return
    if (units := read_amount(row.get("final_unit_deduction"))) is not None:
        yield Billing("unit", units, package_type="video")
    if money := read_amount(as_object(row.get("final_balance_deduction")).get("quota")):
        yield Billing("cash", money)


# --- what a refusal means


class _Meaning(NamedTuple):
    kind: type[KlingError]
    advice: str | None = None


_KEY = (
    "Check the API key and the host of the Airflow connection. Keys are regional: the servers in Singapore "
    "do not know a key of those in Beijing, nor the other way round; the host is 'singapore' or 'beijing'."
)
_CONSOLE = "Look into Kling's console, then clear the task."
_BAD_PARAMETER = 1201
_TOO_MANY_REQUESTS = 1302
#: Seconds of the pause of all queries after it, where Kling names no time.
_PAUSE = 5.0
#: A submit may have started a job before them.
_SERVER_ERRORS = (5000, 5001, 5002)
_MEANINGS = {
    **dict.fromkeys((1000, 1001, 1002, 1003, 1004), _Meaning(KlingAccessError, _KEY)),
    1100: _Meaning(KlingAccessError, f"Kling says that something is wrong with the account. {_CONSOLE}"),
    1101: _Meaning(KlingBalanceError),
    1102: _Meaning(
        KlingBalanceError,
        "Buy a resource pack for videos, or wait until one becomes active; then clear the task.",
    ),
    1103: _Meaning(KlingAccessError, f"The account may not use this model, or not over the API. {_CONSOLE}"),
    **dict.fromkeys((1200, _BAD_PARAMETER, 1202, 1203), _Meaning(KlingInputError)),
    **dict.fromkeys((1300, 1301), _Meaning(KlingModerationError)),
    _TOO_MANY_REQUESTS: _Meaning(KlingUnavailableError),
    1303: _Meaning(KlingNoSlotError),
    1304: _Meaning(
        KlingAccessError, "Put the addresses of the workers on the white list in Kling's console."
    ),
    **dict.fromkeys(_SERVER_ERRORS, _Meaning(KlingUnavailableError)),
}
#: How Kling may say that a client id is taken. Its code says the same of every wrong parameter.
_TAKEN = re.compile("already|exists|duplicat|unique|重复|已存在", re.IGNORECASE)
#: How Kling's task ids look.
_LONG_NUMBER = re.compile(r"(?<!\d)\d{15,30}(?!\d)")


def _refusal_of_submit(reply: Reply, client_id: str) -> KlingError:
    """Return what a reply without a task id means: final, safe to repeat, or uncertain.

    The code decides, and not the HTTP status: 429 stands for six codes, of which two may be repeated. An
    unknown code is uncertain, with 429 it is a refusal. Without a code, a proxy may have passed the request
    on.
    """
    code, ids = _code(reply), _ids(reply.json.get("data"))
    meaning = _Meaning(REFUSED_UNREAD.get(reply.status, KlingSubmitUncertainError))
    if code is not None:
        too_many = code and reply.status == 429
        unknown = _Meaning(KlingAccessError, _CONSOLE) if too_many else _Meaning(KlingSubmitUncertainError)
        meaning = _MEANINGS.get(code, unknown)
    taken = code == _BAD_PARAMETER and client_id and (not _message(reply) or _TAKEN.search(_message(reply)))
    if ids or taken or code in _SERVER_ERRORS:
        meaning = _Meaning(KlingSubmitUncertainError)
    said = _describe(reply)
    uncertain = meaning.kind is KlingSubmitUncertainError
    more = ids_beyond(reply, said, ids, _LONG_NUMBER) if uncertain else ""
    return refusal(
        meaning.kind, f"Kling answered {said}.{more}", reply, str(code or ""), advice=meaning.advice
    )


def _refusal_of_query(reply: Reply, asked: str, kling_task_id: str | None = None) -> KlingError:
    """Return what a reply without the wanted task means.

    Only Kling's own codes end a wait: proxies answer nonsense for a while, with any status. Where a key is
    refused without a code, the error's ``reason`` is None.

    :param asked: what for, in words.
    """
    code = _code(reply)
    meaning = _MEANINGS.get(code or 0)
    reason = str(code) if code else ""
    what = f"Kling answered{asked} {_describe(reply)}."
    if kling_task_id and _says_not_found(reply):
        meaning = _Meaning(KlingTaskNotFoundError)
        what = f"Kling does not know job {kling_task_id}."
    elif any(map(_ids, as_list(reply.json.get("data")))):
        meaning = _Meaning(KlingUnavailableError)
        what = f"Kling answered{asked} with something else: {_describe(reply)}."
    elif meaning is None:
        meaning = _Meaning(undocumented_query_refusal(reply, reason))
        reason = "" if meaning.kind is KlingAccessError else reason
    elif meaning.kind is KlingNoSlotError:
        meaning = _Meaning(KlingUnavailableError)
    elif meaning.kind is KlingInputError and kling_task_id:
        meaning = _Meaning(KlingInputError, KlingTaskNotFoundError.default_advice)
    error = refusal(meaning.kind, what, reply, reason, advice=meaning.advice, kling_task_id=kling_task_id)
    if code == _TOO_MANY_REQUESTS and error.retry_after is None:
        return error.replace(retry_after=_PAUSE)
    return error


def _message(reply: Reply) -> str:
    message = reply.json.get("message")
    return message if isinstance(message, str) else ""


def _describe(reply: Reply) -> str:
    """Return the answer in words; without a message of Kling, with its body."""
    code = _code(reply)
    if not code or not _message(reply).strip():
        return reply.describe(str(code or ""), reply.text)
    request_id = reply.json.get("request_id")
    ends = f" (request_id {request_id})" if isinstance(request_id, str) and request_id else ""
    return reply.describe(str(code), f"{reply.shown(_message(reply), 1900).rstrip('.')}{ends}", 2000)
