"""The example Dags that come with the project, in the real Airflow and by `dag.test()`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from private_airflow.components import PrivateAirflow
from stage import VIDEO, Stage

from airflow_provider_kling.models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from conftest import Played

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def catalogue(played: Played) -> dict[str, dict[str, Any]]:
    """Give the tasks of the nightly run over four pictures, one of them bad, by picture and task."""
    tasks = played.stage.until_over(played.runs["catalogue"], timeout=180)
    return {
        f"{ti['rendered_map_index'] or ti['map_index']}: {ti['task_id'].split('.')[-1]}": ti
        for ti in tasks.values()
    }


def test_the_nightly_catalogue_makes_a_video_of_each_good_picture(
    played: Played, catalogue: dict[str, dict[str, Any]]
) -> None:
    videos = played.folder / "videos" / "catalogue"
    assert {file.name: file.read_bytes() for file in videos.glob("*.mp4")} == {
        "lamp.png.mp4": VIDEO,
        "sofa.png.mp4": VIDEO,
        "vase.png.mp4": VIDEO,
    }
    for name in ("lamp", "sofa", "vase"):
        assert played.stage.gateway.times_paid(prompt=f"catalogue: a {name}", model="kling-v3.0-std-i2v") == 1


def test_a_bad_picture_of_the_catalogue_fails_alone_and_costs_nothing(
    played: Played, catalogue: dict[str, dict[str, Any]]
) -> None:
    states = {name: ti["state"] for name, ti in catalogue.items()}
    assert states["broken.png: submit"] == "failed"
    assert {states["lamp.png: download"], states["sofa.png: wait"], states["vase.png: download"]} == {
        "success"
    }
    assert sorted(states.values()).count("upstream_failed") == 2
    assert played.stage.gateway.times_paid(prompt="catalogue: a broken") == 0
    assert catalogue["broken.png: submit"]["try_number"] == 1


def test_the_grid_shows_the_names_of_the_pictures(catalogue: dict[str, dict[str, Any]]) -> None:
    shown = {ti["rendered_map_index"] for ti in catalogue.values() if ti["task_id"] == "animate.submit"}
    assert shown == {"broken.png", "lamp.png", "sofa.png", "vase.png"}
    shown = {
        ti["rendered_map_index"]
        for ti in catalogue.values()
        if ti["task_id"] == "animate.download" and ti["state"] == "success"
    }
    assert shown == {"lamp.png", "sofa.png", "vase.png"}


@pytest.mark.parametrize(
    "dag_id",
    [
        *("kling_nightly_catalogue", "kling_image_to_video", "kling_text_to_video", "kling_multi_shot"),
        *("kling_reference_to_video", "kling_video_editing", "kling_motion_control", "kling_ask_first"),
        "kling_one_task",
    ],
)
def test_the_trigger_form_explains_each_field(stage: Stage, dag_id: str) -> None:
    stage.until(f"{dag_id} to be read", lambda: stage.api.dag_exists(dag_id))
    details = stage.api.call("GET", f"/dags/{dag_id}/details")
    assert details["catchup"] is False
    for name, param in details["params"].items():
        assert param["schema"]["type"], name
        assert param["schema"]["title"], name
        assert name != "model" or DEFAULT_MODEL in param["schema"]["enum"]
    assert "it buys another" in " ".join(param["description"] or "" for param in details["params"].values())


def test_the_nightly_catalogue_runs_each_night_and_never_twice_at_once(stage: Stage) -> None:
    details = stage.api.call("GET", "/dags/kling_nightly_catalogue/details")
    assert details["timetable_summary"] == "0 0 * * *"
    assert details["max_active_runs"] == 1


def test_the_first_example_brings_its_video(played: Played) -> None:
    run = played.runs["example"]
    tasks = played.stage.until_over(run, timeout=120)
    assert {name: ti["state"] for name, ti in tasks.items()} == dict.fromkeys(
        ("submit", "wait", "download"), "success"
    )
    assert Path(played.stage.xcom(run, "download")).read_bytes() == VIDEO
    assert played.stage.gateway.times_paid(prompt="catalogue page one") == 1


@pytest.mark.parametrize(
    ("dag_id", "model"),
    [
        ("kling_text_to_video", "kling-v3.0-std-t2v"),
        ("kling_reference_to_video", "kling-o1-ref2v"),
        ("kling_video_editing", "kling-o1-video-edit"),
        ("kling_motion_control", "kling-v2.6-pro-motion-control"),
        ("kling_multi_shot", "kling-v3.0-pro-i2v"),
    ],
)
def test_every_other_kind_of_video_comes_home(played: Played, dag_id: str, model: str) -> None:
    stage, run = played.stage, played.runs[dag_id]
    stage.until_state(run, "success", "submit", timeout=180)
    job = stage.gateway.job_store.find(stage.xcom(run, "submit"))
    assert job is not None
    assert (job.model, job.unknown_fields) == (model, ())
    stage.finish(job)
    tasks = stage.until_over(run, timeout=180)
    assert {ti["state"] for ti in tasks.values()} == {"success"}
    assert Path(stage.xcom(run, "download")).read_bytes() == VIDEO


def test_the_first_example_runs_without_a_scheduler_and_openlineage_gets_its_datasets(played: Played) -> None:
    stage = played.stage
    picture, video = str(played.pictures[0]), played.folder / "videos" / "dag-test.mp4"
    conf = {"image": picture, "prompt": "catalogue by dag.test", "target": str(video)}
    home, dags = stage.airflow.home / "alone", PROJECT / "dags"
    transport = {"type": "file", "log_file_path": f"{home}/lineage", "append": True}
    env = {
        "AIRFLOW_CONN_KLING_DEFAULT": stage.gateway.connection_json(allowed_paths="/"),
        "AIRFLOW__OPENLINEAGE__DISABLED": "False",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
    }
    with PrivateAirflow(home, dags, env=env, components=()) as alone:
        alone.cli("dags", "test", "kling_image_to_video", "--conf", json.dumps(conf))
    assert video.read_bytes() == VIDEO
    assert stage.gateway.times_paid(prompt="catalogue by dag.test") == 1
    events = [json.loads(line) for line in (home / "lineage").read_text().splitlines()]
    (done,) = [
        event
        for event in events
        if (event["eventType"], event["job"]["name"]) == ("COMPLETE", "kling_image_to_video.download")
    ]
    names = {
        side: [(each["namespace"], each["name"]) for each in done[side]] for side in ("inputs", "outputs")
    }
    assert names == {"inputs": [("file", picture)], "outputs": [("file", str(video))]}
