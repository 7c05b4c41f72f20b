"""What breaks beside the tasks: triggerers, scheduler, API server, database. Seeded, spread over the run."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

from chaos.stage import SCHEDULER_SILENCE, TRIGGERER_SILENCE, TRIGGERERS, Stage, send

#: A fault goes on each time that the pause it gave is over.
Fault = Iterator[float]
FIRST, LAST = 0.04, 0.75  # of all tasks done, when the faults begin and when the last one is due
GAP, CALM = 4.0, 10.0


class ComponentFaults:
    """Breaks one component after the other, as the run gets on, so that a slow machine meets as much."""

    def __init__(self, stage: Stage, rounds: int, rng: random.Random) -> None:
        self._stage, self._dice = stage, rng
        kinds: dict[str, Callable[[], Fault]] = {
            "triggerer killed": self._kill_triggerer,
            "triggerer frozen": self._freeze_triggerer,
            "scheduler killed with its tasks": self._kill_scheduler,
            "scheduler killed alone": self._kill_scheduler_alone,
            "API server killed": self._kill_api_server,
            "PostgreSQL restarted, fast": lambda: self._restart_postgres("fast"),
            "PostgreSQL restarted, immediate": lambda: self._restart_postgres("immediate"),
        }
        self._plan: list[tuple[float, str, Callable[[], Fault]]] = []
        names = [name for _ in range(rounds) for name in rng.sample(list(kinds), len(kinds))]
        for index, name in enumerate(names):
            due = FIRST + (LAST - FIRST) * index / max(1, len(names) - 1)
            self._plan.append((due, name, kinds[name]))
        self._running: Fault | None = None
        self._next_step_at = 0.0
        self.planned = Counter(names)
        self.done: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        """Whether nothing more will break."""
        return not self._plan and self._running is None

    @property
    def quiet(self) -> bool:
        """Whether nothing has broken for a while."""
        return self._running is None and time.monotonic() > self._next_step_at + CALM

    def tick(self, progress: float, *, wait: bool) -> str | None:
        """Go on breaking; gives the name of a fault that begins now.

        :param wait: begin nothing: a task is frozen, and a scheduler that ends would wait for it.
        """
        if time.monotonic() < self._next_step_at:
            return None
        if self._running is not None:
            self._step()
        elif self._plan and not wait and progress >= self._plan[0][0]:
            _, name, begin = self._plan.pop(0)
            self._running = begin()
            self._step()
            self.done[name] += 1
            return name
        return None

    def _step(self) -> None:
        assert self._running is not None
        pause = next(self._running, None)
        if pause is None:
            self._running, pause = None, GAP
        self._next_step_at = time.monotonic() + pause

    def _triggerer(self) -> str:
        return self._dice.choice(TRIGGERERS)

    def _kill_triggerer(self) -> Fault:
        name = self._triggerer()
        self._stage.airflow.kill(name)
        yield self._dice.uniform(1, 5)
        self._stage.airflow.start("triggerer", name)

    def _freeze_triggerer(self) -> Fault:
        service = self._stage.airflow.services[self._triggerer()]
        send(service, signal.SIGSTOP)
        yield TRIGGERER_SILENCE + self._dice.uniform(3, 6)
        send(service, signal.SIGCONT)

    def _kill_scheduler(self) -> Fault:
        self._stage.airflow.kill("scheduler")
        yield self._dice.uniform(0.5, 3)
        self._stage.airflow.start("scheduler")

    def _kill_scheduler_alone(self) -> Fault:
        self._stage.kill_alone("scheduler")
        yield self._dice.uniform(0.5, 3)
        self._stage.airflow.start("scheduler")
        # What it left goes on, and holds its database connection and so its locks, until somebody ends it.
        yield SCHEDULER_SILENCE + self._dice.uniform(5, 10)
        self._stage.kill_orphans()

    def _kill_api_server(self) -> Fault:
        self._stage.airflow.kill("api-server")
        yield self._dice.uniform(0.5, 3)
        self._stage.airflow.start("api-server")

    def _restart_postgres(self, mode: str) -> Fault:
        self._stage.postgres.down("fast" if mode == "fast" else "immediate")
        yield self._dice.uniform(0.5, 3)
        self._stage.postgres.start()
