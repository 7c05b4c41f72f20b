"""The schedule looks where an end is likely, learns, and believes those who kept their promises."""

import math
import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.polling.schedule import (
    MAX_POLL_INTERVAL,
    SHORTEST_INTERVAL,
    History,
    Pace,
    Schedule,
    kind_of,
)


def nothing(age, took):
    return None, None


def honest(age, took):
    return min(99, round(100 * age / took)), None


def looks_at(took, pace=None, says=nothing, *, told=True, **schedule):
    """Return the ages at which a job that takes so many seconds was looked at; the last one found it done."""
    plan, age, ages = Schedule(pace or Pace(), **schedule), 0.0, []
    while age < took:
        age = plan.next_look(age)
        ages.append(age)
        if age < took:
            plan.saw(age, *says(age, took))
    plan.ended(age, took if told else None)
    return ages


def usual(number, seed=1, median=165.0):
    """Return what so many usual jobs take: around the median, one of twenty far longer."""
    chance = random.Random(seed)
    times = [median * math.exp(0.3 * chance.gauss(0, 1)) for _ in range(number)]
    return [chance.uniform(2, 5) * median if n % 20 == 10 else took for n, took in enumerate(times)]


def cost(times, pace=None, says=nothing, **more):
    """Return how many looks a job takes and how late its end is noticed, on average, one after another."""
    pace = pace or Pace()
    looks = [looks_at(took, pace, says, key=str(n), **more) for n, took in enumerate(times)]
    late = [ages[-1] - took for ages, took in zip(looks, times, strict=True)]
    return statistics.mean(map(len, looks)), statistics.mean(late)


def fixed(times, interval=5.0):
    return statistics.mean(math.ceil(took / interval) for took in times)


def taught(times, says=nothing):
    pace = Pace()
    cost(times, pace, says)
    return pace


def test_a_kind_of_job_is_its_model_duration_and_sound_and_nothing_else():
    inputs = {"prompt": "secret", "image": "data:", "sound": True, "duration": 10}
    assert kind_of("kling-v3.0-pro-i2v", inputs) == "kling-v3.0-pro-i2v duration=10 sound=True"
    assert kind_of("m", {}) == "m"
    assert len(kind_of("m" * 999, inputs)) == 100


def test_jobs_of_one_kind_share_a_pace_and_the_kinds_forgotten_longest_go():
    history = History()
    first = history.of("first")
    for n in range(63):
        history.of(f"other {n}")
        assert history.of("first") is first
    history.of("one more")
    assert history.of("first") is first
    assert len(history._paces) == 64
    assert "other 0" not in history._paces


def test_looks_are_dense_where_an_end_is_likely():
    ages = looks_at(400, taught(usual(200)), key="t")
    gaps = [b - a for a, b in zip([0.0, *ages], ages, strict=False)]
    among = [gap for age, gap in zip(ages, gaps, strict=True) if 140 < age < 200]
    after = [gap for age, gap in zip(ages, gaps, strict=True) if age > 300]
    assert gaps[0] > 3 * statistics.mean(among)
    assert statistics.mean(after) > 1.25 * statistics.mean(among)


def test_a_blind_wait_takes_fewer_than_two_thirds_of_the_looks_of_a_fixed_interval_as_late():
    times = usual(400)
    looks, late = cost(times[100:], taught(times[:100]))
    assert looks < 0.65 * fixed(times[100:], 2 * late)


def test_a_progress_that_kept_its_promises_saves_most_looks_and_is_not_noticed_later():
    times = usual(400)
    blind = cost(times[100:], taught(times[:100]))
    seeing = cost(times[100:], taught(times[:100], honest), honest)
    assert seeing[0] < 0.65 * blind[0]
    assert seeing[1] < blind[1]


def test_an_eta_that_kept_its_promises_saves_looks_too():
    def told(age, took):
        return None, took - age

    times = usual(300)
    assert cost(times, says=told)[0] < 0.65 * cost(times)[0]


def test_an_eta_of_0_says_nothing_and_breaks_no_promise():
    def told(age, took):
        return None, 0 if age < 100 else took - age

    pace = taught(usual(60), told)
    assert pace.trust("eta") > 0.9
    assert cost(usual(100), pace, told)[0] < 0.9 * cost(usual(100), taught(usual(60)))[0]


LIES = {
    "99 % from the start": lambda age, took: (99, None),
    "99 % after a minute": lambda age, took: (min(99, age), None),
    "faster than it is": lambda age, took: (min(99, 170 * age / took), None),
    "40 % at the end": lambda age, took: (40 * age / took, None),
    "backwards": lambda age, took: (100 - 100 * age / took, None),
    "any number": lambda age, took: (hash(age) % 101, None),
    "a clock of 165 s": lambda age, took: (min(99, age / 1.65), None),
    "always 0 %": lambda age, took: (0, None),
    "above 100 %": lambda age, took: (250, None),
    "below 0 %": lambda age, took: (-5, None),
    "an eta of 0": lambda age, took: (None, 0),
    "an eta below 0": lambda age, took: (None, -3.0),
    "always an eta of 5 s": lambda age, took: (None, 5),
    "an eta that counts to 165 s": lambda age, took: (None, max(0, 165 - age)),
    "a huge eta": lambda age, took: (None, 1e300),
    "an endless eta": lambda age, took: (None, math.inf),
    "now and then": lambda age, took: (round(100 * age / took) if hash(age) % 2 else None, None),
}


@pytest.mark.parametrize("says", LIES.values(), ids=LIES)
def test_whatever_a_job_says_costs_no_more_looks_than_five_seconds_and_hardly_more_delay(says):
    times = usual(300)
    looks, late = cost(times, says=says)
    blind = cost(times)
    assert looks < 0.8 * fixed(times)
    assert looks < 1.3 * blind[0]
    assert late < 1.3 * blind[1]


@pytest.mark.parametrize("says", [LIES["40 % at the end"], LIES["99 % from the start"]])
def test_a_progress_that_begins_to_lie_is_found_out_within_some_jobs(says):
    pace = taught(usual(100), honest)
    blind = taught(usual(100))
    times = usual(60, seed=2)
    fooled, late = cost(times[:10], pace, says)
    assert fooled < fixed(times[:10])
    assert late < 8 * cost(times[:10], blind)[1]
    cost(times[10:40], pace, says)
    assert cost(times[40:], pace, says)[1] < 2 * cost(times[40:], blind)[1]


def test_a_progress_that_turns_honest_is_believed_again():
    pace = taught(usual(60), LIES["99 % from the start"])
    assert pace.trust("progress") < 0.1
    cost(usual(60), pace, honest)
    assert pace.trust("progress") > 0.6


def test_a_job_that_says_99_percent_for_ten_minutes_is_asked_ever_more_rarely():
    pace = taught(usual(100), honest)
    ages = looks_at(165 + 600, pace, lambda age, took: (min(99, 0.6 * age), None))
    assert len(ages) < 0.75 * fixed([765])
    assert ages[-1] - ages[-2] < 30


def test_a_job_that_starts_again_at_0_percent_is_no_longer_believed_and_still_found():
    pace = taught(usual(100), honest)

    def restarted(age, took):
        return (round(100 * age / 165) if age < 120 else round(max(0, 100 * (age - 150) / 165))), None

    ages = looks_at(315, pace, restarted)
    assert len(ages) < fixed([315])
    assert ages[-1] - 315 < 20


def test_time_in_the_queue_is_not_taken_for_slow_progress():
    def queued(age, took):
        return (0, None) if age < took - 165 else (round(100 * (age - took + 165) / 165), None)

    times = [165 + (n % 7) * 90 for n in range(100)]
    pace = taught(times, queued)
    assert pace.trust("progress") > 0.8
    assert cost(times, pace, queued)[0] < 0.9 * cost(times, taught(times))[0]


@pytest.mark.parametrize("median", [8, 30, 600, 2400])
def test_a_kind_that_nobody_has_seen_is_found_soon_and_learnt(median):
    times = usual(150, median=median)
    first = cost(times[:1])
    assert first[0] <= max(3, fixed(times[:1]))
    assert first[1] < max(30, 0.2 * median)
    looks, late = cost(times[50:], taught(times[:50]))
    assert looks < fixed(times[50:], 2 * late) + 1


@pytest.mark.parametrize("told", [True, False])
def test_jobs_that_always_end_before_the_first_look_bring_it_forward(told):
    pace = Pace()
    first = looks_at(6, pace, told=told)[0]
    for n in range(60):
        looks_at(6 + n % 5, pace, told=told, key=str(n))
    assert looks_at(6, pace)[0] < 0.7 * first


def test_the_end_is_learnt_without_the_gateways_timings_as_well():
    times = usual(300)
    told, untold = Pace(), Pace()
    for n, took in enumerate(times):
        looks_at(took, told, key=str(n))
        looks_at(took, untold, key=str(n), told=False)
    assert cost(times, untold)[0] == pytest.approx(cost(times, told)[0], rel=0.15)


@pytest.mark.parametrize("took", [-1.0, 0.0, 50.0, 1e9, math.inf, math.nan])
def test_a_time_of_the_end_that_cannot_be_is_not_believed(took):
    told, seen = Pace(), Pace()
    for pace, at in ((told, took), (seen, None)):
        plan = Schedule(pace)
        plan.saw(100, 50, None)
        plan.ended(110, at)
    assert told.rates == seen.rates
    assert told.trust("progress") == seen.trust("progress")


def test_a_crowd_that_began_together_does_not_look_faster_than_it_is():
    crowd = Pace()
    for n, took in enumerate(sorted(usual(400))):
        plan = Schedule(crowd, str(n))
        if took < 120:
            plan.saw(took - 1, None, None)
            plan.ended(took, took)
        else:
            plan.saw(120, None, None)
    true = taught(usual(400))
    assert crowd.coming(60, 120) < 2 * true.coming(60, 120)


def test_what_nobody_watched_is_not_counted():
    pace = Pace()
    plan = Schedule(pace)
    plan.watch_from(200)
    plan.saw(200, None, None)
    assert pace.rates == Pace().rates
    plan.ended(200, 30)
    assert pace.rates == Pace().rates
    plan.saw(260, None, None)
    assert pace.coming(200, 260) < Pace().coming(200, 260)
    assert pace.coming(0, 180) == Pace().coming(0, 180)


def test_an_end_is_learnt_once():
    pace, once = Pace(), Pace()
    plan, same = Schedule(pace), Schedule(once)
    for age in (100, 105, 110):
        plan.ended(age, 95)
    same.ended(100, 95)
    assert pace.rates == once.rates


def test_times_that_change_are_followed():
    quick = usual(200, seed=2, median=60)
    pace = taught(usual(800))
    cost(quick, pace)
    assert pace.coming(30, 60) > 0.4 * taught(quick).coming(30, 60)


def test_a_thousand_jobs_of_one_second_do_not_ask_in_one_second():
    pace = taught(usual(200))
    firsts = sorted(Schedule(pace, f"job-{n}").next_look(5) for n in range(1000))
    assert max(sum(at <= first < at + 1 for first in firsts) for at in range(200)) < 100
    assert Schedule(pace, "job-1").next_look(5) == Schedule(pace, "job-1").next_look(5)


def test_first_look_and_max_poll_interval_are_kept():
    for n in range(50):
        ages = looks_at(900, key=str(n), initial_delay=150, longest=12)
        assert ages[0] >= 150
        assert all(b - a <= 12 for a, b in pairwise(ages))
        assert looks_at(900, key=str(n), initial_delay=150)[0] < 150 + MAX_POLL_INTERVAL


@given(
    st.lists(
        st.tuples(st.floats(0, 10**5), st.none() | st.floats(-10, 300), st.none() | st.floats(-1e9, 1e9))
    ),
    st.floats(-100, 10**6),
    st.floats(0, 10**4),
    st.floats(SHORTEST_INTERVAL, 3600),
)
def test_no_history_and_no_word_of_a_job_bends_the_shortest_and_the_max_poll_interval(
    seen, age, initial_delay, longest
):
    pace = Pace()
    plan = Schedule(pace, "t", initial_delay, longest)
    for at, progress, eta in seen:
        plan.saw(at, progress, eta)
        ahead = plan.next_look(at) - max(at, initial_delay)
        assert ahead <= longest + 1e-6
    assert all(0 <= rate < math.inf for rate in pace.rates)
    look = plan.next_look(age)
    assert age + SHORTEST_INTERVAL <= look + 1e-6
    assert look <= max(max(age, initial_delay) + longest, age + SHORTEST_INTERVAL) + 1e-6
    assert 0 < pace.trust("progress") < 1
