"""Searches the database and all logs for the key, the picture's data and signed links."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.stage import Stage

#: The tables that may hold links to videos.
LINKS_ALLOWED_IN = frozenset({"xcom"})
SIGNATURE = "X-Signature="
_RUN = 48
_TABLE = re.compile(r"^COPY (?:public\.)?\"?(\w+)\"? .*FROM stdin;$", re.MULTILINE)


class Secrets:
    """Searches for texts that must not be stored."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        key, picture = stage.gateway.api_key, stage.picture_base64()
        self._words = {"API key": [key]}
        if stage.fleet:
            self._words["secret key of S3"] = [stage.fleet.s3_secret]
        # The base64 of a text depends on its offset modulo 3. Its ends depend on the bytes around it.
        shifted = [base64.b64encode(b"\0" * shift + key.encode()).decode()[4:-4] for shift in range(3)]
        self._words["API key in base64"] = shifted
        offsets = range(0, len(picture) - _RUN, max(1, len(picture) // 40))
        self._words["picture"] = [picture[offset : offset + _RUN] for offset in offsets]
        self.triggers_searched = 0
        self._leaks: set[str] = set()

    def search_triggers(self) -> None:
        """Search the rows of the present triggers; Airflow deletes them when a wait ends."""
        for row in self._stage.rows("select id, kwargs::text from trigger") or ():
            self.triggers_searched += 1
            self._leaks.update(f"{what} in a trigger's row" for what in self._in(str(row[1]), links=True))

    def search(self) -> list[str]:
        """Search the whole database and all logs, and return one line for each finding."""
        dump = self._stage.postgres.dump()
        for table, text in _tables(dump):
            links = table not in LINKS_ALLOWED_IN
            self._leaks.update(f"{what} in the table {table}" for what in self._in(text, links=links))

        for log in self._stage.logs.rglob("*"):
            if log.is_file():
                text = log.read_text(errors="replace")
                name = log.relative_to(self._stage.logs)
                self._leaks.update(f"{what} in the log {name}" for what in self._in(text, links=True))
        if self._stage.gateway.call("GET", "summary")["key_reached_storage"]:
            self._leaks.add("API key sent to the storage host")
        return sorted(self._leaks)

    def _in(self, text: str, *, links: bool) -> Iterator[str]:
        for what, words in self._words.items():
            if any(word in text for word in words):
                yield what
        if links and SIGNATURE in text:
            yield "signed link"


def _tables(dump: str) -> Iterator[tuple[str, str]]:
    """Yield the name and data of each table, and the text before the first one."""
    found = list(_TABLE.finditer(dump))
    yield "none (definitions)", dump[: found[0].start()] if found else dump
    for table, after in pairwise([*found, None]):
        assert table
        yield table[1], dump[table.end() : after.start() if after else len(dump)]
