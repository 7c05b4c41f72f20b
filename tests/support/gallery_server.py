"""A small stand-in of Airflow with the gallery's page: its API answers from a list of cards."""

from __future__ import annotations

import json
import mimetypes
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from gallery_cards import GROUPS, NOW, Card, head

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PACKAGE = files("airflow_provider_kling")
DAG = {
    "dag_id": "kling_image_to_video",
    "dag_display_name": "kling_image_to_video",
    "is_paused": True,
    "params": {
        "image": {
            "value": None,
            "description": "Public URL or path of a picture",
            "schema": {"type": "string", "title": "Picture", "minLength": 1},
        },
        "prompt": {
            "value": "The camera slowly moves closer.",
            "description": None,
            "schema": {"type": "string", "title": "Prompt", "format": "multiline", "maxLength": 2500},
        },
        "duration": {
            "value": 5,
            "description": "3 to 15",
            "schema": {"type": "integer", "title": "Seconds", "minimum": 3, "maximum": 15},
        },
        "model": {
            "value": "kling-v3.0-pro-i2v",
            "description": None,
            "schema": {
                "type": "string",
                "title": "Model",
                "examples": ["kling-v3.0-pro-i2v", "kling-o1-i2v"],
            },
        },
        "sound": {
            "value": False,
            "description": "Costs 50 % more",
            "schema": {"type": ["null", "boolean"], "title": "Sound"},
        },
        "tags": {"value": ["a", "b"], "description": None, "schema": {"type": "array", "title": "Tags"}},
    },
}
RESCUE = {
    "dag_id": "kling_rescue",
    "dag_display_name": "kling_rescue",
    "is_paused": False,
    "params": {
        "kling_task_id": {
            "value": None,
            "description": "The id that the error message or the gateway's bill names",
            "schema": {"type": "string", "title": "Task id at the gateway", "minLength": 1},
        },
        "target": {
            "value": "/tmp/kling/",
            "description": None,
            "schema": {"type": "string", "title": "Target"},
        },
    },
}


@dataclass
class Call:
    """A request that the page has made."""

    method: str
    path: str
    query: dict[str, list[str]] = field(default_factory=dict)
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class GalleryServer:
    """Serves the page below a prefix.

    :param prefix: the path of Airflow's base URL, such as `/af`.
    """

    def __init__(self, cards: list[Card], prefix: str = "") -> None:
        self.cards, self.prefix = cards, prefix
        self.video = (PACKAGE / "emulator" / "tiny.mp4").read_bytes()
        self.dags = {dag["dag_id"]: dag for dag in (DAG, RESCUE)}
        #: The task instances that Airflow calls failed when a task and what comes after it is cleared.
        self.failed_later: list[dict[str, Any]] = []
        self.triggerer_alive = True
        self.now = NOW
        #: As strict as an admin's proxy could be.
        self.policy = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'"
        self.calls: list[Call] = []
        #: Answers instead of the usual ones: a status and a detail by the start of the path.
        self.refusals: dict[str, tuple[int, Any]] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"gallery": self}))
        self.root = f"http://127.0.0.1:{self._http.server_port}{prefix}/"
        self.url = f"{self.root}kling/"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def asked(self, path: str, method: str | None = None) -> list[Call]:
        """Return the requests whose path begins so."""
        return [call for call in self.calls if call.path.startswith(path) and method in (None, call.method)]

    def answer(self, call: Call) -> tuple[int, Any]:
        """Answer a request of the page with JSON."""
        for path, refusal in self.refusals.items():
            if call.path.startswith(path):
                return refusal[0], {"detail": refusal[1]}
        if call.path == "kling/api/videos":
            return 200, self.page(call.query)
        if call.path.endswith("/details"):
            dag = self.dags.get(call.path.split("/")[3])
            return (200, dag) if dag else (404, {"detail": "The Dag was not found"})
        if call.path.endswith("/clearTaskInstances"):
            return 200, {"task_instances": self.failed_later if call.body["dry_run"] else []}
        is_known = call.path.endswith("/dagRuns") or call.method == "PATCH"
        return (200, {}) if is_known else (404, {"detail": "Not Found"})

    def page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """Return a page of cards."""
        one = {name: values[0] for name, values in query.items()}
        cards = [card for card in self.cards if self._matches(card, one)]
        begin, limit = int(one.get("cursor", 0)), int(one.get("limit", 60))
        if "task" in query:
            shown = [card for card in self.cards if card["key"] in query["task"]]
        else:
            shown = cards[begin : begin + limit]
        if one.get("previews") == "0":
            shown = [card | {"source": None, "poster": None} for card in shown]
        more = "task" not in query and begin + limit < len(cards)
        counted = [card for card in self.cards if self._matches(card, one | {"state": ""})]
        return {
            "cards": shown,
            "next": str(begin + limit) if more else None,
            "now": self.now,
            "triggerer_alive": self.triggerer_alive,
            "head": head(counted) | {name: head(self.cards)[name] for name in ("dags", "models")},
        }

    def _matches(self, card: Card, query: dict[str, str]) -> bool:
        state = query.get("state", "")
        words = f"{card['prompt']} {card['name']}".lower()
        return (
            all(query.get(name, "") in ("", str(card[name])) for name in ("dag_id", "run_id", "model"))
            and (not state or card["state"] in GROUPS.get(state, (state,)))
            and query.get("search", "").lower() in words
            and (query.get("task_id", "") in ("", "submit", "wait", "download"))
            and card["submitted_at"] >= float(query.get("since") or 0)
            and card["submitted_at"] < float(query.get("until") or "inf")
        )


class _Handler(BaseHTTPRequestHandler):
    gallery: GalleryServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_GET  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        path = unquote(url.path)
        if not path.startswith(f"{self.gallery.prefix}/"):
            self._send(404, b"outside of the prefix", "text/plain")
            return
        call = Call(
            self.command,
            path.removeprefix(self.gallery.prefix)[1:],
            parse_qs(url.query),
            body,
            dict(self.headers),
        )
        self.gallery.calls.append(call)
        if call.path == "kling/":
            self._file(PACKAGE / "www" / "index.html")
        elif re.fullmatch(r"kling/www/[\w.-]+", call.path):
            self._file(PACKAGE / "www" / call.path.rpartition("/")[2])
        elif call.path.startswith("kling/api/video/") and not self.gallery.refusals.get("kling/api/video/"):
            self._video()
        else:
            status, data = self.gallery.answer(call)
            self._send(status, json.dumps(data).encode(), "application/json")

    def _file(self, file: Traversable) -> None:
        if file.is_file():
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self._send(200, file.read_bytes(), kind)
        else:
            self._send(404, b"", "text/plain")

    def _video(self) -> None:
        video, wanted = self.gallery.video, self.headers.get("Range")
        begin, end = 0, len(video) - 1
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or end), end)
        extra = {"Accept-Ranges": "bytes"}
        if wanted:
            extra["Content-Range"] = f"bytes {begin}-{end}/{len(video)}"
        self._send(206 if wanted else 200, video[begin : end + 1], "video/mp4", extra)

    def _send(self, status: int, body: bytes, kind: str, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body))}
        headers |= {"Content-Security-Policy": self.gallery.policy, "Connection": "close"}
        for name, value in (headers | (extra or {})).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
