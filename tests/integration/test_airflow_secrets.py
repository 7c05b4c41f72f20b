"""After everything has happened: nothing secret in any log file, nor anywhere in the metadata database."""

from __future__ import annotations

import base64
import json
import re
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from stage import Stage, text_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Played
    from stage import Run
    from stories import Story


@pytest.fixture(scope="module")
def written(played: Played, chains: Run, stories: dict[str, Story]) -> dict[str, set[str]]:
    """Give all that Airflow has written: every log file, every table, the database's files as they lie."""
    stage = played.stage
    stage.until_over(chains)
    for name in ("catalogue", "example", "troubles"):
        stage.until_over(played.runs[name])
    for story in stories.values():
        stage.until_over(story.run, timeout=120)
    texts = {
        f"log {path.relative_to(stage.logs)}": {path.read_text("utf-8", "replace")}
        for path in text_files(stage.logs)
    }
    texts |= {f"table {name}": strings for name, strings in _tables(stage)}
    for path in stage.airflow.home.glob("*.db*"):
        texts[f"file {path.name}"] = {path.read_bytes().decode("latin-1")}
    return texts


def test_the_search_finds_what_is_there(played: Played, chains: Run, written: dict[str, set[str]]) -> None:
    """Without this, the tests below would be glad about an empty search."""
    [job] = played.stage.jobs("chain deferred")
    places = _places(written, job.task_id)
    assert "table xcom" in places
    assert any(place.startswith("file ") for place in places)
    assert any("task_id=wait_deferred" in place and ".trigger" in place for place in places)
    assert any("task_id=submit_deferred" in place for place in places)


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
    assert places == ["table xcom"]


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
    with closing(stage.database()) as connection:
        names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        assert {"xcom", "trigger", "connection", "rendered_task_instance_fields", "log"} <= set(names)
        for name in names:
            rows = connection.execute(f'select * from "{name}"').fetchall()
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
