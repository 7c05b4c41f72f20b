"""Faults of tasks: their processes are killed or frozen, at a chosen moment or at any."""

from __future__ import annotations

import math
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from chaos.stage import DAG_IDS, FINAL, TASK_SILENCE, Stage, TaskInstance, VideoSpec

#: The title that Airflow gives to a task's process. Its parent is the supervisor.
TITLE = re.compile(r"airflow worker -- ([0-9a-f]{8}-[0-9a-f-]{27})")
SUBMIT_KILLED, DOWNLOAD_KILLED = "submit killed while its request is sent", "download killed in mid-stream"
ANY_KILLED, WORKER_KILLED = "task killed at any moment", "task killed with its supervisor"
FROZEN = "submit frozen, taken for dead, continued"
MAX_FREEZE = TASK_SILENCE + 20.0  # seconds
HIDDEN = 12.0  # seconds in which a look-up by client id does not find such a job
#: What each task does, of the phases in which a kill is aimed at it.
PHASES = {"submit": ("submit",), "download": ("download",), "video": ("submit", "download")}
SLOW = 4.0  # seconds that an answer or a video takes, so that a kill can come in between


@dataclass
class Target:
    """A task's process, and its planned fault."""

    process: psutil.Process
    task: TaskInstance
    kind: str = ""
    kill_at: float = math.inf
    continue_by: float = 0.0
    frozen: list[psutil.Process] = field(default_factory=list)


class TaskFaults:
    """Watches the tasks' processes, and kills or freezes some of them."""

    def __init__(
        self,
        stage: Stage,
        specs: dict[tuple[str, int], VideoSpec],
        limited: Collection[VideoSpec],
        rng: random.Random,
    ) -> None:
        """Plan the faults.

        :param limited: the videos of a run whose limit has no room for all; they may never be submitted.
        """
        self._stage, self._specs, self._random = stage, specs, rng
        few = max(4, len(specs) // 16)
        prompts = rng.sample([spec.prompt for spec in specs.values() if spec not in limited], 2 * few)
        self._aims = {(prompt, "submit"): SUBMIT_KILLED for prompt in prompts[:few]}
        self._aims |= {(prompt, "download"): DOWNLOAD_KILLED for prompt in prompts[few:]}
        few_frozen, few_workers = max(1, len(specs) // 50), max(1, few // 3)
        self._left = {ANY_KILLED: 2 * few, WORKER_KILLED: few_workers, FROZEN: few_frozen}
        self.planned = Counter(self._aims.values()) + Counter(self._left)
        self.done: Counter[str] = Counter()
        self._targets: dict[str, Target] = {}
        self._names: dict[str, TaskInstance] = {}
        self._ports = {"submit": 0, "download": 0}

    def add_slow_answers(self) -> None:
        """Make the gateway slow for jobs with a planned kill. Most of these submits create their job.

        A look-up by client id finds that job only later.
        """
        late = ",late" + (f",hidden={HIDDEN:g}" if self._stage.gateway.takes_client_ids else "")
        for number, (prompt, phase) in enumerate(self._aims):
            words = f"hang={SLOW:g}" + (late if number % 4 else "") if phase == "submit" else f"slow={SLOW:g}"
            self._stage.gateway.call("POST", "faults", {"faults": [f"{phase}:{words},match={prompt}"]})
        gateway = self._stage.gateway
        self._ports = {
            "submit": urlsplit(gateway.url).port or 0,
            "download": urlsplit(gateway.storage_url).port or 0,
        }

    @property
    def freezing(self) -> bool:
        """Whether a task is frozen, or will be soon."""
        return any(target.kind == FROZEN and target.continue_by >= 0 for target in self._targets.values())

    def tick(self, *, quiet: bool) -> Iterator[str]:
        """Check all processes once, and yield the faults that were caused.

        :param quiet: a task may be frozen; a scheduler that lost its database would wait for it.
        """
        now = time.monotonic()
        alive = dict(self._processes())
        for ti_id in [ti_id for ti_id in self._targets if ti_id not in alive]:
            del self._targets[ti_id]
        for ti_id, process in alive.items():
            if ti_id not in self._targets and (task := self._task(ti_id)):
                self._targets[ti_id] = Target(process, task)
                self._mark(self._targets[ti_id], now, quiet=quiet)
        for target in self._targets.values():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if fault := self._check(target, now):
                    self.done[fault] += 1
                    yield fault

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        for service in self._stage.task_runners():
            for process in service.members():
                with suppress(psutil.NoSuchProcess):
                    if title := TITLE.match(" ".join(process.cmdline())):
                        yield title[1], process

    def _task(self, ti_id: str) -> TaskInstance | None:
        if ti_id not in self._names:
            for task in self._stage.task_instances(*DAG_IDS) or ():
                self._names[task.id] = task
        return self._names.get(ti_id)

    def _mark(self, target: Target, now: float, *, quiet: bool) -> None:
        """Plan the fault of a new process, if it gets one."""
        task = target.task
        spec = self._specs.get((task.run_id, task.map_index))
        if spec is None or self._aims_at(target, spec):
            return
        freeze = quiet and "submit" in PHASES.get(task.name, ()) and not self.freezing
        shares = {FROZEN: 1.0 if freeze else 0.0, ANY_KILLED: 0.12, WORKER_KILLED: 0.06}
        for kind, share in shares.items():
            if self._left[kind] and not target.kind and self._random.random() < share:
                self._left[kind] -= 1
                target.kind, target.kill_at = kind, now + self._random.uniform(0, 1.5)

    def _check(self, target: Target, now: float) -> str | None:
        if target.frozen:
            self._continue(target, now)
        elif now >= target.kill_at:
            return self._kill(target, now)
        elif spec := self._specs.get((target.task.run_id, target.task.map_index)):
            for aim in self._aims_at(target, spec):
                if self._is_connected(target.process, self._ports[aim[1]]):
                    target.kind, target.kill_at = self._aims.pop(aim), now + self._random.uniform(0, SLOW / 2)
        return None

    def _aims_at(self, target: Target, spec: VideoSpec) -> list[tuple[str, str]]:
        """Return the moments of this task in which it is to be killed."""
        aims = [(spec.prompt, phase) for phase in PHASES.get(target.task.name, ())]
        return [aim for aim in aims if aim in self._aims]

    def _kill(self, target: Target, now: float) -> str:
        supervisor = target.process.parent()
        both = [*([supervisor] if supervisor else []), target.process]
        target.kill_at = math.inf
        if target.kind == FROZEN:
            target.frozen, target.continue_by = both, now + MAX_FREEZE
        for process in both if target.kind in (FROZEN, WORKER_KILLED) else both[-1:]:
            process.send_signal(signal.SIGSTOP if target.kind == FROZEN else signal.SIGKILL)
        return target.kind

    def _continue(self, target: Target, now: float) -> None:
        """Continue a frozen task after another try has started."""
        newer = {task.key: task for task in self._stage.task_instances(*DAG_IDS) or ()}.get(target.task.key)
        again = newer and newer.id != target.task.id and newer.state in FINAL | {"running", "deferred"}
        if again or now > target.continue_by:
            for process in target.frozen:
                process.send_signal(signal.SIGCONT)
            target.frozen, target.continue_by = [], -1.0

    @staticmethod
    def _is_connected(process: psutil.Process, port: int) -> bool:
        return any(link.raddr and link.raddr.port == port for link in process.net_connections("tcp"))
