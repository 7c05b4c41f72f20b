"""The limits on cost: of one job, and of all jobs of a Dag run, whose tasks buy at the same moment.

Each task that is about to buy *reserves* first: it posts its price as an XCom, then reads what all tasks
of the run have posted, then decides by :func:`decide`. Of the tasks that buy, the last one to post has seen
every other reservation, so together they stay within the limit in every order of events.

All limits fail closed: an unknown price, or a reservation that cannot be read, is too much.
"""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.hooks import suppress_and_log
from airflow_provider_kling.models.bill import Bill, sum_known
from airflow_provider_kling.models.prices import describe_cost, format_usd, lowest, read_limit, usd_as_text
from airflow_provider_kling.redaction import redacted, shorten
from airflow_provider_kling.submission.state import COSTS_KEY, SubmissionState, patiently
from airflow_provider_kling.transport.settings import Settings
from airflow_provider_kling.xcom_keys import BILL_KEY, RESERVATION_KEY

#: Seconds after which no task waits for a reservation in the state `asking`; it still counts.
RESERVATION_TIMEOUT = 60.0
#: What to do about an earlier job of the same task whose price is unknown: no limit has room for it.
_CORRECT_COSTS = (
    f"What an earlier job of this task costs is unknown. Correct {COSTS_KEY!r} in the state of this task "
    "instance, a JSON object of US dollars by task id (Airflow's REST API), or start a new run."
)
#: The shortest and the longest pause, in seconds, before the reservations of a run are read again.
_PAUSES = 0.2, 1.0


class ReservationState(StrEnum):
    """What a reservation stands for."""

    ASKING = "asking"
    TAKEN = "taken"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one task instance has bought, and wants to buy.

    :param task_id: Airflow's task id.
    :param map_index: -1 where the task is not mapped.
    :param reserved_at: when it was posted, in epoch seconds.
    :param usd: all that the task instance has bought and wants to buy; None where a price is unknown.
    :param jobs: the same for each job, by its task id; by its client id until the task id is known.
    :param state: bought or about to be bought, only asked for, or given up.
    """

    task_id: str
    map_index: int
    reserved_at: float
    usd: Decimal | None
    state: ReservationState = ReservationState.ASKING
    jobs: Mapping[str, Decimal | None] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """The task instance."""
        return self.task_id, self.map_index

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        jobs = {job: usd_as_text(usd) for job, usd in self.jobs.items()}
        return {**asdict(self), "usd": usd_as_text(self.usd), "state": str(self.state), "jobs": jobs}

    def billed(self, bills: Mapping[str, Decimal]) -> Reservation:
        """Return it with the real cost of each job whose bill is known, in US dollars by job."""
        if self.jobs.keys().isdisjoint(bills):
            return self
        return replace(self, usd=sum_known(bills.get(job, usd) for job, usd in self.jobs.items()))

    @classmethod
    def from_dict(cls, data: Any) -> Reservation | None:
        """Return what :meth:`to_dict` has described; None for anything else."""
        try:
            state, at = ReservationState(data["state"]), float(data["reserved_at"])
            jobs = {str(job): read_limit(usd) for job, usd in data.get("jobs", {}).items()}
            return cls(str(data["task_id"]), int(data["map_index"]), at, read_limit(data["usd"]), state, jobs)
        except (LookupError, TypeError, ValueError, AttributeError):
            return None


#: A reservation that cannot be read may stand for any price.
_UNREADABLE = Reservation("", -1, 0.0, None, ReservationState.TAKEN)


def other_reservations(mine: Reservation, posted: Sequence[Reservation]) -> list[Reservation]:
    """Return the reservations of other task instances that count."""
    return [r for r in posted if r.key != mine.key and r.state is not ReservationState.WITHDRAWN]


def sum_of(reservations: Iterable[Reservation]) -> Decimal:
    """Return what reservations cost together in US dollars, without those of unknown price."""
    return sum((r.usd or Decimal(0) for r in reservations), Decimal(0))


def decide(
    mine: Reservation, posted: Sequence[Reservation], limit: Decimal, now: float
) -> Literal["buy", "wait", "stop"]:
    """Return what a task does that has posted *mine* and has then read all that is *posted*.

    Where the limit has no room for all that ask, the last one to ask stops and the others read again. So
    the first one for which there is room buys.

    :param limit: US dollars that all of them may cost together.
    :param now: the time in epoch seconds.
    """
    others, asking = other_reservations(mine, posted), _asking(mine, posted, now)
    cannot_buy = never_fits(mine, others, limit, now)
    if not cannot_buy and sum_of([mine, *others]) <= limit:
        return "buy"
    last = all((r.reserved_at, r.key) < (mine.reserved_at, mine.key) for r in asking)
    late = now - mine.reserved_at > RESERVATION_TIMEOUT
    return "stop" if last or late or cannot_buy else "wait"


def never_fits(mine: Reservation, posted: Sequence[Reservation], limit: Decimal, now: float) -> bool:
    """Return whether *mine* has no room even if all that still ask give up: then it is not posted at all.

    A job of unknown price may cost anything, so there is no room beside one.
    """
    asking = _asking(mine, posted, now)
    fixed = [mine, *(r for r in other_reservations(mine, posted) if r not in asking)]
    return any(r.usd is None for r in fixed) or sum_of(fixed) > limit


def _asking(mine: Reservation, posted: Sequence[Reservation], now: float) -> list[Reservation]:
    """Return the reservations that may still be given up."""
    asking = [r for r in other_reservations(mine, posted) if r.state is ReservationState.ASKING]
    return [r for r in asking if r.usd is not None and now - r.reserved_at <= RESERVATION_TIMEOUT]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job, and all jobs of a Dag run together, may cost in US dollars; None is no limit."""

    max_cost_usd: Decimal | None = None
    max_run_cost_usd: Decimal | None = None

    @classmethod
    def read(cls, settings: Settings, **arguments: Any) -> Limits:
        """Return the lower one of the operator's and the connection's limit, for each argument.

        :raises KlingInputError: an argument is no number of dollars, or was set and is empty.
        """
        limits = {}
        for argument, value in arguments.items():
            try:
                limits[argument] = lowest(read_limit(value), getattr(settings, argument))
            except ValueError as problem:
                shown = shorten(repr(redacted(value)), 60)
                raise KlingInputError(f"{argument}={shown}: {problem}.") from None
        return cls(**limits)


class RunReservations:
    """The reservations of a Dag run, as XComs of its tasks.

    :param task_ids: all tasks of the Dag that buy, its own among them.
    :param billing_task_ids: all tasks of the Dag that push what the gateway says that a job has cost.
    """

    def __init__(self, ti: Any, task_ids: Sequence[str], billing_task_ids: Sequence[str]) -> None:
        self._ti, self._task_ids, self._billing_task_ids = ti, list(task_ids), list(billing_task_ids)

    def mine(self, state: ReservationState, jobs: Mapping[str, Decimal | None]) -> Reservation:
        """Return a reservation of the running task instance.

        :param jobs: US dollars by job.
        """
        usd = sum_known(jobs.values())
        return Reservation(self._ti.task_id, self._ti.map_index, time.time(), usd, state, jobs)

    def post(self, reservation: Reservation) -> None:
        """Show a reservation to the other tasks, in place of the last one.

        :raises KlingUnavailableError: the XCom cannot be pushed.
        """
        value = reservation.to_dict()
        patiently(
            lambda: self._ti.xcom_push(key=RESERVATION_KEY, value=value),
            "What this task buys cannot be shown to other tasks",
        )

    def posted(self, bills: Mapping[str, Decimal] | None = None) -> list[Reservation]:
        """Return what all tasks of the run have posted, with the real costs of *bills*."""
        values = self._ti.xcom_pull(task_ids=self._task_ids, key=RESERVATION_KEY) or []
        posted = [Reservation.from_dict(value) or _UNREADABLE for value in values if value is not None]
        return [reservation.billed(bills or {}) for reservation in posted]

    def bills(self) -> dict[str, Decimal]:
        """Return what the jobs of the run have cost by the gateway's bill, as far as tasks have pushed it.

        :return: US dollars by task id, and by client id.
        """
        values = self._ti.xcom_pull(task_ids=self._billing_task_ids, key=BILL_KEY) or []
        bills = [bill for bill in map(Bill.from_dict, values) if bill]
        return {
            job: bill.usd
            for bill in bills
            if bill.usd is not None
            for job in (bill.kling_task_id, bill.client_id)
            if job
        }

    def pause(self, attempt: int) -> None:
        """Wait before the reservations are read again; each task for another time."""
        spread = zlib.crc32(f"{self._ti.id}/{attempt}".encode()) / 2**32
        time.sleep(_PAUSES[0] + spread * (_PAUSES[1] - _PAUSES[0]))


@dataclass(frozen=True, slots=True)
class CostControl:
    """Keeps one task instance within its limits.

    :param state: knows what the task instance has bought before.
    """

    limits: Limits
    state: SubmissionState
    run: RunReservations
    conn_id: str
    log: Any

    def check(self, cost: Decimal | None) -> None:
        """Check what one job costs.

        :raises KlingInputError: it is too much, or unknown.
        """
        for argument, limit in asdict(self.limits).items():
            if limit is not None and (cost is None or cost > limit):
                raise self._refusal(argument, limit, cost)

    def reserve(self, cost: Decimal | None, client_id: str = "") -> None:
        """Reserve what one job costs, before the other tasks of the run do.

        :param client_id: our own id of the job, where the gateway takes one.
        :raises KlingInputError: it is too much for the run, or unknown.
        :raises KlingUnavailableError: it cannot be shown to other tasks.
        """
        jobs = {**self.state.costs(), client_id: cost}
        limit = self.limits.max_run_cost_usd
        if limit is None:
            self.run.post(self.run.mine(ReservationState.TAKEN, jobs))
            return
        mine, bills = self.run.mine(ReservationState.ASKING, jobs), self.run.bills()
        if mine.usd is None or never_fits(mine, self.run.posted(bills), limit, time.time()):
            raise self._run_refusal(limit, mine, cost)
        self.run.post(mine)
        for attempt in itertools.count():
            decision = decide(mine, self.run.posted(bills), limit, time.time())
            if decision == "buy":
                break
            if decision == "stop":
                raise self._run_refusal(limit, mine, cost)
            self.run.pause(attempt)
        self.run.post(replace(mine, state=ReservationState.TAKEN))

    def release(self) -> None:
        """Reserve no more than what was bought."""
        with suppress_and_log(self.log, "The reservation could not be withdrawn"):
            self.run.post(_bought(self.run, self.state))

    def _run_refusal(self, limit: Decimal, mine: Reservation, cost: Decimal | None) -> KlingInputError:
        bills = self.run.bills()
        others = other_reservations(mine, self.run.posted(bills))
        earlier = self.state.costs().values()
        self.release()
        before = sum_of(others) + sum(filter(None, earlier))
        so_far = f"all jobs of the run are an estimated {format_usd(before)} so far"
        if billed := [bills[job] for other in others for job in other.jobs if job in bills]:
            so_far += f", of which {format_usd(sum(billed, Decimal(0)))} by the gateway's bill"
        if unknown := sum(usd is None for usd in (*earlier, *(other.usd for other in others))):
            so_far += f", without {unknown} of unknown price"
        error = self._refusal("max_run_cost_usd", limit, cost, f", and {so_far}")
        return error.replace(advice=_CORRECT_COSTS) if None in earlier else error

    def _refusal(
        self, argument: str, limit: Decimal, cost: Decimal | None, more: str = ""
    ) -> KlingInputError:
        what = f"{argument}={format_usd(limit)} does not allow it: this job is {describe_cost(cost)}{more}."
        where = f"the task or connection {self.conn_id!r}"
        advice = f"Raise {argument} on {where}, ask for less, or name missing prices in the connection."
        return KlingInputError(what, advice=advice)


def publish_costs(run: RunReservations, state: SubmissionState, log: Any) -> dict[str, Decimal | None] | None:
    """Show the other tasks of the run what earlier tries bought; Airflow has deleted their XComs.

    This comes first in each try: also a request whose answer is unknown counts from then on. Waits and
    downloads of an earlier job may have pushed its real cost. Airflow deletes that when they run again, so
    it is recorded here.

    :return: US dollars by job; None on an Airflow that does not remember.
    :raises KlingUnavailableError: what they bought cannot be read or cannot be shown.
    """
    if costs := state.costs():
        with suppress_and_log(log, "What earlier jobs have cost could not be recorded"):
            for job, usd in run.bills().items():
                state.record_cost(job, usd)
            costs = state.costs()
        run.post(_bought(run, state))
    return costs if state.is_persistent else None


def cost_without(kling_task_id: str, costs: Mapping[str, Decimal | None] | None) -> float | None:
    """Return what all jobs but one cost together in US dollars; None where it is not known."""
    usd = None if costs is None else sum_known(cost for job, cost in costs.items() if job != kling_task_id)
    return None if usd is None else float(usd)


def _bought(run: RunReservations, state: SubmissionState) -> Reservation:
    costs = state.costs()
    return run.mine(ReservationState.TAKEN if costs else ReservationState.WITHDRAWN, costs)
