"""What breaks in the tasks: their processes are killed or frozen, some at a chosen moment, some at any."""

from __future__ import annotations

import math
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from chaos.stage import DAG_ID, FINAL, TASK_SILENCE, Order, Stage, TaskInstance

#: A task's process is called so by Airflow; its parent is the one that watches over it.
TITLE = re.compile(r"airflow worker -- ([0-9a-f]{8}-[0-9a-f-]{27})")
SUBMIT_KILLED, DOWNLOAD_KILLED = "submit killed while its request is out", "download killed in mid-stream"
ANY_KILLED, WORKER_KILLED = "task killed at any moment", "task killed with its supervisor"
FROZEN = "submit frozen, taken for dead, thawed"
LONGEST_FREEZE = TASK_SILENCE + 20.0
SLOW = 4.0  # seconds that an answer or a video takes where a kill is to meet it


@dataclass
class Target:
    """A task's process, and what is meant for it."""

    process: psutil.Process
    task: TaskInstance
    kind: str = ""
    kill_at: float = math.inf
    thaw_by: float = 0.0
    frozen: list[psutil.Process] = field(default_factory=list)


class TaskFaults:
    """Looks at the tasks' processes again and again and strikes."""

    def __init__(self, stage: Stage, orders: dict[tuple[str, int], Order], rng: random.Random) -> None:
        self._stage, self._orders, self._dice = stage, orders, rng
        few = max(4, len(orders) // 16)
        prompts = rng.sample([order.prompt for order in orders.values()], 2 * few)
        self._aims = {(prompt, "submit"): SUBMIT_KILLED for prompt in prompts[:few]}
        self._aims |= {(prompt, "download"): DOWNLOAD_KILLED for prompt in prompts[few:]}
        few_frozen, few_workers = max(1, len(orders) // 50), max(1, few // 3)
        self._left = {ANY_KILLED: 2 * few, WORKER_KILLED: few_workers, FROZEN: few_frozen}
        self.planned = Counter(self._aims.values()) + Counter(self._left)
        self.done: Counter[str] = Counter()
        self._victims: dict[str, Target] = {}
        self._names: dict[str, TaskInstance] = {}
        self._ports = {"submit": 0, "download": 0}

    def add_slow_answers(self) -> None:
        """Let the gateway be slow where a kill is to meet it; most of these submits make their job first."""
        for number, (prompt, task) in enumerate(self._aims):
            words = (
                f"hang={SLOW:g}" + (",late" if number % 4 else "") if task == "submit" else f"slow={SLOW:g}"
            )
            self._stage.gateway.call("POST", "faults", {"faults": [f"{task}:{words},match={prompt}"]})
        gateway = self._stage.gateway
        self._ports = {
            "submit": urlsplit(gateway.url).port or 0,
            "download": urlsplit(gateway.storage_url).port or 0,
        }

    @property
    def busy(self) -> bool:
        """Whether somebody is frozen right now, or about to be."""
        return any(target.kind == FROZEN and target.thaw_by >= 0 for target in self._victims.values())

    def tick(self, *, quiet: bool) -> Iterator[str]:
        """Look and strike once; gives what was done.

        :param quiet: somebody may be frozen; a scheduler that lost its database would wait for them.
        """
        now = time.monotonic()
        alive = dict(self._processes())
        for ti_id in [ti_id for ti_id in self._victims if ti_id not in alive]:
            del self._victims[ti_id]
        for ti_id, process in alive.items():
            if ti_id not in self._victims and (task := self._task(ti_id)):
                self._victims[ti_id] = Target(process, task)
                self._mark(self._victims[ti_id], now, quiet=quiet)
        for target in self._victims.values():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if struck := self._look(target, now):
                    self.done[struck] += 1
                    yield struck

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        for service in self._stage.schedulers():
            for process in service.members():
                with suppress(psutil.NoSuchProcess):
                    if title := TITLE.match(" ".join(process.cmdline())):
                        yield title[1], process

    def _task(self, ti_id: str) -> TaskInstance | None:
        if ti_id not in self._names:
            for task in self._stage.task_instances(DAG_ID) or ():
                self._names[task.id] = task
        return self._names.get(ti_id)

    def _mark(self, target: Target, now: float, *, quiet: bool) -> None:
        """Decide what is meant for a process that is new."""
        task = target.task
        order = self._orders.get((task.run_id, task.map_index))
        if order is None or (order.prompt, task.name) in self._aims:
            return
        freeze = quiet and task.name == "submit" and not self.busy
        shares = {FROZEN: 1.0 if freeze else 0.0, ANY_KILLED: 0.12, WORKER_KILLED: 0.06}
        for kind, share in shares.items():
            if self._left[kind] and not target.kind and self._dice.random() < share:
                self._left[kind] -= 1
                target.kind, target.kill_at = kind, now + self._dice.uniform(0, 1.5)

    def _look(self, target: Target, now: float) -> str | None:
        if target.frozen:
            self._thaw(target, now)
        elif now >= target.kill_at:
            return self._kill(target, now)
        elif order := self._orders.get((target.task.run_id, target.task.map_index)):
            aim = (order.prompt, target.task.name)
            if aim in self._aims and self._talks_to(target.process, self._ports[target.task.name]):
                target.kind, target.kill_at = self._aims.pop(aim), now + self._dice.uniform(0, SLOW / 2)
        return None

    def _kill(self, target: Target, now: float) -> str:
        supervisor = target.process.parent()
        both = [*([supervisor] if supervisor else []), target.process]
        target.kill_at = math.inf
        if target.kind == FROZEN:
            target.frozen, target.thaw_by = both, now + LONGEST_FREEZE
        for process in both if target.kind in (FROZEN, WORKER_KILLED) else both[-1:]:
            process.send_signal(signal.SIGSTOP if target.kind == FROZEN else signal.SIGKILL)
        return target.kind

    def _thaw(self, target: Target, now: float) -> None:
        """Let a frozen task go on once another try has taken its place."""
        newer = {task.place: task for task in self._stage.task_instances(DAG_ID) or ()}.get(target.task.place)
        again = newer and newer.id != target.task.id and newer.state in FINAL | {"running", "deferred"}
        if again or now > target.thaw_by:
            for process in target.frozen:
                process.send_signal(signal.SIGCONT)
            target.frozen, target.thaw_by = [], -1.0

    @staticmethod
    def _talks_to(process: psutil.Process, port: int) -> bool:
        return any(link.raddr and link.raddr.port == port for link in process.net_connections("tcp"))
