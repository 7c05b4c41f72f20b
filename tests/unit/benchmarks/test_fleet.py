"""The calculation of make bench-fleet."""

import pytest
from fleet import COMPONENTS, Video, limits, month

VIDEO = Video(cpu=dict.fromkeys(COMPONENTS, 1.0), idle=0.5, worker_seconds=6.0, worker_mb=200, database_kb=20)


def test_a_third_of_the_day_needs_three_times_as_much_at_once():
    day, night = month(VIDEO, 24), month(VIDEO, 8)
    assert day["videos a second"] == 0.39  # a million in 30 days
    assert day["jobs at once, slots of the account"] == 75  # for 195 seconds each
    assert night["jobs at once, slots of the account"] == pytest.approx(3 * 75, abs=1)
    assert day["worker slots"] == 4  # 0.39 * 6 seconds at 60 percent
    assert day["videos, TB a month"] == night["videos, TB a month"] == 12


def test_the_part_that_is_full_first_comes_first():
    full = limits(VIDEO, 24)
    assert next(iter(full)) == "an account with 20 slots"
    assert list(full.values()) == sorted(full.values())
    assert full["[triggerer] capacity = 1000"] == pytest.approx(1000 / 195 * 30 * 86400, rel=0.01)
