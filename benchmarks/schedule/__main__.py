"""The polls per job and the delay until its end is noticed, for the schedule, fixed intervals and backoff.

A simulation without network and with its own clock. The provider's code decides when to poll.
"""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from report import percentile, report, spread

from schedule import jobs as kinds
from schedule.bound import Bound
from schedule.jobs import HONEST, LIES, Job, Rng
from schedule.pollers import Counts, back_off, every, poll_all, scheduled

SEEDS = range(5)
#: Jobs per seed: usually, in the main situation, and at the beginning, where the schedule only learns.
JOBS, MANY, LEARNING = 400, 2200, 200
#: The max_poll_interval values of the curve; the default is first.
MAX_INTERVALS = (12.0, 6.0, 9.0, 18.0, 30.0, 60.0)
#: The cost of a poll in seconds of delay, for the curve of the best possible schedule.
COSTS = (0.03, 0.06, 0.1, 0.13, 0.4, 1.6)
#: The targets: p99 of the delay in seconds, and the polls as a share of those of a fixed 5 s.
TARGET_DELAY, TARGET_POLLS = 15.0, 0.65

Make = Callable[[Rng], list[Job]]
Poll = Callable[[list[Job]], Counts]
Counted = Callable[[int], bool]


def after_learning(n: int) -> bool:
    """Return whether the job of this number counts."""
    return n >= LEARNING


def runs(make: Make, poll: Poll) -> list[Counts]:
    """Return the counts of each seed."""
    return [poll(make(np.random.default_rng(seed))) for seed in SEEDS]


def by_schedule(longest: float = 12.0, counted: Counted = after_learning, **more: Any) -> Poll:
    """Return a poller with the schedule."""
    return lambda jobs: poll_all(jobs, scheduled(longest, **more), counted)


def fixed(interval: float, counted: Counted = after_learning) -> Poll:
    """Return a poller with a fixed interval."""
    return lambda jobs: poll_all(jobs, every(interval), counted)


def row(situation: str, who: str, counts: list[Counts], five: float | None) -> dict[str, Any]:
    """Return a row of the table.

    :param five: the polls of a fixed 5 s for the same jobs.
    """
    late = [delay for one in counts for delay in one.late]
    return {
        "situation": situation,
        "poller": who,
        "polls a job": spread([one.mean_polls for one in counts], ".1f"),
        "of fixed 5 s": "" if five is None else f"{mean(counts)[0] / five:.2f}",
        "mean delay s": spread([one.mean_late for one in counts]),
        "99 % within s": f"{percentile(late, 99):.1f}",
        "all within s": f"{max(late):.1f}",
    }


def mean(counts: list[Counts]) -> tuple[float, float]:
    """Return polls and delay, the medians of the seeds."""
    return statistics.median(c.mean_polls for c in counts), statistics.median(c.mean_late for c in counts)


def steady(reports: kinds.Reports = kinds.nothing, number: int = JOBS, **kind: float) -> Make:
    """Return a function that makes jobs that are submitted one by one."""
    return lambda rng: kinds.steady(rng, number, reports, **kind)


def race() -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Let all pollers wait for the usual jobs, and return rows, curves and a note."""
    sample = kinds.times(np.random.default_rng(99), 400_000)
    bound, usual = Bound(sample), steady(number=MANY)
    intervals = {interval: runs(usual, fixed(interval)) for interval in (2, 5, 10, 30, 60)}
    five = mean(intervals[5])[0]
    blind = [runs(usual, by_schedule(longest)) for longest in MAX_INTERVALS]
    rows = [row("no progress", "schedule", blind[0], five)]
    curves: dict[str, Any] = {"schedule, no progress": [mean(counts) for counts in blind]}
    for how, reports in HONEST.items():
        seeing = [runs(steady(reports), by_schedule(longest)) for longest in MAX_INTERVALS]
        rows.append(row(f"progress {how}", "schedule", seeing[0], mean(runs(steady(reports), fixed(5)))[0]))
        curves.setdefault("schedule, progress right to 10 points", [mean(counts) for counts in seeing])
    rows += [row("any", f"fixed {interval} s", counts, five) for interval, counts in intervals.items()]
    backed = runs(usual, lambda jobs: back_off(jobs[LEARNING:]))
    rows.append(row("any", "backoff 2 to 60 s", backed, five))
    curves["fixed interval"] = [mean(counts) for counts in intervals.values()]
    curves["backoff"] = [mean(backed)]
    curves["best possible, no progress"] = [bound.at_cost(cost) for cost in COSTS]
    polls, late = mean(blind[0])
    best = bound.at_delay(late)
    note = (
        f"Without progress: {polls:.1f} polls at a mean delay of {late:.1f} s, {polls / five:.0%} of a fixed "
        f"5 s. The best possible poller, which knows the true distribution, needs {best:.1f} at that delay."
    )
    return rows, curves, note


def known() -> Iterable[dict[str, Any]]:
    """Yield rows for unusual jobs of a known kind."""
    honest = next(iter(HONEST.values()))
    odd: dict[str, tuple[Make, Counted]] = {
        **{f"a lie: {how}": (steady(reports), after_learning) for how, reports in LIES.items()},
        "progress every second time": (steady(kinds.sometimes), after_learning),
        "an eta right to a third": (steady(kinds.counted), after_learning),
        "10 min at 99 % in long jobs": (steady(kinds.stuck), after_learning),
        "bursts of 100, 20 run at once": (lambda rng: kinds.bursts(rng, JOBS), after_learning),
        "bursts, honest progress": (lambda rng: kinds.bursts(rng, JOBS, honest), after_learning),
        "times change threefold each hour": (lambda rng: kinds.changing(rng, JOBS), after_learning),
        "gateway away 2 of 30 min, starts anew": (lambda rng: kinds.restarts(rng, JOBS), after_learning),
        "as before, honest progress": (lambda rng: kinds.restarts(rng, JOBS, honest), after_learning),
        "a quick kind, median 30 s": (steady(median=30.0), after_learning),
        "a slow kind, median 900 s": (steady(median=900.0), after_learning),
        "an even kind, spread 5 %": (steady(spread=0.05), after_learning),
        "usual jobs after a night of slow ones": (lambda rng: kinds.after_a_night(rng, JOBS), after_learning),
        "the first 20 of these": (
            lambda rng: kinds.after_a_night(rng, JOBS),
            lambda n: LEARNING <= n < LEARNING + 20,
        ),
        "12-second jobs among slow ones": (
            lambda rng: kinds.quick_among_slow(rng, 5 * JOBS),
            lambda n: n >= LEARNING and kinds.is_quick(n),
        ),
    }
    for what, (make, counted) in odd.items():
        five = mean(runs(make, fixed(5, counted)))[0]
        yield row(what, "schedule", runs(make, by_schedule(counted=counted)), five)


def unknown() -> Iterable[dict[str, Any]]:
    """Yield rows for kinds of which no or few jobs are known."""
    for median in (12.0, 30.0, 165.0, 900.0):
        for what, jobs in {"a kind never seen": 1, "the first ten jobs of a kind": 10}.items():
            make, poll = steady(median=median), by_schedule(jobs_a_kind=jobs)
            five = mean(runs(make, fixed(5)))[0]
            yield row(f"{what}, median {median:g} s", "schedule", runs(make, poll), five)


def main() -> None:
    """Run everything and report it."""
    rows, curves, note = race()
    of_known = [*(line for line in rows if line["poller"] == "schedule"), *known()]
    of_unknown = [*unknown()]
    latest = max(float(line["99 % within s"]) for line in [*of_known, *of_unknown])
    most = max(float(line["of fixed 5 s"]) for line in of_known)
    reached = (
        f"In all situations 99 % of the ends are noticed within {latest:.1f} s (target: {TARGET_DELAY:.0f}). "
        f"If the kind is known, this takes at most {most:.2f} of the polls of a fixed 5 s (target: "
        f"{TARGET_POLLS})."
    )
    about = (
        f"{len(SEEDS)} seeds of {MANY - LEARNING} jobs (no progress), {JOBS - LEARNING} (others), after "
        f"{LEARNING} for learning; median (range) of the seeds."
    )
    others = [line for line in rows if line["poller"] != "schedule"]
    report("schedule", [*of_known, *of_unknown, *others], [about, note, reached], curves=curves)


if __name__ == "__main__":
    main()
