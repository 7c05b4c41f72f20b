"""The schedule polls where an end is likely, learns how long jobs take, and is never late by much."""

import itertools
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.polling import MAX_POLL_INTERVAL
from airflow_provider_kling.polling.schedule import (
    FIRST_POLLS_SPREAD,
    MIN_POLL_INTERVAL,
    DurationModel,
    DurationModels,
    Schedule,
    kind_of,
)


def silent(age, duration):
    return None, None


def honest(age, duration):
    return min(99, round(100 * age / duration)), None


def polls(duration, model=None, says=silent, *, begins=0.0, **options):
    """Return the ages at which a job of this duration is polled; the last one finds it done."""
    schedule = Schedule(model or DurationModel(), **options)
    age = schedule.first_poll(begins)
    ages = [age]
    while age < duration:
        schedule.saw_running(age)
        age = schedule.next_poll(age, *says(age, duration))
        ages.append(age)
    schedule.saw_end(age)
    return ages


def usual(number, seed=1, median=165.0):
    """Return the durations of usual jobs: around the median, one of twenty far longer."""
    chance = random.Random(seed)
    durations = [median * math.exp(0.3 * chance.gauss(0, 1)) for _ in range(number)]
    return [chance.uniform(2, 5) * median if n % 20 == 10 else took for n, took in enumerate(durations)]


def model_of(durations):
    model = DurationModel()
    for duration in durations:
        model.observe(duration)
    return model


def gaps(ages):
    return [b - a for a, b in itertools.pairwise(ages)]


def test_a_kind_of_job_is_its_model_duration_and_sound_and_nothing_else():
    inputs = {"prompt": "secret", "image": "data:", "sound": True, "duration": 10}
    assert kind_of("kling-v3.0-pro-i2v", inputs) == "kling-v3.0-pro-i2v duration=10 sound=True"
    assert kind_of("m", {}) == "m"
    assert len(kind_of("m" * 999, inputs)) == 100


def test_jobs_of_one_kind_share_a_model_and_the_kinds_unused_for_longest_are_dropped():
    models = DurationModels()
    first = models.of("first")
    for n in range(63):
        models.of(f"other {n}")
        assert models.of("first") is first
    models.of("one more")
    assert models.of("first") is first
    assert len(models._models) == 64
    assert "other 0" not in models._models


def test_a_kind_is_known_from_five_jobs_on_by_the_ages_at_which_most_of_them_ended():
    model = model_of([100.0] * 4)
    assert model.estimate() is None
    assert model_of(range(100)).estimate() == (10, 90)


def test_only_the_latest_two_hundred_jobs_count():
    assert model_of([500.0] * 300 + [100.0] * 200).estimate() == (100, 100)


def test_a_known_kind_is_polled_every_five_seconds_where_most_jobs_end_and_rarely_elsewhere():
    ages = polls(700, model_of(range(100, 150)))
    for age, gap in zip(ages, gaps(ages), strict=False):
        assert gap == pytest.approx(MIN_POLL_INTERVAL if 105 <= age <= 144 else MAX_POLL_INTERVAL)


def test_where_most_jobs_end_late_the_interval_grows_with_the_age():
    ages = polls(320, model_of(range(100, 400)))
    inside = [(age, gap) for age, gap in zip(ages, gaps(ages), strict=False) if age > 240]
    assert all(gap == pytest.approx(age / 30) for age, gap in inside)


def test_an_unknown_kind_is_polled_often_while_it_is_young_and_then_more_rarely():
    ages = [round(gap, 6) for gap in gaps(polls(2000))]
    assert ages[0] == MIN_POLL_INTERVAL
    assert ages == sorted(ages)
    assert ages[-2] == MAX_POLL_INTERVAL


def test_a_known_kind_takes_fewer_than_two_thirds_of_the_polls_of_a_fixed_interval():
    durations, model = usual(400), DurationModel()
    counts = [len(polls(took, model, key=str(n))) for n, took in enumerate(durations)]
    assert statistics.mean(counts[200:]) < 0.62 * statistics.mean(math.ceil(d / 5) for d in durations[200:])


def test_an_honest_progress_or_eta_saves_polls():
    durations, model = usual(100), model_of(usual(200))

    def eta(age, duration):
        return None, duration - age

    def count(says):
        return sum(len(polls(took, model_of(model._durations), says)) for took in durations)

    assert count(honest) < 0.9 * count(silent)
    assert count(eta) < 0.9 * count(silent)


NUMBERS = st.none() | st.floats(-1e14, 1e14)


@given(
    seen=st.lists(st.floats(0, 5000), max_size=30),
    duration=st.floats(0, 3000),
    said=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=10),
    key=st.text(),
)
def test_no_history_and_no_word_of_a_job_lets_its_end_be_noticed_late_or_costs_more_polls(
    seen, duration, said, key
):
    words = itertools.cycle(said)
    ages = polls(duration, model_of(seen), lambda *_: next(words), key=key)
    assert ages[-1] - duration <= max(MAX_POLL_INTERVAL, FIRST_POLLS_SPREAD) + 1e-6
    assert all(MIN_POLL_INTERVAL - 1e-6 <= gap <= MAX_POLL_INTERVAL + 1e-6 for gap in gaps(ages))


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(2, 600), st.text())
def test_initial_delay_and_max_poll_interval_are_kept(age, initial_delay, max_poll_interval, key):
    schedule = Schedule(DurationModel(), key, initial_delay, max_poll_interval)
    first = schedule.first_poll(age)
    assert max(age, initial_delay) <= first <= max(age, initial_delay) + FIRST_POLLS_SPREAD
    assert schedule.next_poll(first) - first <= max_poll_interval + 1e-6


def test_first_polls_of_jobs_that_were_submitted_together_are_spread():
    ages = sorted(Schedule(key=f"job-{n}").first_poll(3.0) for n in range(1000))
    assert len({round(age, 2) for age in ages}) > 500
    assert ages[0] < 3.1
    assert 12.9 < ages[-1] < 13
    assert Schedule(key="t").first_poll(3.0) == Schedule(key="t").first_poll(3.0)
    assert Schedule(key="job-1").first_poll(3.0, interval=2.0) < 5


def test_a_duration_is_learnt_to_within_an_interval():
    model = DurationModel()
    for n in range(20):
        polls(100, model, key=str(n))
    early, late = model.estimate()
    assert 94 <= early <= late <= 106


def test_a_quick_job_that_its_first_poll_finds_done_is_learnt_too():
    model = DurationModel()
    for n in range(20):
        polls(2, model, key=str(n))
    assert model.estimate()[1] <= 10


def test_nothing_is_learnt_from_a_job_that_may_have_ended_before_it_was_watched():
    model = DurationModel()
    for _ in range(9):
        polls(100, model, begins=5000)
    assert model.estimate() is None


def test_a_job_whose_end_is_seen_twice_is_learnt_once():
    model = DurationModel()
    for _ in range(3):
        schedule = Schedule(model)
        schedule.first_poll(0)
        schedule.saw_end(20)
        schedule.saw_end(25)
    assert len(model._durations) == 3
