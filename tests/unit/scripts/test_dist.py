"""A tag becomes a release only if version and changes agree with it; the workflows do what they say."""

import re
import tomllib

import dist
import pytest
from project_urls import ProjectUrls

import airflow_provider_kling

ROOT = dist.PROJECT
VERSION = airflow_provider_kling.__version__
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = ROOT / ".github" / "workflows" / "release.yml"


@pytest.fixture
def changes(tmp_path, monkeypatch):
    """Give a tree with this version, and the file for its changes."""
    package = tmp_path / "airflow_provider_kling"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "0.2.0"\n')
    monkeypatch.setattr(dist, "PROJECT", tmp_path)
    monkeypatch.setenv("REPOSITORY_URL", "https://example.org/kling")
    return tmp_path / "CHANGELOG.md"


def test_a_release_has_the_changes_of_its_version(changes):
    changes.write_text(
        "# Changes\n\n## 0.2.0 - 2026-12-01\n\n### Added\n\n- A.\n\n## 0.1.0 - 2026-11-23\n\n- B.\n"
    )
    assert dist.check_tag("v0.2.0") == "### Added\n\n- A."


@pytest.mark.parametrize("tag", ["v0.1.0", "0.2.0", "v0.2.0rc1", "v0.2.00"])
def test_a_tag_that_is_not_the_version_is_refused(tag, changes):
    changes.write_text("## 0.2.0 - 2026-12-01\n\n- A.\n")
    with pytest.raises(dist.DistError, match=r"the package's version is 0\.2\.0"):
        dist.check_tag(tag)


@pytest.mark.parametrize("heading", ["Unreleased", "0.2.0", "0.2.0 (unreleased)", "0.2.01 - 2026-12-01"])
def test_a_version_without_a_date_is_refused(heading, changes):
    changes.write_text(f"## {heading}\n\n- A.\n")
    with pytest.raises(dist.DistError, match="has no section"):
        dist.check_tag("v0.2.0")


def test_the_changes_have_the_form_of_keep_a_changelog():
    headings = re.findall(r"^##+ .*$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    version = r"## (Unreleased|\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d)"
    kind = r"### (Added|Changed|Deprecated|Removed|Fixed|Security)"
    assert [heading for heading in headings if not re.fullmatch(f"{version}|{kind}", heading)] == []
    dates = re.findall(r"\d{4}-\d\d-\d\d$", "\n".join(headings), re.MULTILINE)
    assert dates == sorted(dates, reverse=True)


def test_ci_runs_each_part_and_each_python_that_the_package_promises():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    [default] = re.findall(r"set -- (.+)", (ROOT / ".ci" / "run").read_text())
    assert set(re.findall(r"part: \[?(\w+)", text)) | {"matrix"} == set(default.split())
    assert "run: .ci/run matrix\n" in text
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(classifiers))
    [matrix] = re.findall(r"python: \[(.+)\]", text)
    assert [python.strip('" ') for python in matrix.split(",")] == promised


def test_a_release_names_the_repository_that_built_it(monkeypatch):
    metadata = {"version": "0.2.0"}
    monkeypatch.setenv("REPOSITORY_URL", "https://example.org/kling/")
    ProjectUrls(str(ROOT), {}).update(metadata)
    assert metadata["urls"]["Changelog"] == "https://example.org/kling/blob/v0.2.0/CHANGELOG.md"
    for url in metadata["urls"].values():
        file = url.partition("/blob/v0.2.0/")[2]
        assert url.startswith("https://example.org/kling")
        assert (ROOT / file).exists()
    assert "REPOSITORY_URL: ${{ github.server_url }}/${{ github.repository }}" in RELEASE.read_text()


def test_a_release_without_its_repository_is_refused(changes, monkeypatch, capsys):
    changes.write_text("## 0.2.0 - 2026-12-01\n\n- A.\n")
    monkeypatch.delenv("REPOSITORY_URL")
    assert dist.main(["--tag", "v0.2.0"]) == 1
    assert "REPOSITORY_URL" in capsys.readouterr().err


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_makes_exists(workflow):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)", workflow.read_text())) <= set(targets)
    for parts in re.findall(r"\.ci/run ([a-z ]+)", workflow.read_text()):
        assert set(parts.split()) <= set(targets)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_an_action_is_pinned_by_its_commit_and_names_its_version(workflow):
    for line in re.findall(r"uses: (.*)", workflow.read_text()):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_the_page_for_contributors_has_each_workflow():
    page = (ROOT / "docs" / "development.md").read_text()
    assert set(re.findall(r"`workflows/(\S+)`", page)) == {path.name for path in WORKFLOWS}
