"""One Dag run in which each fault of the emulator happens to a task of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from private_airflow.rest_api import FINAL

if TYPE_CHECKING:
    from stage import Run, Stage

ANY = (
    *("error=INVALID_API_KEY", "nested=NOT_ENOUGH_BALANCE", "status=503", "html=502", "rate-limit=1"),
    *("malformed", "redirect", "hang=1", "cut"),
)
SUBMIT = (*ANY, "cut,late", "error=ILLEGAL_IMAGE_CONTENT", "error=CREATE_TASK_FAILED")
#: The refusal that shows the most of a request, once for each form of a picture.
REFUSED = ("error=INVALID_REQUEST_BODY",) * 4
QUERY = (
    *ANY,
    *("fail", "fail=moderation", "cancel", "says=TASK_STATUS_DREAMING", "empty", "stuck", "ttl=0"),
    *("numbers=blank", "invisible=600"),
)
DOWNLOAD = (*ANY, "dead=403", "truncate=100", "wrong-length=100", "not-video", "slow=1")


@dataclass
class FaultRun:
    """The run, and the rows of its triggers while it was running."""

    run: Run
    triggers: set[str] = field(default_factory=set)


def run_faults(stage: Stage, image: Path, target: Path) -> FaultRun:
    """Let each fault happen to a task of its own, and return when all tasks have ended."""
    faults, prompts = [], [f"faulty submit {number:02}." for number in range(len(SUBMIT + REFUSED))]
    faults += [
        f"submit:{word},match={prompt}" for word, prompt in zip(SUBMIT + REFUSED, prompts, strict=True)
    ]
    jobs = {}
    for call, words in (("query", QUERY), ("download", DOWNLOAD)):
        jobs[call] = [stage.start_job(f"faulty {call} {number:02}.") for number in range(len(words))]
        for job in jobs[call]:
            stage.finish(job)
        pairs = zip(words, jobs[call], strict=True)
        faults += [f"{call}:{word},times=always,match={job.prompt}" for word, job in pairs]
    stage.gateway.add_fault(*faults, "download:hang=30,match=faulty and cut off")
    slow, done = stage.start_job("faulty and cut short"), stage.start_job("faulty and cut off")
    stage.finish(done)
    run = stage.trigger(
        "faults",
        image=str(image),
        target=str(target),
        prompts=prompts,
        waits=[job.task_id for job in jobs["query"]],
        downloads=[job.task_id for job in jobs["download"]],
        slow=slow.task_id,
        done=done.task_id,
    )
    faulty = FaultRun(run)

    def over() -> bool:
        faulty.triggers.update(map(str, stage.rows("select * from trigger")))
        states = stage.tasks(run)
        poke = states.get("cut_short_poke", {})
        if poke.get("try_number", 0) > 1 or poke.get("state") == "up_for_retry":
            stage.finish(slow)
        return stage.api.run_state(run.dag_id, run.run_id) in FINAL

    stage.until("every fault to happen", over, timeout=150)
    return faulty
