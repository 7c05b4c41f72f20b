"""`make chaos`: many jobs while everything is killed. No job is paid for twice, no paid video is lost."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from private_airflow.rest_api import ApiError
from private_airflow.services import ServiceError

from airflow_provider_kling.transport.settings import GATEWAYS
from chaos.faults import ComponentFaults
from chaos.fleet import Fleet
from chaos.gateway import SECOND_USD, Gateway
from chaos.person import REFUSED, Person
from chaos.report import Report
from chaos.secrets import Secrets
from chaos.stage import (
    DAG_ID,
    DAG_IDS,
    FINAL,
    ONE_TASK_DAG_ID,
    PROJECT,
    RESCUE_ID,
    Stage,
    TaskInstance,
    VideoSpec,
)
from chaos.tasks import TaskFaults
from chaos.verdict import Verdict, gateway_faults, judge

FAIL_RATE = 0.2
EXECUTORS = ("local", "celery")
MAX_RUN_JOBS = 12  # jobs in one Dag run; the scheduler's work grows with the tasks of a run
#: In a run with a limit: its jobs, how many of them the limit has room for, and what one costs.
LIMITED_JOBS, LIMIT, JOB_USD = 8, 4, 3 * SECOND_USD
STUCK_AFTER = 240.0  # seconds without a change, after which unfinished tasks count as stuck
TICK = 0.1  # seconds


class BadOptionError(ValueError):
    """A variable has a value that cannot work."""


@dataclass(frozen=True)
class Options:
    """The options: `make chaos EXECUTOR=celery JOBS=24 SEED=1 GATEWAY=kling JSON=file KEEP=1`."""

    jobs: int
    seed: int
    gateway: str
    executor: str
    json: str
    keep: bool

    @classmethod
    def read(cls) -> Self:
        """Read and check the environment."""
        try:
            jobs, seed = int(os.environ.get("JOBS") or 200), int(os.environ.get("SEED") or 1)
        except ValueError as error:
            raise BadOptionError(f"JOBS and SEED are whole numbers ({error})") from None
        if not 12 <= jobs <= 2000:
            raise BadOptionError(f"JOBS={jobs}: must be 12 to 2000, so that each kind of fault has a job")
        gateway = os.environ.get("GATEWAY") or "myrouter"
        if gateway not in GATEWAYS:
            raise BadOptionError(f"GATEWAY={gateway!r}: must be one of {', '.join(GATEWAYS)}")
        executor = os.environ.get("EXECUTOR") or "local"
        if executor not in EXECUTORS:
            raise BadOptionError(f"EXECUTOR={executor!r}: must be one of {', '.join(EXECUTORS)}")
        return cls(jobs, seed, gateway, executor, os.environ.get("JSON", ""), bool(os.environ.get("KEEP")))


class Chaos:
    """One run of the test."""

    def __init__(self, options: Options, home: Path, report: Report) -> None:
        self.options, self.report = options, report
        key = f"sk-chaos-{secrets.token_hex(16)}"
        render_seconds = 30 if options.jobs >= 100 else 12  # long enough that most waits are deferred
        faults = {"fail_rate": FAIL_RATE, "seed": options.seed, "render_seconds": render_seconds}
        if options.gateway == "kling":
            faults["slots"] = max(4, options.jobs // 6)
        logs, gateway = home / "airflow" / "logs", Gateway(home, name=options.gateway, api_key=key, **faults)
        # A job whose picture the right worker never reads ends with a decision of a person.
        local = not gateway.takes_client_ids
        fleet = (
            Fleet(home, logs, options.seed, local_pictures=local) if options.executor == "celery" else None
        )
        self.stage = Stage(home, logs, gateway, fleet)
        self.limited: list[VideoSpec] = []
        self.tasks: list[TaskInstance] = []
        self.expected_tasks = 0
        self._changed_at, self._seen = time.monotonic(), 0

    def run(self) -> Verdict:
        """Start everything, cause the faults, and count the results."""
        try:
            self.stage.up()
            workers = ", Redis, S3 and two Celery workers" if self.stage.fleet else ""
            self.report.log(f"Airflow runs, on PostgreSQL, with two triggerers{workers}")
            specs = self._start_runs()
            self._prepare(specs)
            self.report.mark("set-up")
            self._run_faults()
            self.report.mark("faults")
            verdict = judge(
                self.stage,
                [spec for spec in specs.values() if spec not in self.limited],
                self.tasks,
                self.secrets.search(),
                self.person.decisions.total() - self.person.decisions[REFUSED],
                self.limited,
                LIMIT,
            )
            self._print(verdict)
            return verdict
        finally:
            self.stage.stop()

    def _start_runs(self) -> dict[tuple[str, int], VideoSpec]:
        """Start the Dag runs.

        With a fleet every second run has one task for each video. One more has a limit too low for all.
        """
        count, fleet = self.options.jobs, self.stage.fleet
        spec_by_instance: dict[tuple[str, int], VideoSpec] = {}
        specs = [self.stage.spec(number) for number in range(count + (LIMITED_JOBS if fleet else 0))]
        specs, self.limited = specs[:count], specs[count:]
        runs = -(-count // MAX_RUN_JOBS)
        parts = [specs[run::runs] for run in range(runs)]
        for run, part in enumerate([*parts, self.limited] if fleet else parts):
            if fleet and (run % 2 or part is self.limited):
                budget = JOB_USD * (LIMIT if part is self.limited else 10 * len(part))
                run_id = self.stage.trigger(ONE_TASK_DAG_ID, part, budget=budget)
                self.expected_tasks += len(part)
            else:
                run_id = self.stage.trigger(DAG_ID, part)
                self.expected_tasks += 3 * len(part)
            spec_by_instance |= {(run_id, index): spec for index, spec in enumerate(part)}
        return spec_by_instance

    def _prepare(self, specs: dict[tuple[str, int], VideoSpec]) -> None:
        seed, jobs = self.options.seed, self.options.jobs
        self.component_faults = ComponentFaults(
            self.stage, max(1, jobs // 50), random.Random(f"{seed} components")
        )
        self.task_faults = TaskFaults(self.stage, specs, self.limited, random.Random(f"{seed} tasks"))
        self.task_faults.add_slow_answers()
        self.person = Person(self.stage, specs, self.limited)
        self.secrets = Secrets(self.stage)

    def _run_faults(self) -> None:
        """Kill, restart and decide until all tasks have ended or are stuck."""
        intervals = {
            self._read_states: 1.0,
            self.stage.restart_dead: 1.0,
            self.secrets.search_triggers: 2.0,
            self._decide: 3.0,
        }
        due = dict.fromkeys(intervals, 0.0)
        while not self._ended():
            for fault in self.task_faults.tick(quiet=self.component_faults.quiet):
                self.report.log(fault)
            if name := self.component_faults.tick(self._progress(), wait=self.task_faults.freezing):
                self.report.log(name)
            for step, interval in intervals.items():
                if time.monotonic() >= due[step]:
                    step()
                    due[step] = time.monotonic() + interval
            time.sleep(TICK)

    def _read_states(self) -> None:
        tasks = self.stage.task_instances(*DAG_IDS, RESCUE_ID)
        if tasks is None:
            return
        self.tasks = tasks
        if self._seen != (seen := hash(tuple(sorted((task.id, str(task.state)) for task in tasks)))):
            self._seen, self._changed_at = seen, time.monotonic()
        self.report.progress(Counter(str(task.state) for task in tasks if task.map_index >= 0))

    def _decide(self) -> None:
        for decision in self.person.tick():
            self.report.log(f"a person decides: {decision}")

    def _progress(self) -> float:
        done = sum(
            task.dag_id in DAG_IDS and task.state in FINAL and task.map_index >= 0 for task in self.tasks
        )
        return done / self.expected_tasks

    def _ended(self) -> bool:
        stuck = time.monotonic() - self._changed_at > STUCK_AFTER
        done = self.component_faults.ended and not self.task_faults.freezing and self._progress() >= 1
        return stuck or (done and self.person.is_done(self.tasks))

    def _print(self, verdict: Verdict) -> None:
        planned = self.component_faults.planned + self.task_faults.planned
        done = self.component_faults.done + self.task_faults.done
        data: dict[str, Any] = {
            **verdict.to_dict(),
            "executor": self.options.executor,
            "gateway": GATEWAYS[self.options.gateway].name,
            "seed": self.options.seed,
            "fail_rate": FAIL_RATE,
            "faults": {kind: {"planned": planned[kind], "done": done[kind]} for kind in planned},
            "restarted": dict(self.stage.restarts),
            "gateway_faults": dict(gateway_faults(self.stage)),
            "fleet": self.stage.fleet.figures(self.stage.rows) if self.stage.fleet else {},
            "decisions": dict(self.person.decisions),
            "decided_errors": dict(self.person.errors),
            "triggers_searched": self.secrets.triggers_searched,
        }
        self.report.print_table(data, self.options.json)


def main() -> int:
    """Run the test; the exit code says whether it has passed."""
    try:
        options = Options.read()
    except BadOptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (PROJECT / ".airflow").mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="chaos-", dir=PROJECT / ".airflow"))
    good = stopped = False
    try:
        good = Chaos(options, home, Report()).run().good
    except (ServiceError, ApiError, OSError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
    except (KeyboardInterrupt, SystemExit):
        stopped = True
        raise
    finally:
        if options.keep or not (good or stopped):
            print(f"The logs are in {home}", file=sys.stderr)
        else:
            shutil.rmtree(home, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        print("\nstopped, all processes have ended", file=sys.stderr)
        code = 130
    sys.exit(code)
