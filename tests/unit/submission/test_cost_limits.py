"""However many buy at once, in whatever order: never more than the limit, and always somebody."""

from dataclasses import replace
from decimal import Decimal

import pytest
from airflow_fakes import stored_and_read
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.models.prices import format_usd, lowest, read_limit, read_prices
from airflow_provider_kling.submission.cost_limits import (
    RESERVATION_TIMEOUT,
    Reservation,
    ReservationState,
    decide,
    never_fits,
)


def reservation(task_id, usd, *, at=0.0, state=ReservationState.ASKING):
    return Reservation(task_id, -1, at, None if usd is None else Decimal(usd), state)


class Run:
    """The tasks of one run, each as far as it has come; the schedule says whose step is next."""

    def __init__(self, wishes, limit):
        self.wishes, self.limit, self.board = wishes, limit, {}
        self.tasks = [self._task(r) for r in wishes]
        self.bought, self.refused = [], []

    def _task(self, mine):
        if never_fits(mine, list(self.board.values()), self.limit, 0.0):
            self.refused.append(mine)
            return
        yield
        self.board[mine.key] = mine
        yield
        while True:
            seen = list(self.board.values())
            yield  # what it has read may be old when it decides
            verdict = decide(mine, seen, self.limit, 0.0)
            if verdict == "buy":
                self.bought.append(mine)
                yield
                self.board[mine.key] = replace(mine, state=ReservationState.TAKEN)
                return
            if verdict == "stop":
                self.refused.append(mine)
                yield
                self.board[mine.key] = replace(mine, state=ReservationState.WITHDRAWN)
                return

    def follow(self, schedule):
        for step in schedule:
            next(self.tasks[step % len(self.tasks)], None)
        for _ in range(100 * len(self.tasks)):
            for task in self.tasks:
                next(task, None)
        assert len(self.bought) + len(self.refused) == len(self.wishes)

    @property
    def cost(self):
        return sum((r.usd for r in self.bought), Decimal(0))


times = st.integers(0, 5).map(float)
schedules = st.lists(st.integers(0, 99), max_size=120)


@given(st.lists(st.tuples(st.integers(1, 9), times), min_size=1, max_size=8), st.integers(0, 30), schedules)
def test_tasks_that_race_never_cost_more_than_the_limit_and_one_that_fits_is_bought(wishes, limit, schedule):
    run = Run([reservation(f"t{n}", usd, at=at) for n, (usd, at) in enumerate(wishes)], Decimal(limit))
    run.follow(schedule)
    assert run.cost <= limit
    assert bool(run.bought) == any(usd <= limit for usd, _ in wishes)


@given(st.lists(times, min_size=1, max_size=8), st.integers(0, 12), schedules)
def test_of_equal_jobs_just_as_many_are_bought_as_the_limit_has_room_for(when, limit, schedule):
    run = Run([reservation(f"t{n}", 2, at=at) for n, at in enumerate(when)], Decimal(limit))
    run.follow(schedule)
    assert len(run.bought) == min(len(when), limit // 2)


MINE = reservation("mine", 4, at=10.0)


@pytest.mark.parametrize(
    ("others", "now", "verdict"),
    [
        ([], 10.0, "buy"),
        ([replace(MINE, state=ReservationState.ASKING)], 10.0, "buy"),
        ([reservation("other", 6, state=ReservationState.TAKEN)], 10.0, "buy"),
        ([reservation("other", 7, state=ReservationState.TAKEN)], 10.0, "stop"),
        ([reservation("other", 7, state=ReservationState.WITHDRAWN)], 10.0, "buy"),
        ([reservation("earlier", 7, at=9.0)], 10.0, "stop"),
        ([reservation("later", 7, at=11.0)], 11.0, "wait"),
        ([reservation("later", 7, at=11.0)], 10.1 + RESERVATION_TIMEOUT, "stop"),
        ([reservation("dead", 7, at=9.0)], 9.1 + RESERVATION_TIMEOUT, "stop"),
        ([reservation("dead", 6, at=9.0)], 9.1 + RESERVATION_TIMEOUT, "buy"),
        ([reservation("unknown", None, state=ReservationState.TAKEN)], 10.0, "stop"),
        ([reservation("unknown", None, at=11.0)], 10.0, "stop"),
    ],
)
def test_what_is_seen_decides(others, now, verdict):
    assert decide(MINE, others, Decimal(10), now) == verdict


def test_a_job_of_unknown_price_finds_no_room_under_any_limit():
    assert decide(reservation("mine", None), [], Decimal(10**9), 0.0) == "stop"


@pytest.mark.parametrize("usd", ["0.56", None])
def test_a_reservation_survives_its_way_through_json(usd):
    told = Reservation("submit", 7, 12.5, usd and Decimal(usd), ReservationState.TAKEN)
    assert Reservation.from_dict(told.to_dict()) == told


@pytest.mark.parametrize(
    "data",
    [
        None,
        "x",
        {},
        {**MINE.to_dict(), "usd": "much"},
        {**MINE.to_dict(), "state": "?"},
        {**MINE.to_dict(), "usd": "-5"},
        {**MINE.to_dict(), "usd": "nan"},
    ],
)
def test_what_is_no_reservation_is_none(data):
    assert Reservation.from_dict(data) is None


@pytest.mark.parametrize(
    ("value", "limit"),
    [(None, None), (Decimal("0.5"), "0.5"), (0, "0"), (5, "5"), ("2.50", "2.5"), (0.56, "0.56")],
)
def test_a_limit_is_read_as_numbers_and_templates_give_it(value, limit):
    assert read_limit(value) == (None if limit is None else Decimal(limit))


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "None", " None ", -1, "-0.1", True, "five", "nan", float("inf"), [], {}, [5], ["5"], b"5"),
        *(
            "1e400",
            "0x10",
            "0_56",
            "\u0661",
            "\uff11",
            10**400,
            Decimal("NaN"),
            Decimal("sNaN"),
            "0,56",
            "5 USD",
        ),
    ],
)
def test_what_is_no_limit_is_refused(value):
    with pytest.raises(ValueError, match="number of US dollars, at least 0"):
        read_limit(value)


def test_of_two_limits_the_lower_one_holds():
    assert lowest(None, Decimal(3), Decimal(2)) == 2
    assert lowest(None, None) is None


def test_prices_are_dollars_a_second_by_model():
    assert read_prices({"m": "0.1", "n": 0}) == {"m": Decimal("0.1"), "n": Decimal(0)}
    for wrong in ("0.1", ["m"], {"m": -1}, {"m": "much"}):
        with pytest.raises(ValueError, match="dollars a second by model"):
            read_prices(wrong)


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        ("-0.0", "0.00"),
        ("5", "5.00"),
        ("0.56", "0.56"),
        ("0.336", "0.336"),
        ("0.50", "0.50"),
        ("1.6800", "1.68"),
    ],
)
def test_an_amount_is_told_to_the_cent_or_finer_where_it_is_finer(usd, text):
    assert format_usd(Decimal(usd)) == f"{text} USD"


def test_the_bill_of_a_job_counts_in_place_of_its_estimate():
    jobs = {"1": Decimal("0.56"), "ours": Decimal("0.56"), "3": None}
    mine = Reservation("submit", 7, 12.5, None, ReservationState.TAKEN, jobs)
    assert Reservation.from_dict(stored_and_read(mine.to_dict())) == mine
    assert mine.billed({}) == mine.billed({"7": Decimal(9)}) == mine
    assert mine.billed({"1": Decimal("0.42")}).usd is None
    assert mine.billed({"1": Decimal("0.42"), "ours": Decimal(1), "3": Decimal(0)}).usd == Decimal("1.42")


def test_the_reservation_of_an_older_version_counts_as_it_is():
    old = {"task_id": "submit", "map_index": 7, "reserved_at": 12.5, "usd": "0.56", "state": "taken"}
    assert Reservation.from_dict(old).billed({"1": Decimal(9)}).usd == Decimal("0.56")
