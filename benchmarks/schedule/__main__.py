"""How many looks a job takes and how late its end is noticed: the schedule, fixed intervals, backoff.

Simulated: no network, and a clock of its own. The provider's own code decides when to look.
"""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from report import percentile, report, spread

from schedule import jobs as kinds
from schedule.bound import Bound
from schedule.jobs import HONEST, LIES, Job, Rng
from schedule.waits import Found, backing_off, every, learning, watched

SEEDS = range(5)
#: So many jobs a seed; the first of them teach and do not count. What decides takes more of them.
JOBS, MANY, TAUGHT = 400, 2200, 200
#: What a look costs in each run of the schedule, in seconds; the one that ships is first.
COSTS = (0.1, 0.03, 0.06, 0.13, 0.4, 1.6)
#: The mean delay of a fixed 5 s.
DELAY = 2.5

Make = Callable[[Rng], list[Job]]
Wait = Callable[[list[Job]], Found]


def runs(make: Make, wait: Wait) -> list[Found]:
    """Return what the waits came to, for each seed."""
    return [wait(make(np.random.default_rng(seed))) for seed in SEEDS]


def ours(look_cost: float = COSTS[0], longest: float = 60.0) -> Wait:
    """Return a wait by the schedule."""
    return lambda jobs: watched(jobs, learning(look_cost, longest), TAUGHT)


def fixed(interval: float) -> Wait:
    """Return a wait with a fixed interval."""
    return lambda jobs: watched(jobs, every(interval), TAUGHT)


def row(situation: str, who: str, found: list[Found], at_delay: float | None, least: float) -> dict[str, Any]:
    """Return a line of the table.

    :param at_delay: its looks at the mean delay of a fixed 5 s, if they were found.
    :param least: the looks of a fixed 5 s for the same jobs.
    """
    late = [delay for one in found for delay in one.late]
    return {
        "situation": situation,
        "who waits": who,
        "looks a job": spread([one.mean_looks for one in found], ".1f"),
        "mean delay s": spread([one.mean_late for one in found]),
        "99 % within s": f"{percentile(late, 99):.0f}",
        f"looks at {DELAY} s": "" if at_delay is None else f"{at_delay:.1f}",
        "of fixed 5 s": "" if at_delay is None else f"{at_delay / least:.2f}",
    }


def at_delay(points: Iterable[tuple[float, float]], delay: float = DELAY) -> float:
    """Return the looks at a mean delay, from (looks, delay) on both sides of it."""
    looks, late = np.log(np.array(sorted(points, key=lambda point: point[1]))).T
    assert late[0] <= np.log(delay) <= late[-1], points
    return float(np.exp(np.interp(np.log(delay), late, looks)))


def mean(found: list[Found]) -> tuple[float, float]:
    """Return looks and delay, the medians of the seeds."""
    return statistics.median(f.mean_looks for f in found), statistics.median(f.mean_late for f in found)


def curve(make: Make, costs: Iterable[float] = COSTS) -> tuple[list[Found], list[tuple[float, float]]]:
    """Return what ships, and (looks, delay) at all costs of a look."""
    found = [runs(make, ours(cost)) for cost in costs]
    return found[0], [mean(one) for one in found]


def steady(says: kinds.Says = kinds.silent, number: int = JOBS, **kind: float) -> Make:
    """Return what makes jobs that come one by one."""
    return lambda rng: kinds.steady(rng, number, says, **kind)


def race() -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Let all wait for the usual jobs, and return lines, curves and what there is to say."""
    sample = kinds.times(np.random.default_rng(99), 400_000)
    bound = Bound(sample)
    best = bound.at_delay(DELAY)
    usual = steady(number=MANY)
    fives = {interval: runs(usual, fixed(interval)) for interval in (2, 5, 10, 30, 60)}
    five = mean(fives[5])[0]
    shipped, blind = curve(usual)
    rows = [row("no progress", "schedule", shipped, at_delay(blind), five)]
    curves: dict[str, Any] = {"schedule, no progress": blind}
    for how, says in HONEST.items():
        found, points = curve(steady(says), (COSTS[0], 0.2, 0.5, 1.0))
        rows.append(row(f"progress {how}", "schedule", found, at_delay(points), five))
        curves.setdefault("schedule, progress right to 10 points", points)
    for interval, found in fives.items():
        rows.append(row("any", f"fixed {interval} s", found, five if interval == 5 else None, five))
    backed = runs(usual, lambda jobs: backing_off(jobs[TAUGHT:]))
    rows.append(row("any", "backoff 2 to 60 s", backed, None, five))
    curves["fixed interval"] = [mean(found) for found in fives.values()]
    curves["backoff"] = [mean(backed)]
    curves["best possible, no progress"] = [bound.at_cost(cost) for cost in sorted(COSTS)]
    blindly = at_delay(blind)
    note = (
        f"At a mean delay of {DELAY} s without progress: schedule {blindly:.1f} looks, fixed 5 s {five:.1f}, "
        f"best possible {best:.1f}: {blindly / five:.0%} of fixed, {blindly / best:.2f} times the best."
    )
    return rows, curves, note


def situations() -> list[dict[str, Any]]:
    """Return lines for all that can be odd about jobs."""
    near, dear, cheap = (COSTS[0], 0.07, 0.14), (COSTS[0], 0.4, 1.2), (COSTS[0], 0.03, 0.01)
    honest = next(iter(HONEST.values()))
    odd: dict[str, tuple[Make, tuple[float, ...]]] = {
        **{f"a lie: {how}": (steady(says), near) for how, says in LIES.items()},
        "progress every second time": (steady(kinds.sometimes), dear),
        "an eta right to a third": (steady(kinds.counted), dear),
        "10 min at 99 % in long jobs": (steady(kinds.stuck), dear),
        "bursts of 100, 20 run at once": (lambda rng: kinds.bursts(rng, JOBS), cheap),
        "bursts, honest progress": (lambda rng: kinds.bursts(rng, JOBS, honest), dear),
        "times change threefold each hour": (lambda rng: kinds.changing(rng, JOBS), cheap),
        "gateway away 2 of 30 min, starts anew": (lambda rng: kinds.restarts(rng, JOBS), cheap),
        "as before, honest progress": (lambda rng: kinds.restarts(rng, JOBS, honest), dear),
        "a quick kind, median 30 s": (steady(median=30.0), dear),
        "a slow kind, median 900 s": (steady(median=900.0), cheap),
        "an even kind, spread 5 %": (steady(spread=0.05), dear),
    }
    rows = []
    for what, (make, costs) in odd.items():
        found, points = curve(make, costs)
        rows.append(row(what, "schedule", found, at_delay(points), mean(runs(make, fixed(5)))[0]))
    for what, median in {"30": 30.0, "165": 165.0, "900": 900.0}.items():
        make = steady(median=median)
        found = runs(make, lambda jobs: watched(jobs, learning(alone=True), TAUGHT))
        rows.append(row(f"a kind never seen, median {what} s", "schedule", found, None, 1))
        rows.append(row(f"a kind never seen, median {what} s", "fixed 5 s", runs(make, fixed(5)), None, 1))
    return rows


if __name__ == "__main__":
    lines, curves, note = race()
    told = (
        f"{len(SEEDS)} seeds of {MANY - TAUGHT} jobs (no progress), {JOBS - TAUGHT} (others), after {TAUGHT} "
        "that teach; median (range) of the seeds."
    )
    report("schedule", [*lines, *situations()], [told, note], curves=curves)
