"""The gallery's page, against a stand-in of its API: all states, all actions, hostile texts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import seek_to_the_middle
from gallery_cards import ERRORS, HOSTILE, NOW, all_states, card, failed, picture
from gallery_server import RESCUE, GalleryServer
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gallery_cards import Card
    from playwright.sync_api import Locator, Page

    Show = Callable[..., GalleryServer]

WIDTHS = (390, 1280, 1920)


@pytest.fixture
def tab(page: Page) -> Iterator[Page]:
    """Open a tab whose scripts must not fail."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield page
    # What a test provokes is Chromium's own line about a status.
    assert [problem for problem in problems if not problem.startswith("Failed to load resource")] == []


@pytest.fixture
def show(tab: Page) -> Iterator[Show]:
    """Show cards in the tab; return the server."""
    servers: list[GalleryServer] = []

    def show(cards: list[Card], query: str = "", prefix: str = "", **settings: Any) -> GalleryServer:
        server = GalleryServer(cards, prefix).__enter__()
        servers.append(server)
        for name, value in settings.items():
            setattr(server, name, value)
        tab.goto(server.url + query)
        tab.locator("article, .empty").first.wait_for()
        return server

    yield show
    tab.goto("about:blank")
    for server in servers:
        server.__exit__()


def shown(page: Page, name: str) -> Locator:
    """Find a card by the name of its video."""
    return page.get_by_role("article", name=name, exact=True)


def too_wide(page: Page) -> list[str]:
    """Return what sticks out of the window or out of its card."""
    return list(
        page.evaluate("""() => {
          const root = document.querySelector("kling-videos").shadowRoot;
          const { scrollWidth } = document.documentElement;
          const wide = scrollWidth > innerWidth ? ["the page"] : [];
          for (const card of root.querySelectorAll("article")) {
            const { right } = card.getBoundingClientRect();
            for (const part of card.querySelectorAll(":not(.blurred)")) {
              const cut = part.closest("code, .prompt-text, h2, .live");
              const out = part.getBoundingClientRect().right > right + 1;
              if (out && !cut) wide.push(part.outerHTML.slice(0, 80));
            }
          }
          return wide;
        }""")
    )


# What a card shows.


@pytest.mark.parametrize("width", WIDTHS)
def test_a_card_of_each_state_fits_into_the_window(tab: Page, show: Show, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    cards = all_states()
    show(cards)
    assert tab.get_by_role("article").get_by_role("heading").all_text_contents() == [
        card["name"] for card in cards
    ]
    for one in cards:
        expect(shown(tab, one["name"]).locator(".badge")).to_have_text(one["state"].capitalize())
        shown(tab, one["name"]).scroll_into_view_if_needed()
        assert too_wide(tab) == []


def test_a_card_shows_what_is_known_of_a_video(tab: Page, show: Show) -> None:
    show([card("wool-blanket", cost_usd=0.84, earlier_cost_usd=0.56, duration_seconds=10, sound=True)])
    text = shown(tab, "wool-blanket").text_content() or ""
    for fact in (
        *(
            "kling-v3.0-pro-i2v",
            "10 s",
            "sound",
            "6.2 MB",
            "$0.84",
            "$0.56 for a video before",
        ),
        *("queued 4 s", "rendered 1 min 12 s", "downloaded 2 s", "/data/videos/2026/wool-blanket.mp4"),
    ):
        assert fact in text, fact


def test_the_whole_prompt_is_shown_on_click_and_can_be_copied(tab: Page, show: Show) -> None:
    one = card("copper-lamp")
    show([one])
    prompt = tab.get_by_role("button", name=re.compile("^Prompt:"))
    assert "Soft light" not in (prompt.text_content() or "")
    prompt.click()
    assert prompt.text_content() == one["prompt"]
    for what, text in (
        ("the prompt", one["prompt"]),
        ("the job id", one["kling_task_id"]),
        ("the path", one["path"]),
    ):
        tab.get_by_role("button", name=f"Copy {what}").click()
        tab.get_by_role("button", name="Copied").first.wait_for()
        assert tab.evaluate("navigator.clipboard.readText()") == text


def test_a_card_links_to_its_run_and_to_the_log_of_each_task(tab: Page, show: Show) -> None:
    one = card("a/b ü", run_id="manual__2026-09-21T14:00:00+00:00")
    one["tasks"]["download"] |= {"task_id": "animate.download", "map_index": 3}
    server = show([one], prefix="/af")
    links = [link.get_attribute("href") for link in shown(tab, "a/b ü").get_by_role("link").all()]
    run = f"{server.root}dags/kling_image_to_video/runs/manual__2026-09-21T14%3A00%3A00%2B00%3A00"
    assert links[:4] == [
        run,
        f"{run}/tasks/submit",
        f"{run}/tasks/wait",
        f"{run}/tasks/animate.download/mapped/3",
    ]


def test_a_failure_is_told_in_full(tab: Page, show: Show) -> None:
    show([failed("glass-bowl", "clear_wait")])
    texts = tab.locator(".error dd").all_text_contents()
    assert texts == [ERRORS["clear_wait"][key] for key in ("what", "money", "advice")]
    assert tab.locator(".error dt").all_text_contents() == ["What happened", "Money", "Next"]


def test_the_head_counts_and_sums_up(tab: Page, show: Show) -> None:
    cards = all_states()
    show(cards)
    counters = tab.get_by_role("group", name="Filter by state").get_by_role("button")
    assert [re.sub(r"\s+", " ", text) for text in counters.all_inner_texts()] == [
        *("16 All", "5 Running", "5 Made", "1 Reused", "4 Failed"),
    ]
    assert tab.locator(".sum .total").inner_text() == f"≈ ${0.56 * len(cards):.2f}"
    assert tab.get_by_text("1 perhaps charged without a video").is_visible()


# Life.


def test_progress_moves_without_a_reload_and_ends_with_the_video(tab: Page, show: Show) -> None:
    running = card("copper-lamp", "rendering")
    server = show([running])
    bar = tab.get_by_role("progressbar", name="copper-lamp: Rendering")
    expect(bar).to_have_attribute("aria-valuenow", "42")
    expect(tab.get_by_text(re.compile(r"^seen \d+ s ago"))).to_be_visible()
    expect(tab.get_by_text(re.compile(r"^expected .*, in \d+ s"))).to_be_visible()
    tab.evaluate("window.kept = true")
    running["percent"] = 77
    expect(bar).to_have_attribute("aria-valuenow", "77")
    expect(tab.locator(".percent")).to_have_text("77 %")
    server.cards[:] = [card("copper-lamp"), card("newcomer", "queued")]
    expect(tab.locator(".badge").filter(has_text="Made")).to_be_visible()
    expect(tab.get_by_role("button", name="Play copper-lamp")).to_be_visible()
    expect(tab.get_by_alt_text("First frame of copper-lamp")).to_be_visible()
    expect(tab.get_by_role("status")).to_contain_text("copper-lamp: made")
    expect(shown(tab, "newcomer")).to_be_visible()
    assert tab.evaluate("window.kept")
    polls = [call for call in server.asked("kling/api/videos") if "task" in call.query]
    assert polls[0].query == {"task": [running["key"]], "previews": ["0"]}


def test_a_poll_keeps_what_a_person_does(tab: Page, show: Show) -> None:
    running = card("copper-lamp", "rendering")
    show([running])
    prompt = tab.get_by_role("button", name=re.compile("^Prompt:"))
    prompt.click()
    running["percent"] = 77
    expect(tab.locator(".percent")).to_have_text("77 %")
    expect(prompt).to_have_attribute("aria-expanded", "true")
    expect(prompt).to_be_focused()
    expect(tab.get_by_alt_text("Picture of copper-lamp")).to_be_visible()


def test_without_a_triggerer_the_page_warns_at_once(tab: Page, show: Show) -> None:
    tab.route(re.compile("task="), lambda _: None)  # no poll is answered
    show([card("copper-lamp", "rendering")], triggerer_alive=False)
    expect(tab.get_by_role("alert").filter(has_text="No triggerer is alive")).to_be_visible()


def test_the_warning_ends_when_a_triggerer_is_back(tab: Page, show: Show) -> None:
    server = show([card("copper-lamp", "rendering")], triggerer_alive=False)
    warning = tab.get_by_role("alert").filter(has_text="No triggerer is alive")
    expect(warning).to_be_visible()
    server.triggerer_alive = True
    expect(warning).to_be_hidden()


def test_without_a_running_job_a_dead_triggerer_does_not_matter(tab: Page, show: Show) -> None:
    show([card("copper-lamp")], triggerer_alive=False)
    expect(tab.get_by_text("No triggerer is alive")).to_be_hidden()


def test_the_page_says_when_airflow_does_not_answer_and_goes_on_later(tab: Page, show: Show) -> None:
    server = show([card("copper-lamp", "rendering")])
    server.refusals["kling/api/videos"] = (500, "The database is away")
    expect(tab.get_by_role("alert")).to_contain_text("The database is away The page tries again.")
    server.refusals.clear()
    expect(tab.get_by_role("alert")).to_be_hidden()


# The player.


def test_a_video_plays_while_the_mouse_is_over_it(tab: Page, show: Show) -> None:
    server = show([card("copper-lamp"), card("oak-table")])
    tab.get_by_role("button", name="Play copper-lamp").hover()
    video = tab.locator("video.moving")
    expect(video).to_have_count(1)
    expect(tab.locator(".pane.plays")).to_have_count(1)
    assert video.evaluate("video => video.muted && video.loop")
    tab.get_by_role("button", name="Play oak-table").hover()
    tab.mouse.move(0, 0)
    expect(video).to_have_count(0)
    calls = server.asked("kling/api/video/")
    assert calls
    assert all(call.headers.get("Range", "").startswith("bytes=") for call in calls)


def test_a_tap_plays_in_place(tab: Page, show: Show) -> None:
    touch = tab.context.new_cdp_session(tab)
    touch.send("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 1})
    tab.set_viewport_size({"width": 390, "height": 800})
    show([card("copper-lamp")])
    assert not tab.evaluate("matchMedia('(hover: hover)').matches")
    tab.get_by_role("button", name="Play copper-lamp").click()
    expect(tab.locator(".pane.plays")).to_have_count(1)
    expect(tab.locator("article video")).to_have_js_property("controls", value=True)
    expect(tab.get_by_role("dialog")).to_have_count(0)
    tab.get_by_role("button", name="Show copper-lamp large").click()
    expect(tab.get_by_role("dialog").locator("video")).to_be_visible()


def test_the_tab_of_one_task_has_the_player_in_place(tab: Page, show: Show) -> None:
    show(
        [card("copper-lamp")],
        "?dag-id=kling_image_to_video&run-id=manual__copper-lamp&task-id=wait&map-index=-1",
    )
    video = shown(tab, "copper-lamp").locator("video")
    expect(video).to_have_js_property("controls", value=True)
    expect(video).to_have_js_property("paused", value=True)
    expect(tab.get_by_role("search")).to_be_hidden()


def test_what_airflow_has_forgotten_is_read_only_on_demand(tab: Page, show: Show) -> None:
    server = show([card("copper-lamp")])
    page = server.page
    old = card("old-mirror", tasks=dict.fromkeys(("submit", "wait", "download")), can_edit=False)

    def with_files(query: dict[str, list[str]]) -> dict[str, Any]:
        if "cursor" in query:
            return page({}) | {"cards": [old], "head": None}
        return page(query) | {"next": "files/"}

    server.page = with_files
    tab.reload()
    tab.get_by_role("button", name="Look for older videos in the folders").click()
    expect(shown(tab, "old-mirror")).to_be_visible()
    expect(shown(tab, "old-mirror").get_by_role("link", name="kling_image_to_video")).to_have_count(0)
    expect(tab.get_by_role("button", name="Look for older videos in the folders")).to_have_count(0)


def test_with_less_motion_nothing_moves_by_itself(tab: Page, show: Show) -> None:
    tab.emulate_media(reduced_motion="reduce")
    tab.clock.install()
    server = show([card("copper-lamp"), card("oak-table", "rendering")])
    tab.get_by_role("button", name="Play copper-lamp").hover()
    tab.clock.run_for(1000)  # longer than the delay of a preview
    assert not server.asked("kling/api/video/")
    assert (
        tab.locator("kling-videos").evaluate("element => element.getAnimations({subtree: true}).length") == 0
    )


def test_a_press_opens_the_player_which_can_seek(tab: Page, show: Show) -> None:
    show([card("copper-lamp"), card("oak-table")])
    opener = tab.get_by_role("button", name="Play copper-lamp")
    opener.focus()
    tab.keyboard.press("Enter")
    dialog = tab.get_by_role("dialog")
    video = dialog.locator("video")
    expect(dialog.get_by_role("heading", name="copper-lamp")).to_be_visible()
    assert seek_to_the_middle(video) == pytest.approx(0.5, abs=0.1)
    dialog.get_by_role("button", name="The next one").click()
    expect(dialog.get_by_role("heading", name="oak-table")).to_be_visible()
    tab.keyboard.press("ArrowLeft")
    expect(dialog.get_by_role("heading", name="copper-lamp")).to_be_visible()
    tab.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()


def test_the_player_says_why_it_does_not_play(tab: Page, show: Show) -> None:
    show([card("copper-lamp")], refusals={"kling/api/video/": (404, "The file is not there any more.")})
    tab.get_by_role("button", name="Play copper-lamp").click()
    expect(tab.get_by_role("dialog").get_by_role("alert")).to_have_text("The file is not there any more.")


def test_without_a_player_the_poster_and_the_reason_are_shown(tab: Page, show: Show) -> None:
    show([card("copper-lamp", player=None, player_note="Ask the admin for gallery_folders.")])
    expect(tab.get_by_alt_text("First frame of copper-lamp")).to_be_visible()
    expect(tab.get_by_text("Ask the admin for gallery_folders.")).to_be_visible()
    expect(tab.get_by_role("link", name="Download copper-lamp")).to_have_count(0)


def test_a_video_can_be_downloaded(tab: Page, show: Show) -> None:
    server = show([card("copper-lamp")])
    with tab.expect_download() as download:
        tab.get_by_role("link", name="Download copper-lamp").click()
    assert download.value.url.endswith("?download=1")
    assert download.value.path().read_bytes() == server.video


def test_two_videos_are_shown_side_by_side(tab: Page, show: Show) -> None:
    tab.emulate_media(reduced_motion="reduce")  # the dialog is in its place at once
    show([card("copper-lamp"), card("oak-table", duration_seconds=10), card("velvet-sofa")])
    tab.get_by_role("button", name="Compare velvet-sofa").click()
    expect(tab.get_by_text("Choose a second one")).to_be_visible()
    for name in ("copper-lamp", "oak-table"):
        tab.get_by_role("button", name=f"Compare {name}").click()
    expect(tab.get_by_role("button", name="Compare velvet-sofa")).to_have_attribute("aria-pressed", "false")
    tab.get_by_role("button", name="Show side by side").click()
    dialog = tab.get_by_role("dialog")
    left, right = (dialog.get_by_role("region", name=name) for name in ("copper-lamp", "oak-table"))
    one, other = left.bounding_box() or {}, right.bounding_box() or {}
    assert one["y"] == other["y"]
    assert one["x"] + one["width"] <= other["x"]
    expect(dialog.locator("tr.differs").filter(has_text="Length")).to_contain_text("10 s")
    dialog.get_by_role("button", name="Play both").click()
    expect(dialog.get_by_role("button", name="Pause both")).to_be_visible()


# Actions, with the user's own rights.


@pytest.mark.parametrize(
    ("action", "label", "later"),
    [("clear_wait", "Wait again", ["wait", "download"]), ("clear_download", "Download again", ["download"])],
)
def test_what_is_free_is_done_at_once(
    tab: Page, show: Show, action: str, label: str, later: list[str]
) -> None:
    one = failed("glass-bowl", action)
    server = show([one])
    expect(shown(tab, "glass-bowl").locator(".remedy")).to_contain_text("Free")
    tab.get_by_role("button", name=label).click()
    expect(tab.get_by_role("status")).to_contain_text("starts again")
    cleared = server.asked("api/v2/", "POST")
    assert {call.path for call in cleared} == {"api/v2/dags/kling_image_to_video/clearTaskInstances"}
    asked = ("task_ids", "only_failed", "include_downstream", "dry_run")
    assert (
        [tuple(call.body.get(name) for name in asked) for call in cleared]
        == [
            (later, False, None, False),  # of this video only
            (later[:1], True, True, True),  # what has failed because of it
        ]
    )
    assert all(call.body["dag_run_id"] == one["run_id"] for call in cleared)


def test_a_mapped_task_is_cleared_alone(tab: Page, show: Show) -> None:
    one = failed("glass-bowl", "clear_wait")
    one["tasks"]["wait"]["map_index"] = 7
    server = show([one])
    tab.get_by_role("button", name="Wait again").click()
    expect(tab.get_by_role("status")).to_contain_text("starts again")
    cleared = server.asked("api/v2/", "POST")
    assert [call.body["task_ids"] for call in cleared] == [[["wait", 7], "download"], [["wait", 7]]]


def test_what_failed_because_of_it_is_cleared_and_what_would_buy_is_named(tab: Page, show: Show) -> None:
    server = show([failed("glass-bowl", "clear_wait")])
    server.failed_later = [
        {"task_id": "download", "map_index": -1, "operator": "KlingDownloadOperator"},
        {"task_id": "summary", "map_index": -1, "operator": "KlingSummaryOperator"},
        {"task_id": "next_scene", "map_index": -1, "operator": "KlingSubmitOperator"},
    ]
    tab.get_by_role("button", name="Wait again").click()
    expect(tab.get_by_role("status")).to_contain_text("Not cleared, because they buy: next_scene")
    cleared = [call.body for call in server.asked("api/v2/", "POST") if not call.body["dry_run"]]
    assert [body["task_ids"] for body in cleared] == [["wait", "download"], ["summary"]]


@pytest.mark.parametrize("action", ["Wait again", "Buy again"])
def test_a_video_that_has_changed_meanwhile_is_not_cleared(tab: Page, show: Show, action: str) -> None:
    one = failed("glass-bowl", "clear_wait" if action == "Wait again" else "buy_again")
    server = show([one])
    shown(tab, "glass-bowl")
    changed = json.loads(json.dumps(one))
    changed["tasks"]["submit"]["try_number"] += 1
    server.cards[:] = [changed]
    tab.get_by_role("button", name=action).click()
    if action == "Buy again":
        tab.get_by_role("dialog").get_by_role("button", name="Buy again for").click()
    expect(tab.get_by_role("status")).to_contain_text("has changed meanwhile")
    assert not server.asked("api/v2/", "POST")


def test_one_task_that_submits_too_asks_before_it_goes_on(tab: Page, show: Show) -> None:
    one = failed("glass-bowl", "clear_wait")
    one["tasks"] = {name: one["tasks"]["wait"] | {"task_id": "video"} for name in one["tasks"]}
    server = show([one])
    expect(shown(tab, "glass-bowl").locator(".remedy")).to_contain_text("if its request has not changed")
    tab.get_by_role("button", name="Wait again").click()
    dialog = tab.get_by_role("dialog")
    expect(dialog).to_contain_text("Then it buys a new job for about $0.56")
    assert not server.asked("api/v2/", "POST")
    dialog.get_by_role("button", name="Wait again").click()
    expect(tab.get_by_role("status")).to_contain_text("starts again")
    assert server.asked("api/v2/", "POST")[0].body["task_ids"] == ["video"]


def test_a_purchase_says_its_price_and_asks_first(tab: Page, show: Show) -> None:
    server = show([failed("marble-bust", "buy_again")])
    tab.get_by_role("button", name="Buy again").click()
    dialog = tab.get_by_role("dialog")
    expect(dialog).to_contain_text("$0.56")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    tab.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert not server.asked("api/v2/")
    tab.get_by_role("button", name="Buy again").click()
    dialog.get_by_role("button", name="Buy again for about $0.56").click()
    expect(tab.get_by_role("status")).to_contain_text("A new job is bought")
    cleared = [call.body["task_ids"] for call in server.asked("api/v2/", "POST")]
    assert cleared == [["submit", "wait", "download"], ["submit"]]


def test_a_rescue_opens_the_form_filled_in(tab: Page, show: Show) -> None:
    server = show([failed("linen-shade", "rescue", kling_task_id="job-17")])
    tab.get_by_role("button", name="Rescue the video").click()
    dialog = tab.get_by_role("dialog", name="Rescue the video")
    expect(dialog.get_by_label("Task id at the gateway")).to_have_value("job-17")
    expect(dialog.get_by_label("Target")).to_have_value("/tmp/kling/")
    expect(dialog).to_contain_text("costs nothing")
    dialog.get_by_role("button", name="Start").click()
    expect(dialog).to_be_hidden()
    (call,) = server.asked("api/v2/", "POST")
    assert call.path == "api/v2/dags/kling_rescue/dagRuns"
    assert call.body["conf"] == {"kling_task_id": "job-17", "target": "/tmp/kling/"}


def test_without_the_rescue_dag_the_form_says_so(tab: Page, show: Show) -> None:
    show([failed("linen-shade", "rescue")], dags={})
    tab.get_by_role("button", name="Rescue the video").click()
    expect(tab.get_by_role("dialog")).to_contain_text("Airflow has no Dag kling_rescue here")


def test_again_with_changes_opens_the_form_filled_in(tab: Page, show: Show) -> None:
    conf = {"image": "/p/lamp.png", "prompt": "It waves.\nTwice.", "duration": 7, "sound": True, "extra": [1]}
    server = show([card("copper-lamp", trigger_conf=conf)])
    tab.get_by_role("button", name="Again with changes: copper-lamp").click()
    dialog = tab.get_by_role("dialog", name="Again with changes")
    expect(dialog).to_contain_text("This buys again")
    expect(dialog.get_by_label("Picture")).to_have_value("/p/lamp.png")
    expect(dialog.get_by_label("Prompt")).to_have_value(conf["prompt"])
    expect(dialog.get_by_label("Sound")).to_be_checked()
    dialog.get_by_label("Prompt").fill("It dances.")
    dialog.get_by_label("Seconds").fill("20")
    dialog.get_by_role("button", name="Start").click()
    assert not server.asked("api/v2/", "POST")  # the Dag allows 15 seconds at most
    dialog.get_by_label("Seconds").fill("10")
    dialog.get_by_role("button", name="Start").click()
    run = tab.get_by_role("link", name="Show the run")
    expect(run).to_have_attribute("href", re.compile("/dags/kling_image_to_video/runs/manual__.+"))
    started, unpaused = server.asked("api/v2/", "POST") + server.asked("api/v2/", "PATCH")
    assert server.calls.index(started) < server.calls.index(unpaused)  # a refused run unpauses nothing
    assert unpaused.body == {"is_paused": False}
    assert started.body["conf"] == {
        "image": "/p/lamp.png",
        "prompt": "It dances.",
        "duration": 10,
        "model": "kling-v3.0-pro-i2v",
        "sound": True,
        "tags": ["a", "b"],
        "extra": [1],
    }


def test_a_run_whose_answer_was_lost_is_not_started_twice(tab: Page, show: Show) -> None:
    server = show([card("copper-lamp")], refusals={"api/v2/dags/kling_image_to_video/dagRuns": (502, "lost")})
    tab.get_by_role("button", name="Again with changes: copper-lamp").click()
    dialog = tab.get_by_role("dialog", name="Again with changes")
    dialog.get_by_role("button", name="Start").click()
    expect(dialog.get_by_role("alert")).to_contain_text("lost")
    server.refusals = {"api/v2/dags/kling_image_to_video/dagRuns": (409, "It exists")}
    dialog.get_by_role("button", name="Start").click()
    expect(dialog).to_be_hidden()
    first, second = server.asked("api/v2/dags/kling_image_to_video/dagRuns")
    assert first.body["dag_run_id"] == second.body["dag_run_id"]


def test_again_with_changes_shows_what_the_video_was_made_with(tab: Page, show: Show) -> None:
    inputs = {"image": f"<20 bytes, sha256 {'0' * 64}>", "prompt": "The sofa sways.", "duration": "10"}
    conf = {"image": "/p/sofa.png", "prompt": "The {name} sways.", "tags": ["c"], "sound": True}
    made = card("sofa", model="kling-o1-i2v", inputs=inputs | {"sound": False, "tags": 7}, trigger_conf=conf)
    server = show([made])
    tab.get_by_role("button", name="Again with changes").click()
    tab.get_by_role("dialog").get_by_role("button", name="Start").click()
    expect(tab.get_by_role("dialog")).to_be_hidden()
    assert server.asked("api/v2/", "POST")[0].body["conf"] == {
        "image": "/p/sofa.png",  # the card has only its hash
        "prompt": "The sofa sways.",
        "duration": 10,
        "model": "kling-o1-i2v",
        "sound": False,
        "tags": ["c"],  # what is no list of texts does not fit
    }


def test_again_with_changes_says_where_it_does_not_know_the_conf_of_the_run(tab: Page, show: Show) -> None:
    show([card("copper-lamp", trigger_conf=None)])
    tab.get_by_role("button", name="Again with changes").click()
    expect(tab.get_by_role("dialog")).to_contain_text("look at each field")


def test_again_with_changes_asks_before_it_makes_all_videos_of_a_run(tab: Page, show: Show) -> None:
    names, run = ("cat", "dog", "owl", "fox"), {"run_id": "r", "run_cards": 4}
    cards = [card(name, **run, key=f"d/r/submit/{n}", map_index=n) for n, name in enumerate(names)]
    cards[1]["cost_usd"], cards[2]["estimated_cost_usd"] = 0.84, None
    cards[3] |= {"state": "reused", "estimated_cost_usd": 0}
    server = show(cards, "?search=cat")
    tab.get_by_role("button", name="Again with changes").click()
    dialog = tab.get_by_role("dialog", name="Again with changes")
    expect(dialog).to_contain_text("makes all 4 videos of the run again, not only cat")
    expect(dialog).to_contain_text("The earlier ones: ≈ $1.40, 1 without a known price, 1 reused for free")
    expect(dialog.get_by_label("Prompt")).to_have_value("The cat waves.")  # of the run, not of one video
    dialog.get_by_role("button", name="Start").click()
    assert not server.asked("api/v2/", "POST")
    dialog.get_by_label("Make all 4 videos again").check()
    dialog.get_by_role("button", name="Start").click()
    expect(dialog).to_be_hidden()
    assert len(server.asked("api/v2/", "POST")) == 1


def test_a_viewer_sees_everything_and_can_change_nothing(tab: Page, show: Show) -> None:
    cards = [one | {"can_edit": False, "can_trigger": False} for one in all_states()]
    show(cards)
    for one in cards:
        expect(shown(tab, one["name"])).to_be_attached()
    for label in ("Wait again", "Download again", "Rescue", "Buy again", "Again with changes"):
        expect(tab.get_by_role("button", name=label)).to_have_count(0)
    expect(tab.get_by_role("link", name="Download beech-chair")).to_be_attached()
    expect(tab.get_by_text(ERRORS["buy_again"]["advice"])).to_be_attached()


def test_each_button_needs_the_right_to_do_what_it_does(tab: Page, show: Show) -> None:
    buttons = tab.get_by_role("button", name=re.compile("again|Rescue", re.IGNORECASE))
    wait, rescue = failed("glass-bowl", "clear_wait"), failed("linen-shade", "rescue")
    server = show([one | {"can_trigger": False} for one in (wait, rescue)])
    assert [button.text_content() for button in buttons.all()] == ["Wait again"]
    server.cards[:] = [card("oak-table", can_trigger=False)]
    tab.reload()
    tab.get_by_role("button", name="Play oak-table").click()
    tab.get_by_role("dialog").get_by_role("link", name="Download").wait_for()
    expect(buttons).to_have_count(0)
    server.cards[:] = [one | {"can_edit": False} for one in (wait, rescue)]
    tab.reload()
    shown(tab, "glass-bowl").wait_for()
    again = "Again with changes"
    assert [button.text_content() for button in buttons.all()] == [again, "Rescue the video…", again]


def test_a_refusal_of_airflow_is_told(tab: Page, show: Show) -> None:
    show([failed("glass-bowl", "clear_wait")], refusals={"api/v2/": (403, "Forbidden")})
    tab.get_by_role("button", name="Wait again").click()
    expect(tab.get_by_role("status")).to_contain_text("Airflow does not allow it.")
    expect(tab.get_by_role("button", name="Wait again")).to_be_visible()


# Filters and many videos.


def test_filters_are_sent_and_stay_in_the_address(tab: Page, show: Show) -> None:
    server = show(all_states())
    tab.get_by_role("button", name="4 Failed").click()
    expect(tab.get_by_role("article")).to_have_count(4)
    tab.get_by_label("Search prompts and names").fill("glass")
    expect(tab.get_by_role("article")).to_have_count(1)
    tab.get_by_label("All models").or_(tab.get_by_label("Model")).select_option("kling-v3.0-pro-i2v")
    tab.get_by_label("From (date)").fill("2026-09-21")
    tab.get_by_label("To (date)").fill("2026-09-21")
    expect(tab.get_by_role("article", name="glass-bowl")).to_be_visible()
    query = {name: values[0] for name, values in server.asked("kling/api/videos")[-1].query.items()}
    assert query["state"] == "failed"
    assert query["search"] == "glass"
    assert query["model"] == "kling-v3.0-pro-i2v"
    assert float(query["until"]) - float(query["since"]) == 24 * 3600
    tab.reload()
    expect(tab.get_by_role("article")).to_have_count(1)
    expect(tab.get_by_label("Search prompts and names")).to_have_value("glass")
    tab.get_by_label("Search prompts and names").fill("nothing of this kind")
    expect(tab.get_by_role("heading", name="No video matches")).to_be_visible()
    tab.get_by_role("button", name="Clear filters").click()
    expect(tab.get_by_role("article")).to_have_count(16)


def test_a_thousand_videos_come_page_by_page(tab: Page, show: Show) -> None:
    sample = picture(1)
    cards = [card(f"video-{number}", source=sample, poster=sample) for number in range(1000)]
    for number, one in enumerate(cards):
        one["key"] = f"d/r/submit/{number}"
    server = show(cards)
    expect(tab.get_by_role("article")).to_have_count(60)
    assert len(server.asked("kling/api/")) == 1
    for page in range(2, 18):
        tab.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(tab.get_by_role("article")).to_have_count(min(60 * page, 1000))
    expect(tab.get_by_text("All 1000 videos")).to_be_attached()
    pages = [call for call in server.asked("kling/api/videos") if "task" not in call.query]
    assert len([call for call in pages if "cursor" in call.query]) == 16


# Places and people.


def test_below_a_prefix_all_addresses_have_it(tab: Page, show: Show) -> None:
    server = show([card("copper-lamp", "rendering"), card("oak-table")], prefix="/proxy/af")
    tab.get_by_role("button", name="Play oak-table").click()
    expect(tab.get_by_role("dialog").locator("video")).to_have_attribute(
        "src", re.compile("/proxy/af/kling/api/video/")
    )
    assert server.asked("kling/api/videos")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "No videos yet"),
        ("?dag-id=d", "No videos of this Dag yet"),
        ("?dag-id=d&run-id=r", "No videos in this run yet"),
        ("?dag-id=d&run-id=r&task-id=t&map-index=-1", "This task makes no video"),
    ],
)
def test_a_place_without_videos_is_friendly(tab: Page, show: Show, query: str, words: str) -> None:
    server = show([], query)
    expect(tab.get_by_role("heading", name=words)).to_be_visible()
    sent = server.asked("kling/api/videos")[0].query
    assert sent.get("dag_id", [""])[0] == ("d" if query else "")
    assert sent.get("map_index") == (["-1"] if "map" in query else None)


def test_without_a_login_the_page_leads_to_it(tab: Page, show: Show) -> None:
    server = show([], refusals={"kling/api/videos": (401, "Not authenticated")})
    expect(tab.get_by_role("heading", name="Please log in")).to_be_visible()
    link = tab.get_by_role("link", name="Log in").get_attribute("href")
    assert link
    assert link.startswith(f"{server.root}api/v2/auth/login?next=")


def test_an_error_can_be_tried_again(tab: Page, show: Show) -> None:
    server = show([card("copper-lamp")], refusals={"kling/api/videos": (500, "The database is away")})
    expect(tab.get_by_role("alert").filter(has_text="The database is away")).to_be_visible()
    server.refusals.clear()
    tab.get_by_role("button", name="Try again").click()
    expect(shown(tab, "copper-lamp")).to_be_visible()


def test_the_theme_of_airflow_is_followed_live(tab: Page, show: Show) -> None:
    show([card("copper-lamp")])

    def brightness() -> int:
        colour = shown(tab, "copper-lamp").evaluate("""element => {
          const context = document.createElement("canvas").getContext("2d");
          context.fillStyle = getComputedStyle(element).backgroundColor;
          context.fillRect(0, 0, 1, 1);
          return context.getImageData(0, 0, 1, 1).data[0];
        }""")
        return int(colour)

    assert brightness() > 200
    other = tab.context.new_page()
    other.goto(tab.url)
    try:
        other.evaluate("localStorage.setItem('theme', 'dark')")
        expect(tab.locator("html")).to_have_class("dark")
        assert brightness() < 60
        other.evaluate("localStorage.setItem('theme', 'light')")
        expect(tab.locator("html")).to_have_class("light")
        assert brightness() > 200
    finally:
        other.evaluate("localStorage.clear()")
        other.close()


# What others write.


def hostile(found: Any) -> Any:
    """Replace each text by one that is HTML; keep what selects a state or an action."""
    if isinstance(found, str):
        return HOSTILE
    if isinstance(found, dict):
        kept = ("state", "action", "key", "type")
        return {key: value if key in kept else hostile(value) for key, value in found.items()}
    return found


@pytest.mark.parametrize("one", all_states(), ids=lambda one: str(one["name"]))
def test_html_in_any_text_stays_text(tab: Page, show: Show, one: Card) -> None:
    found = hostile(one) | {"key": "d/r/submit/-1"}
    server = show([found, card("harmless")], dags={HOSTILE: hostile(RESCUE)})
    element = tab.get_by_role("article").first
    expect(element.get_by_role("heading")).to_have_text(HOSTILE)
    assert element.locator("script, [onerror]").count() == 0
    for button in element.get_by_role("button").all():
        if button.is_visible() and not (button.get_attribute("aria-label") or "").startswith("Copy"):
            button.click()
            if (dialog := tab.get_by_role("dialog")).count():
                assert dialog.locator("script, [onerror]").count() == 0
                dialog.get_by_role("button", name="Close").click()
    assert tab.title() == "Kling videos"
    assert not server.asked("x")


@pytest.mark.parametrize(
    "address",
    [
        "javascript:document.title='broken'",
        "https://elsewhere.example/video.mp4",
        "//elsewhere.example/kling/api/video/x",
        "kling/api/video/../../../api/v2/dags",
        "data:text/html,<script>document.title='broken'</script>",
    ],
)
def test_only_the_own_player_and_pictures_in_the_answer_are_used(tab: Page, show: Show, address: str) -> None:
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    server = show([card("copper-lamp", player=address, source=address, poster=address)])
    expect(tab.get_by_role("link", name="Download copper-lamp")).to_have_count(0)
    expect(tab.locator("img")).to_have_count(0)
    tab.get_by_role("button", name="Show copper-lamp").click()
    expect(tab.get_by_role("dialog").locator("video")).to_have_count(0)
    assert all(url.startswith(server.url) for url in requests)


# For everyone.


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible(tab: Page, show: Show, theme: str) -> None:
    tab.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    show(all_states(), triggerer_alive=False, policy="")  # the checker needs styles of its own
    check_accessibility(tab)
    tab.get_by_role("button", name="Play beech-chair").click()
    check_accessibility(tab)
    tab.keyboard.press("Escape")
    tab.get_by_role("button", name="Again with changes: beech-chair").click()
    tab.get_by_role("dialog").get_by_label("Prompt").wait_for()
    check_accessibility(tab)
    tab.keyboard.press("Escape")
    for name in ("beech-chair", "tall-vase"):
        tab.get_by_role("button", name=f"Compare {name}").click()
    tab.get_by_role("button", name="Show side by side").click()
    check_accessibility(tab)


def check_accessibility(page: Page) -> None:
    results = Axe().run(page)
    found = [
        f"{problem['id']}: {node['target']} {node['failureSummary']}"
        for problem in results.response["violations"]
        for node in problem["nodes"]
    ]
    assert found == []


def test_everything_can_be_reached_by_keyboard(tab: Page, show: Show) -> None:
    show([card("copper-lamp"), failed("glass-bowl", "clear_wait")])
    reached = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate("""() => {
          const active = document.querySelector("kling-videos").shadowRoot.activeElement;
          return active && (active.getAttribute("aria-label") || active.textContent);
        }""")
        )
    for label in (
        "Play copper-lamp",
        "Download copper-lamp",
        "Compare copper-lamp",
        "Wait again glass-bowl",
        "Copy the path",
    ):
        assert any(label in (found or "") for found in reached), label


def test_ages_count_by_the_clock_of_the_server(tab: Page, show: Show) -> None:
    show([card("copper-lamp", "rendering", seen_at=NOW - 125)])
    expect(tab.get_by_text(re.compile(r"^seen 2 min \d+ s ago"))).to_be_visible()
