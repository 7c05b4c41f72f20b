"""Fewer worker starts, in the real Airflow: one task for it all, and sensors that begin in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from stage import VIDEO, Run

if TYPE_CHECKING:
    from conftest import Played


@pytest.fixture(scope="module")
def run(played: Played) -> Run:
    return played.runs["starts"]


@pytest.fixture(scope="module")
def tasks(played: Played, run: Run) -> dict[str, dict[str, Any]]:
    return played.stage.until_over(run, timeout=240)


@pytest.mark.parametrize("task", ["one", "each[0]", "each[1]", "again"])
def test_one_task_brings_a_video_home(tasks: dict[str, dict[str, Any]], task: str) -> None:
    assert tasks[task]["state"] == "success"


def test_the_videos_are_whole_and_paid_for_once(played: Played, tasks: dict[str, dict[str, Any]]) -> None:
    folder = played.folder / "videos" / "starts"
    assert (folder / "one.mp4").read_bytes() == (folder / "again.mp4").read_bytes() == VIDEO
    prompts = ["one", "again", *(f"{kind} {n}" for kind in ("each", "group") for n in (0, 1))]
    for prompt in prompts:
        assert played.stage.gateway.times_paid(prompt=f"starts {prompt}") == 1
    for kind in ("each", "group"):
        ids = {job.task_id for n in (0, 1) for job in played.stage.jobs(f"starts {kind} {n}")}
        assert {file.stem for file in (folder / kind).glob("*.mp4")} == ids
        assert len(ids) == 2


def test_one_task_pushes_what_the_gallery_shows(
    played: Played, run: Run, tasks: dict[str, dict[str, Any]]
) -> None:
    stage = played.stage
    for map_index in (0, 1):
        video = stage.xcom(run, "each", "kling_video", map_index)
        assert video["media"]["audio"] is False
        assert {"submit_time_ms", "complete_time_ms"} <= video["timings"].keys()
        assert stage.xcom(run, "each", "kling_request", map_index)["earlier_cost_usd"] == 0
        assert stage.xcom(run, "each", "kling_preview", map_index)["poster"]
        link = stage.xcom(run, "each", "kling_gallery_link", map_index)
        assert link.endswith(f"/tasks/each/mapped/{map_index}/plugin/kling-videos")


def test_a_retry_of_its_download_neither_paid_nor_waited_again(
    played: Played, run: Run, tasks: dict[str, dict[str, Any]]
) -> None:
    assert tasks["again"]["try_number"] == 2
    assert "Resumed: job" in played.stage.log(run, "again", 2)
    assert "deferring" not in played.stage.log(run, "again", 2).lower()


def test_a_sensor_that_begins_in_the_triggerer_gives_the_same_result(
    played: Played, run: Run, tasks: dict[str, dict[str, Any]]
) -> None:
    assert tasks["wait_good"]["state"] == "success"
    result = played.stage.xcom(run, "wait_good")
    assert result["kling_task_id"] == played.stage.jobs("starts good")[0].task_id
    for n in (0, 1):
        assert tasks[f"group.wait[{n}]"]["state"] == "success"
        waited = played.stage.xcom(run, "group.wait", map_index=n)["kling_task_id"]
        assert waited == played.stage.xcom(run, "group.submit", map_index=n)


def test_a_job_that_failed_is_our_error_after_a_start_in_the_triggerer_too(
    played: Played, run: Run, tasks: dict[str, dict[str, Any]]
) -> None:
    assert tasks["wait_bad"]["state"] == "failed"
    assert tasks["wait_bad"]["try_number"] == 1
    assert played.stage.error(run, "wait_bad").startswith("KlingJobFailedError")
