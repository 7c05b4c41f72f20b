"""How many polls a job needs and how late its end is noticed: the schedule, fixed intervals, backoff.

Simulated: no network, and a clock of its own. The provider's own code decides when to poll.
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
#: Jobs of a seed; the first ones teach and do not count. The usual situation takes more of them.
JOBS, MANY, TAUGHT = 400, 2200, 200
#: The longest intervals on the curve; the default is first.
MAX_INTERVALS = (12.0, 6.0, 9.0, 18.0, 30.0, 60.0)
#: The cost of a poll in seconds of delay, for the curve of the best possible schedule.
COSTS = (0.03, 0.06, 0.1, 0.13, 0.4, 1.6)
#: What the schedule is to reach: the end is noticed within these seconds, and with this part of the polls.
MOST_LATE, MOST_POLLS = 15.0, 0.65

Make = Callable[[Rng], list[Job]]
Poll = Callable[[list[Job]], Counts]
Counted = Callable[[int], bool]


def after_teaching(n: int) -> bool:
    """Return whether the job of this number comes after those that teach."""
    return n >= TAUGHT


def runs(make: Make, poll: Poll) -> list[Counts]:
    """Return the counts of each seed."""
    return [poll(make(np.random.default_rng(seed))) for seed in SEEDS]


def by_schedule(longest: float = 12.0, counted: Counted = after_teaching, **more: Any) -> Poll:
    """Return a poller with the schedule."""
    return lambda jobs: poll_all(jobs, scheduled(longest, **more), counted)


def fixed(interval: float, counted: Counted = after_teaching) -> Poll:
    """Return a poller with a fixed interval."""
    return lambda jobs: poll_all(jobs, every(interval), counted)


def row(situation: str, who: str, counts: list[Counts], five: float | None) -> dict[str, Any]:
    """Return a line of the table.

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


def steady(says: kinds.Says = kinds.silent, number: int = JOBS, **kind: float) -> Make:
    """Return what makes jobs that come one by one."""
    return lambda rng: kinds.steady(rng, number, says, **kind)


def race() -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Let all pollers wait for the usual jobs; return lines, curves and a note."""
    sample = kinds.times(np.random.default_rng(99), 400_000)
    bound, usual = Bound(sample), steady(number=MANY)
    intervals = {interval: runs(usual, fixed(interval)) for interval in (2, 5, 10, 30, 60)}
    five = mean(intervals[5])[0]
    blind = [runs(usual, by_schedule(longest)) for longest in MAX_INTERVALS]
    rows = [row("no progress", "schedule", blind[0], five)]
    curves: dict[str, Any] = {"schedule, no progress": [mean(counts) for counts in blind]}
    for how, says in HONEST.items():
        seeing = [runs(steady(says), by_schedule(longest)) for longest in MAX_INTERVALS]
        rows.append(row(f"progress {how}", "schedule", seeing[0], mean(runs(steady(says), fixed(5)))[0]))
        curves.setdefault("schedule, progress right to 10 points", [mean(counts) for counts in seeing])
    rows += [row("any", f"fixed {interval} s", counts, five) for interval, counts in intervals.items()]
    backed = runs(usual, lambda jobs: back_off(jobs[TAUGHT:]))
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
    """Yield lines for all that can be odd about jobs of a known kind."""
    honest = next(iter(HONEST.values()))
    odd: dict[str, tuple[Make, Counted]] = {
        **{f"a lie: {how}": (steady(says), after_teaching) for how, says in LIES.items()},
        "progress every second time": (steady(kinds.sometimes), after_teaching),
        "an eta right to a third": (steady(kinds.counted), after_teaching),
        "10 min at 99 % in long jobs": (steady(kinds.stuck), after_teaching),
        "bursts of 100, 20 run at once": (lambda rng: kinds.bursts(rng, JOBS), after_teaching),
        "bursts, honest progress": (lambda rng: kinds.bursts(rng, JOBS, honest), after_teaching),
        "times change threefold each hour": (lambda rng: kinds.changing(rng, JOBS), after_teaching),
        "gateway away 2 of 30 min, starts anew": (lambda rng: kinds.restarts(rng, JOBS), after_teaching),
        "as before, honest progress": (lambda rng: kinds.restarts(rng, JOBS, honest), after_teaching),
        "a quick kind, median 30 s": (steady(median=30.0), after_teaching),
        "a slow kind, median 900 s": (steady(median=900.0), after_teaching),
        "an even kind, spread 5 %": (steady(spread=0.05), after_teaching),
        "usual jobs after a night of slow ones": (lambda rng: kinds.after_a_night(rng, JOBS), after_teaching),
        "the first 20 of these": (
            lambda rng: kinds.after_a_night(rng, JOBS),
            lambda n: TAUGHT <= n < TAUGHT + 20,
        ),
        "12-second jobs among slow ones": (
            lambda rng: kinds.quick_among_slow(rng, 5 * JOBS),
            lambda n: n >= TAUGHT and kinds.is_quick(n),
        ),
    }
    for what, (make, counted) in odd.items():
        five = mean(runs(make, fixed(5, counted)))[0]
        yield row(what, "schedule", runs(make, by_schedule(counted=counted)), five)


def unknown() -> Iterable[dict[str, Any]]:
    """Yield lines for kinds of which nothing, or next to nothing, is known."""
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
        f"In all situations 99 % of the ends are noticed within {latest:.1f} s (to reach: {MOST_LATE:.0f}). "
        f"Where the kind is known, it takes {most:.2f} of the polls of a fixed 5 s at most (to reach: "
        f"{MOST_POLLS})."
    )
    about = (
        f"{len(SEEDS)} seeds of {MANY - TAUGHT} jobs (no progress), {JOBS - TAUGHT} (others), after {TAUGHT} "
        "that teach; median (range) of the seeds."
    )
    others = [line for line in rows if line["poller"] != "schedule"]
    report("schedule", [*of_known, *of_unknown, *others], [about, note, reached], curves=curves)


if __name__ == "__main__":
    main()
