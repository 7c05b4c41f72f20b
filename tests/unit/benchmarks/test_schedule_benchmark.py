"""The simulation of make bench-schedule: its best possible poller is right, and the schedule comes close."""

import numpy as np
import pytest
from schedule import jobs as kinds
from schedule.bound import Bound
from schedule.pollers import Counts, back_off, every, poll_all, scheduled


def usual(reports=kinds.nothing, number=350):
    return kinds.steady(np.random.default_rng(7), number, reports)


def test_the_best_poller_polls_once_where_all_jobs_take_the_same_time():
    polls, late = Bound(np.full(100, 50.0)).at_cost(0.1)
    assert polls == 1
    assert late <= 0.5


def test_the_best_poller_for_uniform_durations_polls_more_and_more_often():
    # Gaps of sqrt(2 * cost * seconds left) make 2/3 sqrt(seconds / 2 / cost) polls, each worth its cost.
    polls, late = Bound(np.linspace(0, 200, 100_001), step=0.1).at_cost(0.5)
    assert polls == pytest.approx(2 / 3 * (200 / 2 / 0.5) ** 0.5, rel=0.1)
    assert late == pytest.approx(polls * 0.5, rel=0.15)


def test_the_best_poller_takes_just_over_half_the_polls_of_five_seconds():
    best = Bound(kinds.times(np.random.default_rng(1), 100_000), step=2).at_delay(2.5)
    assert 20 < best < 23.5


def after(taught):
    return lambda n: n >= taught


def test_a_fixed_interval_has_a_mean_delay_of_half_the_interval():
    counts = poll_all(usual(), every(5), after(0))
    assert counts.mean_late == pytest.approx(2.5, abs=0.3)
    assert counts.mean_polls == pytest.approx(np.mean([job.takes for job in usual()]) / 5 + 0.5, rel=0.05)


def test_no_schedule_is_better_than_the_best():
    times = kinds.times(np.random.default_rng(1), 100_000)
    counts = poll_all(usual(number=600), scheduled(), after(100))
    assert counts.mean_polls > 0.95 * Bound(times, step=2).at_delay(counts.mean_late)


@pytest.mark.parametrize("reports", [kinds.nothing, *kinds.HONEST.values(), *kinds.LIES.values()])
def test_the_schedule_takes_less_than_two_thirds_of_five_seconds_and_is_never_late_by_much(reports):
    five = poll_all(usual(), every(5), after(100))
    counts = poll_all(usual(reports), scheduled(), after(100))
    assert counts.mean_polls < 0.65 * five.mean_polls
    assert max(counts.late) < 15


@pytest.mark.parametrize("make", [kinds.after_a_night, kinds.quick_among_slow, kinds.changing, kinds.bursts])
def test_the_schedule_is_not_late_where_earlier_jobs_were_slower(make):
    counts = poll_all(make(np.random.default_rng(7), 400), scheduled(), after(0))
    assert max(counts.late) < 15


def test_backoff_notices_long_jobs_late():
    assert back_off([kinds.Job(0, 130)]) == Counts([7], [52.0])
