"""`make matrix` runs this on each older Airflow: a wait in each mode, a dead worker, a dead triggerer.

`make test` does not collect it: on the newest Airflow tests/integration has all of it, and more.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from private_stage import PROJECT, SETTINGS
from stage import MODES, VIDEO, VIDEO_SHA256, Run, Stage, paint, text_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from private_airflow.components import PrivateAirflow

pytestmark = pytest.mark.timeout(400)

#: In Airflow 3.1 only missing heartbeats tell of a dead worker of the LocalExecutor.
QUIET_WORKER = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
}


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, database: str | None) -> Iterator[PrivateAirflow]:
    """Run a private Airflow on the one Dag file that each Airflow accepts as a whole."""
    from private_airflow.components import PrivateAirflow

    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(PROJECT / "tests/integration/dags/chains.py", dags)
    env, home = SETTINGS | QUIET_WORKER, tmp_path_factory.mktemp("airflow")
    with PrivateAirflow(home, dags, env=env, database=database) as airflow:
        yield airflow


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="session")
def chains(stage: Stage, videos: Path) -> Run:
    """Wait for three jobs, kill what waits for two of them, let the jobs end, and return the ended run."""
    run = stage.trigger("chains", image=str(paint(videos / "lamp.png", 1)), target=str(videos))
    waits = [f"wait_{mode}" for mode in MODES]

    def all_wait() -> bool:
        states = stage.states(run)
        return (
            [states[wait] for wait in waits] == ["deferred", "running", "up_for_reschedule"]
            and all(stage.xcom(run, wait, "kling_progress") for wait in waits)
            and stage.triggers(run)["wait_deferred"]["triggerer_id"] is not None
        )

    stage.until("all three to wait", all_wait, timeout=150)
    for process in stage.processes_of(run, "wait_poke"):
        os.kill(process, signal.SIGKILL)
    dead = stage.triggers(run)["wait_deferred"]["triggerer_id"]
    stage.airflow.kill("triggerer")
    stage.airflow.start("triggerer", "triggerer-second")

    def both_wait_again() -> bool:
        waits = stage.tasks(run)
        holder = stage.triggers(run).get("wait_deferred", {}).get("triggerer_id")
        poke = waits["wait_poke"]
        return holder not in (None, dead) and (poke["state"], poke["try_number"]) == ("running", 2)

    stage.until("both to wait again", both_wait_again, timeout=150)
    for mode in MODES:
        for job in stage.jobs(f"chain {mode}"):
            stage.finish(job)
    stage.until_over(run, timeout=150)
    return run


def test_the_run_succeeds_and_each_video_is_whole(stage: Stage, chains: Run, videos: Path) -> None:
    assert set(stage.states(chains).values()) == {"success"}
    for mode in MODES:
        assert (videos / f"{mode}.mp4").read_bytes() == VIDEO
        assert stage.xcom(chains, f"download_{mode}", "sha256") == VIDEO_SHA256


@pytest.mark.parametrize("mode", MODES)
def test_each_job_is_paid_once(stage: Stage, chains: Run, mode: str) -> None:
    [job] = stage.jobs(f"chain {mode}")
    assert stage.gateway.times_paid(prompt=f"chain {mode}") == 1
    assert stage.xcom(chains, f"wait_{mode}")["kling_task_id"] == job.task_id


@pytest.mark.parametrize("mode", MODES)
def test_a_wait_pushes_progress_and_the_buttons_lead_to_the_video(
    stage: Stage, chains: Run, mode: str
) -> None:
    [job] = stage.jobs(f"chain {mode}")
    assert stage.xcom(chains, f"wait_{mode}", "kling_progress")["kling_task_id"] == job.task_id
    links = stage.links(chains, f"wait_{mode}")
    assert f"/videos/{job.task_id}.mp4?" in str(links["Kling video"])
    assert str(links["Kling gallery"]).endswith(f"/tasks/wait_{mode}/plugin/kling-videos")


def test_the_submit_warns_that_a_retry_pays_again(stage: Stage, chains: Run) -> None:
    assert "This Airflow has no task state store (it came with 3.3)" in stage.log(chains, "submit_poke")


def test_no_log_has_the_key_or_a_blocked_triggerer(stage: Stage, chains: Run) -> None:
    logs = "\n".join(path.read_text(errors="replace") for path in text_files(stage.logs))
    assert all(job.task_id in logs for job in stage.gateway.jobs)
    assert stage.gateway.api_key not in logs
    # Older versions of Airflow warn of 0.2 s, which a busy machine takes too. The limit of SETTINGS counts.
    limit = float(SETTINGS["AIRFLOW__TRIGGERER__BLOCKED_MAIN_THREAD_WARNING_THRESHOLD"])
    assert all(float(seconds) < limit for seconds in re.findall(r"was blocked for ([\d.]+) seconds", logs))
