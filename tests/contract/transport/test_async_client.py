"""The asynchronous client: connections are used again while they are good, and no answer stalls it."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import pytest

from airflow_provider_kling.errors import KlingAccessError, KlingSubmitUncertainError, KlingUnavailableError
from airflow_provider_kling.gateways.myrouter import query, submit
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.transport.async_client import AsyncKlingClient
from airflow_provider_kling.transport.settings import Settings


def body_of(kling_task_id="t"):
    return json.dumps({"task": {"task_id": kling_task_id, "status": "TASK_STATUS_QUEUED"}}).encode()


def answer(body=None, *headers, length=True):
    """Return the bytes of an answer."""
    body = body_of() if body is None else body
    lines = ["HTTP/1.1 200 OK", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*chunks, end=b"0\r\n\r\n"):
    head = answer(b"", "Transfer-Encoding: chunked", length=False)
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


GOOD = answer()


class Server:
    """Answers the n-th request of the n-th connection as its scripts say; the last script serves all others.

    A step of a script is the bytes of an answer, an iterable of their pieces, "close" or "hang".
    """

    def __init__(self, scripts):
        self.scripts, self.requests, self.sent = list(scripts), [], 0
        self.connections, self.more, self.written = 0, asyncio.Event(), asyncio.Event()
        self._open = {}

    async def serve(self, reader, writer):
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        self._open[asyncio.current_task()] = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for step in script:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if step == "hang":
                    await reader.read()
                if step in ("hang", "close"):
                    break
                await self._write(writer, [step] if isinstance(step, bytes) else step)
        writer.close()
        del self._open[asyncio.current_task()]

    async def _write(self, writer, pieces):
        for piece in pieces:
            if piece is None:
                await self.more.wait()
                continue
            writer.write(piece)
            self.sent += len(piece)
            await writer.drain()
            await asyncio.sleep(0)
            if self.more.is_set():
                self.written.set()

    async def close(self):
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait([*self._open])


@asynccontextmanager
async def serving(*script, then=(), request_timeout=5.0, **extra):
    """Run a server and give it, with a client for it; *then* is the script of its later connections."""
    server = Server([script, then] if then else [script])
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/prefix"
    settings = Settings("c", "sk-key", base_url=url, request_timeout=request_timeout, http_extra=extra)
    async with AsyncKlingClient(settings) as client:
        yield server, client
    listener.close()
    await server.close()
    await listener.wait_closed()


async def ask(client, kling_task_id="t"):
    task = await client.send(query(kling_task_id))
    assert task.status == "TASK_STATUS_QUEUED"
    return task


async def test_a_socks_proxy_is_refused_and_the_error_says_what_works():
    proxies = {"http": "SOCKS5h://127.0.0.1:9"}
    with pytest.raises(KlingAccessError, match="HTTP proxy, or deferrable=False"):
        await AsyncKlingClient(
            Settings("c", "sk-key", base_url="http://127.0.0.1", http_extra={"proxies": proxies})
        ).__aenter__()


async def test_one_connection_serves_one_query_after_another():
    async with serving(*[GOOD] * 5) as (server, client):
        for _ in range(5):
            await ask(client)
    assert server.connections == 1


async def test_queries_at_the_same_time_have_connections_of_their_own():
    async with serving(*[GOOD] * 5) as (server, client):
        await asyncio.gather(*(ask(client) for _ in range(4)))
    assert server.connections == 4


@pytest.mark.parametrize("second", [(), ("close",)], ids=["before", "at"])
async def test_a_kept_connection_that_closes_before_or_at_the_next_query_costs_no_query(second):
    async with serving(GOOD, *second) as (server, client):
        for _ in range(4):
            await ask(client)
    assert server.connections == 4


async def test_a_cancelled_query_takes_its_connection_with_it():
    async with serving(GOOD, "hang") as (server, client):
        await ask(client)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(client), 0.1)
        await ask(client)
    assert server.connections == 2


async def test_a_second_answer_to_one_query_is_not_taken_for_the_answer_to_the_next():
    surplus = answer(body_of("another"))
    async with serving(GOOD + surplus, GOOD) as (server, client):
        assert (await ask(client)).kling_task_id == "t"
        await ask(client)
    assert server.connections == 2


async def test_an_answer_that_comes_unasked_is_not_taken_for_the_answer_to_the_next_query():
    surplus = answer(b'{"task": {"task_id": "another", "status": "TASK_STATUS_FAILED"}}')
    async with serving([GOOD, None, surplus], GOOD, then=[GOOD]) as (server, client):
        await ask(client)
        server.more.set()
        await server.written.wait()
        for _ in range(20):  # until the client has received it
            await asyncio.sleep(0)
        await ask(client)
    assert server.connections == 2


async def test_a_submit_is_sent_once_where_the_gateway_closes_the_connection():
    async with serving(GOOD, "close") as (server, client):
        await ask(client)
        with pytest.raises(KlingSubmitUncertainError):
            await client.send(submit(VideoJob("m", {})))
    assert len(server.requests) == 2


def drip(head, piece):
    """Return a script's step that never ends."""

    def pieces():
        yield head
        while True:
            yield piece

    return pieces()


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b""),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"),
        (answer(b"", "Content-Length: 1000000", length=False), b" "),
        (chunked(end=b""), b"1\r\n \r\n"),
        (chunked(end=b""), b""),
        (chunked(end=b"1"), b";"),
        (chunked(b"{}", end=b"0\r\n"), b"X: y\r\n"),
    ],
    ids=["head", "100", "103", "body", "chunks", "before a chunk", "chunk's size", "trailers"],
)
async def test_no_byte_of_an_answer_that_drips_moves_the_deadline(head, piece):
    async with serving(drip(head, piece), request_timeout=0.3) as (_, client), asyncio.timeout(30):
        with pytest.raises(KlingUnavailableError):
            await client.send(query("t"))


CONTINUE, HINTS = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"


class Ticks:
    """Counts how often the event loop comes round while a block lasts."""

    async def __aenter__(self):
        self.count, self._task = 0, asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *exc_info):
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _tick(self):
        while True:
            await asyncio.sleep(0)
            self.count += 1


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", CONTINUE),
        (b"", HINTS),
        (chunked(end=b""), b"1\r\n \r\n"),
        (chunked(end=b"1"), b";a=b"),
        (chunked(b"{}", end=b"0\r\n"), b"X: y\r\n"),
        (answer(b"", length=False), b" "),
    ],
    ids=["100", "103", "chunks", "chunk extensions", "trailers", "body"],
)
async def test_an_answer_without_an_end_takes_only_what_the_loop_can_spare(head, piece):
    """However much comes, the loop comes round after each piece, and what is kept has a limit."""
    flood = piece * (65_536 // len(piece))
    async with serving(drip(head, flood), request_timeout=1.0) as (server, client), Ticks() as ticks:
        with pytest.raises(KlingUnavailableError):
            await client.send(query("t"))
        assert ticks.count >= server.sent // (1 << 20)


@pytest.mark.parametrize("interim", [CONTINUE, HINTS])
async def test_an_answer_is_found_behind_thousands_of_interim_ones(interim):
    async with serving(interim * 5_000 + GOOD) as (_, client):
        await ask(client)


async def test_an_answer_of_a_hundred_thousand_chunks_is_put_together():
    padded = body_of() + b" " * 100_000
    data = chunked(*(padded[index : index + 1] for index in range(len(padded))))
    async with serving(data, request_timeout=20.0) as (_, client):
        await ask(client)
