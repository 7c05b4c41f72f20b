"""What Airflow's users see of the gallery: an admin, an editor, a viewer, and others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from gallery_cards import ERRORS, HOSTILE
from gallery_stage import gallery, gallery_app  # noqa: F401 - fixtures
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gallery_stage import GalleryStage
    from playwright.sync_api import Page

    Visit = Callable[..., Page]


@pytest.fixture
def visit(gallery: GalleryStage, page: Page) -> Iterator[Visit]:  # noqa: F811 - the fixture
    """Open a page of Airflow as a user. There is a failed wait in *shop*, and a hostile job in *other*."""
    request = {"kling_task_id": "job-1", "model": "kling-v3.0-pro-i2v", "inputs": {"prompt": "A lamp."}}
    failure = {"class": "KlingTimeoutError", "kling_task_id": "job-1", **ERRORS["clear_wait"]}
    gallery.add("submit", operator="KlingSubmitOperator", kling_request=request | {"name": "lamp.png"})
    gallery.add("wait", operator="KlingTaskSensor", state="failed", kling_error=failure)
    gallery.add(
        "submit",
        dag_id="other",
        operator="KlingSubmitOperator",
        kling_request=dict.fromkeys(request, HOSTILE) | {"name": HOSTILE},
    )

    def visit(user: str | None, path: str) -> Page:
        page.context.clear_cookies()
        if user:
            token = gallery.login(user)["Authorization"].removeprefix("Bearer ")
            page.context.add_cookies([{"name": "_token", "value": token, "url": gallery.url}])
        page.goto(f"{gallery.url}{path}")
        return page

    yield visit
    page.goto("about:blank")
    page.context.clear_cookies()


@pytest.mark.parametrize("user", ["ada", "emil"])  # an admin, and an editor who may run Dags and no more
def test_an_editor_can_help_a_failed_video(visit: Visit, gallery: GalleryStage, user: str) -> None:  # noqa: F811
    assert gallery.get("/api/v2/connections", user).status_code == (200 if user == "ada" else 403)
    page = visit(user, "/plugin/kling")
    card = page.get_by_role("article", name="lamp.png")
    expect(card.get_by_text(ERRORS["clear_wait"]["what"])).to_be_visible()
    expect(card.get_by_role("button", name="Wait again")).to_be_visible()
    expect(card.get_by_role("button", name="Again with changes")).to_be_visible()
    expect(page.get_by_role("article", name=HOSTILE)).to_be_visible()
    assert "broken" not in page.title()


def test_a_user_who_may_clear_and_not_trigger_sees_one_button(visit: Visit) -> None:
    page = visit("carl", "/plugin/kling")
    card = page.get_by_role("article", name="lamp.png")
    expect(card.get_by_role("button", name="Wait again")).to_be_visible()
    expect(card.get_by_role("button", name="Again with changes")).to_have_count(0)


def test_a_viewer_sees_the_failure_and_no_action(visit: Visit) -> None:
    page = visit("vera", "/plugin/kling")
    card = page.get_by_role("article", name="lamp.png")
    expect(card.get_by_text(ERRORS["clear_wait"]["advice"])).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("again|Rescue", re.IGNORECASE))).to_have_count(0)


def test_a_user_sees_only_the_own_dags(visit: Visit) -> None:
    page = visit("otto", "/plugin/kling")
    expect(page.get_by_role("article", name=HOSTILE)).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(1)
    assert page.get_by_label("Dag", exact=True).locator("option").all_inner_texts() == ["All Dags", "other"]


def test_the_theme_of_the_ui_is_followed_at_once(visit: Visit) -> None:
    page = visit("ada", "/plugin/kling")
    card = page.get_by_role("article", name="lamp.png")

    def colour() -> str:
        return str(card.evaluate("element => getComputedStyle(element).backgroundColor"))

    light = colour()
    page.get_by_role("button", name="User").click()
    page.get_by_role("menuitem", name="Appearance").click()
    page.get_by_text("Dark Mode").click()
    expect(page.locator("html")).to_have_class(re.compile("dark"))
    assert colour() != light
    page.evaluate("localStorage.clear()")


@pytest.mark.parametrize("width", [1280, 1920])
def test_an_error_fits_into_the_tab_of_its_task(visit: Visit, width: int) -> None:
    page = visit("ada", "/dags/shop/runs/r1/tasks/wait/plugin/kling-videos")
    page.set_viewport_size({"width": width, "height": 900})
    card = page.get_by_role("article", name="lamp.png")
    for text in (ERRORS["clear_wait"][part] for part in ("what", "money", "advice")):
        expect(card.get_by_text(text)).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_task_of_others_has_a_friendly_tab(visit: Visit, gallery: GalleryStage) -> None:  # noqa: F811
    gallery.add("publish", operator="BashOperator")
    page = visit("ada", "/dags/shop/runs/r1/tasks/publish/plugin/kling-videos")
    expect(page.get_by_role("heading", name="This task makes no video")).to_be_visible()


def test_a_visitor_is_asked_to_log_in(visit: Visit, gallery: GalleryStage) -> None:  # noqa: F811
    page = visit(None, "/kling/")
    expect(page.get_by_role("heading", name="Please log in")).to_be_visible()
    page.get_by_role("link", name="Log in").click()
    page.wait_for_url(re.compile("/auth/login"))
    assert gallery.url in page.url
