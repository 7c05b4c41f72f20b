"""Functions, bytes, lists, limits and reuse in the real Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from stage import VIDEO

if TYPE_CHECKING:
    from conftest import Played


@pytest.fixture(scope="module")
def tasks(played: Played) -> dict[str, dict[str, Any]]:
    return played.stage.until_over(played.runs["functions"], timeout=240)


def test_what_functions_ask_for_is_bought_once_and_brought_home(
    played: Played, tasks: dict[str, dict[str, Any]]
) -> None:
    folder = played.folder / "videos" / "functions"
    for name in ("one", "each[0]", "each[1]", "many_requests", "many[0]", "many[1]", "again"):
        assert (name, tasks[name]["state"]) == (name, "success")
    names = {tasks[f"each[{n}]"]["rendered_map_index"] for n in (0, 1)}
    assert names == {"functions red", "functions blue"}
    run = played.stage.api.run("functions", played.runs["functions"].run_id)
    one = f"{(run['logical_date'] or run['run_after'])[:10]}/{played.pictures[0].stem}"
    for name in (one, "red", "blue", "again"):
        assert (folder / f"{name}.mp4").read_bytes() == VIDEO
    jobs = [played.stage.jobs(f"functions many {colour}") for colour in ("white", "black")]
    assert {file.stem for file in (folder / "many").glob("*.mp4")} == {job.task_id for (job,) in jobs}
    for prompt in ("one", "red", "blue", "many white", "many black", "again"):
        assert played.stage.gateway.times_paid(prompt=f"functions {prompt}") == 1


def test_a_retry_asks_the_function_again_and_goes_on_with_its_job(
    played: Played, tasks: dict[str, dict[str, Any]]
) -> None:
    assert tasks["again"]["try_number"] == 2
    assert "Resumed: job" in played.stage.log(played.runs["functions"], "again", 2)


def test_bytes_and_lists_reach_the_gateway_and_are_shown_by_hash_alone(
    played: Played, tasks: dict[str, dict[str, Any]]
) -> None:
    stage, run, picture = played.stage, played.runs["functions"], played.pictures[0].read_bytes()
    for name in ("bytes", "found", "lists[0]", "lists[1]"):
        assert (name, tasks[name]["state"]) == (name, "success")
    assert stage.gateway.times_paid(image=picture, prompt="functions bytes") == 1
    assert stage.gateway.times_paid(image=picture, prompt="functions lists") == 2
    path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/bytes"
    shown = json.dumps(stage.api.call("GET", path)["rendered_fields"])
    assert f"<{len(picture)} bytes, sha256 " in shown
    facts = stage.xcom(run, "bytes", "kling_request")["pictures"]["image"]
    assert (facts["source"], facts["width"]) == ("data", 320)


def test_tasks_that_run_at_once_stay_within_the_limit_of_their_run(played: Played) -> None:
    stage, run = played.stage, played.runs["limits"]
    tasks = stage.until_over(run, timeout=240)
    states = sorted(ti["state"] for name, ti in tasks.items() if name.startswith("submit"))
    assert states == ["failed", "failed", "success", "success"]
    assert sum(len(stage.jobs(f"limits {n}")) for n in range(4)) == 2
    told = stage.xcom(run, "summary")
    assert told["estimated_cost_usd"] == 0.672
    button = stage.links(run, "summary")["Kling gallery"]
    assert str(button).endswith(f"/runs/{quote(run.run_id)}/plugin/kling-run")
    assert all("max_run_cost_usd=0.7" in order["why"] for order in told["failed"])


def test_a_pool_that_counts_deferred_tasks_limits_the_jobs_at_the_gateway(played: Played) -> None:
    stage, run = played.stage, played.runs["pooled"]
    tasks = stage.until_over(run, timeout=240)
    assert {ti["state"] for ti in tasks.values()} == {"success"}
    first, second = sorted(job.created_at for n in (0, 1) for job in stage.jobs(f"pooled {n}"))
    assert second > first + 15  # which the first one took


def test_the_next_night_buys_nothing_anew(played: Played) -> None:
    stage, first = played.stage, played.runs["library"]
    stage.until_over(first, timeout=240)
    folder = played.folder / "videos" / "library"
    form = {"image": str(played.pictures[0]), "target": str(folder)}
    second = stage.trigger("library", **form, night="second")
    stage.until_over(second, timeout=120)
    assert stage.xcom(second, "video") == str(folder / "second" / "video.mp4")
    assert (folder / "first" / "video.mp4").read_bytes() == VIDEO
    assert (folder / "second" / "video.mp4").read_bytes() == VIDEO
    assert stage.gateway.times_paid(prompt="library") == 1
    assert [stage.xcom(run, "summary")["estimated_cost_usd"] for run in (first, second)] == [0.56, 0]
    assert len(stage.xcom(second, "summary")["reused"]) == 1
