"""The best that a poller can do who knows nothing of a job but how such jobs are distributed, exactly."""

import numpy as np

from schedule.jobs import Times


class Bound:
    """The fewest looks at each mean delay: a dynamic program over the true distribution of times.

    :param sample: very many times that jobs take, in seconds.
    :param step: looks are taken at multiples of so many seconds.
    """

    def __init__(self, sample: Times, step: float = 1.0) -> None:
        cells = int(sample.max() / step) + 1
        ages = np.arange(cells + 1) * step
        self._gone = np.searchsorted(np.sort(sample), ages, side="right") / len(sample)
        self._step = step
        # Seconds that the jobs that are gone at an age have waited until then, on average over all jobs.
        self._waited = np.concatenate([[0.0], np.cumsum((self._gone[1:] + self._gone[:-1]) / 2 * step)])

    def at_cost(self, look_cost: float) -> tuple[float, float]:
        """Return looks and mean delay of the schedule that is best where a look costs so many seconds."""
        cells = len(self._gone) - 1
        furthest = max(1, int(400 / self._step))
        best, looks, late = np.zeros(cells + 1), np.zeros(cells + 1), np.zeros(cells + 1)
        for at in range(cells - 1, -1, -1):
            runs = 1 - self._gone[at]
            to = np.arange(at + 1, min(cells, at + furthest) + 1)
            waited = self._waited[to] - self._waited[at] - self._gone[at] * (to - at) * self._step
            total = look_cost * runs + waited + best[to]
            choice = int(np.argmin(total))
            best[at] = total[choice]
            looks[at], late[at] = runs + looks[to[choice]], waited[choice] + late[to[choice]]
        return float(looks[0]), float(late[0])

    def at_delay(self, delay: float) -> float:
        """Return the fewest looks at this mean delay."""
        low, high = 0.001, 10.0
        for _ in range(20):
            cost = (low * high) ** 0.5
            looks, late = self.at_cost(cost)
            low, high = (low, cost) if late > delay else (cost, high)
        return looks
