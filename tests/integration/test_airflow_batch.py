"""Many at once in the real Airflow: a mapped run with bad pictures, and one that a person approves first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from batch.pictures import Order, orders
from stage import Run, Stage, paint

if TYPE_CHECKING:
    from conftest import Played


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[Order]:
    """Draw 12 pictures, 2 of them bad."""
    return orders(tmp_path_factory.mktemp("batch"), 12, 2)


@pytest.fixture(scope="module")
def runs(played: Played, wanted: list[Order]) -> dict[str, Run]:
    """Start the batch under a limit that is just what its good pictures cost, and two that ask first."""
    stage = played.stage
    stage.gateway.add_fault(
        "job:render=2,times=always,match=picture 0", "job:render=2,times=always,match=asked"
    )
    budget = float(sum(order.usd for order in wanted if order.good))
    pictures = [str(paint(played.folder / "asked" / f"{n}.png", 50 + n)) for n in range(2)]
    asked = {"pictures": pictures, "duration": 3, "sound": True, "target": f"{played.folder}/approved/"}
    return {
        "batch": stage.trigger("batch", orders=[order.arguments() for order in wanted], budget=budget),
        "approve": stage.trigger("kling_ask_first", prompt="asked and approved", **asked),
        "reject": stage.trigger("kling_ask_first", prompt="asked and rejected", **asked),
    }


@pytest.fixture(scope="module")
def told(played: Played, runs: dict[str, Run]) -> dict[str, Any]:
    """Wait for the batch, and give its summary."""
    played.stage.until_over(runs["batch"], timeout=280)
    return dict(played.stage.xcom(runs["batch"], "summary"))


def test_each_good_picture_becomes_a_video_and_each_bad_one_a_clear_error(
    played: Played, wanted: list[Order], told: dict[str, Any]
) -> None:
    good = {order.target for order in wanted if order.good}
    assert {order["path"] for order in told["made"]} == good
    assert all(Path(path).is_file() for path in good)
    bad = {Path(order.image).name for order in wanted if not order.good}
    assert {order["name"] for order in told["failed"]} == bad
    assert {order["error"] for order in told["failed"]} == {"KlingInputError"}
    assert all(order["why"].startswith("image=") for order in told["failed"])


def test_the_estimate_is_the_bill_to_the_cent_and_nothing_is_paid_for_the_bad_ones(
    played: Played, wanted: list[Order], told: dict[str, Any]
) -> None:
    paid = {order.prompt: len(played.stage.jobs(order.prompt)) for order in wanted}
    assert paid == {order.prompt: int(order.good) for order in wanted}
    assert told["estimated_cost_usd"] == float(sum(order.usd for order in wanted if order.good))
    assert told["maybe_charged_without_a_video"] == []


def test_the_grid_shows_each_pictures_name_at_each_of_its_tasks(
    played: Played, runs: dict[str, Run], wanted: list[Order], told: dict[str, Any]
) -> None:
    names = {Path(order.image).name for order in wanted}
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
