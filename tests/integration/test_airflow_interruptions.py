"""People and machines that come between: buttons in the UI, a triggerer that dies, one that hangs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from stage import Run, Stage, now

if TYPE_CHECKING:
    from conftest import Played

    from airflow_provider_kling.emulator.jobs import Job

GOES_ON = "The wait was ended by hand. The job goes on at the gateway"
USER_ACTION = "Trigger cancelled by user action"


@pytest.fixture(scope="module")
def by_hand(played: Played, scenarios: object) -> Run:
    """Press a button on each of three waiting tasks: mark failed, mark success, clear."""
    stage, run = played.stage, played.runs["by hand"]
    tasks = ("marked_failed", "marked_success", "cleared")
    stage.until_state(run, "deferred", *tasks)
    picked_up = "all three to be in the triggerer"
    stage.until(picked_up, lambda: all(row["triggerer_id"] for row in stage.triggers(run).values()))
    stage.mark(run, "marked_failed", "failed")
    stage.mark(run, "marked_success", "success")
    # The new wait begins later. Were it deferred before the old one looks around, that would see a
    # deferred task, and take what happened for a hand-over.
    pool = {"pool": "by_hand", "include_deferred": False}
    stage.api.call("PATCH", "/pools/by_hand", {**pool, "slots": 0})
    stage.api.clear(run.dag_id, run.run_id, "cleared")
    for task in tasks:
        stage.until(
            f"the log of {task} to tell", lambda task=task: GOES_ON in stage.log(run, task), timeout=60
        )
    stage.api.call("PATCH", "/pools/by_hand", {**pool, "slots": 3})
    return run


@pytest.mark.parametrize("task_id", ["marked_failed", "marked_success", "cleared"])
def test_ending_a_wait_by_hand_tells_that_the_job_goes_on(played: Played, by_hand: Run, task_id: str) -> None:
    [job] = played.stage.jobs("ended by hand")
    assert job.task_id in played.stage.log(by_hand, task_id).split(GOES_ON)[1]


def test_a_cleared_wait_waits_for_the_same_job_again(played: Played, by_hand: Run) -> None:
    stage = played.stage
    [job] = stage.jobs("ended by hand")
    stage.until_state(by_hand, "deferred", "cleared")
    stage.finish(job)
    tasks = stage.until_over(by_hand)
    assert {name: ti["state"] for name, ti in tasks.items()} == {
        "marked_failed": "failed",
        "marked_success": "success",
        "cleared": "success",
    }
    assert stage.xcom(by_hand, "cleared")["kling_task_id"] == job.task_id
    assert stage.gateway.times_paid(prompt="ended by hand") == 1


@dataclass
class Interrupted:
    """One job that four tasks wait for, while their triggerer is killed."""

    run: Run
    job: Job
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]
    asked_while_down: int
    taken_over_at: float

    def number(self, task_id: str, name: str) -> float:
        """Read a number off a trigger's stored arguments."""
        return float(_plain(self.before[task_id]["kwargs"])[name])


@pytest.fixture(scope="module")
def interrupted(stage: Stage, scenarios: object) -> Interrupted:
    """Kill the triggerer in the middle of four waits, and start another when one deadline has passed."""
    job = stage.start_job("interrupted")
    run = stage.trigger("waits_deferred", job=job.task_id)
    tasks = ("short", "middle", "long", "cut_off")
    stage.until_state(run, "deferred", *tasks)
    stage.until(
        "all four to be in the triggerer",
        lambda: all(row["triggerer_id"] for row in stage.triggers(run).values()),
    )
    before = stage.triggers(run)
    stage.airflow.kill("triggerer")
    asked = stage.queries(job.task_id)
    deadline = float(_plain(before["short"]["kwargs"])["deadline"])
    stage.until("a deadline to pass while no triggerer runs", lambda: now() > deadline)
    asked = stage.queries(job.task_id) - asked
    _let_airflows_own_timeout_pass(stage, run, "cut_off")
    stage.until_state(run, "failed", "cut_off")
    stage.airflow.start("triggerer", "triggerer-restarted")
    stage.until(
        "the new triggerer to take over",
        lambda: _triggerer(stage, run, "long") not in (None, before["long"]["triggerer_id"]),
        timeout=60,
    )
    taken_over_at, after = now(), stage.triggers(run)
    return Interrupted(run, job, before, after, asked, taken_over_at)


def test_nobody_asks_while_the_triggerer_is_dead(interrupted: Interrupted) -> None:
    assert interrupted.asked_while_down == 0


def test_the_deadline_survives_the_triggerer(interrupted: Interrupted) -> None:
    for task_id in ("middle", "long"):
        assert interrupted.after[task_id]["kwargs"] == interrupted.before[task_id]["kwargs"]
        assert interrupted.number(task_id, "deadline") - interrupted.number(task_id, "started_at") in (
            50,
            900,
        )


def test_a_deadline_that_passed_while_the_triggerer_was_dead_is_told_in_our_words(
    stage: Stage, interrupted: Interrupted
) -> None:
    stage.until_state(interrupted.run, "failed", "short")
    error = stage.error(interrupted.run, "short")
    assert error.startswith("KlingWaitTimeoutError: ")
    assert f"Job {interrupted.job.task_id} was not finished within the timeout of 25 s" in error


def test_airflows_own_timeout_is_told_in_our_words_too(stage: Stage, interrupted: Interrupted) -> None:
    stage.until_state(interrupted.run, "failed", "cut_off")
    error = stage.error(interrupted.run, "cut_off")
    assert error.startswith("KlingWaitTimeoutError: ")
    assert interrupted.job.task_id in error
    assert stage.tasks(interrupted.run)["cut_off"]["try_number"] == 1


def test_a_restarted_triggerer_does_not_make_a_wait_longer(stage: Stage, interrupted: Interrupted) -> None:
    stage.until_state(interrupted.run, "failed", "middle")
    ti = stage.tasks(interrupted.run)["middle"]
    ended = datetime.fromisoformat(ti["end_date"]).timestamp()
    assert ended >= interrupted.number("middle", "deadline")
    assert ended < interrupted.taken_over_at + 40, "it has waited its 50 seconds anew"
    assert stage.error(interrupted.run, "middle").startswith("KlingWaitTimeoutError: ")
    assert ti["try_number"] == 1


def test_a_triggerer_that_hung_does_not_say_that_a_wait_has_ended(
    stage: Stage, interrupted: Interrupted
) -> None:
    """It finds its waits with another triggerer, and takes that for the hand of a user."""
    run = interrupted.run
    hung = stage.airflow.services["triggerer-restarted"]
    stage.airflow.start("triggerer", "triggerer-second")
    holder = _triggerer(stage, run, "long")
    for process in hung.members():
        process.suspend()
    try:
        stage.until(
            "the second triggerer to take over",
            lambda: _triggerer(stage, run, "long") not in (None, holder),
            timeout=60,
        )
    finally:
        for process in hung.members():
            process.resume()
    stage.until("the first to notice", lambda: USER_ACTION in _logs(stage, run, "long"), timeout=60)
    asked = stage.queries(interrupted.job.task_id)
    stage.until("the wait to go on", lambda: stage.queries(interrupted.job.task_id) > asked + 2)
    stage.finish(interrupted.job)
    stage.until_state(run, "success", "long")
    assert "The wait was ended by hand" not in _logs(stage, run, "long")


def test_a_wait_that_lost_two_triggerers_brings_its_result_and_no_second_bill(
    stage: Stage, interrupted: Interrupted
) -> None:
    stage.until_state(interrupted.run, "success", "long")
    assert stage.xcom(interrupted.run, "long")["kling_task_id"] == interrupted.job.task_id
    assert stage.tasks(interrupted.run)["long"]["try_number"] == 1
    assert stage.gateway.times_paid(prompt="interrupted") == 1
    assert [r.method for r in stage.gateway.requests if r.prompt == "interrupted"].count("POST") == 1


def test_a_trigger_row_holds_ids_and_numbers_only(interrupted: Interrupted) -> None:
    for row in interrupted.before.values():
        kwargs = _plain(row["kwargs"])
        assert set(kwargs) == {
            *("kling_task_id", "kling_conn_id", "started_at", "deadline"),
            *("interval", "first_poll_at", "kind", "initial_delay", "max_poll_interval", "timeout"),
            "logged_status",
        }
        assert kwargs["kling_task_id"] == interrupted.job.task_id
        assert kwargs["kling_conn_id"] == "kling_default"


def _triggerer(stage: Stage, run: Run, task_id: str) -> int | None:
    return stage.triggers(run).get(task_id, {}).get("triggerer_id")


def _logs(stage: Stage, run: Run, task_id: str) -> str:
    """Give all log files of a task, those of each triggerer too."""
    folder = stage.logs / f"dag_id={run.dag_id}" / f"run_id={run.run_id}" / f"task_id={task_id}"
    return "\n".join(file.read_text() for file in folder.glob("attempt=1.log*"))


def _let_airflows_own_timeout_pass(stage: Stage, run: Run, task_id: str) -> None:
    """Move the time at which Airflow itself ends a deferral into the past: it is minutes after ours."""
    with stage.database.begin() as connection:
        changed = connection.execute(
            text(
                "update task_instance set trigger_timeout = :past "
                "where dag_id = :dag_id and run_id = :run_id and task_id = :task_id "
                "and trigger_timeout is not null"
            ),
            {"past": datetime.now(UTC) - timedelta(minutes=1), **vars(run), "task_id": task_id},
        )
        assert changed.rowcount == 1


def _plain(stored: str) -> dict[str, Any]:
    """Read a trigger's arguments as they stand in the database, in clear text."""
    data = json.loads(stored)

    def strip(value: Any) -> Any:
        if isinstance(value, dict) and "__var" in value:
            return strip(value["__var"])
        return {key: strip(item) for key, item in value.items()} if isinstance(value, dict) else value

    return dict(strip(data))
