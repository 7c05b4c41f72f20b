"""What became of many orders: made, reused, failed and why, and what it is estimated to have cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_kling.errors import Money
from airflow_provider_kling.models.prices import dollars
from airflow_provider_kling.redaction import shorten
from airflow_provider_kling.submission.cost_limits import Reservation, State
from airflow_provider_kling.values import read_number

_LONGEST_NAME = 60
_MEDIA = ("image", "images", "video", "end_image")
#: What may be charged although no video came of it.
_MAYBE_CHARGED = frozenset({Money.MAYBE, Money.RUNNING, Money.ENDED, Money.PAID})
_OUTCOMES = ("made", "reused", "failed", "skipped", "unfinished")

Place = tuple[str, int]


def name_of(arguments: Mapping[str, Any]) -> str:
    """Return a short name for an order: its picture's file name, else how its prompt begins.

    :param arguments: the inputs under the operator's names, as they may be shown.
    """
    for argument in _MEDIA:
        value = arguments.get(argument)
        value = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(value, str) and value.strip() and not value.startswith(("<", "data:")):
            return shorten(value.split("?")[0].rstrip("/").rsplit("/", maxsplit=1)[-1], _LONGEST_NAME)
    words = arguments.get("prompt") or ""
    return shorten(words, _LONGEST_NAME) if isinstance(words, str) else ""


@dataclass(slots=True)
class Order:
    """One order of a run, as far as its tasks have told of it.

    :param outcome: one of made, reused, failed, skipped, unfinished.
    :param estimated_cost_usd: US dollars, all tries together; None where no price is known.
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
    error: str = ""
    why: str = ""
    money: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what is known, as JSON-ready data."""
        told = {name: value for name, value in asdict(self).items() if value != ""}
        return {name: told[name] for name in told if name != "outcome"}


@dataclass(slots=True)
class RunReport:
    """All orders of a run.

    :param buyers: the state of each task instance that buys, by task id and map index.
    """

    buyers: Mapping[Place, str]
    orders: dict[Place, Order] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for place, state in self.buyers.items():
            order = self._order(place)
            if state in ("failed", "upstream_failed"):
                order.outcome, order.why = "failed", f"The task is {state} and told nothing; its log may."
            elif state == "skipped":
                order.outcome = "skipped"

    def add(
        self,
        requests: Iterable[Any] = (),
        reservations: Iterable[Any] = (),
        errors: Iterable[Any] = (),
        videos: Iterable[Any] = (),
    ) -> None:
        """Take in what the tasks have pushed; whatever is no such thing is passed over."""
        for request in _dicts(requests):
            order = self._order(_place(request))
            order.name = request.get("name") or order.name
            order.kling_task_id = request["kling_task_id"]
            order.estimated_cost_usd = read_number(request.get("estimated_cost_usd"))
            order.outcome = "unfinished"
        for reservation in filter(None, map(Reservation.from_dict, reservations)):
            if reservation.state is State.TAKEN:
                usd = reservation.usd
                self._order(reservation.place).estimated_cost_usd = None if usd is None else float(usd)
        for error in _dicts(errors):
            self._fail(self._of(error), error)
        for video in _dicts(videos):
            order = self._of(video)
            order.outcome = "reused" if video.get("reused") else "made"
            order.path, order.error, order.why, order.money = video["path"], "", "", ""

    @property
    def cost(self) -> Decimal:
        """What all orders of a known price are estimated to cost, in US dollars."""
        known = [order.estimated_cost_usd for order in self.orders.values()]
        return sum((Decimal(str(usd)) for usd in known if usd is not None), Decimal(0))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data: a list of orders for each outcome, and the money."""
        orders = [self.orders[place] for place in sorted(self.orders)]
        lists = {name: [o.to_dict() for o in orders if o.outcome == name] for name in _OUTCOMES}
        charged = [o.name for o in orders if o.outcome not in ("made", "reused") and _charged(o)]
        unknown = sum(order.estimated_cost_usd is None for order in orders)
        return {
            **lists,
            "estimated_cost_usd": float(self.cost),
            "unknown_price": unknown,
            "maybe_charged_without_a_video": charged,
        }

    def lines(self) -> list[str]:
        """Return it for people: a sentence, then a table in Markdown."""
        told = self.to_dict()
        counts = ", ".join(f"{len(told[name])} {name}" for name in _OUTCOMES if told[name]) or "no orders"
        unknown = f", and {told['unknown_price']} of unknown price" if told["unknown_price"] else ""
        rows = [_row(self.orders[place]) for place in sorted(self.orders)]
        head = ["| order | outcome | estimated | where, or why not |", "|---|---|---|---|"]
        return [f"{counts}; estimated at {dollars(self.cost)}{unknown}.", *(head if rows else []), *rows]

    def _order(self, place: Place) -> Order:
        task_id, map_index = place
        name = task_id if map_index < 0 else f"{task_id}[{map_index}]"
        return self.orders.setdefault(place, Order(name, task_id, map_index))

    def _of(self, told: Mapping[str, Any]) -> Order:
        """Return the order that a task speaks of: its own, else its job's; a reused job may have several."""
        job, place = told.get("kling_task_id"), _place(told)
        if place in self.orders:
            return self.orders[place]
        found = [order for order in self.orders.values() if job and order.kling_task_id == job]
        beside = [order for order in found if order.map_index == place[1]]
        return next(iter([*beside, *found]), None) or self._order(place)

    @staticmethod
    def _fail(order: Order, error: Mapping[str, Any]) -> None:
        order.outcome, order.error = "failed", str(error.get("class", ""))
        order.why, order.money = shorten(str(error.get("what", ""))), str(error.get("money", ""))
        order.name = error.get("name") or order.name
        order.kling_task_id = order.kling_task_id or error.get("kling_task_id") or ""


def _dicts(told: Iterable[Any]) -> list[dict[str, Any]]:
    return [item for item in told if isinstance(item, dict) and "task_id" in item]


def _place(told: Mapping[str, Any]) -> Place:
    return str(told["task_id"]), int(told.get("map_index", -1))


def _charged(order: Order) -> bool:
    return bool(order.kling_task_id) or order.money in _MAYBE_CHARGED


def _cost(order: Order) -> str:
    usd = order.estimated_cost_usd
    return "unknown" if usd is None else dollars(Decimal(str(usd)))


def _row(order: Order) -> str:
    where = order.path or f"{order.error}: {order.why} {order.money}"
    return f"| {_cell(order.name)} | {order.outcome} | {_cost(order)} | {_cell(where)} |"


def _cell(text: str) -> str:
    return shorten(text.strip(" :"), 300).replace("|", "\\|")
