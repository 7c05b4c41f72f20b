"""The gallery in a real Airflow: a job runs, becomes a video and plays; a failed one is helped."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest
from browser import seek_to_the_middle
from playwright.sync_api import expect
from private_airflow.components import free_port
from private_airflow.rest_api import AirflowApi
from private_airflow.services import Service, stop
from stage import VIDEO, Run, paint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page
    from stage import Stage

DAG_ID = "kling_image_to_video"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the pictures and the videos."""
    folder = tmp_path_factory.mktemp("gallery")
    for seed, name in enumerate(("lamp", "sofa", "vase")):
        paint(folder / f"{name}.png", seed)
    return folder


@pytest.fixture(scope="module")
def below_a_path(running: Stage) -> Iterator[str]:
    """Run a second API server of the same Airflow, whose base URL has a path."""
    airflow, port = running.airflow, free_port()
    url = f"http://127.0.0.1:{port}/studio/airflow"
    env = airflow.env | {"AIRFLOW__API__BASE_URL": url, "AIRFLOW__API__PORT": str(port)}
    command, log = [sys.executable, "-m", "airflow", "api-server"], airflow.home / "logs" / "api-path.log"
    server = Service("API server below a path", command, env=env, log=log, cwd=airflow.home)
    try:
        running.until("the second API server", AirflowApi(url).health)
        yield url
    finally:
        stop([server])


def start(stage: Stage, folder: Path, name: str, prompt: str) -> Run:
    """Start a run for a picture, and wait until its job is in the triggerer."""
    stage.until(f"the Dag {DAG_ID} to be read", lambda: stage.api.dag_exists(DAG_ID))
    run = stage.trigger(DAG_ID, image=str(folder / f"{name}.png"), prompt=prompt, target=f"{folder}/videos/")
    stage.until_state(run, "deferred", "wait")
    return run


def finish(stage: Stage, prompt: str) -> None:
    for job in stage.jobs(prompt):
        stage.finish(job)


def test_a_running_job_becomes_a_video_that_plays(running: Stage, page: Page, folder: Path) -> None:
    prompt = "gallery: the lamp glows"
    run = start(running, folder, "lamp", prompt)
    page.goto(f"{running.airflow.url}/plugin/kling")
    card = page.get_by_role("article").filter(has_text=prompt)
    expect(card.get_by_role("progressbar")).to_be_visible()
    expect(card.locator(".badge")).to_have_text(re.compile("Queued|Rendering|Waiting"))
    page.evaluate("window.kept = true")
    finish(running, prompt)
    running.until_over(run)
    expect(card.locator(".badge")).to_have_text("Made", timeout=30_000)
    assert page.evaluate("window.kept")  # without a reload
    assert running.xcom(run, "download") in card.inner_text()

    with page.expect_response(lambda answer: "/kling/api/video/" in answer.url) as answer:
        card.get_by_role("button", name=re.compile("^Play ")).click()
    assert answer.value.status == 206
    place = seek_to_the_middle(page.get_by_role("dialog").locator("video"))
    assert place == pytest.approx(0.5, abs=0.1)
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        card.get_by_role("link", name=re.compile("^Download ")).click()
    assert download.value.path().read_bytes() == VIDEO

    # The links stay inside Airflow's UI.
    card.get_by_role("link", name="submit").click()
    page.wait_for_url(re.compile(r"/runs/.*/tasks/submit$"))
    assert page.evaluate("window.kept")
    page.locator("a[href$='/plugin/kling-videos']").click()
    expect(page.get_by_role("article").locator("video")).to_have_js_property("paused", value=True)


def test_a_failed_wait_goes_on_after_a_press(running: Stage, page: Page, folder: Path) -> None:
    prompt = "gallery: the sofa sways"
    run = start(running, folder, "sofa", prompt)
    running.mark(run, "wait", "failed")
    page.goto(
        f"{running.airflow.url}/dags/{run.dag_id}/runs/{run.run_id}/plugin/kling-run".replace("+", "%2B")
    )
    card = page.get_by_role("article")
    expect(card.locator(".badge")).to_have_text("Failed")
    card.get_by_role("button", name=re.compile("^Wait again")).click()
    expect(page.get_by_role("status")).to_contain_text("The wait starts again.")
    running.until_state(run, "deferred", "wait")
    expect(card.get_by_role("progressbar")).to_be_visible(timeout=30_000)
    finish(running, prompt)
    expect(card.locator(".badge")).to_have_text("Made", timeout=60_000)
    assert len(running.jobs(prompt)) == 1


def test_a_failed_job_is_bought_again_and_its_download_is_repeated(
    running: Stage, page: Page, folder: Path
) -> None:
    prompt = "gallery: the vase falls"
    running.gateway.add_fault("job:fail=internal,match=the vase falls")
    run = start(running, folder, "vase", prompt)
    finish(running, prompt)
    running.until_over(run)
    page.goto(f"{running.airflow.url}/plugin/kling?search={quote(prompt)}")
    card = page.get_by_role("article")
    card.get_by_role("button", name=re.compile("^Buy again")).click()
    buy = page.get_by_role("dialog").get_by_role("button", name=re.compile(r"^Buy again for about \$\d"))
    expect(buy).to_be_visible()
    assert len(running.jobs(prompt)) == 1  # it asks first
    buy.click()
    expect(page.get_by_role("status")).to_contain_text("A new job is bought.")
    running.until("a second job", lambda: len(running.jobs(prompt)) == 2)
    running.until_state(run, "deferred", "wait")
    running.mark(run, "download", "failed")
    finish(running, prompt)
    running.until_over(run)
    page.reload()
    card.get_by_role("button", name=re.compile("^Download again")).click()
    expect(page.get_by_role("status")).to_contain_text("The download starts again.")
    expect(card.locator(".badge")).to_have_text("Made", timeout=60_000)
    assert len(running.jobs(prompt)) == 2


def test_again_with_changes_starts_a_new_run(running: Stage, page: Page, folder: Path) -> None:
    prompt = "gallery: the sofa turns"
    run = start(running, folder, "sofa", prompt)
    finish(running, prompt)
    running.until_over(run)
    page.goto(f"{running.airflow.url}/plugin/kling?search={quote(prompt)}")
    page.get_by_role("button", name=re.compile("^Again with changes")).click()
    dialog = page.get_by_role("dialog", name="Again with changes")
    expect(dialog.get_by_label("Picture")).to_have_value(f"{folder}/sofa.png")
    dialog.get_by_label("Prompt").fill(f"{prompt} around")
    dialog.get_by_label("Seconds").fill("7")
    dialog.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="Show the run").click()
    page.wait_for_url(re.compile("/runs/manual__"))
    new = Run(DAG_ID, unquote(page.url.rpartition("/")[2]))
    request = running.until("the new run to buy", lambda: running.xcom(new, "submit", "kling_request"))
    assert (request["inputs"]["prompt"], request["inputs"]["duration"]) == (f"{prompt} around", 7)


def test_below_a_path_the_page_its_links_and_its_video_work(
    running: Stage, below_a_path: str, page: Page, folder: Path
) -> None:
    prompt = "gallery: the vase shines"
    run = start(running, folder, "vase", prompt)
    finish(running, prompt)
    running.until_over(run)
    page.goto(below_a_path)
    page.evaluate("window.kept = true")
    page.locator("a[href$='/plugin/kling']").click()
    page.wait_for_url(f"{below_a_path}/plugin/kling")
    page.get_by_label("Search prompts and names").fill(prompt)
    expect(page.get_by_role("article")).to_have_count(1)
    with page.expect_response(lambda answer: "/kling/api/video/" in answer.url) as answer:
        page.get_by_role("button", name=re.compile("^Play ")).click()
    assert (answer.value.status, answer.value.url.startswith(f"{below_a_path}/kling/")) == (206, True)
    page.keyboard.press("Escape")
    page.get_by_role("article").get_by_role("link", name="submit").click()
    page.wait_for_url(re.compile(f"^{below_a_path}/dags/.*/runs/.*/tasks/submit$"))
    page.locator("a[href$='/plugin/kling-videos']").click()
    expect(page.get_by_role("article").locator("video")).to_be_visible()
    assert page.evaluate("window.kept")  # all inside Airflow's UI, without loading it anew


def test_a_place_without_a_video_is_friendly(running: Stage, page: Page) -> None:
    page.goto(f"{running.airflow.url}/dags/no_videos/plugin/kling-dag")
    expect(page.get_by_role("heading", name="No videos of this Dag yet")).to_be_visible()
