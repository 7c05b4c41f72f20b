"""The budget of queries: never too many in a second, nothing during a pause, nobody left out."""

from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.polling.rate_limit import LONGEST_PAUSE, SHORTEST_PAUSE, Budget

RATES = st.one_of(st.floats(0.1, 1.0), st.integers(1, 300).map(float), st.floats(1, 300))


def departures(budget, wishes):
    """Return when those who wish to leave at these times may, in the order of their wishes."""
    left, now = [], 0.0
    for wish in sorted(wishes):
        now = budget.next_at(max(now, wish))
        budget.take(now)
        left.append(now)
    return left


@given(RATES, st.lists(st.floats(0, 20), min_size=1, max_size=300))
def test_never_do_more_than_the_rate_leave_in_any_second(rate, wishes):
    left = departures(Budget(rate), wishes)
    window = max(1.0, 1 / rate)
    most = ceil(rate)
    for first, after in zip(left, left[most:], strict=False):
        assert after - first >= window * (1 - 1e-9)


@given(RATES, st.lists(st.floats(0, 20), min_size=1, max_size=300))
def test_nobody_waits_longer_than_the_queue_before_him_takes(rate, wishes):
    left = departures(Budget(rate), wishes)
    slowest = 1 / (rate - max(1.0, rate / 10) + 1) if rate > 1 else 1 / rate
    for number, (wish, at) in enumerate(zip(sorted(wishes), left, strict=True)):
        assert wish <= at <= wish + number * slowest + 1e-6


def test_a_tenth_may_leave_at_once_and_the_rest_is_spread():
    left = departures(Budget(100.0), [0.0] * 20)
    assert left[9] == pytest.approx(0.0)
    gaps = [later - earlier for earlier, later in pairwise(left[9:])]
    assert gaps == pytest.approx([1 / 91] * 10)


def test_a_budget_that_may_save_gives_it_at_once_and_then_its_rate():
    budget = Budget(0.5, saved=3.0)
    assert departures(budget, [0.0] * 5) == pytest.approx([0.0, 0.0, 0.0, 2.0, 4.0])
    assert departures(budget, [100.0] * 4) == pytest.approx([100.0, 100.0, 100.0, 102.0])


def test_what_counts_for_several_takes_as_much_of_the_budget():
    budget = Budget(2.0, saved=10.0)
    budget.take(0.0, 9.0)
    assert budget.next_at(0.0) == 0.0
    budget.take(0.0, 4.0)
    assert budget.next_at(0.0) == 2.0


def test_an_idle_budget_saves_nothing_up():
    budget = Budget(10.0)
    budget.take(0.0)
    left = departures(budget, [1000.0] * 3)
    assert left == pytest.approx([1000.0, 1000.1, 1000.2])


@pytest.mark.parametrize(
    ("retry_after", "pause"), [(7.0, 7.0), (None, SHORTEST_PAUSE), (1e9, LONGEST_PAUSE), (0.0, 0.0)]
)
def test_a_pause_holds_everybody_back_and_has_an_end(retry_after, pause):
    budget = Budget(10.0)
    budget.pause(100.0, retry_after)
    assert budget.next_at(100.0) == 100.0 + pause


def test_a_shorter_pause_ends_no_longer_one():
    budget = Budget(10.0)
    budget.pause(0.0, 60.0)
    budget.pause(1.0, 2.0)
    assert budget.next_at(1.0) == 60.0


def test_after_a_pause_the_rate_holds_as_before():
    budget = Budget(1.0)
    budget.pause(0.0, 10.0)
    assert departures(budget, [0.0, 0.0, 0.0]) == [10.0, 11.0, 12.0]


def test_a_rate_that_changes_counts_at_once():
    budget = Budget(1.0)
    budget.take(0.0)
    budget.change(100.0)
    assert departures(budget, [0.0, 0.0])[1] <= 1.0
