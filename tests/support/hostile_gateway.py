"""A gateway and a storage host that send the exact bytes of a test, over real sockets."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

from hostile_spellings import HEADER, KEY, SIGNATURE

#: The ids of MyRouter are UUIDs, those of Kling's own API are long numbers.
JOB, OTHER = "1f0e7a52-9c3b-4d6e-8a01-5b7c9d2e4f60", "77777777-0000-4000-8000-abcdefabcdef"

KLING_JOB, KLING_OTHER = "893605946402811985", "893605946402811999"
DIALECTS = ("myrouter", "kling")

VIDEO = (files("airflow_provider_kling.emulator") / "tiny.mp4").read_bytes()
#: The video of another job: whole, with one more box.
OTHER_VIDEO = VIDEO + struct.pack(">I4s8s", 16, b"free", b"of other")

RESET, CLOSE = "reset", "close"


def http(body=b"", status=200, *headers, reason="Whatever", length=None):
    """Return a response's bytes. *length* is the Content-Length: None is the right one, False is none."""
    lines = [f"HTTP/1.1 {status} {reason}", *headers]
    if length is not False:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def json_http(value, status=200, *headers, **options):
    """Return a JSON response's bytes. A text is sent unchanged."""
    text = value if isinstance(value, str) else json.dumps(value)
    return http(text.encode(), status, "Content-Type: application/json", *headers, **options)


def chunked(*parts, end=b"0\r\n\r\n", head=()):
    """Return a chunked response's bytes. The parts are sent unchanged."""
    return http(b"", 200, *head, "Transfer-Encoding: chunked", length=False) + b"".join(parts) + end


def chunk(data, extension=b""):
    """Return a valid chunk."""
    return f"{len(data):x}".encode() + extension + b"\r\n" + data + b"\r\n"


@dataclass(frozen=True)
class Drip:
    """Bytes that are sent one after another, by default one in 0.1 s during ten seconds."""

    data: bytes = b" " * 100
    pause: float = 0.1


@dataclass(frozen=True)
class Request:
    """A request of a client."""

    host: str
    method: str
    target: str
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    @property
    def kind(self):
        if self.host == "storage":
            return "storage"
        if self.is_kling and urlsplit(self.target).path.endswith("/tasks"):
            return "search" if "external_task_ids" in self.target else "query"
        return "submit" if self.method == "POST" else "query"

    @property
    def is_kling(self):
        """Whether it is a request in Kling's own dialect."""
        return "/v3/async/" not in self.target

    @property
    def story(self):
        """Return the story of a connection whose host ends in ``/story/<number>``."""
        return self.target.split("/")[2] if self.target.startswith("/story/") else ""

    @property
    def kling_task_id(self):
        return self._parameter("task_ids" if self.is_kling else "task_id")

    @property
    def client_id(self):
        """Return the client's own id of the job in a submit to Kling, or in a search for one."""
        if self.kind == "search":
            return self._parameter("external_task_ids")
        return json.loads(self.body).get("options", {}).get("external_task_id", "")

    def _parameter(self, name):
        return parse_qs(urlsplit(self.target).query).get(name, [""])[0]


@dataclass(frozen=True)
class Script:
    """Answers in their order; then normal ones, or the last one again and again.

    :param makes_jobs: Kling has made a job before it sends such an answer to a submit.
    """

    answers: tuple = ()
    for_ever: bool = False
    makes_jobs: bool = False

    def answer(self, number):
        """Return the answer of this number, counted from 0. None is a normal answer."""
        if number < len(self.answers):
            return self.answers[number]
        return self.answers[-1] if self.for_ever and self.answers else None


class HostileGateway:
    """Answers submits, queries and downloads by a script each, and records the requests."""

    def __init__(self):
        self.listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in ("api", "storage")}
        self.url, self.storage_url = (
            f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in self.listeners.values()
        )
        self.dialect = "myrouter"
        self.begin()
        for name, listener in self.listeners.items():
            threading.Thread(target=self._accept, args=(name, listener), daemon=True).start()

    def begin(self, stories=None, **scripts):
        """Forget everything. The scripts' names are the kinds; *stories* are scripts of queries."""
        self.lock, self.requests, self.scripts, self.asked = threading.Lock(), [], scripts, {}
        self.stories = stories or {}
        self.client_ids = []  # of the jobs that Kling has made

    def close(self):
        for listener in self.listeners.values():
            listener.close()

    def connection(self, path="", **extra):
        """Return an Airflow connection to this gateway."""
        known = {
            "allow_private_hosts": True,
            "request_timeout": 1,
            HEADER[0]: HEADER[1],
            "gateway": self.dialect,
        }
        return {"conn_type": "kling", "host": self.url + path, "password": KEY, "extra": {**known, **extra}}

    def connection_json(self, **extra):
        """Return it as the environment takes it."""
        return json.dumps(self.connection(**extra))

    def link(self, name="right"):
        """Return a signed link to a video: ``right`` or ``other``."""
        return f"{self.storage_url}/videos/{name}.mp4?X-Amz-Expires=3600&X-Amz-Signature={SIGNATURE}"

    @property
    def job(self):
        """The id of the job that an honest answer to a submit names."""
        return KLING_JOB if self.dialect == "kling" else JOB

    def count(self, kind):
        return sum(request.kind == kind for request in self.requests)

    @property
    def bought(self):
        """The number of jobs that may have been paid for: MyRouter does not say which submit it refused."""
        return len(self.client_ids) if self.dialect == "kling" else self.count("submit")

    def _accept(self, name, listener):
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(name, connection), daemon=True).start()

    def _serve(self, host, connection):
        with suppress(OSError, ValueError), connection, connection.makefile("rb") as file:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while request := _read(host, file):
                scripts = {"query": self.stories[request.story]} if request.story else self.scripts
                with self.lock:
                    asked = request.story, request.kind
                    number = self.asked[asked] = self.asked.get(asked, -1) + 1
                    self.requests.append(request)
                script = scripts.get(request.kind, Script())
                answer = script.answer(number)
                if request.kind == "submit" and request.is_kling:
                    answer = self._submit_to_kling(request, answer, makes_job=script.makes_jobs)
                answer = self._honest(request) if answer is None else answer
                if not _send(connection, answer if isinstance(answer, tuple) else (answer,)):
                    return

    def _submit_to_kling(self, request, answer, *, makes_job):
        """Return the answer; without a new job where one has the same id of the client's."""
        with self.lock:
            if request.client_id and request.client_id in self.client_ids:
                taken = {"code": 1201, "message": f"external_task_id {request.client_id} already exists"}
                return json_http(taken, 400)
            if answer is None or makes_job:
                self.client_ids.append(request.client_id)
        return answer

    def _honest(self, request):
        if request.kind == "submit" and request.is_kling:
            return json_http({"code": 0, "data": kling_task("submitted", external_id=request.client_id)})
        if request.kind == "submit":
            return json_http({"task_id": JOB})
        if request.kind == "search":
            client_id = request.client_id
            now = round(time.time() * 1000)
            made = [kling_task("submitted", external_id=client_id, create_time=now, update_time=now)]
            return json_http(kling_tasks(*made[: client_id in self.client_ids]))
        if request.kind == "query" and request.is_kling:
            return json_http(kling_tasks(kling_task(kling_task_id=request.kling_task_id, link=self.link())))
        if request.kind == "query":
            return json_http(task(kling_task_id=request.kling_task_id, link=self.link()))
        video = OTHER_VIDEO if "/other" in request.target else VIDEO
        return stored(video, request.headers.get("range", ""))


def stored(video, asked_range="", etag='"right"'):
    """Return the storage's answer, also to a request for a range."""
    headers = ["Content-Type: video/mp4", f"ETag: {etag}", "Accept-Ranges: bytes"]
    if not asked_range.startswith("bytes="):
        return http(video, 200, *headers)
    start = int(asked_range.removeprefix("bytes=").split("-")[0])
    headers.append(f"Content-Range: bytes {start}-{len(video) - 1}/{len(video)}")
    return http(video[start:], 206, *headers)


def task(status="TASK_STATUS_SUCCEED", *, kling_task_id=JOB, link=None, videos=None, extra=None, **more):
    """Return the documented body of an answer to a query."""
    if link is not None:
        videos = [{"video_url": link, "video_url_ttl": "3600", "video_type": "mp4"}]
    of_task = {"task_id": kling_task_id, "status": status, "reason": "", "task_type": "KLING", "eta": 0}
    return {
        "extra": extra or {},
        "task": {**of_task, "progress_percent": 100, **more},
        "videos": [] if videos is None else videos,
    }


def kling_task(status="succeeded", *, kling_task_id=KLING_JOB, link=None, **more):
    """Return the documented description of a job in Kling's own dialect; ``...`` leaves a member out."""
    outputs = [{"type": "video", "id": "7", "url": link, "watermark_url": "", "duration": "5.041"}]
    times = {"create_time": 1_781_080_778_802, "update_time": 1_781_080_794_151}
    given = {"id": kling_task_id, "status": status, "message": "", **times, "external_id": ""}
    given |= {} if link is None else {"outputs": outputs}
    return {name: value for name, value in {**given, **more}.items() if value is not ...}


def kling_tasks(*tasks, **more):
    """Return the documented answer of Kling's own API to a query."""
    return {"code": 0, "message": "SUCCEED", "request_id": "r-17", "data": list(tasks), **more}


def _read(host, file):
    line = file.readline(65537)
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers = {}
    while (line := file.readline(65537)) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Request(host, method, target, headers, file.read(int(headers.get("content-length", 0))))


def _send(connection, steps):
    """Send an answer's steps; return whether the connection stays open."""
    for step in steps:
        if step == RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return False
        if step == CLOSE:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            return False
        if isinstance(step, Drip):
            never = threading.Event()
            for number in range(len(step.data)):
                connection.sendall(step.data[number : number + 1])
                never.wait(step.pause)
        elif isinstance(step, float):
            threading.Event().wait(step)
        else:
            connection.sendall(step)
    return True


#: It listens from the collection of the tests on, so that parameters can hold links to it.
GATEWAY = HostileGateway()
