"""The documents: their code runs, their commands and links exist."""

import json
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


#: Their code starts servers; other tests run it.
RUN_ELSEWHERE = {"development.md", "emulator.md"}
#: What older versions of Airflow refuse when a Dag file is parsed.
SINCE_3_3 = {"KlingRetryPolicy(": "retry policies", "start_from_trigger=True": "templates in triggers"}


def blocks(language):
    for document in DOCUMENTS:
        if document.name in RUN_ELSEWHERE:
            continue
        for number, (kind, code) in enumerate(BLOCK.findall(document.read_text()), 1):
            if kind == language:
                marks = [
                    pytest.mark.needs_airflow("3.3", what) for word, what in SINCE_3_3.items() if word in code
                ]
                yield pytest.param(code, id=f"{document.name}-{number}", marks=marks)


@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_in_the_documents_runs(code):
    exec(compile(code, "document", "exec"), {"__name__": "document"})


def test_the_readmes_dag_is_submit_then_wait_then_download():
    names = {}
    exec(next(blocks("python")).values[0], names)
    assert names["wait"].upstream_task_ids == {"submit"}
    assert names["download"].upstream_task_ids == {"submit", "wait"}


@pytest.mark.parametrize("code", list(blocks("bash")))
def test_commands_in_the_documents_exist(code):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in code.splitlines():
        command, *words = [
            word for word in shlex.split(line, comments=True) if "=" not in word or " " in word
        ]
        assert command in {"make", "pip", "export", "airflow"}, line
        if command == "make":
            assert words[0] in targets, line


def test_the_readmes_connection_is_read(monkeypatch):
    from airflow.sdk import Connection

    from airflow_provider_kling.transport.settings import Settings

    text = (ROOT / "README.md").read_text()
    as_json = re.search(r"AIRFLOW_CONN_KLING_DEFAULT='(.+)'", text)[1]
    assert json.loads(as_json)["conn_type"] == "kling"
    as_uri = re.search(r"`(kling://[^`]+)`", text)[1]
    for connection in (
        Connection.from_json(as_json, "kling_default"),
        Connection.from_uri(as_uri, "kling_default"),
    ):
        settings = Settings.from_connection(connection)
        assert (settings.api_key, settings.base_url) == ("YOUR-API-KEY", "https://api.myrouter.ai")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_the_documents_exist(document):
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}, (
                target
            )


def test_every_error_is_in_the_troubleshooting_page():
    from airflow_provider_kling import errors

    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert [
        name
        for name in vars(errors)
        if name.startswith("Kling") and name != "KlingError" and name not in text
    ] == []


def test_the_changelog_knows_this_version():
    import airflow_provider_kling

    assert f"## {airflow_provider_kling.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_page_of_xcoms_has_every_key_and_no_other():
    from airflow_provider_kling import xcom_keys

    rows = re.findall(r"^\|[^|]+\|([^|]+)\|", (ROOT / "docs" / "xcoms.md").read_text(), re.MULTILINE)
    listed = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert listed == {"return_value", *(value for name, value in vars(xcom_keys).items() if name.isupper())}


def test_no_other_module_has_a_key_of_an_xcom():
    for file in (ROOT / "airflow_provider_kling").rglob("*.py"):
        assert not re.search(r'xcom_(push|pull)\([^)]*key="(?!return_value)', file.read_text()), file
