"""Many at once in the real Airflow: a mapped run with bad pictures, and one that a person approves first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from batch.pictures import VideoSpec, make_specs
from stage import Run, Stage, paint

if TYPE_CHECKING:
    from conftest import Played


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[VideoSpec]:
    """Draw 12 pictures, 2 of them bad."""
    return make_specs(tmp_path_factory.mktemp("batch"), 12, 2)


@pytest.fixture(scope="module")
def runs(played: Played, wanted: list[VideoSpec]) -> dict[str, Run]:
    """Start the batch under a limit that is just what its good pictures cost, and two that ask first."""
    stage = played.stage
    stage.gateway.add_fault(
        "job:render=2,times=always,match=picture 0", "job:render=2,times=always,match=asked"
    )
    budget = float(sum(spec.usd for spec in wanted if spec.good))
    pictures = [str(paint(played.folder / "asked" / f"{n}.png", 50 + n)) for n in range(2)]
    asked = {"pictures": pictures, "duration": 3, "sound": True, "target": f"{played.folder}/approved/"}
    return {
        "batch": stage.trigger("batch", specs=[spec.arguments() for spec in wanted], budget=budget),
        "approve": stage.trigger("kling_ask_first", prompt="asked and approved", **asked),
        "reject": stage.trigger("kling_ask_first", prompt="asked and rejected", **asked),
    }


@pytest.fixture(scope="module")
def told(played: Played, runs: dict[str, Run]) -> dict[str, Any]:
    """Wait for the batch, and give its summary."""
    played.stage.until_over(runs["batch"], timeout=280)
    return dict(played.stage.xcom(runs["batch"], "summary"))


def test_each_good_picture_becomes_a_video_and_each_bad_one_a_clear_error(
    played: Played, wanted: list[VideoSpec], told: dict[str, Any]
) -> None:
    good = {spec.target for spec in wanted if spec.good}
    assert {spec["path"] for spec in told["made"]} == good
    assert all(Path(path).is_file() for path in good)
    bad = {Path(spec.image).name for spec in wanted if not spec.good}
    assert {spec["name"] for spec in told["failed"]} == bad
    missing = {spec["name"] for spec in told["failed"] if spec["error"] == "KlingUnavailableError"}
    assert missing == bad - {path.name for path in Path(wanted[0].image).parent.iterdir()}
    assert {spec["error"] for spec in told["failed"] if spec["name"] not in missing} == {"KlingInputError"}
    assert all(spec["why"].startswith("image=") for spec in told["failed"])


def test_the_estimate_is_the_bill_to_the_cent_and_nothing_is_paid_for_the_bad_ones(
    played: Played, wanted: list[VideoSpec], told: dict[str, Any]
) -> None:
    paid = {spec.prompt: len(played.stage.jobs(spec.prompt)) for spec in wanted}
    assert paid == {spec.prompt: int(spec.good) for spec in wanted}
    assert told["estimated_cost_usd"] == float(sum(spec.usd for spec in wanted if spec.good))
    assert told["maybe_charged_without_a_video"] == []


def test_the_grid_shows_each_pictures_name_at_each_of_its_tasks(
    played: Played, runs: dict[str, Run], wanted: list[VideoSpec], told: dict[str, Any]
) -> None:
    names = {Path(spec.image).name for spec in wanted}
    shown = {"submit": names, "wait": names, "download": names}
    for ti in played.stage.tasks(runs["batch"]).values():
        task = ti["task_id"].split(".")[-1]
        if task in shown and ti["state"] in ("success", "failed"):
            assert ti["rendered_map_index"] in shown[task]
            assert ti["rendered_map_index"] == Path(wanted[ti["map_index"]].image).name


def answer(stage: Stage, run: Run, option: str) -> str:
    """Answer as a person does in the UI, and give what was shown."""
    path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/ask/-1/hitlDetails"
    shown = stage.until("the question", lambda: stage.api_or_none("GET", path), timeout=200)
    stage.api.call("PATCH", path, {"chosen_options": [option], "params_input": {}})
    return str(shown["body"])


def test_an_approved_batch_is_bought_for_what_was_shown(played: Played, runs: dict[str, Run]) -> None:
    stage, run = played.stage, runs["approve"]
    assert not stage.jobs("asked and approved")
    body = answer(stage, run, "Approve")
    assert "2 videos, estimated at **1.008 USD**" in body
    assert "| 0.png | 0.504 USD |" in body
    stage.until_over(run, timeout=280)
    assert stage.xcom(run, "summary")["estimated_cost_usd"] == 1.008
    assert len(stage.jobs("asked and approved")) == len(stage.xcom(run, "summary")["made"]) == 2


def test_a_rejected_batch_costs_nothing(played: Played, runs: dict[str, Run]) -> None:
    stage, run = played.stage, runs["reject"]
    answer(stage, run, "Reject")
    stage.until_over(run, timeout=200)
    assert not stage.jobs("asked and rejected")
    assert stage.xcom(run, "summary")["estimated_cost_usd"] == 0
