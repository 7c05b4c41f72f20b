"""Takes the screenshots of the documents from the real UI of a private Airflow, with an emulator."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from browser import ConnectionForm, TriggerForm, find_chromium, open_browser
from demo import sample_picture
from PIL import Image
from private_airflow.components import PrivateAirflow
from private_airflow.debian import may_install
from private_airflow.services import exit_on_termination

from airflow_provider_kling.emulator import Emulator

if TYPE_CHECKING:
    from playwright.sync_api import Page

PROJECT = Path(__file__).resolve().parents[2]
DAGS = (PROJECT / "dags", Path(__file__).with_name("dags"))
PICTURES = PROJECT / "docs" / "pictures"
NAMES = ("dawn", "dusk", "fjord", "harbour", "island", "storm")
DAG_ID = "postcards"
UNDER_WAY = ["deferred"] * 4 + ["failed", "success"]
WIDTH, HEIGHT = 1280, 800
#: Airflow's setting with the folders whose videos the gallery plays.
SETTING = "AIRFLOW__KLING__GALLERY_FOLDERS"
#: Seconds until the emulator has made a video; the script moves the emulator's clock instead of waiting.
RENDER_SECONDS = 300


class Camera:
    """A browser's page, and the pictures that are taken of it."""

    def __init__(self, page: Page, airflow: PrivateAirflow) -> None:
        self.page, self.airflow = page, airflow

    def open(self, path: str, sign: str) -> None:
        """Open a page of Airflow, and wait for a text on it."""
        self.page.goto(f"{self.airflow.url}/{path}")
        self.page.get_by_text(sign).first.wait_for()

    def take(self, name: str, height: int = HEIGHT, *, dialog: bool = False) -> None:
        """Write a picture of the page in a window of this height, or of the open dialog as a whole."""
        self.page.mouse.move(0, 0)
        self.page.wait_for_load_state("networkidle")
        seen = self.page.get_by_role("dialog") if dialog else self.page
        for _ in range(2 if dialog else 1):  # a dialog in a higher window may become higher too
            height = int(seen.bounding_box()["height"]) + 200 if dialog else height
            self.page.set_viewport_size({"width": WIDTH, "height": height})
            self.page.wait_for_timeout(500)  # for what still moves
        with Image.open(BytesIO(seen.screenshot(animations="disabled"))) as picture:
            file = PICTURES / f"{name}.webp"
            picture.convert("RGB").save(file, quality=80, method=6)
        print(f"{file.relative_to(PROJECT)}: {file.stat().st_size / 1000:.0f} kB", flush=True)


def paint(folder: Path) -> None:
    """Paint six pictures: one sunset in six orders of its colours."""
    folder.mkdir()
    sample_picture.paint(folder / "sunset.jpg")
    with Image.open(folder / "sunset.jpg") as sunset:
        bands = sunset.split()
        for name, order in zip(NAMES, itertools.permutations(range(3)), strict=True):
            Image.merge("RGB", [bands[band] for band in order]).save(folder / f"{name}.jpg", quality=90)
    (folder / "sunset.jpg").unlink()


def connection(camera: Camera, gateway: Emulator, folder: str) -> None:
    """Show the form of the connection, and store it."""
    form = ConnectionForm(camera.page, camera.airflow.url, "kling_default")
    form.fill_standard(password="a key that is not shown")
    camera.take("connection", dialog=True)
    form.open_extra()
    camera.take("connection-extra", dialog=True)
    stored = json.loads(gateway.connection_json(allowed_paths=folder))
    body = {**stored, "connection_id": "kling_default", "extra": json.dumps(stored["extra"])}
    camera.airflow.api.call("POST", "/connections", body)


def trigger_form(camera: Camera, folder: str) -> None:
    """Show the form of a Dag."""
    camera.airflow.wait_until(
        "the Dags to be read", lambda: camera.airflow.api.dag_exists("kling_image_to_video"), 60
    )
    form = TriggerForm(camera.page, camera.airflow.url, "kling_image_to_video")
    form.fill({"image": f"{folder}/pictures/dawn.jpg", "prompt": "The sun rises and the waves glitter."})
    camera.take("trigger-form", dialog=True)


def mapped_run(camera: Camera, gateway: Emulator, folder: str) -> None:
    """Show a run over six pictures: while it runs, its failure, and its videos."""
    airflow = camera.airflow
    gateway.add_fault(
        "job:fail=moderation,match=storm", "job:render=1,match=storm", "job:render=1,match=dawn"
    )
    run_id = airflow.trigger(DAG_ID, {"folder": f"{folder}/pictures", "names": NAMES})
    page = f"dags/{DAG_ID}/runs/{run_id}/tasks"

    def states() -> list[str]:
        found = airflow.api.task_instances(DAG_ID, run_id)
        return [ti["state"] for ti in found if ti["task_id"] == "video"]

    def progress() -> bool:
        """Return whether the last of the running jobs has shown how far it is."""
        seen = airflow.api.xcom(DAG_ID, run_id, "video", "kling_progress", map_index=NAMES.index("island"))
        return bool(seen and (seen.get("progress_percent") or 0) > 10)

    airflow.wait_until("four jobs to run", lambda: sorted(states()) == UNDER_WAY, 180)
    gateway.advance(RENDER_SECONDS / 3)
    airflow.wait_until("progress", progress, 60)
    camera.open(f"{page}/video/mapped", "dusk.jpg")
    camera.take("mapped-run")
    camera.open("plugin/kling", "dusk.jpg")
    camera.take("gallery-running", 1100)
    camera.open(f"{page}/video/mapped/{NAMES.index('storm')}", "Task failed with exception")
    # The trace has paths of this machine.
    camera.page.evaluate("document.querySelectorAll('details').forEach(trace => trace.open = false)")
    camera.take("failure")
    gateway.advance(RENDER_SECONDS)
    airflow.wait_for_run(DAG_ID, run_id)
    camera.open("plugin/kling", "dusk.jpg")
    camera.take("gallery-done", 1100)


def main() -> int:
    """Take all pictures."""
    exit_on_termination()
    program = find_chromium(PROJECT / ".airflow" / "chromium.log", install=may_install())
    if program is None:
        print("error: Chromium is missing; on Debian and Ubuntu: apt-get install chromium", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="studio-") as folder,  # can be read in the pictures
        tempfile.TemporaryDirectory() as home,
        Emulator(queue_seconds=2, render_seconds=RENDER_SECONDS) as gateway,
        PrivateAirflow(Path(home) / "airflow", DAGS, env={SETTING: folder}) as airflow,
        open_browser(program, Path(home)) as browser,
    ):
        paint(Path(folder) / "pictures")
        camera = Camera(browser.new_page(), airflow)
        connection(camera, gateway, folder)
        trigger_form(camera, folder)
        mapped_run(camera, gateway, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
