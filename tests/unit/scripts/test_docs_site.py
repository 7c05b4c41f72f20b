"""The site of the documents: it is whole, loads nothing from elsewhere, and has each public class."""

import importlib
import inspect
import re
import shutil
import subprocess
from pathlib import Path

import docs_site
import pytest

from airflow_provider_kling import get_provider_info

ROOT = docs_site.PROJECT


def tree(folder: Path) -> Path:
    """Copy what a site is built from."""
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("_api"))
    shutil.copy(ROOT / "CHANGELOG.md", folder)
    for name in ("airflow_provider_kling", "dags"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    docs_site.build([tree(tmp_path_factory.mktemp("tree"))], folder)
    return folder / docs_site.version_of(ROOT)


def test_each_page_is_in_the_navigation(site: Path) -> None:
    first_page = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f'href="{page.stem}.html"' in first_page or page.stem == "index", page.name


def test_each_public_class_has_a_page(site: Path) -> None:
    pages = {page.stem.removeprefix("airflow_provider_kling.") for page in (site / "_api").glob("*.html")}
    assert pages >= public_classes()
    assert (site / "_api" / "airflow_provider_kling.hooks.KlingHook.html").exists()


def public_classes() -> set[str]:
    info = get_provider_info()
    groups = info["hooks"] + info["operators"] + info["sensors"] + info["triggers"]
    names = [name for group in groups for name in group["python-modules"]]
    found = {link.removeprefix("airflow_provider_kling.") for link in info["extra-links"]}
    for name in [
        *names,
        *(f"airflow_provider_kling.{module}" for module in ("errors", "request", "retries")),
    ]:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", [name for name in vars(module) if name[0].isupper()]):
            thing = getattr(module, public)
            if inspect.isclass(thing) and thing.__module__.startswith(name):
                found.add(f"{name.removeprefix('airflow_provider_kling.')}.{public}")
    return found


def test_the_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.search(r'(\ssrc=|<link[^>]+href=)"(https?:)?//', page.read_text()), page


def test_the_search_knows_the_words_of_the_pages(site: Path) -> None:
    assert "sidecar" in (site / "searchindex.js").read_text()


def test_a_broken_link_fails_the_build(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tree(tmp_path / "tree")
    with (folder / "docs" / "glossary.md").open("a") as page:
        page.write("\n[a page](no-such-page.md), [a part](costs.md#no-such-part)\n")
    with pytest.raises(subprocess.CalledProcessError):
        docs_site.build([folder], tmp_path / "site")
    shown = capfd.readouterr().err
    assert "no-such-page" in shown
    assert "no-such-part" in shown
