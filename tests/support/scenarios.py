"""Scenarios of a wait, each run with all three modes of the sensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from stage import MODES, Run, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kling.emulator.jobs import Job


POLL_FAILED = "A poll failed, the wait goes on"


@dataclass(frozen=True)
class Scenario:
    """What happens to a job, and when.

    :param job_fault: a fault of the job, which shows at its end.
    :param query_faults: faults of queries, from the moment when all three modes wait.
    :param ends: whether the job ends at last; after query faults, once each mode has met one.
    :param known: whether the gateway knows the task id.
    """

    dag_id: str = "waits"
    job_fault: str = ""
    query_faults: tuple[str, ...] = ()
    ends: bool = True
    known: bool = True


SCENARIOS = {
    "succeeds": Scenario(),
    "fails": Scenario(job_fault="fail=the model gave up"),
    "moderated": Scenario(job_fault="fail=moderation"),
    "cancelled": Scenario(job_fault="cancel"),
    "empty": Scenario(job_fault="empty"),
    "unknown": Scenario(known=False, ends=False),
    "revoked": Scenario(query_faults=("query:error=INVALID_API_KEY,times=always",), ends=False),
    "too late": Scenario("waits_short", ends=False),
    "fails softly": Scenario("waits_soft", job_fault="fail=the model gave up"),
    "troubled": Scenario(
        query_faults=(
            *("query:cut,times=2", "query:html=502,times=2", "query:hang=5", "query:status=503,times=always"),
        )
    ),
}


@dataclass
class ScenarioRun:
    """One run of a scenario."""

    name: str
    scenario: Scenario
    run: Run
    job: Job | None
    kling_task_id: str
    step: Callable[[Stage], bool] | None = field(default=None, repr=False)


def start(stage: Stage, name: str) -> ScenarioRun:
    """Create the job, and start the three waits for it."""
    scenario, job = SCENARIOS[name], None
    if scenario.known:
        if scenario.job_fault:
            stage.gateway.add_fault(f"job:{scenario.job_fault},match=scenario {name}")
        job = stage.start_job(f"scenario {name}")
    kling_task_id = job.task_id if job else str(uuid4())
    run = ScenarioRun(name, scenario, stage.trigger(scenario.dag_id, job=kling_task_id), job, kling_task_id)
    if scenario.query_faults or scenario.ends:
        run.step = _all_wait(run)
    return run


def _all_wait(run: ScenarioRun) -> Callable[[Stage], bool]:
    def step(stage: Stage) -> bool:
        states = stage.states(run.run)
        waiting = states["deferred"] == "deferred" and states["reschedule"] == "up_for_reschedule"
        if waiting and stage.queries(run.kling_task_id) >= len(MODES):
            run.step = _fail_queries(run)
        return run.step is None

    return step


def _fail_queries(run: ScenarioRun) -> Callable[[Stage], bool]:
    faults = [f"{fault},match=scenario {run.name}" for fault in run.scenario.query_faults]
    added = False

    def step(stage: Stage) -> bool:
        nonlocal added
        if not added:
            stage.gateway.add_fault(*faults)
            added = True
        if not run.scenario.ends or not faults:
            done = True
        else:
            requests = stage.gateway.requests
            applied = {request.fault for request in requests if request.task_id == run.kling_task_id}
            done = applied >= set(faults) and all(POLL_FAILED in stage.log(run.run, mode) for mode in MODES)
        if done and run.scenario.ends:
            assert run.job is not None
            pending = stage.gateway.faults.pending
            stage.gateway.faults.pending = [fault for fault in pending if fault.text not in faults]
            stage.finish(run.job)
        if done:
            run.step = None
        return done

    return step


def run_all(stage: Stage, runs: list[ScenarioRun]) -> None:
    """Continue all scenarios side by side, until each needs no further step."""

    def all_done() -> bool:
        unfinished = [run for run in runs if run.step is not None and not run.step(stage)]
        return not unfinished

    stage.until("the steps of all scenarios", all_done, timeout=150, pause=2)
