"""A task's purse: refused before it is paid for is what would cost more than the limits allow."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.errors import KlingError, KlingInputError, KlingSubmitUncertainError
from airflow_provider_kling.hooks import airflow_errors, harmless
from airflow_provider_kling.models.prices import cost_words, dollars, lower, read_limit
from airflow_provider_kling.submission.cost_limits import (
    Reservation,
    State,
    decide,
    hopeless,
    others_of,
    sum_of,
)
from airflow_provider_kling.submission.state import SubmissionState
from airflow_provider_kling.submission.submit_once import Submission
from airflow_provider_kling.transport.settings import Settings

#: XCom key of what a task instance buys, for all others of the run to see.
RESERVATION_KEY = "kling_reservation"
#: The arguments of :class:`Limited`.
LIMITS = ("max_cost_usd", "max_run_cost_usd")
#: The shortest and the longest pause, in seconds, before the reservations of a run are read again.
_PAUSES = 0.2, 1.0


class Limited(BaseOperator):
    """The arguments of an operator that limit what it may spend.

    :param max_cost_usd: US dollars that this job may cost. (templated)
    :param max_run_cost_usd: US dollars that all jobs of the Dag run may cost together. (templated)
    """

    def __init__(
        self,
        *,
        max_cost_usd: float | str | None = None,
        max_run_cost_usd: float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_cost_usd = max_cost_usd
        self.max_run_cost_usd = max_run_cost_usd


@dataclass(slots=True)
class CostLimits:
    """What one task instance may spend, and has spent.

    :param operator: whose arguments hold; its log is written to.
    :param ti: the running task instance; reservations are its XComs.
    :param state: is_persistent what was spent before.
    :param settings: the connection's limits.
    :param spenders: ids of all tasks of the Dag that buy.
    """

    operator: Limited
    ti: Any
    state: SubmissionState
    settings: Settings
    spenders: Sequence[str]
    _most: Decimal | None = field(init=False)
    _most_of_run: Decimal | None = field(init=False)

    def __post_init__(self) -> None:
        """Read the limits; show the others what earlier tries bought, as Airflow has cleared their XComs."""
        with airflow_errors():
            self._most = _limit(self.operator, "max_cost_usd", self.settings)
            self._most_of_run = _limit(self.operator, "max_run_cost_usd", self.settings)
        publish_costs(self.operator, self.ti, self.state)

    def resume(self, submission: Submission) -> str | None:
        """Return the job of an earlier try, see :meth:`Submission.resume`; it is paid for already."""
        entry = self.state.last_record()
        if entry and not entry.kling_task_id:
            self._doubt(entry.noted_at, submission)
        if earlier := submission.resume():
            self._count(earlier, submission)
        return earlier

    def pay(self, submission: Submission) -> str:
        """Buy within the limits, see :meth:`Submission.send`.

        :raises KlingInputError: where it would cost too much, or nobody knows how much; nothing was sent.
        """
        with airflow_errors():
            self._check(submission.cost)
            self._reserve(submission.cost)
        try:
            kling_task_id = submission.send()
        except KlingSubmitUncertainError:
            self._doubt(submission.submitted_at, submission)
            raise
        except KlingError:
            with harmless(self.operator.log, "The reservation could not be withdrawn"):
                self._settle()
            raise
        self._count(kling_task_id, submission)
        return kling_task_id

    def _doubt(self, noted_at: float, submission: Submission) -> None:
        """Count a request whose answer was lost: it may be paid for, in this generation and in all later."""
        self._count(f"of unknown id, {noted_at:.3f}", submission)

    def _count(self, kling_task_id: str, submission: Submission) -> None:
        with harmless(self.operator.log, "What was spent could not be noted"):
            self.state.record_cost(kling_task_id, submission.cost)
            if not self.state.is_persistent:
                self._post(self._reservation(State.TAKEN, submission.cost))
            else:
                self._settle()

    def _settle(self) -> None:
        """Post what this task instance has bought, and nothing that it wishes for."""
        self._post(_spent(self.ti, self.state))

    def _check(self, cost: Decimal | None) -> None:
        """Raise where this job alone is too much, or nobody knows."""
        limits = {"max_cost_usd": self._most, "max_run_cost_usd": self._most_of_run}
        for argument, limit in limits.items():
            if limit is not None and (cost is None or cost > limit):
                raise self._refusal(argument, limit, cost)

    def _reserve(self, cost: Decimal | None) -> None:
        """Claim the cost before the other tasks of the run; see ``cost_limits``."""
        wish = _total([*self.state.costs().values(), cost])
        if self._most_of_run is None:
            with harmless(self.operator.log, "What this job costs could not be shown to other tasks"):
                self._post(self._reservation(State.TAKEN, wish))
            return
        limit, mine = self._most_of_run, self._reservation(State.ASKING, wish)
        if wish is None or hopeless(mine, self._present(), limit, time.time()):
            raise self._refused_by_run(limit, mine, cost)  # without having stood in anybody's way
        self._post(mine)
        for attempt in itertools.count():
            verdict = decide(mine, self._present(), limit, time.time())
            if verdict == "buy":
                break
            if verdict == "stop":
                raise self._refused_by_run(limit, mine, cost)
            spread = zlib.crc32(f"{self.ti.id}/{attempt}".encode()) / 2**32
            time.sleep(_PAUSES[0] + spread * (_PAUSES[1] - _PAUSES[0]))
        self._post(mine.now(State.TAKEN))

    def _refused_by_run(self, limit: Decimal, mine: Reservation, cost: Decimal | None) -> KlingInputError:
        others = others_of(mine, self._present())
        with harmless(self.operator.log, "The reservation could not be withdrawn"):
            self._settle()
        earlier = self.state.costs().values()
        before = sum_of(others) + (_total(usd for usd in earlier if usd) or 0)
        so_far = f"all jobs of the run are an estimated {dollars(before)} so far"
        unknown = sum(usd is None for usd in (*earlier, *(other.usd for other in others)))
        if unknown:
            so_far += f", not counting {unknown} of a price that is not published"
        return self._refusal("max_run_cost_usd", limit, cost, f", and {so_far}")

    def _refusal(
        self, argument: str, limit: Decimal, cost: Decimal | None, more: str = ""
    ) -> KlingInputError:
        this = f"this job is {cost_words(cost)}"
        where = f"the task or connection {self.settings.conn_id!r}"
        advice = (
            f"Raise {argument} on {where}, ask for less, or name missing prices in the connection's extra."
        )
        return KlingInputError(f"{argument}={dollars(limit)} does not allow it: {this}{more}.", advice=advice)

    def _reservation(self, state: State, usd: Decimal | None) -> Reservation:
        return _reservation(self.ti, state, usd)

    def _post(self, reservation: Reservation) -> None:
        self.ti.xcom_push(key=RESERVATION_KEY, value=reservation.to_dict())

    def _present(self) -> list[Reservation]:
        posted = self.ti.xcom_pull(task_ids=list(self.spenders), key=RESERVATION_KEY) or []
        return [found for value in posted if (found := Reservation.from_dict(value))]


def publish_costs(operator: BaseOperator, ti: Any, state: SubmissionState) -> None:
    """Show the others of the run what earlier tries bought; Airflow has cleared their XComs."""
    with harmless(operator.log, "What earlier tries bought could not be shown to other tasks"):
        if state.costs():
            ti.xcom_push(key=RESERVATION_KEY, value=_spent(ti, state).to_dict())


def _spent(ti: Any, state: SubmissionState) -> Reservation:
    spent = state.costs().values()
    return _reservation(ti, State.TAKEN if spent else State.WITHDRAWN, _total(spent))


def _reservation(ti: Any, state: State, usd: Decimal | None) -> Reservation:
    return Reservation(ti.task_id, ti.map_index, time.time(), usd, state)


def _limit(operator: Limited, argument: str, settings: Settings) -> Decimal | None:
    """Return the lower one of the operator's and the connection's limit."""
    value = getattr(operator, argument)
    try:
        return lower(read_limit(value), getattr(settings, argument))
    except ValueError as problem:
        raise KlingInputError(f"{argument}={value!r}: {problem}.") from None


def _total(costs: Iterable[str | Decimal | None]) -> Decimal | None:
    """Return the sum; None where one of them is unknown."""
    known = [cost if cost is None else Decimal(cost) for cost in costs]
    return None if None in known else sum((cost for cost in known if cost), Decimal(0))
