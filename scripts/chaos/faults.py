"""Faults of components: triggerers, scheduler, API server, database; in a fleet also workers and broker."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

from chaos.fleet import VISIBILITY_TIMEOUT, WORKERS, Fleet
from chaos.stage import SCHEDULER_SILENCE, TRIGGERER_SILENCE, TRIGGERERS, Stage, send

#: A fault in steps: each value is the pause before the next step, in seconds.
Fault = Iterator[float]
FIRST, LAST = 0.04, 0.75  # the share of tasks that have ended when the first and the last fault are due
MAX_RESTORE_SECONDS = 10  # in which a message should be handed out again after its visibility timeout
PAUSE, QUIET_AFTER = 4.0, 10.0  # seconds after a fault


class ComponentFaults:
    """Causes one component fault after another. They follow the progress of the run, not the clock."""

    def __init__(self, stage: Stage, rounds: int, rng: random.Random) -> None:
        self._stage, self._random = stage, rng
        kinds: dict[str, Callable[[], Fault]] = {
            "triggerer killed": self._kill_triggerer,
            "triggerer frozen": self._freeze_triggerer,
            "scheduler killed with its tasks": self._kill_scheduler,
            "scheduler killed alone": self._kill_scheduler_alone,
            "API server killed": self._kill_api_server,
            "PostgreSQL restarted, fast": lambda: self._restart_postgres("fast"),
            "PostgreSQL restarted, immediate": lambda: self._restart_postgres("immediate"),
        }
        if stage.fleet:
            # The tasks are children of the workers, so the scheduler is killed in one way only.
            kinds["scheduler killed"] = kinds.pop("scheduler killed with its tasks")
            del kinds["scheduler killed alone"]
            fleet = stage.fleet
            kinds |= {
                "worker killed with its tasks": self._kill_worker,
                "worker frozen until Redis hands out its messages again": lambda: self._freeze_worker(fleet),
                "Redis killed, its queue lost": lambda: self._kill_redis(fleet),
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
    def ended(self) -> bool:
        """Whether all faults are done."""
        return not self._plan and self._running is None

    @property
    def quiet(self) -> bool:
        """Whether the last fault is some seconds ago."""
        return self._running is None and time.monotonic() > self._next_step_at + QUIET_AFTER

    def tick(self, progress: float, *, wait: bool) -> str | None:
        """Run the next step of a fault, and return the name of a fault that begins now.

        :param wait: begin no fault, because a task is frozen: a scheduler that ends would wait for it.
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
            self._running, pause = None, PAUSE
        self._next_step_at = time.monotonic() + pause

    def _triggerer(self) -> str:
        return self._random.choice(TRIGGERERS)

    def _kill_triggerer(self) -> Fault:
        name = self._triggerer()
        self._stage.airflow.kill(name)
        yield self._random.uniform(1, 5)
        self._stage.start(name)

    def _freeze_triggerer(self) -> Fault:
        service = self._stage.airflow.services[self._triggerer()]
        send(service, signal.SIGSTOP)
        yield TRIGGERER_SILENCE + self._random.uniform(3, 6)
        send(service, signal.SIGCONT)

    def _kill_scheduler(self) -> Fault:
        self._stage.airflow.kill("scheduler")
        yield self._random.uniform(0.5, 3)
        self._stage.start("scheduler")

    def _kill_scheduler_alone(self) -> Fault:
        self._stage.kill_alone("scheduler")
        yield self._random.uniform(0.5, 3)
        self._stage.start("scheduler")
        # Its tasks run on, and hold its database connection with its locks, until they are ended.
        yield SCHEDULER_SILENCE + self._random.uniform(5, 10)
        self._stage.kill_orphans()

    def _kill_api_server(self) -> Fault:
        self._stage.airflow.kill("api-server")
        yield self._random.uniform(0.5, 3)
        self._stage.start("api-server")

    def _kill_worker(self) -> Fault:
        name = self._random.choice(WORKERS)
        self._stage.airflow.kill(name)
        yield self._random.uniform(1, 5)
        self._stage.start(name)

    def _freeze_worker(self, fleet: Fleet) -> Fault:
        # The one with more processes has more tasks, whose messages it has not acknowledged.
        workers = [self._stage.airflow.services[name] for name in WORKERS]
        service = max(workers, key=lambda worker: len(worker.members()))
        before = fleet.handed_out_again()
        send(service, signal.SIGSTOP)
        yield VISIBILITY_TIMEOUT
        for _ in range(MAX_RESTORE_SECONDS):
            if fleet.handed_out_again() == before:
                yield 1.0
        send(service, signal.SIGCONT)

    def _kill_redis(self, fleet: Fleet) -> Fault:
        fleet.kill_redis()
        yield self._random.uniform(1, 3)
        fleet.start_redis()

    def _restart_postgres(self, mode: str) -> Fault:
        self._stage.postgres.down("fast" if mode == "fast" else "immediate")
        yield self._random.uniform(0.5, 3)
        self._stage.postgres.start()
