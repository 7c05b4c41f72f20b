"""Ways in which a wait can end, each told to all three modes of the sensor."""

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
class Plot:
    """What happens to a job, and when.

    :param fate: a fault that the job is born with; it shows once the job is over.
    :param meanwhile: faults that queries meet from the moment when all three wait.
    :param ends: whether the job is over at last; after faults, once each of the three has met one.
    """

    dag_id: str = "waits"
    fate: str = ""
    meanwhile: tuple[str, ...] = ()
    ends: bool = True
    known: bool = True


PLOTS = {
    "succeeds": Plot(),
    "fails": Plot(fate="fail=the model gave up"),
    "moderated": Plot(fate="fail=moderation"),
    "cancelled": Plot(fate="cancel"),
    "empty": Plot(fate="empty"),
    "unknown": Plot(known=False, ends=False),
    "revoked": Plot(meanwhile=("query:error=INVALID_API_KEY,times=always",), ends=False),
    "too late": Plot("waits_short", ends=False),
    "fails softly": Plot("waits_soft", fate="fail=the model gave up"),
    "troubled": Plot(
        meanwhile=(
            *("query:cut,times=2", "query:html=502,times=2", "query:hang=5", "query:status=503,times=always"),
        )
    ),
}


@dataclass
class Story:
    """One plot while it happens."""

    name: str
    plot: Plot
    run: Run
    job: Job | None
    kling_task_id: str
    step: Callable[[Stage], bool] | None = field(default=None, repr=False)


def begin(stage: Stage, name: str) -> Story:
    """Make the job and let the three wait for it."""
    plot, job = PLOTS[name], None
    if plot.known:
        if plot.fate:
            stage.gateway.add_fault(f"job:{plot.fate},match=story {name}")
        job = stage.start_job(f"story {name}")
    kling_task_id = job.task_id if job else str(uuid4())
    story = Story(name, plot, stage.trigger(plot.dag_id, job=kling_task_id), job, kling_task_id)
    if plot.meanwhile or plot.ends:
        story.step = _all_wait(story)
    return story


def _all_wait(story: Story) -> Callable[[Stage], bool]:
    def step(stage: Stage) -> bool:
        states = stage.states(story.run)
        waiting = states["deferred"] == "deferred" and states["reschedule"] == "up_for_reschedule"
        if waiting and stage.queries(story.kling_task_id) >= len(MODES):
            story.step = _trouble(story)
        return story.step is None

    return step


def _trouble(story: Story) -> Callable[[Stage], bool]:
    faults = [f"{fault},match=story {story.name}" for fault in story.plot.meanwhile]
    added = False

    def step(stage: Stage) -> bool:
        nonlocal added
        if not added:
            stage.gateway.add_fault(*faults)
            added = True
        if not story.plot.ends or not faults:
            done = True
        else:
            asked = stage.gateway.requests
            met = {request.fault for request in asked if request.task_id == story.kling_task_id}
            done = met >= set(faults) and all(POLL_FAILED in stage.log(story.run, mode) for mode in MODES)
        if done and story.plot.ends:
            assert story.job is not None
            board = stage.gateway.faults
            board.pending = [fault for fault in board.pending if fault.text not in faults]
            stage.finish(story.job)
        if done:
            story.step = None
        return done

    return step


def tell(stage: Stage, stories: list[Story]) -> None:
    """Go on with all stories, side by side, until each is left to itself."""

    def all_told() -> bool:
        untold = [story for story in stories if story.step is not None and not story.step(stage)]
        return not untold

    stage.until("the stories to be told", all_told, timeout=150, pause=2)
