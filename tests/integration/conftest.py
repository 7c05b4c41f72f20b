"""The Dag runs of the integration tests, in the private Airflow of the session.

All runs start at the first test that needs one, so that they run at the same time. The tests then check the
results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from fault_run import FaultRun, run_faults
from scenarios import SCENARIOS, ScenarioRun, run_all, start
from stage import MODES, Run, Stage, paint

if TYPE_CHECKING:
    from pathlib import Path

LINK = "https://media.example/one"

#: The Dags of the other kinds of video, and what is typed into their forms.
KINDS: dict[str, dict[str, Any]] = {
    "kling_text_to_video": {"prompt": "catalogue from words"},
    "kling_reference_to_video": {"prompt": "catalogue 'from' references", "images": [LINK, LINK]},
    "kling_video_editing": {"prompt": "catalogue edited", "video": LINK},
    "kling_motion_control": {"video": LINK},
    "kling_multi_shot": {
        "shots": [{"prompt": "catalogue shot", "duration": 3}, {"prompt": "another", "duration": 4}]
    },
}


@dataclass
class Played:
    """The Dag runs of all integration tests."""

    stage: Stage
    pictures: list[Path]
    folder: Path
    scenarios: dict[str, ScenarioRun] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)


@pytest.fixture(scope="session")
def played(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Start all runs that do not need Airflow for themselves."""
    folder = tmp_path_factory.mktemp("work")
    pictures = [
        paint(folder / "pictures" / f"{name}.png", seed) for seed, name in enumerate(("lamp", "sofa", "vase"))
    ]
    (folder / "pictures" / "broken.png").write_bytes(pictures[0].read_bytes()[:8] + b"not a picture")
    (folder / "videos").mkdir()
    played = Played(stage, pictures, folder)
    picture, target = str(pictures[0]), str(folder / "videos")
    stage.gateway.add_fault(
        *("submit:cut,late,match=answer lost", "submit:error=INVALID_REQUEST_BODY,match=refused"),
        *("download:dead=403,times=5,match=broken download", "job:render=8,times=always,match=catalogue"),
    )
    for dag_id in ("kling_film", "on_each_video"):  # the catalogue's videos start them
        stage.until(f"{dag_id} to be read", lambda dag_id=dag_id: stage.api.dag_exists(dag_id))
        stage.api.unpause(dag_id)
    played.runs["chains"] = stage.trigger("chains", image=picture, target=target)
    played.runs["catalogue"] = stage.trigger(
        "kling_nightly_catalogue",
        pictures=str(folder / "pictures"),
        videos=str(folder / "videos/catalogue"),
        prompt="catalogue: a {name}",
    )
    played.runs["example"] = stage.trigger(
        "kling_image_to_video", image=picture, prompt="catalogue page one", target=f"{target}/example.mp4"
    )
    for dag_id, form in KINDS.items():
        pictures_too = {"image": picture} if dag_id in ("kling_motion_control", "kling_multi_shot") else {}
        played.runs[dag_id] = stage.trigger(dag_id, **pictures_too, **form, target=f"{target}/{dag_id}.mp4")
    stage.gateway.add_fault(
        *("job:render=12,times=always,match=starts", "job:fail,match=starts bad"),
        "download:dead=403,times=5,match=starts again",
    )
    played.runs["starts"] = stage.trigger("starts", target=f"{target}/starts")
    stage.gateway.add_fault(
        *("job:render=2,times=always,match=functions", "job:render=2,times=always,match=library"),
        "job:render=15,times=always,match=pooled",
        "download:dead=403,times=5,match=functions again",
    )
    form = {"image": picture, "target": f"{target}/functions"}
    played.runs["functions"] = stage.trigger("functions", **form)
    played.runs["limits"] = stage.trigger("limits")
    # As docs/many-videos.md has it: at most one job at the gateway at a time.
    stage.api.call("POST", "/pools", {"name": "kling", "slots": 1, "include_deferred": True})
    form["target"] = f"{target}/pooled"
    played.runs["pooled"] = stage.trigger("pooled", **form)
    form["target"] = f"{target}/library"
    played.runs["library"] = stage.trigger("library", **form, night="first")
    done = stage.start_job("broken download")
    stage.finish(done)
    played.runs["troubles"] = stage.trigger("troubles", image=picture, target=target, job=done.task_id)
    for name in SCENARIOS:
        played.scenarios[name] = start(stage, name)
    stage.api.call("POST", "/pools", {"name": "by_hand", "slots": 3})
    held = stage.start_job("ended by hand")
    played.runs["by hand"] = stage.trigger("waits_ended_by_hand", job=held.task_id)
    if "scheduler" not in stage.airflow.services:
        stage.airflow.start("scheduler")
    return played


@pytest.fixture(scope="session")
def scenarios(played: Played) -> dict[str, ScenarioRun]:
    """Run all scenarios."""
    run_all(played.stage, list(played.scenarios.values()))
    return played.scenarios


@dataclass
class Seen:
    """What the REST API and the process table said of one sensor while it waited."""

    state: str
    progress: dict[str, Any] | None
    links: dict[str, str | None]
    processes: list[int]


@pytest.fixture(scope="session")
def waiting(played: Played) -> dict[str, Seen]:
    """Look at the three chains while their sensors wait, then let their jobs end."""
    stage, run = played.stage, played.runs["chains"]
    tasks = {mode: f"wait_{mode}" for mode in MODES}

    def all_wait() -> bool:
        states = stage.states(run)
        return (
            states["wait_deferred"] == "deferred"
            and states["wait_poke"] == "running"
            and states["wait_reschedule"] == "up_for_reschedule"
            and all(stage.xcom(run, task, "kling_progress") for task in tasks.values())
            # A worker takes a moment to leave after it has handed its task over.
            and not stage.processes_of(run, "wait_deferred")
            and not stage.processes_of(run, "wait_reschedule")
        )

    stage.until("all three chains to wait", all_wait, timeout=120)
    seen = {}
    for mode, task in tasks.items():
        processes = stage.processes_of(run, task)
        seen[mode] = Seen(
            stage.states(run)[task],
            stage.xcom(run, task, "kling_progress"),
            stage.links(run, task),
            processes,
        )
    for mode in MODES:
        for job in stage.jobs(f"chain {mode}"):
            stage.finish(job)
    return seen


@pytest.fixture(scope="session")
def chains(played: Played, waiting: dict[str, Seen]) -> Run:
    """Give the run of the three chains, ended."""
    run = played.runs["chains"]
    played.stage.until_over(run)
    return run


@pytest.fixture(scope="session")
def faulty(played: Played, chains: Run, scenarios: dict[str, ScenarioRun]) -> FaultRun:
    """Give the run in which every fault happened, ended."""
    return run_faults(played.stage, played.pictures[0], played.folder / "faults")


@pytest.fixture(scope="session")
def rescued(played: Played, chains: Run) -> Run:
    """Give a run of the rescue Dag, ended: it brought a video home that nobody else fetched."""
    stage = played.stage
    job = stage.start_job("rescue me")
    stage.finish(job)
    run = stage.trigger("kling_rescue", kling_task_id=job.task_id, target=f"{played.folder}/rescued/")
    stage.until_over(run)
    return run
