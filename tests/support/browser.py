"""Fills in and reads the forms of Airflow's UI in headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright
from private_airflow import debian

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Locator, Page

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def find_chromium(log: Path, *, install: bool) -> str | None:
    """Return Chromium's path, or None. It is installed if it is missing and *install* is true."""
    found = shutil.which("chromium") or shutil.which(CHROMIUM)
    if not found and install:
        debian.install("chromium", log)
        found = shutil.which(CHROMIUM)
    return found


@contextmanager
def open_browser(program: str, folder: Path) -> Iterator[BrowserContext]:
    """Run a Chromium with an empty profile in *folder*."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=program,
            headless=True,
            args=list(FLAGS),
            viewport={"width": 1280, "height": 1400},
            permissions=["clipboard-read", "clipboard-write"],
            # Chromium writes into its home, the connections go to 127.0.0.1 only.
            env={"HOME": str(folder), "PATH": os.environ["PATH"]},
        )
        context.set_default_timeout(30_000)
        yield context
        context.close()


class Form:
    """An open form of Airflow's UI. Its fields have the names of the params or of the extra's keys."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.dialog = page.get_by_role("dialog")

    def fill(self, values: dict[str, Any]) -> None:
        """Type values into their fields: a list of texts one per line, a list of objects as JSON."""
        for name, value in values.items():
            field = self._field(name)
            if isinstance(value, bool):
                if self._switch(name).is_checked() != value:
                    self.dialog.locator(f"[id='switch:element_{name}']").click()
            elif (choice := field.get_by_role("combobox")).count():
                choice.click()
                self.page.get_by_role("option", name=str(value), exact=True).click()
            elif self._is_editor(field):
                self._write_json(field, value)
            else:
                text = "\n".join(value) if isinstance(value, list) else str(value)
                field.fill(text)
                field.blur()

    def shown(self) -> dict[str, Any]:
        """Return the shown value of each field, as a text or bool; of a JSON editor as a list or object."""
        found = {}
        for element in self.dialog.locator("[id^='element_'], [name^='element_']").all():
            name = (element.get_attribute("name") or element.get_attribute("id")).removeprefix("element_")
            found[name] = self._shown(name)
        return found

    def problems(self) -> list[str]:
        """Return the form's error messages."""
        return self.dialog.locator("[data-part='error-text']").all_inner_texts()

    def _field(self, name: str) -> Locator:
        return self.dialog.locator(f"[name='element_{name}'], #element_{name}").first

    def _switch(self, name: str) -> Locator:
        return self.dialog.locator(f"input[type='checkbox'][name='element_{name}']")

    def _is_editor(self, field: Locator) -> bool:
        return field.locator(".monaco-editor").count() > 0

    def _shown(self, name: str) -> Any:
        if self._switch(name).count():
            return self._switch(name).is_checked()
        field = self._field(name)
        if self._is_editor(field):
            lines = field.locator(".view-line").all()
            lines.sort(key=lambda line: float(line.evaluate("line => parseFloat(line.style.top)")))
            return json.loads("".join(line.inner_text().replace("\xa0", " ") for line in lines))
        tag = field.evaluate("field => field.tagName")
        if tag in ("INPUT", "TEXTAREA", "SELECT"):
            return field.input_value()
        return field.inner_text().strip().splitlines()[-1]  # of a list; before it, a choice is announced

    def _write_json(self, field: Locator, value: Any) -> None:
        """Paste the JSON. If it is typed, the editor adds closing brackets and quotes by itself."""
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list):  # one entry per line, because the form shows only part of a long line
            text = "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
        self.page.evaluate("text => navigator.clipboard.writeText(text)", text)
        field.locator(".view-lines").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.press("ControlOrMeta+v")


class TriggerForm(Form):
    """The form that triggers a Dag."""

    def __init__(self, page: Page, airflow: str, dag_id: str) -> None:
        super().__init__(page)
        page.goto(f"{airflow}/dags/{dag_id}")
        page.get_by_role("button", name="Trigger").first.click()
        self.dialog.get_by_text("Run Parameters").wait_for()

    def send(self) -> str:
        """Press the button and return the id of the run."""
        with self.page.expect_response(
            lambda answer: answer.url.endswith("/dagRuns") and answer.request.method == "POST"
        ) as answer:
            self.button.click()
        body = answer.value.json()
        assert answer.value.ok, body
        return str(body["dag_run_id"])

    @property
    def button(self) -> Locator:
        """The button that triggers."""
        return self.dialog.get_by_role("button", name="Trigger").last


class ConnectionForm(Form):
    """The form that adds a connection of type Kling."""

    def __init__(self, page: Page, airflow: str, conn_id: str) -> None:
        super().__init__(page)
        page.goto(f"{airflow}/connections")
        page.get_by_role("button", name="Add Connection").first.click()
        self.dialog.locator("[name='connection_id']").fill(conn_id)
        kind = self.dialog.get_by_role("combobox").first
        kind.click()
        kind.fill("kling")
        page.get_by_role("option", name="Kling", exact=True).click()
        self.dialog.locator("[name='host']").wait_for()

    def fill_standard(self, **values: str) -> None:
        """Type into Airflow's own fields."""
        for name, value in values.items():
            self.dialog.locator(f"[name='{name}']").fill(value)

    def open_extra(self) -> None:
        """Open the part with the fields of this provider."""
        self.dialog.get_by_role("button", name="Extra Fields", exact=True).click()
        self.dialog.locator("[name='element_default_model']").wait_for()

    def save(self) -> None:
        """Press the button."""
        with self.page.expect_response(
            lambda answer: answer.url.endswith("/connections") and answer.request.method == "POST"
        ) as answer:
            self.dialog.get_by_role("button", name="Save").click()
        assert answer.value.ok, answer.value.text()
        self.dialog.wait_for(state="detached")


def press_test(page: Page, conn_id: str) -> tuple[int, Any]:
    """Press *Test* in the row of a connection, and return the status and the body of the answer."""
    row = page.get_by_role("row").filter(has_text=conn_id)
    with page.expect_response(lambda answer: answer.url.endswith("/connections/test")) as answer:
        row.get_by_role("button", name="Test Connection").click()
    return answer.value.status, answer.value.json()


def seek_to_the_middle(video: Locator) -> float:
    """Let a video jump to its middle, and return where it is then: 0 is its beginning, 1 its end."""
    return video.evaluate("""async (video) => {
      const when = (name) => new Promise((done) => video.addEventListener(name, done, { once: true }));
      if (video.readyState < 1) await when("loadedmetadata");
      video.pause();
      const there = when("seeked");
      video.currentTime = video.duration / 2;
      await there;
      return video.currentTime / video.duration;
    }""")
