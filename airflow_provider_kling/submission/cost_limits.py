"""Limits on what may be spent, and how the tasks of one run keep to a common one without a referee.

Each task that is about to buy *reserves* first: it posts its price where all others see it, then reads
what all have posted, then decides by :func:`decide`. Whoever of those that go on posted last has seen all
the others, so what they cost together is within the limit, however they were interleaved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

#: Seconds after which one that still asks is dead, or starved: it counts, but nobody waits for it.
PATIENCE = 60.0


class State(StrEnum):
    """What a reservation stands for."""

    ASKING = "asking"
    TAKEN = "taken"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one task instance buys, or would like to.

    :param task_id: Airflow's, with *map_index* it says whose it is.
    :param map_index: -1 where the task is not mapped.
    :param reserved_at: when it was posted, in epoch seconds.
    :param usd: all that the task instance has bought, and would like to buy; None where no price is known.
    :param state: whether it is bought, or about to be, or only wished for.
    """

    task_id: str
    map_index: int
    reserved_at: float
    usd: Decimal | None
    state: State = State.ASKING

    @property
    def place(self) -> tuple[str, int]:
        """Whose it is."""
        return self.task_id, self.map_index

    def now(self, state: State) -> Reservation:
        """Return it in another state."""
        return replace(self, state=state)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {**asdict(self), "usd": None if self.usd is None else str(self.usd), "state": str(self.state)}

    @classmethod
    def from_dict(cls, data: Any) -> Reservation | None:
        """Return what :meth:`to_dict` described; None for what is none."""
        try:
            usd = None if data["usd"] is None else Decimal(data["usd"])
            return cls(data["task_id"], data["map_index"], data["reserved_at"], usd, State(data["state"]))
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return None


def others_of(mine: Reservation, present: Iterable[Reservation]) -> list[Reservation]:
    """Return the reservations of other task instances that count."""
    return [r for r in present if r.place != mine.place and r.state is not State.WITHDRAWN]


def sum_of(reservations: Iterable[Reservation]) -> Decimal:
    """Return what reservations cost together in US dollars; one without a price counts as nothing."""
    return sum((r.usd or Decimal(0) for r in reservations), Decimal(0))


def decide(
    mine: Reservation, present: Iterable[Reservation], limit: Decimal, now: float
) -> Literal["buy", "wait", "stop"]:
    """Say what a task does that has posted *mine* and then read all that is *present*.

    Where not all who ask can have what they ask for, the latest of them steps back and the others read
    again; so the earliest of those whom the limit has room for gets its job.

    :param mine: the task's own reservation.
    :param present: all that was read, its own may be among them.
    :param limit: US dollars that all of them may cost together.
    :param now: the time in epoch seconds.
    """
    present = list(present)
    others, rivals = others_of(mine, present), _rivals(mine, present, now)
    if not hopeless(mine, others, limit, now) and sum_of([mine, *others]) <= limit:
        return "buy"
    latest = all((r.reserved_at, r.place) < (mine.reserved_at, mine.place) for r in rivals)
    starved = now - mine.reserved_at > PATIENCE
    return "stop" if latest or starved or hopeless(mine, others, limit, now) else "wait"


def hopeless(mine: Reservation, present: Iterable[Reservation], limit: Decimal, now: float) -> bool:
    """Return whether *mine* cannot be had whoever steps back: then it need not even be posted.

    A job without a price may cost anything, so beside one there is no hope either.
    """
    rivals = _rivals(mine, present := list(present), now)
    settled = [mine, *(r for r in others_of(mine, present) if r not in rivals)]
    return any(r.usd is None for r in settled) or sum_of(settled) > limit


def _rivals(mine: Reservation, present: Iterable[Reservation], now: float) -> list[Reservation]:
    """Return those who may still step back."""
    asking = [r for r in others_of(mine, present) if r.state is State.ASKING]
    return [r for r in asking if r.usd is not None and now - r.reserved_at <= PATIENCE]
