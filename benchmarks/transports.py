"""The poller with aiohttp, for one job or twenty jobs a query, and with a bare HTTP parser; without Airflow.

``make bench-transports``, with ``WAITS=5000`` waits and ``SECONDS=20`` of measuring. Each case runs in a
process of its own with the number of objects of a triggerer, against a gateway that answers at once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httptools
from report import percentile, report

from airflow_provider_kling.gateways import kling, myrouter
from airflow_provider_kling.gateways.base import Call, Gateway, Reply, Task
from airflow_provider_kling.polling.policy import PollPolicy
from airflow_provider_kling.polling.poller import MAX_CONCURRENT_POLLS, Poller, Wait
from airflow_provider_kling.polling.rate_limit import RateLimiter
from airflow_provider_kling.transport.async_client import AsyncKlingClient
from airflow_provider_kling.transport.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

WAITS, SECONDS = int(os.environ.get("WAITS", "10000")), float(os.environ.get("SECONDS", "20"))
BATCHES, BARE = "aiohttp, Kling's own API", "httptools"
#: Seconds between two polls of a wait, and before the measuring starts.
INTERVAL, WARM_UP = 5.0, 8.0
#: Objects that the garbage collector visits in a triggerer: of Airflow, and of each trigger.
OBJECTS, OBJECTS_PER_WAIT = 400_000, 40


class BareConnection(asyncio.Protocol):
    """One connection with one ``httptools`` parser, without limits and retries: a minimal client."""

    def __init__(self, host: str) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._host = host
        self._answer: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Parse the bytes."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Begin an answer."""
        self._headers: dict[str, str] = {}
        self._body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Store a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Set the result of the request."""
        reply = Reply(self._parser.get_status_code(), self._headers, self._body, time.time())
        assert self._answer
        self._answer.set_result(reply)

    async def request(self, target: str) -> Reply:
        """Send one request, and return the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        head = f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer key\r\n\r\n"
        self._transport.write(head.encode())
        async with asyncio.timeout(60):
            return await self._answer


def bare_client(url: str) -> Callable[[Call[Task]], Awaitable[Task]]:
    """Return a function that sends a call over bare connections."""
    parts, idle = urlsplit(url), []

    async def send(call: Call[Task]) -> Task:
        if idle:
            connection = idle.pop()
        else:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: BareConnection(parts.netloc), parts.hostname, parts.port
            )
        reply = await connection.request(f"{call.path}?task_id={call.kling_task_id}")
        idle.append(connection)
        return call.read(reply)

    return send


class Measured(PollPolicy):
    """A policy that records how late its polls are."""

    def update(self, answer: Any, now: float) -> Any:
        """Record the lateness of this poll."""
        if RECORDS.on:
            RECORDS.late.append(now - self.started_at)
        result = super().update(answer, now)
        self.started_at = result.next_poll_at
        return result


class Records:
    """The measured values."""

    def __init__(self) -> None:
        self.on, self.queries, self._began = False, 0, 0.0
        self.late: list[float] = []
        self.pauses: list[float] = []

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """Record a full collection of the garbage collector."""
        if phase == "start":
            self._began = time.perf_counter()
        elif self.on and info["generation"] == 2:
            self.pauses.append(time.perf_counter() - self._began)


RECORDS = Records()


async def wait_for_ever(poller: Poller, index: int, start: float) -> None:
    """Wait as a trigger does."""
    at = start + index * INTERVAL / WAITS
    async with Wait(poller, Measured(f"job-{index:05}", at, at + 36_000, INTERVAL), at) as results:
        async for result in results:
            assert not result.error, result.error


async def measure(name: str, url: str) -> dict[str, Any]:
    """Poll for all waits and return one row of the table."""
    objects = [[[] for _ in range(OBJECTS_PER_WAIT)] for _ in range(WAITS)], [[] for _ in range(OBJECTS)]
    gateway: Gateway = kling if name == BATCHES else myrouter
    settings = Settings("c", "key", base_url=url, gateway=gateway, queries_per_second=10_000)
    async with AsyncKlingClient(settings) as client:
        send = bare_client(url) if name == BARE else client.send

        async def answer(waits: Sequence[Wait]) -> Mapping[str, Task]:
            RECORDS.queries += RECORDS.on
            if len(waits) > 1:
                return await client.send(kling.query_jobs([wait.policy.kling_task_id for wait in waits]))
            wait = waits[0]
            wait.call = wait.call or gateway.query(wait.policy.kling_task_id)
            return {wait.policy.kling_task_id: await send(wait.call)}

        poller = Poller(answer, RateLimiter(1e6))
        poller.use(settings)
        start = time.time() + 1
        waits = [asyncio.create_task(wait_for_ever(poller, index, start)) for index in range(WAITS)]
        await asyncio.sleep(WARM_UP)
        gc.callbacks.append(RECORDS.collected)
        RECORDS.on, began, used = True, time.perf_counter(), time.process_time()
        await asyncio.sleep(SECONDS)
        RECORDS.on, span, cpu = False, time.perf_counter() - began, time.process_time() - used
        failed = [wait for wait in waits if wait.done()]
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
        await poller.close()
    polls = len(RECORDS.late)
    del objects
    return {
        "transport": name,
        "waits": WAITS,
        "queries_in_flight": MAX_CONCURRENT_POLLS,
        "jobs_per_query": round(polls / RECORDS.queries, 1),
        "core_%": round(cpu / span * 100, 1),
        "cpu_us_per_poll": round(cpu / polls * 1e6, 1),
        "done_%": round(polls / (WAITS * span / INTERVAL) * 100, 1),
        "late_p50_ms": round(percentile(RECORDS.late, 50) * 1000, 1),
        "late_p99_ms": round(percentile(RECORDS.late, 99) * 1000, 1),
        "full_collections": len(RECORDS.pauses),
        "longest_collection_ms": round(max(RECORDS.pauses, default=0.0) * 1000, 1),
        "failed_waits": len(failed),
    }


def main() -> None:
    """Run each case in a process of its own, with a gateway of its own."""
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(measure(*sys.argv[1:]))))
        return
    rows = []
    for name in ("aiohttp", BATCHES, BARE):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        gateway = subprocess.Popen([sys.executable, "-m", "waits.gateway", str(port)])
        try:
            time.sleep(1)
            command = [sys.executable, __file__, name, f"http://127.0.0.1:{port}"]
            rows.append(json.loads(subprocess.check_output(command, text=True).splitlines()[-1]))
        finally:
            gateway.kill()
            gateway.wait()
    report("transports", rows)


if __name__ == "__main__":
    main()
