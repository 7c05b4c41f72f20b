"""The calculation of make bench-fleet."""

import pytest
from fleet import COMPONENTS, Video, limits, month

CPU = dict(zip(COMPONENTS, (1.2, 0.1, 0.5, 0.0, 0.3, 0.2), strict=True))
VIDEO = Video(cpu=CPU, idle=0.5, worker_seconds=5.0, worker_mb=200, database_kb=20)


def test_a_month_of_videos_is_one_video_multiplied():
    assert month(VIDEO, 24) == {
        "videos a second": 0.39,  # a million in 30 days
        "mapped runs of 1024 a day": 32.6,
        "jobs at once, slots of the account": 75,  # for 195 seconds each
        "accounts with 20 slots": 4,
        "waits in the triggerer": 75,
        "triggerers, with one to take over": 2,
        "queries a second, MyRouter": 8.4,  # 21.9 of a job
        "queries a second, Kling's own API, at least": 0.42,
        "worker slots": 4,  # 0.39 * 5 seconds at 60 percent
        "cores, workers": 0.77,  # 0.39 * 1.2 seconds at 60 percent
        "cores, scheduler": 0.06,
        "cores, api-server": 0.32,
        "cores, dag-processor": 0.0,
        "cores, triggerer": 0.19,
        "cores, postgres": 0.13,
        "database, GB a month": 20.0,
        "videos, TB a month": 12.0,
        "downloads, Mbit/s": 37,
        "Kling, USD a month": 560_000,
    }


def test_a_third_of_the_day_needs_three_times_as_much_at_once():
    day, night = month(VIDEO, 24), month(VIDEO, 8)
    assert night["jobs at once, slots of the account"] == pytest.approx(3 * 75, abs=1)
    assert night["videos, TB a month"] == day["videos, TB a month"]
    assert (day["accounts with 20 slots"], night["accounts with 20 slots"]) == (4, 12)


def test_the_part_that_is_full_first_comes_first():
    assert list(limits(VIDEO, 24).items()) == [
        ("an account with 20 slots", 266_000),
        ("one core for the API server", 3_110_000),
        ("one core for PostgreSQL", 7_776_000),
        ("[core] parallelism = 32", 9_953_000),
        ("queries_per_second = 100, MyRouter", 11_836_000),
        ("[triggerer] capacity = 1000", 13_292_000),
        ("one core for the scheduler", 15_552_000),
    ]
