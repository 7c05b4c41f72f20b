"""Videos as Airflow's assets: other Dags start on them, the nightly film among them, and people see them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stage import Run, Stage

if TYPE_CHECKING:
    from conftest import Played

NAMES = ("lamp", "sofa", "vase")


@pytest.fixture(scope="module")
def events(played: Played) -> dict[str, dict[str, Any]]:
    """Give the asset event of each video of the nightly catalogue, by its picture."""
    stage, run = played.stage, played.runs["catalogue"]
    stage.until_over(run, timeout=180)
    found = stage.api.call("GET", "/assets/events", source_dag_id=run.dag_id, source_run_id=run.run_id)
    return {event["extra"].get("name", "night"): event for event in found["asset_events"]}


def returned(stage: Stage, dag_id: str, task_id: str) -> list[Any]:
    """Return all items that the ended runs of a Dag have returned; assets have started them."""
    runs = stage.api.call("GET", f"/dags/{dag_id}/dagRuns", state="success")["dag_runs"]
    return [item for run in runs for item in stage.xcom(Run(dag_id, run["dag_run_id"]), task_id) or []]


def test_each_video_is_an_event_with_its_facts(played: Played, events: dict[str, dict[str, Any]]) -> None:
    videos = played.folder / "videos" / "catalogue"
    assert events.keys() == {"night", *(f"{name}.png" for name in NAMES)}
    for name in NAMES:
        event, path = events[f"{name}.png"], f"{videos}/{name}.png.mp4"
        facts = event["extra"]
        assert (event["uri"], facts["path"], facts["sidecar"]) == (f"file://{path}", path, f"{path}.json")
        assert played.stage.gateway.job_store.find(facts["kling_task_id"])
        assert facts["size"] == Path(path).stat().st_size
        assert facts["seconds"] > 0


def test_the_assets_page_has_the_videos(played: Played, events: dict[str, dict[str, Any]]) -> None:
    stage = played.stage

    def listed() -> set[str]:
        return {asset["uri"] for asset in stage.api.call("GET", "/assets")["assets"]}

    stage.until("the scheduler to show the assets", lambda: {e["uri"] for e in events.values()} <= listed())
    (alias,) = stage.api.call("GET", "/assets/aliases", name_pattern="kling_videos")["asset_aliases"]
    assert alias["name"] == "kling_videos"


def test_a_dag_is_scheduled_on_the_alias(played: Played, events: dict[str, dict[str, Any]]) -> None:
    stage = played.stage

    def all_seen() -> bool:
        return {f"{name}.png" for name in NAMES} <= {
            each["name"] for each in returned(stage, "on_each_video", "seen")
        }

    stage.until("all videos to be seen", all_seen, timeout=120)


def test_the_film_of_the_night_comes_by_itself(played: Played, events: dict[str, dict[str, Any]]) -> None:
    import av

    stage = played.stage
    folder = str(played.folder / "videos" / "catalogue" / "films")

    def films() -> list[str]:
        return [path for path in returned(stage, "kling_film", "film") if path.startswith(folder)]

    (film,) = stage.until("the film", films, timeout=120)
    with av.open(film) as file:
        seconds = file.duration / av.time_base
    videos = [event["extra"]["seconds"] for name, event in events.items() if name != "night"]
    assert seconds == pytest.approx(sum(videos), abs=0.1)
