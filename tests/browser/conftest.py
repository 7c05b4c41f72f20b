"""A headless Chromium, and the private Airflow of the session with its scheduler."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from browser import find_chromium, open_browser
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page
    from stage import Stage

expect.set_options(timeout=20_000)  # the machine may be busy


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Run a Chromium with an empty profile."""
    folder = tmp_path_factory.mktemp("chromium")
    program = find_chromium(folder / "install.log", install=os.environ.get("CI") == "true")
    if program is None:
        assert os.environ.get("CI") != "true"
        pytest.skip("these tests need Chromium; on Debian and Ubuntu: apt-get install chromium")
    with open_browser(program, folder) as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """Open a tab."""
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture(scope="session")
def running(stage: Stage) -> Stage:
    """Give the Airflow with its scheduler."""
    if "scheduler" not in stage.airflow.services:
        stage.airflow.start("scheduler")
    return stage
