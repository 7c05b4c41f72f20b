"""Keep-alive connections for queries: used again while they are good, never mixed up, none left open."""

import asyncio
import gzip
import ssl
from contextlib import asynccontextmanager

import pytest

from airflow_provider_kling.errors import KlingUnavailableError
from airflow_provider_kling.gateways.myrouter import query
from airflow_provider_kling.transport.client import AsyncKlingClient
from airflow_provider_kling.transport.lines import LONGEST_IDLE, Lines, StaleError, UnreadableError
from airflow_provider_kling.transport.settings import Settings

TASK = b'{"task": {"task_id": "t", "status": "TASK_STATUS_QUEUED"}}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(TASK), TASK)


class Server:
    """Answers the n-th request of each connection as a script says: bytes, "close", or "hang"."""

    def __init__(self, *script):
        self.script, self.connections, self.requests = script, 0, []

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            for step in self.script:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if step == "hang":
                    await reader.read()
                if step in ("hang", "close"):
                    return
                for part in [step] if isinstance(step, bytes) else step:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*script):
    server = Server(*script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    pool = Lines(server.url, ssl.create_default_context(), 5.0)
    try:
        yield server, pool
    finally:
        await pool.close()
        assert not pool._all
        listener.close()
        await listener.wait_closed()


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_one_connection_serves_one_query_after_another():
    async with serving(*[GOOD] * 5) as (server, pool):
        for _ in range(5):
            assert (await pool.ask(REQUEST)).body == TASK
        assert server.connections == 1


async def test_an_answer_in_many_pieces_is_put_together():
    async with serving([GOOD[index : index + 1] for index in range(len(GOOD))], GOOD) as (server, pool):
        assert (await pool.ask(REQUEST)).body == TASK
        assert (await pool.ask(REQUEST)).body == TASK
        assert server.connections == 1


async def test_queries_at_the_same_time_have_connections_of_their_own():
    async with serving(*[GOOD] * 5) as (server, pool):
        answers = await asyncio.gather(*(pool.ask(REQUEST) for _ in range(4)))
        assert [answer.body for answer in answers] == [TASK] * 4
        assert server.connections == 4


async def test_a_connection_that_was_closed_while_nobody_used_it_costs_no_query():
    async with serving(GOOD) as (server, pool):  # closes after one answer
        for _ in range(4):
            assert (await pool.ask(REQUEST)).body == TASK
        assert server.connections == 4


async def test_a_connection_that_closes_on_the_second_request_is_replaced_by_a_new_one():
    async with serving(GOOD, "close") as (server, pool):
        assert (await pool.ask(REQUEST)).body == TASK
        assert (await pool.ask(REQUEST)).body == TASK
        assert server.connections == 2
        assert len(server.requests) == 3


async def test_a_new_connection_that_says_nothing_is_a_failure():
    async with serving("close") as (server, pool):
        with pytest.raises(StaleError):
            await pool.ask(REQUEST)
        assert server.connections == 1


@pytest.mark.parametrize("cut", [GOOD[:10], GOOD[:-1]])
async def test_an_answer_that_is_cut_off_is_a_failure_and_is_not_asked_for_again(cut):
    async with serving(GOOD, [cut]) as (server, pool):
        await pool.ask(REQUEST)
        with pytest.raises(OSError, match="cut off"):
            await pool.ask(REQUEST)
        assert len(server.requests) == 2


async def test_whoever_waits_hears_once_what_went_wrong():
    heard = []

    class Waiter:
        def done(self):
            return False

        def set_exception(self, error):
            heard.append(error)

    async with serving(GOOD, b"SSH-2.0-nope\r\n\r\n") as (_, pool):
        await pool.ask(REQUEST)
        line = pool.free()
        line.ask(REQUEST, Waiter())
        await asyncio.wait_for(line.lost, 5)
    assert [type(error) for error in heard] == [UnreadableError]


async def test_a_body_that_ends_with_the_connection_is_read():
    async with serving([b"HTTP/1.1 200 OK\r\n\r\n", TASK]) as (_, pool):
        assert (await pool.ask(REQUEST)).body == TASK


async def test_bytes_that_nobody_asked_for_end_the_connection():
    async with serving(GOOD, GOOD) as (server, pool):
        await pool.ask(REQUEST)
        (line,) = pool._idle
        line.data_received(GOOD)
        assert (await pool.ask(REQUEST)).body == TASK
        assert server.connections == 2


async def test_two_answers_to_one_question_end_the_connection():
    async with serving([GOOD + GOOD], GOOD) as (server, pool):
        assert (await pool.ask(REQUEST)).body == TASK
        assert (await pool.ask(REQUEST)).body == TASK
        assert server.connections == 2


async def test_a_connection_that_was_idle_for_long_is_not_used_again():
    async with serving(GOOD, GOOD) as (server, pool):
        await pool.ask(REQUEST)
        pool._idle[0].idle_since -= LONGEST_IDLE + 1
        await pool.ask(REQUEST)
        assert server.connections == 2


async def test_a_cancelled_query_takes_its_connection_with_it():
    async with serving("hang") as (server, pool):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.ask(REQUEST), 0.1)
        assert server.connections == 1
        assert not pool._idle


async def test_what_is_no_plain_answer_is_refused():
    async with serving(b"SSH-2.0-nope\r\n\r\n") as (_, pool):
        with pytest.raises(UnreadableError):
            await pool.ask(REQUEST)


async def test_a_refused_connection_is_a_failure():
    async with serving(GOOD) as (server, _):
        pass
    with pytest.raises(OSError, match="onnect"):
        await Lines(server.url, ssl.create_default_context(), 5.0).ask(REQUEST)


def encoded():
    body = gzip.compress(TASK)
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_a_gateway_that_does_not_answer_plainly_is_asked_by_the_general_client():
    async with serving(*[encoded()] * 3) as (server, _):
        async with AsyncKlingClient(Settings("c", "key", server.url)) as client:
            for _ in range(2):
                assert (await client.send(query("t"))).status == "TASK_STATUS_QUEUED"
        assert len(server.requests) == 3  # the first one twice


async def test_a_query_that_hangs_ends_with_the_request_timeout():
    async with (
        serving("hang") as (server, _),
        AsyncKlingClient(Settings("c", "key", server.url, request_timeout=0.1)) as client,
    ):
        with pytest.raises(KlingUnavailableError, match="TimeoutError"):
            await client.send(query("t"))


async def test_a_query_carries_the_key_and_the_headers_of_the_connection():
    async with serving(GOOD) as (server, _):
        settings = Settings("c", "sk-key", f"{server.url}/prefix", http_extra={"X-Team": "shop"})
        async with AsyncKlingClient(settings) as client:
            await client.send(query("a b&c"))
    told = server.requests[0].decode()
    assert told.startswith("GET /prefix/v3/async/task-result?task_id=a%20b%26c HTTP/1.1\r\n")
    assert "Authorization: Bearer sk-key\r\n" in told
    assert "X-Team: shop\r\n" in told
