"""What make bench-schedule rests on: the best that can be done is right, and the schedule comes near it."""

import numpy as np
import pytest
from schedule import jobs as kinds
from schedule.bound import Bound
from schedule.waits import Found, backing_off, every, learning, watched


def usual(says=kinds.silent, number=350):
    return kinds.steady(np.random.default_rng(7), number, says)


def test_the_best_poller_looks_once_where_all_jobs_take_the_same_time():
    looks, late = Bound(np.full(100, 50.0)).at_cost(0.1)
    assert looks == 1
    assert late <= 0.5


def test_the_best_poller_of_even_chances_looks_ever_more_often():
    # Gaps of sqrt(2 * cost * seconds left) make 2/3 sqrt(seconds / 2 / cost) looks, each worth its cost.
    looks, late = Bound(np.linspace(0, 200, 100_001), step=0.1).at_cost(0.5)
    assert looks == pytest.approx(2 / 3 * (200 / 2 / 0.5) ** 0.5, rel=0.1)
    assert late == pytest.approx(looks * 0.5, rel=0.15)


def test_the_best_poller_takes_just_over_half_the_looks_of_five_seconds():
    best = Bound(kinds.times(np.random.default_rng(1), 100_000), step=2).at_delay(2.5)
    assert 20 < best < 23.5


def test_a_fixed_interval_is_half_of_it_late():
    found = watched(usual(), every(5))
    assert found.mean_late == pytest.approx(2.5, abs=0.3)
    assert found.mean_looks == pytest.approx(np.mean([job.takes for job in usual()]) / 5 + 0.5, rel=0.05)


def test_no_schedule_is_better_than_the_best():
    times = kinds.times(np.random.default_rng(1), 100_000)
    found = watched(usual(number=600), learning(), skip=100)
    assert found.mean_looks > 0.95 * Bound(times, step=2).at_delay(found.mean_late)
    assert found.mean_looks < 1.25 * Bound(times, step=2).at_delay(found.mean_late)


def test_the_schedule_takes_three_fifths_of_five_seconds_blind_and_a_third_with_an_honest_progress():
    five = watched(usual(), every(5), skip=100)
    blind = watched(usual(), learning(), skip=100)
    assert blind.mean_looks < 0.65 * five.mean_looks
    assert blind.mean_late < 1.2 * five.mean_late
    seeing = watched(usual(kinds.HONEST["exact"]), learning(0.2), skip=100)
    assert seeing.mean_looks < five.mean_looks / 3
    assert seeing.mean_late < five.mean_late


def test_backoff_notices_late_what_takes_long():
    assert backing_off([kinds.Job(0, 130)]) == Found([7], [52.0])
