"""The gallery in a real Airflow: a job runs, becomes a video and plays; a failed one is helped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import expect
from stage import VIDEO, Run, paint

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page
    from stage import Stage

DAG_ID = "kling_image_to_video"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the pictures and the videos."""
    folder = tmp_path_factory.mktemp("gallery")
    for seed, name in enumerate(("lamp", "sofa")):
        paint(folder / f"{name}.png", seed)
    return folder


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
    place = (
        page.get_by_role("dialog")
        .locator("video")
        .evaluate("""async (video) => {
      const when = (name) => new Promise((done) => video.addEventListener(name, done, { once: true }));
      if (video.readyState < 1) await when("loadedmetadata");
      video.pause();
      const there = when("seeked");
      video.currentTime = video.duration / 2;
      await there;
      return video.currentTime / video.duration;
    }""")
    )
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


def test_a_place_without_a_video_is_friendly(running: Stage, page: Page) -> None:
    page.goto(f"{running.airflow.url}/dags/kling_nightly_catalogue/plugin/kling-dag")
    expect(page.get_by_role("heading", name="No videos of this Dag yet")).to_be_visible()
