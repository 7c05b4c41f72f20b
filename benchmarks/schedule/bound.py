"""The best possible poller: it knows the exact distribution of durations, and nothing else about a job."""

import numpy as np

from schedule.jobs import Times


class Bound:
    """The fewest polls for each mean delay: a dynamic program over the true distribution of durations.

    :param sample: very many durations of jobs, in seconds.
    :param step: polls happen at multiples of this number of seconds.
    """

    def __init__(self, sample: Times, step: float = 1.0) -> None:
        cells = int(sample.max() / step) + 1
        ages = np.arange(cells + 1) * step
        self._ended = np.searchsorted(np.sort(sample), ages, side="right") / len(sample)
        self._step = step
        # Seconds from the end of the jobs that have ended until each age, as a mean over all jobs.
        self._waited = np.concatenate([[0.0], np.cumsum((self._ended[1:] + self._ended[:-1]) / 2 * step)])

    def at_cost(self, poll_cost: float) -> tuple[float, float]:
        """Return polls and mean delay of the best schedule if a poll costs as much as this delay."""
        cells = len(self._ended) - 1
        furthest = max(1, int(400 / self._step))
        best, polls, late = np.zeros(cells + 1), np.zeros(cells + 1), np.zeros(cells + 1)
        for at in range(cells - 1, -1, -1):
            runs = 1 - self._ended[at]
            to = np.arange(at + 1, min(cells, at + furthest) + 1)
            waited = self._waited[to] - self._waited[at] - self._ended[at] * (to - at) * self._step
            total = poll_cost * runs + waited + best[to]
            choice = int(np.argmin(total))
            best[at] = total[choice]
            polls[at], late[at] = runs + polls[to[choice]], waited[choice] + late[to[choice]]
        return float(polls[0]), float(late[0])

    def at_delay(self, delay: float) -> float:
        """Return the fewest polls for this mean delay."""
        low, high = 0.001, 10.0
        for _ in range(20):
            cost = (low * high) ** 0.5
            polls, late = self.at_cost(cost)
            low, high = (low, cost) if late > delay else (cost, high)
        return polls
