"""A hostile gateway and the real Airflow: each story ends in each mode as it does in the contract tests.

The contract tests let every story happen with a clock of their own. Here some of them happen in real time, in
real workers and a real triggerer; all of them with ``STORIES=1``, every tenth with ``STORIES=10``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hostile_gateway import HEADER, JOB, KEY, SIGNATURE, VIDEO, HostileGateway, Script
from hostile_queries import STORIES
from hostile_runs import DONE, leak

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stage import Run, Stage

WAYS = ("poke", "reschedule", "deferred", "one_task")
EACH = int(os.environ.get("STORIES", "24"))
CHOSEN = dict(list(STORIES.items())[::EACH])
#: These ends may need more time than the tasks have here; those in reschedule mode have more of it.
PATIENT = {"KlingAccessError", "KlingInputError", "KlingBalanceError", "KlingTaskNotFoundError"}


@dataclass
class Ended:
    """The run in which all stories happened."""

    run: Run
    gateway: HostileGateway
    folder: Path
    states: dict[str, str]
    instances: dict[str, dict[str, Any]]

    def outcome(self, stage: Stage, way: str, index: int) -> str:
        name = f"{way}[{index}]"
        if self.states[name] == "success":
            return DONE
        return stage.error(self.run, way, map_index=index).split(":")[0]


@pytest.fixture(scope="module")
def ended(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    if "scheduler" not in stage.airflow.services:
        stage.airflow.start("scheduler")
    gateway, folder = HostileGateway(), tmp_path_factory.mktemp("hostile")
    scripts, connections = {}, []
    for number, story in enumerate(CHOSEN.values()):
        for way in WAYS:
            scripts[f"{number}_{way}"] = Script(story.answers, story.for_ever)
            connection = gateway.connection(f"/story/{number}_{way}", allowed_paths=str(folder))
            extra = json.dumps(connection.pop("extra"))
            connections.append({"connection_id": f"hostile_{number}_{way}", "extra": extra, **connection})
    gateway.begin(scripts)
    stage.api.call("PATCH", "/connections", {"actions": [{"action": "create", "entities": connections}]})
    run = stage.trigger("hostile", stories=list(range(len(CHOSEN))), job=JOB, target=str(folder))
    instances = stage.until_over(run, timeout=240 if EACH > 20 else 3600)
    states = {name: task["state"] for name, task in instances.items()}
    yield Ended(run, gateway, folder, states, instances)
    gateway.close()
    names = [connection["connection_id"] for connection in connections]
    stage.api.call("PATCH", "/connections", {"actions": [{"action": "delete", "entities": names}]})


@pytest.mark.timeout(300 if EACH > 20 else 4000)
@pytest.mark.parametrize("index", range(len(CHOSEN)), ids=list(CHOSEN))
def test_a_story_ends_in_the_same_way_in_each_mode(stage: Stage, ended: Ended, index: int) -> None:
    story = list(CHOSEN.values())[index]
    ends = {*story.ends, *(("KlingWaitTimeoutError",) if PATIENT & {*story.ends} else ())}
    outcomes = {way: ended.outcome(stage, way, index) for way in WAYS}
    assert set(outcomes.values()) <= ends, outcomes
    if story.same and ends == {*story.ends}:
        assert len({outcomes[way] for way in WAYS[:3]}) == 1, outcomes


def test_each_story_pays_once_and_stores_the_right_video_or_none(ended: Ended) -> None:
    submits = [request.story for request in ended.gateway.requests if request.kind == "submit"]
    assert sorted(submits) == sorted(f"{number}_one_task" for number in range(len(CHOSEN)))
    for number in range(len(CHOSEN)):
        videos = list((ended.folder / str(number)).glob("*.mp4"))
        assert [path.read_bytes() for path in videos] in ([], [VIDEO])
        assert bool(videos) == (ended.states[f"one_task[{number}]"] == "success")


def test_nothing_secret_is_logged_or_stored(stage: Stage, ended: Ended) -> None:
    texts = {
        str(path): path.read_text("utf-8", "replace")
        for path in (stage.logs / "dag_id=hostile").rglob("*.log")
    }
    texts["XCom"] = json.dumps(
        [row[0] for row in stage.rows("select value from xcom where dag_id = 'hostile'")], default=str
    )
    texts |= {str(path): path.read_text() for path in ended.folder.rglob("*.json")}
    assert len(texts) > len(CHOSEN)
    for place, text in texts.items():
        for secret in (KEY, HEADER[1], SIGNATURE):
            if place != "XCom" or secret is not SIGNATURE:  # the sensor publishes the link
                assert leak(text, secret) is None, place
