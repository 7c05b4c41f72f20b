"""The sensor's three modes in a real scheduler and triggerer: same results, same failures, same words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scenarios import POLL_FAILED
from stage import MODES, VIDEO, VIDEO_SHA256, Run, Stage

if TYPE_CHECKING:
    from conftest import Played, Seen
    from scenarios import ScenarioRun


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_becomes_a_whole_video(played: Played, chains: Run, mode: str) -> None:
    stage = played.stage
    path = stage.xcom(chains, f"download_{mode}")
    assert path == f"{played.folder}/videos/{mode}.mp4"
    assert Path(path).read_bytes() == VIDEO
    assert stage.xcom(chains, f"download_{mode}", "size") == len(VIDEO)
    assert stage.xcom(chains, f"download_{mode}", "sha256") == VIDEO_SHA256
    assert stage.xcom(chains, f"download_{mode}", "content_type") == "video/mp4"


@pytest.mark.parametrize("mode", MODES)
def test_the_submit_tells_the_task_id_and_the_estimated_cost(played: Played, chains: Run, mode: str) -> None:
    [job] = played.stage.jobs(f"chain {mode}")
    assert played.stage.xcom(chains, f"submit_{mode}") == job.task_id
    assert played.stage.xcom(chains, f"submit_{mode}", "estimated_cost_usd") == pytest.approx(0.56)


@pytest.mark.parametrize("mode", MODES)
def test_the_state_of_the_job_can_be_read_while_the_sensor_waits(
    played: Played, waiting: dict[str, Seen], mode: str
) -> None:
    [job] = played.stage.jobs(f"chain {mode}")
    progress = waiting[mode].progress
    assert progress is not None
    assert progress["kling_task_id"] == job.task_id
    assert progress["status"] == "TASK_STATUS_PROCESSING"


@pytest.mark.parametrize("mode", MODES)
def test_the_gallery_button_is_there_while_the_sensor_waits(waiting: dict[str, Seen], mode: str) -> None:
    link = waiting[mode].links["Kling gallery"]
    assert link is not None
    assert link.endswith(f"/tasks/wait_{mode}/plugin/kling-videos")
    assert not waiting[mode].links["Kling video"]


@pytest.mark.parametrize("mode", MODES)
def test_the_video_button_leads_to_the_video_once_it_is_there(played: Played, chains: Run, mode: str) -> None:
    [job] = played.stage.jobs(f"chain {mode}")
    link = played.stage.links(chains, f"wait_{mode}")["Kling video"]
    assert link is not None
    assert link.startswith(f"{played.stage.gateway.storage_url}/videos/{job.task_id}.mp4?")
    assert link == played.stage.xcom(chains, f"wait_{mode}", "kling_video_url")


@pytest.mark.parametrize("mode", MODES)
def test_a_chain_pushes_what_the_gallery_shows(played: Played, chains: Run, mode: str) -> None:
    stage, tasks = played.stage, [f"{step}_{mode}" for step in ("submit", "wait", "download")]
    request, video = (
        stage.xcom(chains, tasks[n], f"kling_{key}") for n, key in ((0, "request"), (2, "video"))
    )
    assert (request["inputs"]["prompt"], request["inputs"]["duration"]) == (f"chain {mode}", 5)
    assert request["earlier_cost_usd"] == 0
    assert video["media"]["duration"] == 1
    assert video["timings"] == stage.xcom(chains, tasks[1])["timings"]
    assert video["downloaded_at"] * 1000 > video["timings"]["complete_time_ms"]
    previews = [stage.xcom(chains, tasks[n], "kling_preview") for n in (0, 2)]
    assert previews[0]["source"].startswith("data:image/jpeg;base64,")
    assert previews[1]["poster"].startswith("data:image/jpeg;base64,")
    for task in tasks:
        assert str(stage.links(chains, task)["Kling gallery"]).endswith(f"/tasks/{task}/plugin/kling-videos")


def test_only_a_poking_sensor_keeps_a_worker_process(waiting: dict[str, Seen]) -> None:
    assert waiting["poke"].state == "running"
    assert waiting["poke"].processes, "the search for a task's process found none where there is one"
    assert waiting["deferred"].state == "deferred"
    assert waiting["deferred"].processes == []
    assert waiting["reschedule"].state == "up_for_reschedule"
    assert waiting["reschedule"].processes == []


def test_a_deferred_wait_is_asked_for_by_worker_triggerer_and_worker_again(
    played: Played, chains: Run
) -> None:
    [job] = played.stage.jobs("chain deferred")
    assert played.stage.queries(job.task_id) >= 4  # one is the download's


def test_each_job_was_paid_once(played: Played, chains: Run) -> None:
    for mode in MODES:
        assert played.stage.gateway.times_paid(prompt=f"chain {mode}") == 1


def test_the_key_never_reaches_the_storage_host(played: Played, chains: Run) -> None:
    assert any(request.host == "storage" for request in played.stage.gateway.requests)
    assert not played.stage.gateway.key_reached_storage


# One job, three sensors.


def test_the_same_job_gives_the_same_result_in_every_mode(
    played: Played, scenarios: dict[str, ScenarioRun]
) -> None:
    results = [_unsigned(result) for result in _results(played.stage, scenarios["succeeds"]).values()]
    assert results[0] == results[1] == results[2]
    assert results[0]["kling_task_id"] == scenarios["succeeds"].kling_task_id
    assert results[0]["status"] == "TASK_STATUS_SUCCEED"
    assert results[0]["videos"][0]["video_url_ttl"] == 3600
    assert set(results[0]["timings"]) == {"submit_time_ms", "execute_time_ms", "complete_time_ms"}


def test_failed_polls_do_not_end_a_wait(played: Played, scenarios: dict[str, ScenarioRun]) -> None:
    scenario = scenarios["troubled"]
    assert len(_results(played.stage, scenario)) == len(MODES)
    met = {
        r.fault.split(",")[0] for r in played.stage.gateway.requests if r.task_id == scenario.kling_task_id
    }
    assert {"query:status=503", "query:cut", "query:html=502", "query:hang=5"} <= met
    for mode in MODES:
        assert POLL_FAILED in played.stage.log(scenario.run, mode)
        assert played.stage.tasks(scenario.run)[mode]["try_number"] == 1


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("fails", "KlingJobFailedError", "the model gave up"),
        ("moderated", "KlingModerationError", "rejected by moderation"),
        ("cancelled", "KlingJobFailedError", "cancel"),
        ("empty", "KlingJobFailedError", "without a video"),
        ("unknown", "KlingTaskNotFoundError", "TASK_NOT_FOUND"),
        ("revoked", "KlingAccessError", "INVALID_API_KEY"),
        ("too late", "KlingWaitTimeoutError", "not finished within the timeout of 15 s"),
    ],
)
def test_a_wait_that_ends_badly_tells_the_same_in_every_mode(
    played: Played, scenarios: dict[str, ScenarioRun], name: str, error: str, words: str
) -> None:
    stage, scenario = played.stage, scenarios[name]
    tasks = stage.until_over(scenario.run, timeout=120)
    told = {mode: stage.error(scenario.run, mode) for mode in MODES}
    for mode in MODES:
        kind, _, text = told[mode].partition(": ")
        assert kind.split(".")[-1] == error, told
        assert words.lower() in text.lower(), told
        assert scenario.kling_task_id in text
        assert tasks[mode]["state"] == "failed"
        assert tasks[mode]["try_number"] == 1, f"{mode}: a final error was tried again"
    if name != "too late":  # the words of the last poll may differ there
        assert told["deferred"] == told["poke"] == told["reschedule"]


@pytest.mark.parametrize("mode", MODES)
def test_a_soft_failure_skips(played: Played, scenarios: dict[str, ScenarioRun], mode: str) -> None:
    scenario = scenarios["fails softly"]
    tasks = played.stage.until_over(scenario.run)
    assert tasks[mode]["state"] == "skipped", played.stage.log(scenario.run, mode)
    assert tasks[mode]["try_number"] == 1
    assert "Skipping task." in played.stage.log(scenario.run, mode)


# What a retry may do.


def test_a_submit_whose_answer_was_lost_is_not_sent_again(played: Played) -> None:
    task = _ended(played, "answer_lost")
    assert task["state"] == "failed"
    assert task["try_number"] == 1
    assert "KlingSubmitUncertainError" in played.stage.error(played.runs["troubles"], "answer_lost")
    assert played.stage.gateway.times_paid(prompt="answer lost") == 1


@pytest.mark.parametrize(
    ("task_id", "words"), [("refused", "INVALID_REQUEST_BODY"), ("not_a_picture", "image=")]
)
def test_a_wrong_request_is_not_tried_again(played: Played, task_id: str, words: str) -> None:
    task = _ended(played, task_id)
    assert task["state"] == "failed"
    assert task["try_number"] == 1
    error = played.stage.error(played.runs["troubles"], task_id)
    assert "KlingInputError" in error
    assert words in error


def test_a_broken_download_is_tried_again(played: Played) -> None:
    task = _ended(played, "broken_download")
    assert task["state"] == "success"
    assert task["try_number"] == 2
    assert "KlingDownloadError" in played.stage.error(played.runs["troubles"], "broken_download")
    path = Path(played.stage.xcom(played.runs["troubles"], "broken_download"))
    assert path.read_bytes() == VIDEO
    assert [file.name for file in path.parent.glob(".*")] == []


def _ended(played: Played, task_id: str) -> dict[str, Any]:
    return played.stage.until_over(played.runs["troubles"])[task_id]


def _results(stage: Stage, scenario: ScenarioRun) -> dict[str, Any]:
    tasks = stage.until_over(scenario.run)
    assert {mode: tasks[mode]["state"] for mode in MODES} == dict.fromkeys(MODES, "success")
    return {mode: stage.xcom(scenario.run, mode) for mode in MODES}


def _unsigned(result: dict[str, Any]) -> dict[str, Any]:
    """Give a result without the signatures of its links: every look is given a fresh one."""
    videos = [{**video, "video_url": re.sub(r"\?.*", "", video["video_url"])} for video in result["videos"]]
    return {**result, "videos": videos}
