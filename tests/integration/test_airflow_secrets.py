"""After everything has happened: nothing secret in any log file, nor anywhere in the metadata database."""

from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from fault_run import DOWNLOAD, QUERY, REFUSED, SUBMIT
from private_airflow.rest_api import ApiError
from sqlalchemy import inspect
from stage import VIDEO, Stage, text_files

from airflow_provider_kling.emulator.fault_effects import EFFECTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Played
    from fault_run import FaultRun
    from scenarios import ScenarioRun
    from stage import Run


@pytest.fixture(scope="module")
def written(
    played: Played,
    chains: Run,
    scenarios: dict[str, ScenarioRun],
    faulty: FaultRun,
    rescued: Run,
    statements: Path,
) -> dict[str, set[str]]:
    """Give all that Airflow has written: every file, every table, every statement that changed one."""
    stage = played.stage
    stage.until_over(chains)
    for name in ("catalogue", "example", "functions", "library", "troubles"):
        stage.until_over(played.runs[name])
    for scenario in scenarios.values():
        stage.until_over(scenario.run, timeout=120)
    texts = {f"table {name}": strings for name, strings in _tables(stage)}
    for path in text_files(stage.airflow.home):
        kind = "log" if "logs" in path.parts else "file"
        texts[f"{kind} {path.relative_to(stage.airflow.home)}"] = {path.read_text("utf-8", "replace")}
    if statements.exists():
        texts["file of statements"] = {statements.read_text("utf-8", "replace")}
    texts["rows of triggers"] = faulty.triggers
    texts |= {f"page {name}": set(_strings(answer)) for name, answer in _pages(stage, faulty.run)}
    return texts


def test_the_search_finds_what_is_there(played: Played, chains: Run, written: dict[str, set[str]]) -> None:
    """Without this, the tests below would be glad about an empty search."""
    [job] = played.stage.jobs("chain deferred")
    places = _places(written, job.task_id)
    assert "table xcom" in places
    assert any(place.startswith("file ") for place in places)
    assert any("task_id=wait_deferred" in place and ".trigger" in place for place in places)
    assert any("task_id=submit_deferred" in place for place in places)


def test_every_fault_has_happened_where_it_can(stage: Stage, faulty: FaultRun) -> None:
    said = {re.split("[=,]", word)[0] for word in (*SUBMIT, *QUERY, *DOWNLOAD)}
    # The first two are none. The others are of Kling's own API, which this emulator is not asked by.
    assert set(EFFECTS) - said == {"queue", "render", "code", "hidden"}
    met = {request.fault for request in stage.gateway.requests if request.fault}
    for call, words in (("submit", SUBMIT), ("query", QUERY), ("download", DOWNLOAD)):
        for number, word in enumerate(words):
            sought = f"match=faulty {call} {number:02}."
            assert any(sought in fault for fault in met), f"{call}:{word} met nobody"
    twice = {job.prompt for job in stage.gateway.jobs if job.fingerprint in stage.gateway.double_payments}
    # Two tests buy again on purpose: with "redo" in a trigger form, and with "Buy again" in the gallery.
    on_purpose = ("forms: ", "gallery: the vase falls")
    assert {prompt for prompt in twice if not prompt.startswith(on_purpose)} == set()


def test_every_fault_ends_in_a_clean_error_or_in_none(stage: Stage, faulty: FaultRun) -> None:
    """Which one is tested elsewhere; here nothing but our own errors may have ended a task."""
    tasks = stage.tasks(faulty.run)
    counts = {"submit": len(SUBMIT + REFUSED), "wait": len(QUERY), "download": len(DOWNLOAD)}
    for task_id, count in counts.items():
        states = [tasks[f"{task_id}[{number}]"]["state"] for number in range(count)]
        assert set(states) == {"failed", "success"}
        for number, state in enumerate(states):
            if state == "failed":
                lines = stage.api.log("faults", faulty.run.run_id, task_id, 1, number)
                errors = [line["error_detail"][0] for line in lines if line.get("error_detail")]
                assert errors, f"{task_id}[{number}] says nothing"
                assert errors[-1]["exc_type"].startswith("Kling"), errors[-1]


@pytest.mark.parametrize("task_id", ["cut_short_poke", "cut_short_download", "not_cut_short_deferred"])
def test_a_try_that_airflow_cut_short_is_repeated_for_free(
    stage: Stage, faulty: FaultRun, task_id: str
) -> None:
    task = stage.tasks(faulty.run)[task_id]
    assert task["state"] == "success"
    if task_id.startswith("cut"):
        assert stage.error(faulty.run, task_id).startswith("AirflowTaskTimeout: ")
    assert task["try_number"] == (2 if task_id.startswith("cut") else 1)
    assert stage.gateway.times_paid(prompt="faulty and cut short") == 1


def test_the_rescue_dag_brings_a_video_home_by_its_task_id_alone(played: Played, rescued: Run) -> None:
    stage = played.stage
    [job] = stage.jobs("rescue me")
    path = played.folder / "rescued" / f"{job.task_id}.mp4"
    assert stage.states(rescued) == dict.fromkeys(("find", "wait", "download"), "success")
    assert stage.xcom(rescued, "download") == str(path)
    assert path.read_bytes() == VIDEO
    assert stage.gateway.times_paid(prompt="rescue me") == 1


def test_the_signature_of_a_picture_is_nowhere(stage: Stage, written: dict[str, set[str]]) -> None:
    assert _places(written, "a-signature-of-a-picture") == []


def test_pages_and_rows_of_triggers_were_searched_too(written: dict[str, set[str]]) -> None:
    assert len(written["rows of triggers"]) > 5
    kinds = {place.split()[1] for place in written if place.startswith("page ")}
    assert {"instance", "xcom", "links", "log", "run"} <= kinds
    assert any("rendered_fields" in text for text in written["page instance submit[0]"])
    assert _places(written, "faulty submit 00.") != []


def test_the_api_key_is_nowhere(stage: Stage, written: dict[str, set[str]]) -> None:
    key = stage.gateway.api_key
    for text in (key, f"Bearer {key}"):
        assert _places(written, text) == []
        for encoded in _base64_forms(text.encode()):
            assert _places(written, encoded) == []


def test_no_part_of_a_picture_is_anywhere(played: Played, written: dict[str, set[str]]) -> None:
    for picture in played.pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        for start in (0, 400, len(data) // 2, len(data) - 80):
            if start:  # all PNG files begin alike
                assert _places(written, data[start : start + 40]) == []


def test_a_signed_link_stands_in_xcom_and_nowhere_else(written: dict[str, set[str]]) -> None:
    places = [place for place in _places(written, "X-Signature=") if not place.startswith("file ")]
    shown = [place for place in places if not place.startswith(("page xcom ", "page links "))]
    assert shown == ["table xcom"]


def test_no_wait_holds_up_the_triggerer(stage: Stage, written: dict[str, set[str]]) -> None:
    """One of the answers came after 5 s: in that time a blocking client would have held up everybody.

    The triggerer that a test has frozen says so rightly, and does not count.
    """
    assert any(request.fault.startswith("query:hang=5") for request in stage.gateway.requests)
    blocked = [
        place for place in _places(written, "async thread was blocked") if "triggerer-restarted" not in place
    ]
    assert blocked == []


def test_no_trigger_left_anything_open_or_unawaited(written: dict[str, set[str]]) -> None:
    for words in ("Unclosed client session", "Unclosed connector", "was never awaited", "never retrieved"):
        assert _places(written, words) == []


def _pages(stage: Stage, run: Run) -> Iterator[tuple[str, Any]]:
    """Give what the REST API, and so the UI, shows of a run and of each of its tasks."""
    base = f"/dags/{run.dag_id}/dagRuns/{run.run_id}"
    yield "run", stage.api.call("GET", base)
    for name, ti in stage.tasks(run).items():
        task_id, index = ti["task_id"], ti["map_index"]
        path = f"{base}/taskInstances/{task_id}"
        mapped = {} if index < 0 else {"map_index": index}
        instance = stage.api.call("GET", path if index < 0 else f"{path}/{index}")
        yield f"instance {name}", instance
        entries = stage.api.call("GET", f"{path}/xcomEntries", **mapped)["xcom_entries"]
        keys = [entry["key"] for entry in entries]
        yield (
            f"xcom {name}",
            [stage.xcom(run, task_id, key, index) for key in keys],
        )
        yield f"links {name}", stage.api.call("GET", f"{path}/links", **mapped)
        for try_number in range(1, ti["try_number"] + 1):
            with suppress(ApiError):
                yield f"log {name}", stage.api.log(run.dag_id, run.run_id, task_id, try_number, index)


def _places(written: dict[str, set[str]], text: str) -> list[str]:
    return sorted(place for place, texts in written.items() if any(text in other for other in texts))


def _base64_forms(data: bytes) -> Iterator[str]:
    """Give what a text looks like inside a longer base64, wherever it begins there."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + data).decode()
        inner = encoded[4 if shift else 0 : len(encoded) - 4]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def _tables(stage: Stage) -> Iterator[tuple[str, set[str]]]:
    names = inspect(stage.database).get_table_names()
    assert {"xcom", "trigger", "connection", "rendered_task_instance_fields", "log"} <= set(names)
    for name in names:
        rows = stage.rows(f'select * from "{name}"')
        yield name, {text for row in rows for value in row for text in _strings(value)}


def _strings(value: Any) -> Iterator[str]:
    """Give every text in a value: bytes are read, JSON inside a text is taken apart, base64 is opened."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _strings(item)
    if isinstance(value, str):
        yield value
        if value[:1] in ('"', "[", "{"):
            with suppress(ValueError):
                yield from _strings(json.loads(value))
        elif len(value) >= 16 and re.fullmatch(r"[A-Za-z0-9+/_-]+={0,2}", value):
            with suppress(ValueError):
                opened = base64.urlsafe_b64decode(value.replace("+", "-").replace("/", "_") + "==")
                yield opened.decode("utf-8", "replace")
