"""The report of a Dag run: what became of each request, what it was estimated to cost and has cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

from airflow_provider_kling.errors import Money
from airflow_provider_kling.models.bill import Bill, describe_bills
from airflow_provider_kling.models.prices import format_usd
from airflow_provider_kling.redaction import shorten, without_signatures
from airflow_provider_kling.submission.cost_limits import Reservation, ReservationState
from airflow_provider_kling.values import read_number

_LONGEST_NAME = 60
_MEDIA = ("image", "images", "video", "end_image")
#: Where a job may be charged although there is no video.
_MAYBE_CHARGED = frozenset({Money.MAYBE, Money.RUNNING, Money.ENDED, Money.PAID})
_NOT_SHOWN = ("outcome", "bill")
_OUTCOMES = ("made", "reused", "failed", "skipped", "unfinished")

TaskKey = tuple[str, int]


def name_of(arguments: Mapping[str, Any]) -> str:
    """Return a short name for a request: its picture's file name, else the beginning of its prompt.

    :param arguments: the inputs under the operator's names, as they may be shown.
    """
    for argument in _MEDIA:
        value = arguments.get(argument)
        value = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(value, str) and value.strip() and not value.startswith(("<", "data:")):
            return shorten(without_signatures(value).rstrip("/").rsplit("/", maxsplit=1)[-1], _LONGEST_NAME)
    words = arguments.get("prompt") or ""
    return shorten(words, _LONGEST_NAME) if isinstance(words, str) else ""


@dataclass(slots=True)
class RequestReport:
    """One request of a run, as far as its tasks have pushed something about it.

    :param outcome: one of made, reused, failed, skipped, unfinished.
    :param estimated_cost_usd: US dollars, all tries together; None where no price is known.
    :param bill: what the gateway says that its last job has cost; None where it says nothing.
    :param error: the class of the error that ended it.
    :param why: the error's own words.
    :param money: what the error means for the bill.
    """

    name: str
    task_id: str
    map_index: int
    outcome: str = "unfinished"
    path: str = ""
    kling_task_id: str = ""
    estimated_cost_usd: float | None = 0.0
    bill: Bill | None = None
    error: str = ""
    why: str = ""
    money: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what is known, as JSON-ready data."""
        names = [field.name for field in fields(self) if field.name not in _NOT_SHOWN]
        shown = {name: value for name in names if (value := getattr(self, name)) != ""}
        billed = {"cost_usd": self.bill.cost_usd, "billed": self.bill.describe()} if self.bill else {}
        return {**shown, **billed}


@dataclass(slots=True)
class RunReport:
    """All requests of a run.

    :param submits: the state of each task instance that buys, by task id and map index.
    """

    submits: Mapping[TaskKey, str]
    entries: dict[TaskKey, RequestReport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, state in self.submits.items():
            entry = self._entry(key)
            if state in ("failed", "upstream_failed"):
                entry.outcome, entry.why = "failed", f"The task is {state}. See its log."
            elif state == "skipped":
                entry.outcome = "skipped"

    def add(
        self,
        requests: Iterable[Any] = (),
        reservations: Iterable[Any] = (),
        errors: Iterable[Any] = (),
        videos: Iterable[Any] = (),
        bills: Iterable[Any] = (),
    ) -> None:
        """Add what the tasks have pushed; anything else is ignored."""
        for request in _dicts(requests):
            entry = self._entry(_task_key(request))
            entry.name = request.get("name") or entry.name
            entry.kling_task_id = request["kling_task_id"]
            entry.estimated_cost_usd = read_number(request.get("estimated_cost_usd"))
            entry.outcome = "unfinished"
        for reservation in filter(None, map(Reservation.from_dict, reservations)):
            if reservation.state is ReservationState.TAKEN:
                usd = reservation.usd
                self._entry(reservation.key).estimated_cost_usd = None if usd is None else float(usd)
        for error in _dicts(errors):
            entry = self._of(error)
            entry.outcome, entry.error = "failed", str(error.get("class", ""))
            entry.why, entry.money = shorten(str(error.get("what", ""))), str(error.get("money", ""))
            entry.name = error.get("name") or entry.name
            entry.kling_task_id = entry.kling_task_id or error.get("kling_task_id") or ""
        for video in _dicts(videos):
            entry = self._of(video)
            entry.outcome = "reused" if video.get("reused") else "made"
            entry.path, entry.error, entry.why, entry.money = video["path"], "", "", ""
            entry.kling_task_id = entry.kling_task_id or video.get("kling_task_id") or ""
        by_job = {bill.kling_task_id: bill for bill in map(Bill.from_dict, bills) if bill}
        for entry in self.entries.values():
            if entry.outcome != "reused":
                entry.bill = by_job.get(entry.kling_task_id)

    @property
    def cost(self) -> Decimal:
        """The estimated cost of all requests of a known price, in US dollars."""
        known = [entry.estimated_cost_usd for entry in self.entries.values()]
        return sum((Decimal(str(usd)) for usd in known if usd is not None), Decimal(0))

    @property
    def bills(self) -> list[Bill]:
        """The bills that are known."""
        return [entry.bill for entry in self.entries.values() if entry.bill]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data: a list of requests for each outcome, and the costs."""
        lists: dict[str, list[dict[str, Any]]] = {name: [] for name in _OUTCOMES}
        for entry in self._sorted:
            lists[entry.outcome].append(entry.to_dict())
        without_video = [entry for entry in self._sorted if entry.outcome not in ("made", "reused")]
        billed = [bill.usd for bill in self.bills if bill.usd is not None]
        return {
            **lists,
            "estimated_cost_usd": float(self.cost),
            "cost_usd": float(sum(billed, Decimal(0))) if billed else None,
            "unknown_price": sum(entry.estimated_cost_usd is None for entry in self._sorted),
            "maybe_charged_without_a_video": [entry.name for entry in without_video if _charged(entry)],
        }

    def lines(self) -> list[str]:
        """Return it for people: one sentence, then a table in Markdown."""
        data = self.to_dict()
        counts = ", ".join(f"{len(data[name])} {name}" for name in _OUTCOMES if data[name]) or "no requests"
        unknown = f", and {data['unknown_price']} of unknown price" if data["unknown_price"] else ""
        billed = f"; billed {describe_bills(self.bills)}" if self.bills else ""
        rows = [_row(entry, self.bills) for entry in self._sorted]
        columns = ["request", "outcome", "estimated", "billed", "where, or why not"]
        if not self.bills:
            columns.remove("billed")
        head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        first = f"{counts}; estimated at {format_usd(self.cost)}{unknown}{billed}."
        return [first, *(head if rows else []), *rows]

    def sentences(self) -> list[tuple[str, str]]:
        """Return the outcome of each request, and what a log says of it."""
        return [
            (entry.outcome, f"{entry.name}: {entry.outcome}, {_costs(entry)}. {_where(entry)}".strip(" .:"))
            for entry in self._sorted
        ]

    @property
    def _sorted(self) -> list[RequestReport]:
        return [self.entries[key] for key in sorted(self.entries)]

    def _entry(self, key: TaskKey) -> RequestReport:
        task_id, map_index = key
        name = task_id if map_index < 0 else f"{task_id}[{map_index}]"
        return self.entries.setdefault(key, RequestReport(name, task_id, map_index))

    def _of(self, data: Mapping[str, Any]) -> RequestReport:
        """Return the request that a task means: its own, else its job's; a reused job may have several."""
        job, key = data.get("kling_task_id"), _task_key(data)
        if key in self.entries:
            return self.entries[key]
        found = [entry for entry in self.entries.values() if job and entry.kling_task_id == job]
        beside = [entry for entry in found if entry.map_index == key[1]]
        return next(iter([*beside, *found]), None) or self._entry(key)


def _dicts(data: Iterable[Any]) -> list[dict[str, Any]]:
    return [item for item in data if isinstance(item, dict) and "task_id" in item]


def _task_key(data: Mapping[str, Any]) -> TaskKey:
    return str(data["task_id"]), int(data.get("map_index", -1))


def _charged(entry: RequestReport) -> bool:
    is_free = entry.bill is not None and entry.bill.usd == 0
    return not is_free and (bool(entry.kling_task_id) or entry.money in _MAYBE_CHARGED)


def _cost(entry: RequestReport) -> str:
    usd = entry.estimated_cost_usd
    return "unknown" if usd is None else format_usd(Decimal(str(usd)))


def _costs(entry: RequestReport) -> str:
    return f"estimated {_cost(entry)}, billed {entry.bill.describe()}" if entry.bill else _cost(entry)


def _where(entry: RequestReport) -> str:
    return entry.path or f"{entry.error}: {entry.why} {entry.money}".strip(" :")


def _row(entry: RequestReport, bills: Sequence[Bill]) -> str:
    billed = f" {entry.bill.describe() if entry.bill else 'unknown'} |" if bills else ""
    return f"| {_cell(entry.name)} | {entry.outcome} | {_cost(entry)} |{billed} {_cell(_where(entry))} |"


def _cell(text: str) -> str:
    return shorten(text, 300).replace("|", "\\|")
