"""The hook: from an Airflow connection to the gateway, and errors that Airflow understands."""

import json
import socket
import threading
from traceback import format_exception

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
)
from airflow.sdk import Connection
from odd_servers import answering, serving

from airflow_provider_kling import errors
from airflow_provider_kling.emulator import Emulator
from airflow_provider_kling.errors import KlingAccessError, KlingError, KlingUnavailableError, Money
from airflow_provider_kling.gateways import kling
from airflow_provider_kling.gateways.base import Outcome
from airflow_provider_kling.gateways.myrouter import query
from airflow_provider_kling.hooks import KlingHook, for_airflow
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.polling import client_pool
from airflow_provider_kling.polling.client_pool import ClientPool
from airflow_provider_kling.transport.settings import Settings

JOB = VideoJob("kling-v3.0-pro-t2v", {"prompt": "a cat"})
MODELS = {"myrouter": JOB.model, "kling": "text-to-video/kling-3.0"}
DIALECTS = pytest.mark.parametrize("dialect", MODELS)
KINDS = KlingError.__subclasses__()


@pytest.fixture
def gateway():
    with Emulator(render=False, queue_seconds=0, render_seconds=0) as gateway:
        yield gateway


@pytest.fixture
def connect(monkeypatch):
    """Give a hook on a connection that stands in the environment, as a URI or as JSON."""

    def connect(connection):
        text = connection if isinstance(connection, str) else json.dumps({"conn_type": "kling", **connection})
        monkeypatch.setenv("AIRFLOW_CONN_KLING_TEST", text)
        return KlingHook("kling_test")

    return connect


def at(url, key="emulator-key", **extra):
    return {"host": url, "password": key, "extra": {"request_timeout": 5, **extra}}


@pytest.mark.parametrize(
    ("uri", "url", "key"),
    [
        ("kling://:sk-1@", "https://api.myrouter.ai", "sk-1"),
        ("kling://:sk-1@api.novita.ai", "https://api.novita.ai", "sk-1"),
        ("kling://:sk-1@api.novita.ai:8443", "https://api.novita.ai:8443", "sk-1"),
        ("kling://:sk-1@127.0.0.1:8080/http", "http://127.0.0.1:8080", "sk-1"),
        ("kling://:sk-1@proxy.example/kling", "https://proxy.example/kling", "sk-1"),
        ("kling://:sk-1@http%3A%2F%2F127.0.0.1%3A8080%2Fkling", "http://127.0.0.1:8080/kling", "sk-1"),
        ("kling://:Bearer%20sk-1@api.novita.ai", "https://api.novita.ai", "sk-1"),
        ("kling://:s%2Fk%40%3A1@api.novita.ai", "https://api.novita.ai", "s/k@:1"),
    ],
)
def test_a_connection_may_be_a_uri(connect, uri, url, key):
    for settings in (connect(uri).settings, Settings.from_connection(Connection.from_uri(uri, conn_id="c"))):
        assert (settings.base_url, settings.api_key) == (url, key)


def test_the_extra_of_a_uri_is_read(connect):
    uri = "kling://:sk-1@api.novita.ai?request_timeout=30&default_model=kling-o1-t2v&allow_private_hosts=true"
    settings = connect(uri).settings
    read = (settings.request_timeout, settings.default_model, settings.allow_private_hosts, settings.headers)
    assert read == (30, "kling-o1-t2v", True, {})


def test_a_connection_may_be_json(connect):
    extra = {"proxies": {"https": "http://p:1"}, "X-Team": "video", "default_model": None}
    connection = {"host": "api.novita.ai", "schema": "https", "port": 443, "password": "sk-1", "extra": extra}
    of_json = Connection.from_json(json.dumps({"conn_type": "kling", **connection}), conn_id="c")
    for settings in (connect(connection).settings, Settings.from_connection(of_json)):
        assert settings.base_url == "https://api.novita.ai:443"
        assert settings.proxies == {"https": "http://p:1"}
        assert settings.headers == {"X-Team": "video"}


@pytest.mark.parametrize(
    ("connection", "field"),
    [
        ("kling://api.novita.ai", "the API key is missing"),
        ({"host": "api.novita.ai"}, "the API key is missing"),
        ({"host": "ftp://x", "password": "k"}, "host='ftp://x'"),
        ({"password": "k", "extra": {"request_timeout": "soon"}}, "request_timeout='soon'"),
        ({"password": "k", "extra": {"proxies": "http://p"}}, "'proxies'"),
    ],
)
def test_a_wrong_connection_fails_for_good_and_names_the_field(connect, connection, field):
    for call, money in (
        (lambda hook: hook.get_task("t-1"), Money.RUNNING),
        (lambda hook: hook.submit(JOB), Money.UNTOUCHED),
        (lambda hook: hook.settings, Money.UNTOUCHED),
    ):
        with pytest.raises(AirflowFailException) as caught:
            call(connect(connection))
        assert isinstance(caught.value, KlingAccessError)
        assert caught.value.money is money
        assert "Connection 'kling_test'" in str(caught.value)
        assert field in str(caught.value)


def test_a_connection_that_is_not_there_is_named_and_may_be_there_at_the_next_try():
    with pytest.raises(
        KlingUnavailableError, match=r"kling_conn_id='nowhere': .* AIRFLOW_CONN_NOWHERE"
    ) as caught:
        KlingHook("nowhere").submit(JOB)
    assert not isinstance(caught.value, AirflowFailException)
    assert "temporary" not in str(caught.value)


async def test_an_error_of_a_secrets_backend_may_pass_and_none_of_its_words_are_told(monkeypatch):
    def broken(*_):
        raise RuntimeError("token s3cret")

    async def broken_async(*_):
        broken()

    monkeypatch.setattr(KlingHook, "get_connection", broken)
    monkeypatch.setattr(client_pool, "get_async_connection", broken_async)
    errors = []
    for call in (KlingHook("kling_test").get_task, KlingHook("kling_test").submit):
        with pytest.raises(KlingUnavailableError, match="RuntimeError") as caught:
            call(JOB if errors else "t-1")
        assert isinstance(caught.value, AirflowException)
        errors.append(caught.value)
    async with ClientPool.client("kling_test") as client:
        with pytest.raises(KlingUnavailableError, match="RuntimeError") as caught:
            await client.send(query("t-1"))
        errors.append(caught.value)
    assert [error.money for error in errors] == [Money.RUNNING, Money.UNTOUCHED, Money.RUNNING]
    assert not any("s3cret" in "".join(format_exception(error)) for error in errors)


@DIALECTS
def test_a_job_is_submitted_asked_for_and_its_video_fetched(gateway, connect, dialect):
    hook = connect(at(gateway.url, allow_private_hosts=True, gateway=dialect))
    kling_task_id = hook.submit(VideoJob(MODELS[dialect], JOB.inputs))
    task = hook.get_task(kling_task_id)
    assert task.outcome is Outcome.SUCCEEDED
    with hook.open_video(task.videos[0].video_url) as stream:
        assert b"".join(stream.chunks)[4:8] == b"ftyp"
    assert not gateway.key_reached_storage
    assert gateway.times_paid(prompt="a cat") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_is_of_its_own_class_and_of_the_right_one_of_airflows(kind):
    error = kind("It broke.", kling_task_id="t-1", retry_after=2.0, http_status=500)
    translated = for_airflow(error)
    passing = kind in (errors.KlingUnavailableError, errors.KlingDownloadError)
    timeout = kind is errors.KlingWaitTimeoutError
    assert isinstance(translated, kind)
    assert isinstance(translated, AirflowException)
    assert isinstance(translated, AirflowSensorTimeout) == timeout
    assert isinstance(translated, AirflowFailException) == (not passing and not timeout)
    assert (str(translated), translated.facts()) == (str(error), error.facts())
    assert type(translated).__name__ == kind.__name__
    assert for_airflow(translated) is translated
    assert translated.to_dict() == error.to_dict()


@DIALECTS
def test_a_good_key_is_told_and_costs_nothing(gateway, connect, dialect):
    assert connect(at(gateway.url, gateway=dialect)).test_connection() == (
        True,
        f"The gateway at {gateway.url} accepts the API key.",
    )
    assert not gateway.jobs


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("", {"myrouter": "INVALID_API_KEY", "kling": "the host is 'singapore' or 'beijing'"}),
        ("query:error=MISSING_API_KEY", {"myrouter": "MISSING_API_KEY", "kling": "1001"}),
        ("query:error=FAILED_TO_AUTH", {"myrouter": "FAILED_TO_AUTH", "kling": "1000"}),
        ("query:status=401", dict.fromkeys(MODELS, "HTTP 401")),
        ("query:html=403", dict.fromkeys(MODELS, "HTTP 403")),
    ],
)
@DIALECTS
def test_a_bad_key_is_told(gateway, connect, dialect, fault, words):
    if fault:
        gateway.add_fault(fault)
    key = "emulator-key" if fault else "sk-wrong"
    good, told = connect(at(gateway.url, key=key, gateway=dialect)).test_connection()
    assert not good
    assert words[dialect] in told
    assert "Check the API key" in told
    assert "sk-wrong" not in told


@pytest.mark.parametrize(
    "fault", ["status=500", "html=502", "rate-limit", "redirect", "error=INVALID_REQUEST_BODY"]
)
@DIALECTS
def test_an_answer_that_says_nothing_of_the_key_is_inconclusive(gateway, connect, dialect, fault):
    gateway.add_fault(f"query:{fault}")
    good, told = connect(at(gateway.url, gateway=dialect)).test_connection()
    assert not good
    assert told.startswith(("Inconclusive. The gateway answered", "Inconclusive. Kling answered"))


def test_a_key_that_was_rotated_is_looked_up_once_more_but_a_submit_is_not_sent_twice(gateway, connect):
    new = at(gateway.url, gateway="kling")
    hooks = [connect({**new, "password": "of-yesterday"}) for _ in range(3)]
    assert all(hook.settings.api_key == "of-yesterday" for hook in hooks)
    connect(new)
    assert hooks[0].send(kling.find("ours-1")) is None
    with pytest.raises(errors.KlingTaskNotFoundError):
        hooks[1].get_task("t-1")
    with pytest.raises(KlingAccessError):
        hooks[2].submit(VideoJob(MODELS["kling"], JOB.inputs))
    assert [request.method for request in gateway.requests] == ["GET", "GET"] * 2 + ["POST"]


def test_a_host_whose_name_is_looked_up_for_too_long_is_given_up_before_anything_is_sent(
    connect, monkeypatch
):
    wanted, over = threading.Event(), threading.Event()

    def look_up(*_, **__):
        wanted.wait(20)
        over.set()
        raise OSError

    hook = connect(at("http://gateway.example", request_timeout=1))
    assert hook.settings
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(KlingUnavailableError) as caught:
        hook.submit(JOB)
    assert caught.value.money is Money.UNTOUCHED
    assert not over.is_set()
    wanted.set()
    assert over.wait(20)


def test_a_gateway_that_cannot_be_reached_is_told(connect):
    with serving(answering()) as server:
        url = server.url
    good, told = connect(at(url)).test_connection()
    assert not good
    assert told.startswith(f"Unreachable: {url}. No answer from the gateway")
    assert "refused" in told


def test_a_wrong_field_is_told_by_the_test_of_a_connection_too(connect):
    good, told = connect({"host": "ftp://x", "password": "k"}).test_connection()
    assert not good
    assert "host='ftp://x'" in told


async def test_a_wrong_connection_in_mid_wait_says_that_the_job_goes_on(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_BAD", '{"conn_type": "kling", "host": "ftp://x", "password": "k"}')
    async with ClientPool.client("bad") as client:
        with pytest.raises(KlingAccessError) as caught:
            await client.send(query("t-1"))
    assert (caught.value.money, caught.value.kling_task_id) == (Money.RUNNING, "t-1")
