"""A gateway that only answers queries, as fast as possible, and records the time of each query.

``python gateway.py PORT``. Besides queries it accepts the commands of the benchmark: ``/start``,
``/finish?id=,id=,...``, ``/progress``, ``/log``.
"""

import asyncio
import json
import re
import sys
import time
import zlib
from itertools import count
from urllib.parse import unquote

_BODY = (
    '{{"task":{{"task_id":"{id}","status":"{status}","reason":"","task_type":"KLING_V3.0_PRO_I2V",'
    '"eta":0,"progress_percent":{percent}}},"images":[],"videos":[{videos}],"audios":[],"extra":{{}}}}'
)
#: Of Kling's own API.
_ROW = (
    '{{"id":"{id}","status":"{status}","message":"","create_time":1781080778802,'
    '"update_time":1781080778802,"external_id":"af-0123456789abcdef-{id}",'
    '"outputs":[{videos}],"billing":[]}}'
)
_OUTPUT = '{"type":"video","id":"v","url":"https://storage.invalid/v.mp4","duration":"5.041"}'
_VIDEO = '{"video_url":"https://storage.invalid/v.mp4","video_url_ttl":"3600","video_type":"mp4"}'
_ID = re.compile(r"[?&](?:task_)?ids?=([^& ]*)")
#: Seconds that a job takes from 0 to 99 percent where progress is reported.
_RENDERING = 165.0


#: The headers of a gateway behind a proxy. One of them is new in each answer.
_HEAD = (
    "HTTP/1.1 {status}\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\n"
    "Content-Type: application/json; charset=utf-8\r\nContent-Length: {length}\r\n"
    "Connection: keep-alive\r\nVary: Origin\r\nX-Trace-Id: {trace}\r\n"
    "Strict-Transport-Security: max-age=15724800; includeSubDomains\r\n\r\n{body}"
)
_TRACES = count()


def _answer(status: str, body: str) -> bytes:
    trace = f"{next(_TRACES):032x}"
    return _HEAD.format(status=status, length=len(body), trace=trace, body=body).encode()


class Gateway:
    """The ended jobs, and the times of all queries."""

    def __init__(self) -> None:
        self.open = 0
        self.start()

    def start(self) -> None:
        """Forget everything except the open connections."""
        self.asked: dict[str, list[float]] = {}
        self.requests: list[float] = []
        self.finished: dict[str, float] = {}
        self.began: float | None = None
        self.most_open = self.open

    def opened(self, change: int) -> None:
        """Count a connection that was opened (1) or closed (-1)."""
        self.open += change
        self.most_open = max(self.most_open, self.open)

    def answer(self, target: str) -> bytes:
        """Return the whole HTTP answer to a GET of *target*."""
        path = target.partition("?")[0]
        found = _ID.search(target)
        name = unquote(found[1]) if found else ""
        if path == "/tasks":
            return self._tasks(name.split(","))
        if path in ("/v3/async/task-result", "/sensor"):
            now = time.time()
            self.requests.append(now)
            self.asked.setdefault(name, []).append(now)
            if name in self.finished:
                return _answer(
                    "200 OK", _BODY.format(id=name, status="TASK_STATUS_SUCCEED", percent=100, videos=_VIDEO)
                )
            if path == "/sensor":
                return _answer("404 Not Found", "{}")
            return self._unfinished(name, now)
        return _answer("200 OK", json.dumps(self._command(path, name)))

    def _tasks(self, names: list[str]) -> bytes:
        now, rows = time.time(), []
        self.requests.append(now)
        for name in names:
            self.asked.setdefault(name, []).append(now)
            ended = name in self.finished
            status, videos = ("succeeded", _OUTPUT) if ended else ("processing", "")
            rows.append(_ROW.format(id=name, status=status, videos=videos))
        body = f'{{"code":0,"message":"SUCCEED","request_id":"{next(_TRACES)}","data":[{",".join(rows)}]}}'
        return _answer("200 OK", body)

    def _unfinished(self, name: str, now: float) -> bytes:
        percent = 42
        if self.began is not None:  # the jobs began at different times
            age = now - self.began + zlib.crc32(name.encode()) / 2**32 * _RENDERING
            percent = min(99, int(age * 100 / (2 * _RENDERING)))
        body = _BODY.format(id=name, status="TASK_STATUS_PROCESSING", percent=percent, videos="")
        return _answer("200 OK", body)

    def _command(self, path: str, names: str) -> object:
        if path == "/start":
            self.start()
        if path == "/progress":
            self.began = time.time()
        if path == "/finish":
            self.finished.update(dict.fromkeys(names.split(","), time.time()))
        if path == "/log":
            seen = {"asked": self.asked, "requests": self.requests, "finished": self.finished}
            return {**seen, "most_open": self.most_open}
        return {"ids": len(self.asked), "open": self.open}


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._buffer = gateway, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self._transport = transport
        self._gateway.opened(1)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's protocol
        """Subtract the connection."""
        self._gateway.opened(-1)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete; none has a body."""
        *requests, self._buffer = (self._buffer + data).split(b"\r\n\r\n")
        for request in requests:
            target = request.split(b" ", 2)[1].decode()
            self._transport.write(self._gateway.answer(target))


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    gateway = Gateway()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(gateway), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
