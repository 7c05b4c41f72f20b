"""The log of a failed task: what happened, the money and the next step are seen without scrolling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from stage import Run, Stage

LINK = "https://media.example/log.png"
#: Returns the text of each line of the log that lies in the window as a whole.
SEEN = """() => [...document.querySelectorAll("[data-testid^='virtualized-item']")].filter(row => {
    const text = document.createRange();
    text.selectNodeContents(row);
    const box = text.getBoundingClientRect(), frame = row.parentElement.getBoundingClientRect();
    return box.right <= Math.min(frame.right, innerWidth) && box.bottom <= innerHeight;
}).map(row => row.innerText)"""


@pytest.fixture(scope="module")
def failed(running: Stage) -> Run:
    """Let a job fail by moderation."""
    running.gateway.add_fault("job:fail=moderation,match=log: refused")
    run = running.trigger("kling_image_to_video", image=LINK, prompt="log: refused")
    job = running.until("the job", lambda: running.jobs("log: refused"))[0]
    running.finish(job)
    running.until_state(run, "failed", "wait")
    return run


@pytest.mark.parametrize("width", [1280, 1920])
def test_what_failed_is_seen_without_scrolling(running: Stage, page: Page, failed: Run, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{running.airflow.url}/dags/{failed.dag_id}/runs/{failed.run_id}/tasks/wait")
    page.get_by_text("Task failed with exception").wait_for()
    error = running.xcom(failed, "wait", "kling_error")
    lines = [line.split("ERROR - ")[-1].split() for line in page.evaluate(SEEN) if "ERROR" in line]
    seen = " ".join(word for line in lines for word in line)
    for part in ("what", "money", "advice"):
        assert error[part] in seen
