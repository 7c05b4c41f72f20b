"""Thousands of waits in one real triggerer: ours, the http provider's, and one with a session for each poll.

Ours is measured with a gateway that answers for one job at a time, and with Kling's own API.

``make bench-waits``, with ``SIZES=100,1000`` and ``KINDS=kling,http`` for less. ``SELECT=200`` lets Airflow
start 200 triggers at a time; with the default of 1000 it hangs with some triggers. Task instances and
triggers are written directly into the database of a private Airflow, and one triggerer runs them.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
from private_airflow.components import PrivateAirflow, free_port, inherited_environment
from private_airflow.postgres import PrivatePostgres
from private_airflow.services import Service, stop
from report import percentile, report

HERE = Path(__file__).parent
#: In seconds: the limit until all waits poll, the pause before the measuring, one window of the measuring,
#: the time in which jobs end, and the limit until their tasks are resumed.
START_LIMIT, WARM_UP, WINDOW, ENDING, RESUME_LIMIT = 180.0, 15.0, 5.0, 10.0, 12.0
WINDOWS, TRIES = 3, 3
#: Only ours and the idle trigger are measured with more waits.
MAX_FOR_OTHERS = 5000
NAMES = {
    "kling": "ours",
    "batch": "ours, Kling's own API",
    "http": "HttpSensorTrigger",
    "plain": "a session per poll",
    "idle": "one that only sleeps",
}


@dataclass(frozen=True)
class Case:
    """One measurement.

    :param kind: the trigger: kling, batch, http, plain, or idle, which shows how fast Airflow starts them.
    :param waits: the number of waits.
    :param interval: seconds between two polls; None: the trigger's default.
    :param progress: the gateway reports a progress that changes.
    """

    kind: str
    waits: int
    interval: float | None = 5.0
    progress: bool = False

    @property
    def name(self) -> str:
        """The name in the table."""
        if self.kind == "idle":
            return NAMES[self.kind]
        how = "as shipped" if self.interval is None else f"{self.interval:g} s"
        return f"{NAMES[self.kind]}, {how}{', progress moves' if self.progress else ''}"


@dataclass
class Seen:
    """The measured values of one case."""

    committed: float
    #: Start and end of each window, and the CPU seconds of runner and supervisor.
    windows: list[tuple[float, float, float, float]] = field(default_factory=list)
    memory: float = 0.0
    files: int = 0
    requests: list[float] = field(default_factory=list)
    asked: dict[str, list[float]] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    resumed: dict[str, float] = field(default_factory=dict)
    sockets: int = 0
    lags: list[float] = field(default_factory=list)


class Stage:
    """The database, an Airflow without components, and the gateway, for all cases."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._postgres = PrivatePostgres(home / "postgres.log")
        self._database: Any = None

    def up(self) -> None:
        """Start everything."""
        self._postgres.up()
        settings = {
            "PYTHONPATH": str(HERE.parent),
            "AIRFLOW__TRIGGERER__CAPACITY": "20000",
            "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": os.environ.get("SELECT", "1000"),
        }
        url = self._postgres.url
        self.airflow = PrivateAirflow(
            self.home / "airflow", HERE / "dags", env=settings, database=url, components=()
        )
        self.airflow.up()
        self._database = self._postgres.connect()
        command = [sys.executable, str(HERE / "gateway.py"), str(self.port)]
        log = self.home / "gateway.log"
        self.gateway = Service("gateway", command, env=inherited_environment(), log=log)

    def stop(self) -> None:
        """Stop everything."""
        if hasattr(self, "airflow"):
            self.airflow.stop(grace=0)
        if hasattr(self, "gateway"):
            stop([self.gateway], grace=0)
        self._postgres.stop()

    def rows(self, spec: dict[str, Any]) -> str:
        """Write rows into Airflow's database; see ``waits.rows``."""
        log = self.home / "rows.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "waits.rows", json.dumps(spec)]
        Service("rows", command, env=self.airflow.env, log=log).wait(120)
        self.sql("analyze")  # the database does this by itself after a minute
        return log.read_text().splitlines()[-1] if "kind" in spec else ""

    def command(self, path: str) -> Any:
        """Send a command to the gateway."""
        with urlopen(f"{self.url}{path}", timeout=60) as answer:
            return json.load(answer)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Query the database."""
        with self._database.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def clear(self) -> None:
        """Delete the rows of the previous case."""
        self.sql("truncate trigger, task_instance, dag_run cascade")

    @contextmanager
    def triggerer(self) -> Iterator[tuple[psutil.Process, psutil.Process]]:
        """Run a triggerer, and yield its runner and its supervisor."""
        self.sql("delete from job returning id")
        service = self.airflow.start("triggerer")
        try:
            self.airflow.wait_until(
                "the triggerer", lambda: self.sql("select 1 from job") and runner(service), 60
            )
            yield runner(service)[0], psutil.Process(service.pid)
        finally:
            self.airflow.kill("triggerer")
            shutil.rmtree(self.home / "airflow" / "logs" / "dag_id=waits", ignore_errors=True)


def runner(service: Service) -> list[psutil.Process]:
    """Return the process in which the triggers run, a child of the triggerer, once it has started."""
    return psutil.Process(service.pid).children()


def memory(*processes: psutil.Process) -> float:
    """Return the processes' unshared memory, in bytes."""
    return float(sum(process.memory_full_info().uss for process in processes))


def cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(stage: Stage, case: Case) -> Seen:
    """Run one case."""
    stage.command("/start")
    if case.progress:
        stage.command("/progress")
    stage.clear()
    lag_file = stage.home / "lag.jsonl"
    lag_file.unlink(missing_ok=True)
    options: dict[str, Any] = {} if case.interval is None else {"interval": case.interval}
    if case.kind == "idle":
        options = {"url": stage.url}
    kind = "kling" if case.kind == "batch" else case.kind
    spec = {"kind": kind, "waits": case.waits, "options": options, "lag_file": str(lag_file)}
    with stage.triggerer() as processes:
        before = memory(*processes)
        seen = Seen(float(stage.rows(spec)))
        wait_for(lambda: stage.command("/ids")["ids"] >= case.waits, START_LIMIT)
        time.sleep(WARM_UP)  # the supervisor writes the first log lines of each wait
        for _ in range(WINDOWS):
            begin, used = time.time(), [cpu(process) for process in processes]
            time.sleep(WINDOW)
            now = [cpu(process) for process in processes]
            seen.windows.append((begin, time.time(), now[0] - used[0], now[1] - used[1]))
        seen.memory = (memory(*processes) - before) / case.waits
        seen.files = processes[1].num_fds()
        finish(stage, case)
        log = stage.command("/log")
    seen.asked, seen.requests, seen.finished = log["asked"], log["requests"], log["finished"]
    seen.sockets = log["most_open"] - 1  # one is ours
    resumed = "select map_index, extract(epoch from updated_at) from task_instance where state = 'scheduled'"
    seen.resumed = {f"job-{index:05}": float(at) for index, at in stage.sql(resumed)}
    lag_file.touch()
    lines = [json.loads(line) for line in lag_file.read_text().splitlines()]
    seen.lags = [lag for at, _, *lags in lines if in_windows(seen, at) for lag in lags]
    return seen


def finish(stage: Stage, case: Case) -> None:
    """End jobs one after another, and wait until Airflow has resumed their tasks, or the limit has passed."""
    waits, number = case.waits, min(100, case.waits // 2)
    for index in range(number):
        began = time.monotonic()
        stage.command(f"/finish?id=job-{index * waits // number:05}")
        time.sleep(max(0.0, ENDING / number - (time.monotonic() - began)))
    count = "select count(*) from task_instance where state = 'scheduled'"
    wait_for(lambda: stage.sql(count)[0][0] >= number, RESUME_LIMIT)


def wait_for(probe: Any, limit: float) -> None:
    """Call *probe* until its result is true, for at most *limit* seconds."""
    until = time.monotonic() + limit
    while not probe() and time.monotonic() < until:
        time.sleep(0.25)


def in_windows(seen: Seen, at: float) -> bool:
    """Return whether a time lies in the measured windows."""
    return seen.windows[0][0] <= at < seen.windows[-1][1]


def lateness(case: Case, seen: Seen) -> list[float]:
    """Return how late each poll was. A poll that is still missing counts until the end of the windows."""
    begin, end, late = seen.windows[0][0], seen.windows[-1][1], []
    for index in range(case.waits):
        asked = seen.asked.get(f"job-{index:05}", [])
        due = [at + case.interval for at in asked] if asked else [begin]
        actual = [*asked[1:], end]
        pairs = zip(due, actual, strict=False)
        late += [max(0.0, at - when) for when, at in pairs if in_windows(seen, at)]
        if due[-1] < end:
            late.append(end - due[-1])
    return late or [0.0]


def row(case: Case, seen: Seen) -> dict[str, Any]:
    """Return the row of the table."""
    polls = [sum(b <= at < e for asked in seen.asked.values() for at in asked) for b, e, *_ in seen.windows]
    used = [runner_s + supervisor_s for *_, runner_s, supervisor_s in seen.windows]
    costs = [spent / max(1, done) * 1000 for spent, done in zip(used, polls, strict=True)]
    span = seen.windows[-1][1] - seen.windows[0][0]
    requests = sum(in_windows(seen, at) for at in seen.requests)
    first = [asked[0] - seen.committed for asked in seen.asked.values()]
    noticed = [
        min(after) - at
        for name, at in seen.finished.items()
        if (after := [a for a in seen.asked.get(name, []) if a >= at])
    ]
    resumed = [seen.resumed[name] - at for name, at in seen.finished.items() if name in seen.resumed]
    fixed = case.interval is not None
    late = lateness(case, seen) if fixed else []
    return {
        "waits": case.waits,
        "trigger": case.name,
        "cpu_ms_per_poll": round(sum(used) / sum(polls) * 1000, 3) if sum(polls) else "-",
        "cpu_range": f"{min(costs):.3f}..{max(costs):.3f}" if sum(polls) else "-",
        "runner_%": round(sum(w[2] for w in seen.windows) / span * 100, 1),
        "supervisor_%": round(sum(w[3] for w in seen.windows) / span * 100, 1),
        "polls_per_s": round(sum(polls) / span, 1),
        "requests_per_s": round(requests / span, 1),
        "done_%": round(sum(polls) / (case.waits * span / case.interval) * 100, 1) if fixed else "-",
        "late_p50_ms": round(percentile(late, 50) * 1000, 1) if fixed else "-",
        "late_p99_ms": round(percentile(late, 99) * 1000, 1) if fixed else "-",
        "lag_p99_ms": round(percentile(seen.lags or [0.0], 99) * 1000, 1),
        "sockets": seen.sockets,
        "kb_per_wait": round(seen.memory / 1024, 1),
        "all_poll_s": round(max(first), 1) if len(first) >= case.waits else f"{len(first)} of {case.waits}",
        "noticed_p50_s": round(percentile(noticed, 50), 2) if noticed else "-",
        "noticed_p99_s": round(percentile(noticed, 99), 2) if noticed else "-",
        "resumed": f"{len(resumed)} of {len(seen.finished)}",
        "resumed_p50_s": round(percentile(resumed, 50), 2) if resumed else "-",
        "resumed_p99_s": round(percentile(resumed, 99), 2) if resumed else "-",
    }


def measured(kind: str, size: int) -> bool:
    """Return whether a kind is measured with this number of waits."""
    largest = size >= MAX_FOR_OTHERS
    return {"kling": True, "batch": True, "idle": largest}.get(kind, size <= MAX_FOR_OTHERS)


def cases() -> list[Case]:
    """Return the cases to measure."""
    sizes = [int(size) for size in os.environ.get("SIZES", "100,1000,5000,10000").split(",")]
    kinds = os.environ.get("KINDS", "kling,batch,http,plain,idle").split(",")
    order = sorted(sizes, key=lambda size: (size != MAX_FOR_OTHERS, -size))  # the most important sizes first
    pairs = [(kind, size) for size in order for kind in kinds if measured(kind, size)]
    found = [Case(kind, size, None if kind == "idle" else 5.0) for kind, size in pairs]
    if "kling" in kinds:
        largest = max(sizes)
        found.append(Case("kling", min(largest, MAX_FOR_OTHERS), progress=True))
        found.append(Case("kling", min(largest, 1000), None))
    return found


def worked(stage: Stage, case: Case) -> dict[str, Any]:
    """Measure a case. Repeat it, up to three times, if the triggerer hangs, which happens at random."""
    for tries in range(1, TRIES + 1):
        result = {**row(case, measure(stage, case)), "tries": tries}
        if result["polls_per_s"] or case.kind == "idle":
            break
    return result


def main() -> None:
    """Measure, print and report all cases."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the supervisor opens a log file for each wait
    home = Path(tempfile.mkdtemp(prefix="kling-waits-"))
    stage, rows = Stage(home), []
    try:
        stage.up()
        for case in cases():
            gateway = "kling" if case.kind == "batch" else "myrouter"
            limit = None if case.interval is None else 5000
            stage.rows({"connections": stage.url, "gateway": gateway, "queries_per_second": limit})
            rows.append(worked(stage, case))
            print(json.dumps(rows[-1]), flush=True)
    finally:
        stage.stop()
        if not os.environ.get("KEEP"):
            shutil.rmtree(home, ignore_errors=True)
        if rows:
            report("waits", sorted(rows, key=lambda row: row["waits"]))


if __name__ == "__main__":
    main()
