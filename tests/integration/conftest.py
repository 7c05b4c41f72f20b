"""One private Airflow and one stand-in of the gateway for all tests of this ring.

Every Dag run is started at once, at the first test that needs any, so that they wait side by side;
the tests then look at what came out.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from private_airflow.components import COMPONENTS, PrivateAirflow
from private_airflow.postgres import PrivatePostgres, obtainable
from stage import MODES, Run, Stage, paint
from stories import PLOTS, Story, begin, tell
from vocabulary import Faulty, play

from airflow_provider_kling.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = "https://media.example/one"
PROJECT = Path(__file__).resolve().parents[2]
ORDER = (
    *("provider", "wheel", "modes", "examples", "interruptions"),
    *("starts", "functions", "batch", "secrets", "end"),
)
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "16",  # poking sensors hold a worker each
    # With its 15 database connections all taken, Airflow's API server stands still for half a minute.
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "60",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",  # a dead triggerer is missed sooner
    # Longer than a busy machine holds a healthy loop, shorter than the answer that one story waits for.
    "AIRFLOW__TRIGGERER__BLOCKED_MAIN_THREAD_WARNING_THRESHOLD": "3",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Look for secrets after everything has happened, and end Airflow last."""

    def place(item: pytest.Item) -> int:
        return next((i for i, word in enumerate(ORDER) if item.path.stem == f"test_airflow_{word}"), -1)

    ours = [item for item in items if item.path.parent == Path(__file__).parent]
    slots = [index for index, item in enumerate(items) if item in ours]
    for index, item in zip(slots, sorted(ours, key=place), strict=True):
        items[index] = item
        item.add_marker(pytest.mark.timeout(300))  # the first test that needs Airflow waits for it


@pytest.fixture(scope="session")
def gateway() -> Iterator[Emulator]:
    """Run a stand-in whose jobs go on until a test lets them end."""
    key = f"sk-integration-{secrets.token_hex(20)}"
    with Emulator(render=False, queue_seconds=0, render_seconds=3600, api_key=key) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def statements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file in which the database notes all that was ever written into it."""
    return tmp_path_factory.mktemp("postgres") / "postgres.log"


@pytest.fixture(scope="session")
def database(statements: Path) -> Iterator[str | None]:
    """Run a PostgreSQL and give its URL; nothing where there is none, which means SQLite.

    With that, a request of a user that comes while tasks write can lock everybody out for as long as the
    database lets them wait: Airflow's API server notes it in its event loop, which all others need to end.
    """
    if not obtainable():
        yield None
        return
    postgres = PrivatePostgres(statements, log_statement="mod")
    try:
        postgres.up()
        yield postgres.url
    finally:
        postgres.stop()


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, database: str | None) -> Iterator[PrivateAirflow]:
    """Run a private Airflow on our Dags and on those of the tests."""
    home, folders = tmp_path_factory.mktemp("airflow"), [PROJECT / "dags", Path(__file__).parent / "dags"]
    # The scheduler starts when all runs are made, so that they begin together and wait side by side.
    first = [component for component in COMPONENTS if component != "scheduler"]
    with PrivateAirflow(home, folders, env=SETTINGS, database=database, components=first) as airflow:
        yield airflow


@pytest.fixture(scope="session")
def stage(airflow: PrivateAirflow, gateway: Emulator) -> Stage:
    """Connect both; the connection is stored by the REST API, as a user stores it."""
    connection = {
        "connection_id": "kling_default",
        "conn_type": "kling",
        "host": gateway.url,
        "password": gateway.api_key,
        "extra": '{"allow_private_hosts": true, "allowed_paths": "/"}',
    }
    airflow.api.call("POST", "/connections", connection)
    return Stage(airflow, gateway)


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
    """The Dag runs of the whole ring, and what was seen of them while they waited."""

    stage: Stage
    pictures: list[Path]
    folder: Path
    stories: dict[str, Story] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)


@pytest.fixture(scope="session")
def played(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Start every run that needs no quiet around it."""
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
    for name in PLOTS:
        played.stories[name] = begin(stage, name)
    stage.api.call("POST", "/pools", {"name": "by_hand", "slots": 3})
    held = stage.start_job("ended by hand")
    played.runs["by hand"] = stage.trigger("waits_ended_by_hand", job=held.task_id)
    stage.airflow.start("scheduler")
    return played


@pytest.fixture(scope="session")
def stories(played: Played) -> dict[str, Story]:
    """Tell all stories to their ends."""
    tell(played.stage, list(played.stories.values()))
    return played.stories


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
def faulty(played: Played, chains: Run, stories: dict[str, Story]) -> Faulty:
    """Give the run in which every fault happened, ended."""
    return play(played.stage, played.pictures[0], played.folder / "faults")


@pytest.fixture(scope="session")
def rescued(played: Played, chains: Run) -> Run:
    """Give a run of the rescue Dag, ended: it brought a video home that nobody else fetched."""
    stage = played.stage
    job = stage.start_job("rescue me")
    stage.finish(job)
    run = stage.trigger("kling_rescue", kling_task_id=job.task_id, target=f"{played.folder}/rescued/")
    stage.until_over(run)
    return run
