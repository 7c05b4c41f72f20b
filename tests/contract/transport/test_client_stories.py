"""One list of stories, lived through by each client over a socket: what went wrong, and what it cost."""

import asyncio
import http.client
import json
import logging
import os
import socket
import ssl
import struct
import threading
import time
import tracemalloc
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import requests
from airflow_fakes import settings_of
from blockbuster import blockbuster_ctx
from odd_servers import DRIPPING_PARTS, answering, dripping_in, serving

from airflow_provider_kling.emulator import Emulator
from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingError,
    KlingJobFailedError,
    KlingNoSlotError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways import kling, myrouter
from airflow_provider_kling.gateways.base import Outcome
from airflow_provider_kling.gateways.myrouter import query, submit
from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.polling.client_pool import ClientPool
from airflow_provider_kling.transport.async_client import AsyncKlingClient
from airflow_provider_kling.transport.sessions import Deadline, gateway_session, timed
from airflow_provider_kling.transport.sync_client import LONGEST_BODY, KlingClient

JOB = VideoJob("kling-v3.0-pro-t2v", {"prompt": "a cat"})
MODELS = {myrouter: JOB.model, kling: "text-to-video/kling-3.0"}
DIALECTS = pytest.mark.parametrize("dialect", MODELS, ids=lambda dialect: dialect.name)
#: The answer to a submit, with the job's id.
BOUGHT = {myrouter: '{"task_id": "t-1"}', kling: '{"code": 0, "data": {"id": "t-1"}}'}
REFUSED, MAYBE = Money.UNTOUCHED, Money.MAYBE
RUNNING = Money.RUNNING


@pytest.fixture(autouse=True)
def _nothing_blocks():
    """Raise where our code makes a blocking call on an event loop."""
    with blockbuster_ctx("airflow_provider_kling"):
        yield


@pytest.fixture
def gateway():
    with Emulator(render=False, queue_seconds=0, render_seconds=0) as gateway:
        yield gateway


@asynccontextmanager
async def sync_client(monkeypatch, host, key, extra):
    settings = settings_of(host, key, **extra)
    with gateway_session(settings) as session:
        yield lambda call: asyncio.to_thread(KlingClient(session, settings).send, call)


@asynccontextmanager
async def async_client(monkeypatch, host, key, extra):
    async with AsyncKlingClient(settings_of(host, key, **extra)) as client:
        yield client.send


def connection(host, key, extra):
    return json.dumps({"conn_type": "kling", "host": host, "password": key, "extra": extra})


@asynccontextmanager
async def hook(monkeypatch, *fields):
    monkeypatch.setenv("AIRFLOW_CONN_KLING_STORY", connection(*fields))
    yield lambda call: asyncio.to_thread(KlingHook("kling_story").send, call)


@asynccontextmanager
async def pooled_client(monkeypatch, *fields):
    monkeypatch.setenv("AIRFLOW_CONN_KLING_STORY", connection(*fields))
    async with ClientPool.client("kling_story") as client:
        yield client.send


@pytest.fixture(params=[sync_client, async_client, hook, pooled_client], ids=lambda make: make.__name__)
def connect(request, monkeypatch):
    """Give a way to make each kind of client for a host."""
    return lambda url, key="emulator-key", **extra: request.param(
        monkeypatch, url, key, {"request_timeout": 20, **extra}
    )


async def failure_of(send, call):
    with pytest.raises(KlingError) as caught:
        await send(call)
    return caught.value


def job_of(dialect, prompt="a cat"):
    return VideoJob(MODELS[dialect], {"prompt": prompt})


@DIALECTS
async def test_a_job_is_submitted_asked_for_and_done(gateway, connect, dialect):
    async with connect(gateway.url) as send:
        kling_task_id = await send(dialect.submit(job_of(dialect)))
        task = await send(dialect.query(kling_task_id))
    assert (task.kling_task_id, task.outcome) == (gateway.jobs[0].task_id, Outcome.SUCCEEDED)
    assert task.videos[0].video_url.startswith(gateway.storage_url)
    assert [(r.method, r.status, r.authorization) for r in gateway.requests] == [
        ("POST", 200, True),
        ("GET", 200, True),
    ]
    assert gateway.times_paid(prompt="a cat") == 1


@dataclass(frozen=True)
class Story:
    """A fault, and what it must come to."""

    fault: str
    kind: type[KlingError]
    money: Money
    paid: int = 0
    retry_after: float | None = None


def with_both(stories, **more):
    """Parametrize a test with the stories for both dialects, and with those for one."""
    own = [(dialect, story) for dialect in MODELS for story in more[dialect.name]]
    rows = [*((dialect, story) for dialect in MODELS for story in stories), *own]
    ids = [f"{dialect.name}, {story.fault}" for dialect, story in rows]
    return pytest.mark.parametrize(("dialect", "story"), rows, ids=ids)


SUBMITS = [
    Story("rate-limit=7", KlingUnavailableError, REFUSED, retry_after=7),
    Story("error=INVALID_API_KEY", KlingAccessError, REFUSED),
    Story("redirect", KlingSubmitUncertainError, MAYBE),
    Story("redirect=302/", KlingSubmitUncertainError, MAYBE),
    Story("html=504,late", KlingSubmitUncertainError, MAYBE, paid=1),
    Story("malformed", KlingSubmitUncertainError, MAYBE),
    Story("cut", KlingSubmitUncertainError, MAYBE),
    Story("cut,late", KlingSubmitUncertainError, MAYBE, paid=1),
    Story("truncate=9,late", KlingSubmitUncertainError, MAYBE, paid=1),
]
SUBMITS_OF_KLING = [
    Story("code=1303", KlingNoSlotError, REFUSED),
    Story("code=1102", KlingBalanceError, REFUSED),
    Story("code=5000", KlingSubmitUncertainError, MAYBE),
    Story("code=5002,late", KlingSubmitUncertainError, MAYBE, paid=1),
]


@with_both(SUBMITS, MyRouter=[], Kling=SUBMITS_OF_KLING)
async def test_a_paid_request_is_never_sent_twice(gateway, connect, dialect, story):
    gateway.add_fault(f"submit:{story.fault}")
    async with connect(gateway.url) as send:
        error = await failure_of(send, dialect.submit(job_of(dialect)))
    assert isinstance(error, story.kind)
    assert (error.money, error.retry_after, error.kling_task_id) == (story.money, story.retry_after, None)
    assert str(story.money) in str(error)
    assert gateway.api_key not in str(error)
    assert [request.method for request in gateway.requests] == ["POST"]
    assert len(gateway.jobs) == story.paid
    assert not gateway.key_reached_storage
    assert not [request for request in gateway.requests if request.host == "storage"]


async def test_a_job_whose_answer_was_lost_is_found_by_our_own_id_and_not_paid_for_again(gateway, connect):
    gateway.add_fault("submit:cut,late")
    calls = kling.submit(job_of(kling), "ours-1"), kling.submit(job_of(kling), "ours-1")
    async with connect(gateway.url) as send:
        errors = [await failure_of(send, call) for call in calls]
        found, none = await send(kling.find("ours-1")), await send(kling.find("ours-2"))
        batch = await send(kling.query_jobs(["1", found.kling_task_id]))
        listed, cursor = await send(kling.list_tasks(time.time() - 60, ""))
    assert all(isinstance(error, KlingSubmitUncertainError) for error in errors)
    assert [error.reason for error in errors] == [None, "1201"]
    (job,) = gateway.jobs
    assert (found.kling_task_id, found.client_id, none, cursor) == (job.task_id, "ours-1", None, "")
    assert [*batch] == [task.kling_task_id for task in listed] == [job.task_id]


QUERIES = [
    Story("rate-limit=7", KlingUnavailableError, RUNNING, retry_after=7),
    Story("error=INVALID_API_KEY,times=2", KlingAccessError, RUNNING),
    Story("redirect", KlingUnavailableError, RUNNING),
    Story("html=502", KlingUnavailableError, RUNNING),
    Story("malformed", KlingUnavailableError, RUNNING),
    Story("cut,times=2", KlingUnavailableError, RUNNING),
    Story("truncate=9", KlingUnavailableError, RUNNING),
]
QUERIES_OF_MYROUTER = [Story("error=TASK_FAILED", KlingJobFailedError, Money.ENDED)]
QUERIES_OF_KLING = [
    Story("code=5001", KlingUnavailableError, RUNNING),
    Story("code=1103,times=2", KlingAccessError, RUNNING),
]


@with_both(QUERIES, MyRouter=QUERIES_OF_MYROUTER, Kling=QUERIES_OF_KLING)
async def test_a_query_that_failed_names_the_job_and_says_what_becomes_of_it(
    gateway, connect, dialect, story
):
    async with connect(gateway.url) as send:
        kling_task_id = await send(dialect.submit(job_of(dialect)))
        gateway.add_fault(f"query:{story.fault}")
        error = await failure_of(send, dialect.query(kling_task_id))
        gateway.clear_faults()
        assert (await send(dialect.query(kling_task_id))).outcome is Outcome.SUCCEEDED
    assert isinstance(error, story.kind)
    assert (error.money, error.retry_after, error.kling_task_id) == (
        story.money,
        story.retry_after,
        kling_task_id,
    )
    assert len(gateway.jobs) == 1
    assert not gateway.key_reached_storage


@DIALECTS
async def test_no_call_takes_longer_than_the_timeout(gateway, connect, dialect):
    paid = {"hang=60": 0, "hang=60,late": 1, "slow=60,late": 1, "slow=10,late": 1}
    async with connect(gateway.url, request_timeout=1) as send:
        for number, fault in enumerate(paid):
            gateway.add_fault(f"submit:{fault},match=cat {number}")
        cats = [dialect.submit(job_of(dialect, f"cat {number}")) for number in range(len(paid))]
        gateway.add_fault("query:hang=60,match=dog", "query:slow=60,match=bird")
        dog, bird = [await send(dialect.submit(job_of(dialect, name))) for name in ("dog", "bird")]
        began = time.monotonic()
        calls = [*cats, dialect.query(dog), dialect.query(bird)]
        errors = await asyncio.gather(*(failure_of(send, call) for call in calls))
        assert time.monotonic() - began < 6
    assert all(isinstance(error, KlingSubmitUncertainError) for error in errors[: len(paid)])
    assert all(isinstance(error, KlingUnavailableError) for error in errors[len(paid) :])
    for number, times in enumerate(paid.values()):
        assert gateway.times_paid(prompt=f"cat {number}") == times


@pytest.mark.parametrize("connect", [sync_client], indirect=True)
@pytest.mark.parametrize("part", DRIPPING_PARTS)
async def test_no_byte_of_an_answer_that_drips_moves_the_deadline_of_the_sync_client(connect, part):
    over, left = threading.Event(), threading.Event()
    with serving(dripping_in(part, over, left)) as server:
        async with connect(server.url, request_timeout=1) as send:
            bought, asked = await asyncio.gather(*(failure_of(send, c) for c in (submit(JOB), query("t-1"))))
    assert isinstance(bought, KlingSubmitUncertainError)
    assert isinstance(asked, KlingUnavailableError)
    assert left.wait(10)
    assert len(server.seen) == 2


@pytest.mark.parametrize("connect", [sync_client], indirect=True)
@DIALECTS
async def test_the_id_before_trailers_without_an_end_is_used(connect, dialect):
    def flood(handler):
        body = f"{len(BOUGHT[dialect]):x}\r\n{BOUGHT[dialect]}\r\n0\r\n".encode()
        handler.wfile.write(with_head("", "Transfer-Encoding: chunked") + body)
        while True:
            handler.wfile.write(b"X: y\r\n" * 1000)

    with serving(flood) as server:
        async with connect(server.url, request_timeout=1) as send:
            assert await send(dialect.submit(job_of(dialect))) == "t-1"


def test_nothing_is_read_after_the_deadline_even_where_the_peer_is_fast():
    written = threading.Event()

    def answer(handler):
        answering(bytes(100_000))(handler)
        written.set()

    with serving(answer) as server, timed(requests.Session()) as session:
        response = session.get(server.url, stream=True)
        assert written.wait(10)
        with Deadline(0), pytest.raises(TimeoutError):
            response.raw._fp.read()


def broken_reader(reply):
    raise AttributeError(reply)


@DIALECTS
async def test_a_bug_in_the_reader_of_an_answer_is_uncertain_for_a_submit_and_a_failed_poll_for_a_query(
    connect, dialect
):
    with serving(raw(with_head("{}", "Content-Length: 2"))) as server:
        async with connect(server.url) as send:
            calls = dialect.submit(job_of(dialect)), dialect.query("t-1")
            bought, asked = [await failure_of(send, replace(call, read=broken_reader)) for call in calls]
    assert isinstance(bought, KlingSubmitUncertainError)
    assert isinstance(asked, KlingUnavailableError)
    assert (asked.kling_task_id, asked.money) == ("t-1", Money.RUNNING)
    for error in (bought, asked):
        assert "could not read an answer of the gateway (AttributeError)" in error.what


def raw(data):
    """Return a handler's answer of exactly these bytes."""
    return lambda handler: handler.wfile.write(data)


def with_head(body, *headers):
    return "\r\n".join(["HTTP/1.1 200 OK", *headers, "", body]).encode()


@pytest.mark.parametrize(
    ("form", "header"),
    [("{1}", "Content-Length: 99"), ("{0:x}\r\n{1}\r\n", "Transfer-Encoding: chunked")],
    ids=["length too long", "chunks without an end"],
)
@DIALECTS
async def test_the_id_in_an_answer_that_is_cut_off_behind_it_is_used(connect, dialect, form, header):
    answer = with_head(form.format(len(BOUGHT[dialect]), BOUGHT[dialect]), header)
    with serving(raw(answer)) as server:
        async with connect(server.url) as send:
            assert await send(dialect.submit(job_of(dialect))) == "t-1"
            assert isinstance(await failure_of(send, dialect.query("t-1")), KlingUnavailableError)
    assert len(server.seen) == 2


@DIALECTS
async def test_an_answer_that_is_cut_off_in_the_id_shows_it_and_hides_the_key(connect, dialect):
    body = '{"key": "emulator-key-of-mine", ' + BOUGHT[dialect][1:].partition("t-1")[0] + "0123-4567"
    with serving(raw(with_head(body, "Content-Length: 99"))) as server:
        async with connect(server.url, key="emulator-key-of-mine") as send:
            error = await failure_of(send, dialect.submit(job_of(dialect)))
    assert isinstance(error, KlingSubmitUncertainError)
    assert 'id": "0123-4567' in error.what
    assert "emulator-key-of-mine" not in error.what


async def test_nothing_of_a_broken_header_or_a_query_string_is_logged(connect, caplog):
    caplog.set_level(logging.DEBUG)
    broken = ("Content-Length: 18", "Set-Cookie: what is this@=x", "what is this")
    with serving(raw(with_head('{"task_id": "t-1"}', *broken))) as server:
        async with connect(server.url, key="emulator-key-of-mine") as send:
            await asyncio.gather(send(submit(JOB)), return_exceptions=True)
            await asyncio.gather(send(query("t-1-in-the-query")), return_exceptions=True)
    said = [r.getMessage() for r in caplog.records if r.name.startswith(("urllib3", "aiohttp"))]
    assert not [line for line in said if "what is this" in line or "t-1-in-the-query" in line]


@DIALECTS
async def test_a_query_asks_not_to_be_answered_from_a_cache(gateway, connect, dialect):
    with serving(answering()) as server:
        async with connect(server.url) as send:
            await failure_of(send, dialect.query("t-1"))
    ((_, _, headers),) = server.seen
    assert (headers["Cache-Control"], headers["Pragma"]) == ("no-cache", "no-cache")


@pytest.mark.parametrize(("dialect", "reason"), [(myrouter, "INVALID_API_KEY"), (kling, "1002")])
async def test_a_wrong_key_is_told(gateway, connect, dialect, reason):
    async with connect(gateway.url, key="wrong") as send:
        for call in (dialect.submit(job_of(dialect)), dialect.query("t-1")):
            error = await failure_of(send, call)
            assert (type(error).__name__, error.reason) == ("KlingAccessError", reason)
    assert not gateway.jobs


@pytest.mark.parametrize("form", ["float", "text", "blank", "missing"])
@DIALECTS
async def test_numbers_come_in_odd_forms(gateway, connect, dialect, form):
    gateway.add_fault(f"query:numbers={form}")
    async with connect(gateway.url) as send:
        task = await send(dialect.query(await send(dialect.submit(job_of(dialect)))))
    told = [task.progress_percent, task.videos[0].video_url_ttl, *(item.amount for item in task.billing)]
    known = {myrouter: [100, 3600], kling: [None, None, 3]}[dialect]
    assert told == (known if form in ("float", "text") else [None, None])


@pytest.mark.parametrize("status", [200, 302])
@pytest.mark.parametrize("length", [True, False], ids=["told", "not told"])
async def test_an_answer_without_end_is_not_read_to_its_end(connect, length, status):
    body = b'{"task_id": "t-1", "x": "' + b"x" * (LONGEST_BODY + 1)  # never a whole object
    sent = []

    def flood(handler):
        handler.send_response(status)
        handler.send_header("Location", "/elsewhere")
        if length:
            handler.send_header("Content-Length", str(len(body) + 2**40))
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(body)
            sent.append(len(body))

    with serving(flood) as server:
        async with connect(server.url) as send:
            assert isinstance(await failure_of(send, submit(JOB)), KlingSubmitUncertainError)
    assert [method for method, *_ in server.seen] == ["POST"]
    assert sum(sent) < 40 * LONGEST_BODY


@pytest.mark.parametrize("layers", [1, 2])
async def test_a_small_answer_that_would_swell_is_not_unpacked_to_its_end(connect, layers):
    bomb = 400 * deflated(bytes(1 << 20))
    if layers == 2:
        bomb = deflated(bomb)
    sent = answering(bomb, Content_Encoding=", ".join(["deflate"] * layers))
    with serving(sent) as server:
        async with connect(server.url) as send:
            tracemalloc.start()
            try:
                assert isinstance(await failure_of(send, submit(JOB)), KlingSubmitUncertainError)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert [method for method, *_ in server.seen] == ["POST"]
    assert peak < 100 << 20


def deflated(data):
    """Compress so that what comes out can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


@DIALECTS
async def test_a_long_answer_is_read_whole(connect, dialect):
    body = json.dumps(json.loads(BOUGHT[dialect]) | {"x": "x" * (LONGEST_BODY - 100)}).encode()
    with serving(answering(body)) as server:
        async with connect(server.url) as send:
            assert await send(dialect.submit(job_of(dialect))) == "t-1"


async def test_a_port_where_nobody_listens_is_safe(connect):
    with serving(answering()) as server:
        url = server.url
    async with connect(url) as send:
        paid, free = await failure_of(send, submit(JOB)), await failure_of(send, query("t-1"))
    assert isinstance(paid, KlingUnavailableError)
    assert paid.money is Money.UNTOUCHED
    assert "refused" in str(paid) or "Connect call failed" in str(paid)
    assert free.money is Money.RUNNING


async def test_a_name_that_nobody_knows_is_safe(connect):
    async with connect("http://kling.invalid") as send:
        error = await failure_of(send, submit(JOB))
    assert isinstance(error, KlingUnavailableError)
    assert error.money is Money.UNTOUCHED


async def test_a_certificate_that_nobody_signed_is_safe_and_the_key_stays_home(connect, certificate):
    with serving(answering(), certificate) as server:
        async with connect(server.url) as send:
            error = await failure_of(send, submit(JOB))
    assert isinstance(error, KlingUnavailableError)
    assert error.money is Money.UNTOUCHED
    assert "self-signed" in str(error)
    assert not server.seen


async def test_plain_words_where_tls_should_be_may_come_after_the_request(connect):
    with serving(answering()) as server:
        async with connect(server.url.replace("http:", "https:")) as send:
            error = await failure_of(send, submit(JOB))
    assert isinstance(error, (KlingSubmitUncertainError, KlingUnavailableError))
    assert (error.money is Money.MAYBE) == isinstance(error, KlingSubmitUncertainError)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("by", ["verify", "verify_ssl", "environment", "not at all"])
async def test_a_certificate_of_ones_own_is_trusted_where_told_so(connect, certificate, monkeypatch, by):
    extra = {by: certificate} if by.startswith("verify") else {"verify": False} if by == "not at all" else {}
    if by == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate)
    else:  # what the connection says counts before the environment
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle")
    with serving(answering(b'{"task_id": "t-1"}'), certificate) as server:
        async with connect(server.url, **extra) as send:
            assert await send(submit(JOB)) == "t-1"


async def use_once(client):
    async with client as send:
        await send(submit(JOB))


async def test_a_bundle_that_is_not_there_is_told(connect):
    with serving(answering()) as server:
        client = connect(server.url, verify="/no/such")
        with pytest.raises(KlingAccessError, match="the extra's 'verify' names '/no/such'"):
            await use_once(client)
    assert not server.seen


async def test_headers_of_the_connection_go_to_the_gateway_and_our_own_fields_do_not(connect):
    own = {
        "default_model": "kling-o1-t2v",
        "allow_private_hosts": True,
        "request_timeout": 20,
        "trust_env": True,
    }
    with serving(answering(b'{"task_id": "t-1"}')) as server:
        async with connect(
            server.url, **own, **{"X-Team": "video", "x-number": 7, "user-agent": "me"}
        ) as send:
            await send(submit(JOB))
    ((_, path, headers),) = server.seen
    lower = [name.lower() for name in headers]
    assert path == "/v3/async/kling-v3.0-pro-t2v"
    assert (headers["X-Team"], headers["X-Number"], headers["User-Agent"]) == ("video", "7", "me")
    assert headers["Authorization"] == "Bearer emulator-key"
    assert headers["Content-Type"].startswith("application/json")
    assert len(set(lower)) == len(lower)
    assert not set(lower) & {name.replace("_", "-") for name in own} | set(lower) & set(own)


async def test_a_path_prefix_stands_before_each_path(connect):
    with serving(answering(b'{"task_id": "t-1"}')) as server:
        async with connect(server.url + "/kling/") as send:
            await send(submit(JOB))
            await failure_of(send, query("t 1&x=2"))
    paid, free = (path for _, path, _ in server.seen)
    assert paid == "/kling/v3/async/kling-v3.0-pro-t2v"
    assert free.startswith("/kling/v3/async/task-result?task_id=t")
    assert "&x=2" not in free


async def test_a_netrc_never_replaces_the_key(connect, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(answering(b'{"task_id": "t-1"}')) as server:
        async with connect(server.url) as send:
            await send(submit(JOB))
    assert server.seen[0][2]["Authorization"] == "Bearer emulator-key"


ASKED = ("POST", "http://gateway.example/v3/async/kling-v3.0-pro-t2v")


async def test_a_proxy_of_the_connection_is_used_before_that_of_the_environment(connect, monkeypatch):
    with serving(answering(b'{"task_id": "t-1"}')) as proxy, serving(answering()) as other:
        monkeypatch.setenv("HTTP_PROXY", other.url)
        monkeypatch.setenv("http_proxy", other.url)
        async with connect("http://gateway.example", proxies={"http": proxy.url}) as send:
            assert await send(submit(JOB)) == "t-1"
    assert [seen[:2] for seen in proxy.seen] == [ASKED]
    assert not other.seen


async def test_a_proxy_of_the_environment_is_used(connect, monkeypatch):
    with serving(answering(b'{"task_id": "t-1"}')) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with connect("http://gateway.example") as send:
            assert await send(submit(JOB)) == "t-1"
    assert [seen[:2] for seen in proxy.seen] == [ASKED]


async def test_a_proxy_of_the_environment_is_not_used_where_the_connection_says_so(
    gateway, connect, monkeypatch
):
    with serving(answering()) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with connect(gateway.url, trust_env=False) as send:
            await send(submit(JOB))
    assert not proxy.seen
    assert len(gateway.jobs) == 1


@pytest.mark.parametrize("how", ["connection", "environment"])
async def test_a_proxy_that_refuses_a_tunnel_is_safe(connect, monkeypatch, how):
    with serving(answering(status=407)) as proxy:
        extra = {"X-Team": "s3cret"}
        if how == "connection":
            extra["proxies"] = {"https": proxy.url}
        monkeypatch.setenv("https_proxy", proxy.url if how == "environment" else "http://127.0.0.1:9")
        async with connect("https://gateway.example", **extra) as send:
            error = await failure_of(send, submit(JOB))
    assert isinstance(error, KlingUnavailableError)
    assert error.money is Money.UNTOUCHED
    assert proxy.seen[0][:2] == ("CONNECT", "gateway.example:443")
    told = str(proxy.seen[0][2])
    assert "emulator-key" not in told
    assert "s3cret" not in told


async def test_an_address_of_a_proxy_needs_no_scheme_and_may_have_blanks(connect):
    with serving(answering(b'{"task_id": "t-1"}')) as proxy:
        for address in (proxy.host, f" {proxy.url} ", f"me:s%40@{proxy.host}"):
            async with connect("http://gateway.example", proxies={"http": address}) as send:
                assert await send(submit(JOB)) == "t-1"
    assert [seen[:2] for seen in proxy.seen] == 3 * [ASKED]
    # The key goes through a proxy in a request over http, but not to the proxy itself.
    assert [seen[2].get("Proxy-Authorization") for seen in proxy.seen] == [None, None, "Basic bWU6c0A="]
    assert {seen[2]["Authorization"] for seen in proxy.seen} == {"Bearer emulator-key"}


async def test_a_proxy_that_is_not_there_is_safe_and_its_password_is_not_told(connect):
    with serving(answering()) as proxy:
        address = f"http://me:s3cret@{proxy.host}"
    async with connect("http://gateway.example", proxies={"http": address}) as send:
        error = await failure_of(send, submit(JOB))
    assert isinstance(error, KlingUnavailableError)
    assert error.money is Money.UNTOUCHED
    assert "s3cret" not in str(error)


def closing(method, connection, read):
    """End the connection."""


def resetting(method, connection, read):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())


def closing_after_a_first_answer(method, connection, read):
    if method == "GET":
        connection.sendall(with_head("{}", "Content-Length: 2"))
        read()


def tunnelling(how, certificate, seen):
    """Return a handler's answer: *how*, in a TLS tunnel where the client asks for one."""

    def read(stream):
        method = stream.readline().partition(b" ")[0].decode()
        stream.read(int(http.client.parse_headers(stream).get("Content-Length", 0)))
        seen.append(method)
        return method

    def answer(handler):
        if handler.command != "CONNECT":
            seen.append(handler.command)
            how(handler.command, handler.connection, lambda: read(handler.rfile))
            return
        handler.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with context.wrap_socket(handler.connection, server_side=True) as tunnel:
            stream = tunnel.makefile("rb")
            how(read(stream), tunnel, lambda: read(stream))

    return answer


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("url", [None, "http://gateway.example", "https://gateway.example"])
@pytest.mark.parametrize("how", [closing, resetting, closing_after_a_first_answer])
async def test_a_submit_that_the_peer_read_is_uncertain_with_and_without_a_proxy(
    connect, certificate, how, url
):
    seen = []
    with serving(tunnelling(how, certificate, seen)) as server:
        extra = {"proxies": {"all": server.url}, "verify": False} if url else {}
        async with connect(url or server.url, **extra) as send:
            if how is closing_after_a_first_answer:
                await failure_of(send, query("t-1"))
            error = await failure_of(send, submit(JOB))
    assert isinstance(error, KlingSubmitUncertainError)
    assert seen.count("POST") == 1
