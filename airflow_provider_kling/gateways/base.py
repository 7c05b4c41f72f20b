"""What all gateways share: a call to send, its reply, the task that a reply describes, and errors."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import cached_property, lru_cache
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.models.bill import Bill, Billing, describe_items
from airflow_provider_kling.redaction import NO_SECRETS, Redactor, shorten
from airflow_provider_kling.values import is_web_url, read_number

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow_provider_kling.models.job import VideoJob

T = TypeVar("T")

#: Seconds for which a new job may not be visible to queries yet.
NOT_FOUND_GRACE = 60.0
#: The longest pause that a gateway may ask for, in seconds; what is longer counts as this.
LONGEST_RETRY_AFTER = 900.0
#: An answer with more objects and members than these is not read: it would hold up all other waits.
_MAX_MEMBERS = 50_000


def log_bug(error: Exception) -> None:
    """Log an error of our own code with its traceback, once in a process.

    Its message is left out: it may repeat a secret or a foreign text.
    """
    _log_once(f"{type(error).__name__}\n" + "".join(traceback.format_tb(error.__traceback__, -20)).rstrip())


@lru_cache(maxsize=100)
def _log_once(what: str) -> None:
    logging.getLogger(__name__).error("A bug of airflow-provider-kling, please report it: %s", what)


class JSONObject(dict[str, Any]):
    """A JSON object that also keeps the members which a later one of the same name replaces."""

    __slots__ = ("_repeated",)

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        super().__init__(members)
        self._repeated = members if len(self) < len(members) else None

    @property
    def members(self) -> Iterable[tuple[str, Any]]:
        """All names and values; those that are repeated in their order."""
        return self._repeated or self.items()

    @property
    def contradicts_itself(self) -> bool:
        """Whether it has two values for one name."""
        return self._repeated is not None and any(self[name] != value for name, value in self._repeated)


class Gateway(Protocol):
    """A dialect: the calls that a gateway understands. Each module of this folder but this one is one."""

    @property
    def name(self) -> str:
        """The gateway's name, for people."""

    @property
    def hosts(self) -> Mapping[str, str]:
        """Its base URLs by short names for the host of a connection; the first one is the default."""

    @property
    def domain(self) -> str:
        """How the names of its hosts end."""

    def key_problem(self, key: str, login: str) -> str:
        """Return what is wrong with the API key of a connection and its login, or an empty text."""

    @property
    def default_model(self) -> str:
        """The model for connections that name none."""

    @property
    def jobs_per_query(self) -> int:
        """The number of jobs that one query may ask for."""

    @property
    def resolve_model(self) -> Callable[[str, Mapping[str, Any]], tuple[str, dict[str, Any]]]:
        """Return the model that a name means here, and the inputs that the name implies.

        Its arguments: the name, and the inputs that are set, by the operator's names. It raises
        :class:`KlingInputError` for a model that only another gateway has.
        """

    @property
    def picture_form(self) -> Literal["data_uri", "base64"]:
        """How the data of a picture is sent for a model that the catalogue does not know."""

    def submit(self, job: VideoJob, client_id: str = "") -> Call[str]:
        """Return the call that starts *job* and yields its task id. It is paid for: send it once.

        :param client_id: our own id of the job, where the gateway takes one (:attr:`find`). A second submit
            with it starts nothing.
        """

    def query(self, kling_task_id: str) -> Call[Task]:
        """Return the call that yields the state of a job. It may be sent again and again."""

    @property
    def query_jobs(self) -> Callable[[Sequence[str]], Call[Mapping[str, Task]]] | None:
        """Return the call that yields the states of several jobs by task id, without those it does not know.

        None where :attr:`jobs_per_query` is 1.
        """

    @property
    def find(self) -> Callable[[str], Call[Task | None]] | None:
        """Return the call that finds the job of a client id; it yields None where there is none.

        None where the gateway takes no client ids.
        """

    @property
    def list_tasks(self) -> Callable[[float, str], Call[tuple[list[Task], str]]] | None:
        """Return the call that lists jobs, newest first or not, with the cursor of the next page.

        Its arguments: since when, in epoch seconds, and a cursor, which is empty for the first page. None
        where the gateway has no list.
        """

    def probe(self) -> Call[None]:
        """Return the call that yields nothing if the gateway accepts the key. It costs nothing."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer. What of it is shown goes through :meth:`shown`.

    :param headers: the headers, their names in lower case.
    :param body: the bytes of the body, decompressed.
    :param received_at: when it came, in epoch seconds.
    :param redactor: knows what must not be shown.
    :param cut_off: why the body ends before its end; empty, the body is whole.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: float = 0.0
    redactor: Redactor = NO_SECRETS
    cut_off: str = ""

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @cached_property
    def text(self) -> str:
        """The body as text; bytes that are none become the replacement character."""
        return self.body.decode(json.detect_encoding(self.body), "replace")

    @cached_property
    def has_very_many_members(self) -> bool:
        """Whether the body is not read as JSON, because that would take too long."""
        return self.text.count("{") + self.text.count(",") > _MAX_MEMBERS

    @cached_property
    def json(self) -> JSONObject:
        """The body as a JSON object; anything else is an empty one, as is one with very many members."""
        data = None
        with suppress(ValueError, RecursionError):
            if not self.has_very_many_members:
                data = json.loads(self.text, object_pairs_hook=JSONObject)
        return data if isinstance(data, JSONObject) else JSONObject([])

    @property
    def retry_after(self) -> float | None:
        """The seconds that the gateway asks to be left alone for, or None where it does not say."""
        value = self.headers.get("retry-after", "").strip()
        seconds = read_number(value.rpartition(",")[2])  # of several, which HTTP joins, the last
        if seconds is None and value:
            try:
                at = parsedate_to_datetime(value)
                seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - self.received_at
            except (ValueError, OverflowError, TypeError, IndexError):  # of the standard library's parser
                return None
        return None if seconds is None else max(0.0, min(seconds, LONGEST_RETRY_AFTER))

    def shown(self, value: Any, limit: int = 500) -> str:
        """Return a part of the answer on one line, as it may be shown."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        return self.redactor.shown(text, limit)

    def describe(self, reason: str, said: str, limit: int = 1000) -> str:
        """Return the answer in words: the status, where it points to, and what it says.

        :param reason: the gateway's machine-readable reason.
        :param said: its message, or its body.
        """
        target = self.shown(self.headers.get("location", ""), 200)
        points = f" pointing to {target}, where the key is not sent" if target else ""
        said = self.shown(said, limit).rstrip(".") or "an empty answer"
        cut_off = f" (cut off: {self.cut_off})" if self.cut_off else ""
        return f"HTTP {self.status}{points} {self.shown(reason, 80)}".rstrip() + f": {said}{cut_off}"


class Outcome(Enum):
    """What a status word means for the one who waits."""

    UNFINISHED = "unfinished"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Video:
    """One video of a finished task.

    :param video_url: a presigned http(s) link on a storage host; MyRouter's lives an hour, Kling's 30 days.
    :param video_url_ttl: the seconds that the gateway gives it; unreliable, never decide by it.
    :param video_type: the container, such as ``mp4``.
    :param holds_secret: the link repeats a secret of the connection or names a user: it is not published.
    """

    video_url: str
    video_url_ttl: int | None = None
    video_type: str | None = None
    holds_secret: bool = False

    def to_dict(self, *, with_link: bool) -> dict[str, Any]:
        """Return the video as JSON-ready data under the gateway's own names, with its signed link or not."""
        link = {"video_url": self.video_url} if with_link and not self.holds_secret else {}
        return {**link, "video_url_ttl": self.video_url_ttl, "video_type": self.video_type}


class Task(NamedTuple):
    """The state of a job. A named tuple, because a triggerer may make thousands of them a second.

    :param status: the gateway's status word.
    :param status_known: whether the gateway documents the word.
    :param reason: why it failed, in the gateway's words; empty otherwise.
    :param progress_percent: 0..100, or None where the gateway does not say.
    :param eta: seconds to the end, or None where the gateway does not say; 0 often means "not known".
    :param videos: the videos of a finished task, Kling gives one.
    :param timings: epoch milliseconds under the gateway's names (``submit_time_ms``,
        ``execute_time_ms``, ``complete_time_ms``), as far as the gateway says them.
    :param model: the model's slug, or None where the gateway does not name one that we know.
    :param answer: the answer as it came, where it says that the job succeeded and no video can be read in it.
    :param client_id: our own id of the job, where the gateway takes one and says it.
    :param created_at: when the gateway created it, in epoch seconds; None where it does not say.
    :param billing: what the gateway says that the job has cost, mostly after its end.
    """

    kling_task_id: str
    status: str
    outcome: Outcome
    reason: str = ""
    progress_percent: float | None = None
    eta: float | None = None
    videos: tuple[Video, ...] = ()
    timings: Mapping[str, float] = MappingProxyType({})
    status_known: bool = True
    model: str | None = None
    answer: str = ""
    client_id: str = ""
    created_at: float | None = None
    billing: tuple[Billing, ...] = ()

    def bill(self, unit_price_usd: Decimal) -> Bill | None:
        """Return what the gateway says that the job has cost, or None where it says nothing.

        :param unit_price_usd: US dollars for a unit of a pack.
        """
        if not self.billing:
            return None
        return Bill.of(self.kling_task_id, self.billing, unit_price_usd, self.client_id)

    def describe(self) -> str:
        """Return the state in one short phrase for a log line."""
        words = self.status.removeprefix("TASK_STATUS_").lower()
        if self.outcome is Outcome.UNFINISHED and self.progress_percent:
            return f"{words}, {self.progress_percent:g} %"
        return words

    def to_dict(self, *, with_links: bool = True) -> dict[str, Any]:
        """Return the task as JSON-ready data: what the sensor gives to XCom.

        :param with_links: with the videos' links, which are signed.
        """
        return {
            "kling_task_id": self.kling_task_id,
            "status": self.status,
            "model": self.model,
            "videos": [video.to_dict(with_link=with_links) for video in self.videos],
            "timings": dict(self.timings),
        }


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request and the way to read its reply.

    :param path: path below the gateway's base URL.
    :param read: makes the value out of the reply, or raises a :class:`KlingError`.
    :param kling_task_id: the job it asks for.
    :param starts_job: it starts a job, which is paid for.
    """

    method: str
    path: str
    read: Callable[[Reply], T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    kling_task_id: str | None = None
    starts_job: bool = False

    def result(self, reply: Reply) -> T:
        """Return what the reader makes of the reply.

        :raises KlingError: also where the reader itself breaks. For a query that is a poll that failed: the
            next reply may be one that it can read, and the job is paid for.
        """
        try:
            return self.read(reply)
        except KlingError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours must not lose a paid job
            log_bug(error)
            broken = f"This provider could not read an answer of the gateway ({type(error).__name__})."
            advice = "This is a bug of the provider: report it with the traceback in the log."
        if self.starts_job:
            raise KlingSubmitUncertainError(broken, http_status=reply.status)
        money = Money.RUNNING if self.kling_task_id else Money.UNTOUCHED
        job, status = self.kling_task_id, reply.status
        raise KlingUnavailableError(broken, money=money, advice=advice, kling_task_id=job, http_status=status)

    def lost(self, cause: str, *, sent: bool) -> KlingError:
        """Return the error for a request that got no reply.

        :param cause: what the transport said.
        :param sent: whether the request may have reached the gateway.
        """
        what = f"No answer from the gateway ({cause})."
        if self.kling_task_id:
            return KlingUnavailableError(what, money=Money.RUNNING, kling_task_id=self.kling_task_id)
        return KlingSubmitUncertainError(what) if sent and self.starts_job else KlingUnavailableError(what)


def about_job(error: KlingError, kling_task_id: str) -> KlingError:
    """Return an error that came before a request, such as a wrong connection, as one about a running job."""
    if error.money is not Money.UNTOUCHED:
        return error
    return error.replace(money=Money.RUNNING, kling_task_id=kling_task_id)


@contextmanager
def errors_about_job(kling_task_id: str | None) -> Iterator[None]:
    """Let errors of the block be :func:`about_job`, if there is a job."""
    try:
        yield
    except KlingError as error:
        if kling_task_id is None:
            raise
        raise about_job(error, kling_task_id) from error.__cause__


def remembering(read: Callable[[Reply], T]) -> Callable[[Reply], T]:
    """Return a reader for an answer that comes again and again: the same one is read only once."""
    last: tuple[tuple[int, str, bytes], T] | None = None

    def read_changed(reply: Reply) -> T:
        nonlocal last
        this = reply.status, reply.cut_off, reply.body
        if last is None or last[0] != this:
            last = this, read(reply)
        return last[1]

    return read_changed


#: Kling gives one video. An answer may hold many thousands, and they would all go to XCom.
MAX_VIDEOS = 100
_MAX_LINK = 8192
#: Characters of a foreign word that are shown.
MAX_WORD = 80


def read_video(reply: Reply, link: Any, ttl: Any = None, kind: Any = None) -> Video | None:
    """Return the video that a link of an answer leads to, or None where it is no http(s) URL to publish."""
    link = link.strip() if isinstance(link, str) else ""
    try:
        usable = len(link) <= _MAX_LINK and is_web_url(link) and bool(urlsplit(link).hostname)
    except ValueError:
        return None
    if not usable:
        return None
    seconds = read_number(ttl)
    return Video(
        link,
        None if seconds is None else int(seconds),
        reply.shown(kind, MAX_WORD) if isinstance(kind, str) and kind else None,
        "@" in urlsplit(link).netloc or reply.redactor.finds_secret(link),
    )


#: Refusals of a submit that also proxies send, before they pass the request on.
REFUSED_UNREAD: Mapping[int, type[KlingError]] = {
    401: KlingAccessError,
    407: KlingAccessError,
    **dict.fromkeys((405, 411, 413, 414, 415, 431), KlingInputError),
}


def undocumented_query_refusal(reply: Reply, reason: str) -> type[KlingError]:
    """Return the class of a refusal of a query without a documented reason: a proxy may have sent it."""
    refused = reply.status == 401 or (reply.status in (403, 407) and not reason)
    return KlingAccessError if refused else KlingUnavailableError


def ids_beyond(reply: Reply, said: str, named: Iterable[Any], form: re.Pattern[str]) -> str:
    """Return a sentence with the ids in an answer that its shown part lacks: one may be the job's.

    :param said: the shown part.
    :param named: the values that stand where the answer names ids.
    :param form: how this gateway's ids look, wherever they stand.
    """
    texts = (*reply.headers.values(), reply.text)
    found = (match[0] for text in texts for match in form.finditer(text))
    ids = dict.fromkeys((*filter(None, map(read_task_id, named)), *found))
    new = (value for value in ids if not re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", said))
    missing = [*islice((value for value in new if not reply.redactor.finds_secret(value)), 5)]
    return f" It also holds {', '.join(missing)}." if missing else ""


def refusal(
    kind: type[KlingError],
    what: str,
    reply: Reply,
    reason: str,
    *,
    money: Money | None = None,
    advice: str | None = None,
    kling_task_id: str | None = None,
) -> KlingError:
    """Return the error for an answer that is a refusal, or none at all. About a job, it is still running."""
    if money is None and kling_task_id and kind.default_money is Money.UNTOUCHED:
        money = Money.RUNNING
    return kind(
        what,
        money=money,
        advice=advice,
        kling_task_id=kling_task_id,
        reason=reason or None,
        http_status=reply.status,
        retry_after=reply.retry_after,
    )


#: A task id becomes part of paths, URLs and database rows. The gateway's are UUIDs.
_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=+-]{0,249}")


def read_task_id(value: Any) -> str | None:
    """Return the task id in a value that may be one: a text or an integer. Else None."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**40 else None
    text = value.strip() if isinstance(value, str) else ""
    return text if text != "None" and _TASK_ID.fullmatch(text) else None


def checked_task_id(value: Any) -> str:
    """Return the task id in an argument: a text, or the sensor's result, which has it.

    :raises KlingInputError: where there is none, as when a template found nothing.
    """
    given = value.get("kling_task_id") if isinstance(value, Mapping) else value
    if isinstance(given, str) and (task_id := read_task_id(given)):
        return task_id
    what = f"kling_task_id={shorten(repr(value), 60)} is not a task id; the submit's return value is one."
    advice = "Look at the log of the task that should have given it."
    raise KlingInputError(what, money=Money.UNAFFECTED, advice=advice)


def failed_task(task: Task) -> KlingError:
    """Return the error for a job that failed, was cancelled, or succeeded with nothing in it."""
    if task.outcome is Outcome.SUCCEEDED:
        said = task.answer or json.dumps(task.to_dict(with_links=False))
        return KlingJobFailedError(
            f"Job {task.kling_task_id} ended as {task.status}, but without a video: {said}.",
            advice="Ask the gateway's support with this task id before you submit anew.",
            kling_task_id=task.kling_task_id,
        )
    how = "was cancelled" if task.outcome is Outcome.CANCELLED else "failed"
    reason = shorten(task.reason).rstrip(".") or "no reason given"
    what = f"Job {task.kling_task_id} {how} at the gateway ({task.status}): {reason}."
    if task.billing:
        what = f"{what} The bill says {describe_items(task.billing)}."
    kind = KlingModerationError if _MODERATION.search(task.reason) else KlingJobFailedError
    return kind(what, money=Money.ENDED, kling_task_id=task.kling_task_id)


_MODERATION = re.compile(
    "moderat|sensitive|illegal|nsfw|risk control|policy|violat|prohibited", re.IGNORECASE
)
