"""The rate limiter: never too many events in a second, and no event waits longer than the queue takes."""

from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.polling.rate_limit import RateLimiter

RATES = st.one_of(st.floats(0.1, 1.0), st.integers(1, 300).map(float), st.floats(1, 300))


def allowed(limiter, wanted):
    """Return when the events that are wanted at these times may happen, in their order."""
    times, now = [], 0.0
    for wish in sorted(wanted):
        now = limiter.next_at(max(now, wish))
        limiter.take(now)
        times.append(now)
    return times


@given(RATES, st.lists(st.floats(0, 20), min_size=1, max_size=300))
def test_no_second_has_more_events_than_the_rate(rate, wanted):
    times = allowed(RateLimiter(rate), wanted)
    window = max(1.0, 1 / rate)
    most = ceil(rate)
    for first, after in zip(times, times[most:], strict=False):
        assert after - first >= window * (1 - 1e-9)


@given(RATES, st.lists(st.floats(0, 20), min_size=1, max_size=300))
def test_no_event_waits_longer_than_the_events_before_it_take(rate, wanted):
    times = allowed(RateLimiter(rate), wanted)
    slowest = 1 / (rate - max(1.0, rate / 10) + 1) if rate > 1 else 1 / rate
    for number, (wish, at) in enumerate(zip(sorted(wanted), times, strict=True)):
        assert wish <= at <= wish + number * slowest + 1e-6


def test_a_tenth_of_the_rate_is_allowed_at_once_and_the_rest_is_spread():
    times = allowed(RateLimiter(100.0), [0.0] * 20)
    assert times[9] == pytest.approx(0.0)
    gaps = [later - earlier for earlier, later in pairwise(times[9:])]
    assert gaps == pytest.approx([1 / 91] * 10)


def test_a_burst_is_allowed_at_once_and_then_the_rate():
    limiter = RateLimiter(0.5, burst=3.0)
    assert allowed(limiter, [0.0] * 5) == pytest.approx([0.0, 0.0, 0.0, 2.0, 4.0])
    assert allowed(limiter, [100.0] * 4) == pytest.approx([100.0, 100.0, 100.0, 102.0])


def test_events_that_are_counted_together_use_up_as_much_as_one_by_one():
    limiter = RateLimiter(2.0, burst=10.0)
    limiter.take(0.0, 9.0)
    assert limiter.next_at(0.0) == 0.0
    limiter.take(0.0, 4.0)
    assert limiter.next_at(0.0) == 2.0


def test_an_idle_limiter_without_a_burst_saves_nothing():
    limiter = RateLimiter(10.0)
    limiter.take(0.0)
    times = allowed(limiter, [1000.0] * 3)
    assert times == pytest.approx([1000.0, 1000.1, 1000.2])


def test_a_rate_that_changes_counts_at_once():
    limiter = RateLimiter(1.0)
    limiter.take(0.0)
    limiter.change(100.0)
    assert allowed(limiter, [0.0, 0.0])[1] <= 1.0
