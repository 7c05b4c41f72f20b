"""Fakes of the parts of Airflow that our operators use. Our own code is never faked."""

import asyncio
import itertools
import json
import logging
import re
import struct
import sys
import time
import uuid
import zlib
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import XCom
from airflow.sdk.io import attach
from airflow.sdk.io.store import _STORE_CACHE
from asgiref.sync import async_to_sync
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.emulator import Emulator
from airflow_provider_kling.polling.policy import PollResult
from airflow_provider_kling.transport.settings import Settings

KEY = "sk-a-key-that-nobody-may-read"


class Clock:
    """A clock that advances only when code sleeps, so that no test waits."""

    def __init__(self, monkeypatch):
        self._now, self._give_way = time.time(), asyncio.sleep
        self.slept = []
        self.watch = lambda: None  # called before each sleep
        monkeypatch.setattr(time, "time", self.time)
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(asyncio, "sleep", self.asleep)

    def time(self):
        return self._now

    def sleep(self, seconds):
        assert seconds >= 0
        self.watch()
        self.slept.append(seconds)
        self._now += seconds

    async def asleep(self, seconds, result=None):
        if seconds > 0:
            self.sleep(seconds)
        return await self._give_way(0, result)


class Store:
    """Airflow's task state store: JSON only, never None. It can raise before or after its n-th write."""

    def __init__(self):
        self.values, self.writes = {}, 0
        self.before, self.after = {}, {}  # number of the write -> exception

    def get(self, key, default=None):
        return self.values.get(key, default)

    def set(self, key, value):
        assert value is not None
        self.writes += 1
        self._raise(self.before)
        self.values[key] = json.loads(json.dumps(value))
        self._raise(self.after)

    def delete(self, key):
        self.values.pop(key, None)

    def _raise(self, when):
        if error := when.pop(self.writes, None):
            raise error


class TI:
    """A running task instance; its XComs are JSON, as Airflow's are."""

    log_url = "http://airflow.test/dags/d/runs/r/tasks/t?try_number=1"
    dag_id, run_id, try_number = "d", "r", 1

    def __init__(self, *, max_tries=3, map_index=-1, first_try_at=None, task_id="t", run=None):
        self.id, self.max_tries, self.map_index = uuid.uuid4(), max_tries, map_index
        self.first_try_at, self.task_id = first_try_at, task_id
        self.xcoms, self.upstream, self.states = {}, [], {}
        self.broken = {}  # key of an XCom -> what its push raises
        self.run = {} if run is None else run  # the XComs of all task instances of a run
        for key in [key for key in self.run if key[:2] == (task_id, map_index)]:
            del self.run[key]  # as a new try does

    def xcom_push(self, key, value):
        if error := self.broken.get(key):
            raise error
        self.xcoms[key] = self.run[self.task_id, self.map_index, key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids, key, map_indexes=None):
        """Return the XComs of the run's tasks and of ``upstream``: (task id, map index, key, value)."""
        pushed = [*self.upstream, *((*key, value) for key, value in list(self.run.items()))]
        return [
            value
            for task_id, map_index, name, value in pushed
            if task_id in task_ids and name == key and map_indexes in (None, map_index)
        ]

    def get_task_states(self, *, dag_id, task_ids, run_ids):
        """Return the states of the run's task instances that a test has put into ``states``."""
        found = {
            task_id if at < 0 else f"{task_id}_{at}": state
            for (task_id, at), state in self.states.items()
            if task_id in task_ids
        }
        return {run_ids[0]: found} if found else {}

    def get_first_reschedule_date(self, context):
        return self.first_try_at


def context_of(ti=None, store=None):
    """Return the context of a task. Without a store it is that of an Airflow older than 3.3."""
    context = {"ti": ti or TI()}
    return context if store is None else {**context, "task_state_store": store}


def runtime_error(words="the API server is away"):
    """Return an error of Airflow's task SDK."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    return AirflowRuntimeError(ErrorResponse(error=ErrorType.GENERIC_ERROR, detail={"message": words}))


def settings_of(host="https://gateway.invalid", key=KEY, **extra):
    """Return the settings in a connection."""
    fields = {"conn_id": "c", "host": host, "schema": "", "port": None, "password": key}
    return Settings.from_connection(SimpleNamespace(**fields, extra=json.dumps(extra)))


def stored_and_read(value):
    """Return a value as Airflow reads it back from its database."""
    try:
        from airflow.sdk.serde import deserialize, serialize
    except ImportError:  # its place before Airflow 3.2
        from airflow.serialization.serde import deserialize, serialize

    return deserialize(json.loads(json.dumps(serialize(value))))


def push_from_triggers(monkeypatch, push):
    """Let triggers push their XComs with *push*, an asynchronous function. Airflow 3.1 has none for that."""
    has_async = hasattr(XCom, "aset")
    pushed = push if has_async else staticmethod(async_to_sync(push))
    monkeypatch.setattr(XCom, "aset" if has_async else "set", pushed)


def connect(gateway, monkeypatch, /, **extra):
    """Set the connection ``kling_default`` to a gateway, in the dialect that the test speaks."""
    spoken = getattr(gateway, "spoken", "myrouter")
    connection = gateway.connection_json(**{"gateway": spoken, "request_timeout": 5, **extra})
    monkeypatch.setenv("AIRFLOW_CONN_KLING_DEFAULT", connection)


@contextmanager
def running_gateway(monkeypatch, spoken="myrouter", **settings):
    """Run a gateway whose jobs end at once by default, and connect to it in a dialect."""
    known = {"render": False, "queue_seconds": 0.0, "render_seconds": 0.0, "api_key": KEY, "clock": time.time}
    with Emulator(**{**known, **settings}) as gateway:
        gateway.spoken = spoken
        connect(gateway, monkeypatch)
        yield gateway


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture(params=["myrouter", "kling"])
def gateway(clock, monkeypatch, request):
    """A gateway with the test's clock. Each test runs once in each dialect."""
    with running_gateway(monkeypatch, request.param, clock=clock.time) as gateway:
        yield gateway


@pytest.fixture
def kling(clock, monkeypatch):
    """The same in the dialect of Kling's own API, which takes client ids."""
    with running_gateway(monkeypatch, "kling", clock=clock.time) as gateway:
        yield gateway


@pytest.fixture(params=["myrouter", "kling"])
def running(monkeypatch, request):
    """Runs a gateway with settings of the test, by the real clock. Each test runs once in each dialect."""
    return partial(running_gateway, monkeypatch, request.param)


@pytest.fixture
def decoders():
    """The packages of the extra ``media``."""


@pytest.fixture(autouse=True)
def no_decoders(request, monkeypatch):
    """Take the extra ``media`` away: a process that decodes takes most of the time of a short test."""
    if not {"decoders", "emulator"} & {*request.fixturenames, request.path.parent.name}:
        for module in ("av", "PIL"):
            monkeypatch.setitem(sys.modules, module, None)


class Logged:
    """The log lines that a user sees: those of Airflow's logger and of Python's, from INFO on."""

    def __init__(self, capsys, caplog):
        self._capsys, self._caplog, self._seen = capsys, caplog, ""

    def text(self):
        self._seen += "".join(self._capsys.readouterr())
        return "\n".join([self._seen, *(record.getMessage() for record in self._caplog.records)])

    def clear(self):
        """Forget the lines that there are."""
        self.text()
        self._seen = ""
        self._caplog.clear()

    def errors(self):
        """The lines of level ERROR as one text: a long sentence is several lines."""
        return " ".join(re.findall(r"\[error\s*\] (.*?)\s+\[airflow", self.text()))


@pytest.fixture
def logged(capsys, caplog):
    caplog.set_level(logging.INFO)
    return Logged(capsys, caplog)


@pytest.fixture(autouse=True)
def own_storages():
    """Let Airflow forget the storages that a test has attached: an unusable one would stay for the others."""
    before = dict(_STORE_CACHE)
    yield
    _STORE_CACHE.clear()
    _STORE_CACHE.update(before)


@pytest.fixture
def attached():
    """Attach a storage to Airflow as a connection of its own, and return a folder on it."""

    def attach_it(storage):
        connection = f"c{uuid.uuid4().hex}"
        attach("memory", conn_id=connection, fs=storage)
        return f"memory://{connection}@bucket/{connection}/"

    return attach_it


class Signing(MemoryFileSystem):
    """A storage that signs, each time anew."""

    cachable, count = False, itertools.count()

    def __init__(self):
        super().__init__()
        self.store, self.expirations = {}, []

    def sign(self, path, expiration=100, **_):
        self.expirations.append(expiration)
        return f"https://storage.example{path}?Unheard-Of-Signature=secret{next(self.count)}"


def submits(gateway):
    """Return how many submits reached the gateway."""
    return sum(request.method == "POST" for request in gateway.requests)


def png(width=320, height=320, *, noise=0):
    """Return the bytes of a PNG of one colour, with *noise* additional bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    parts = [chunk(b"IHDR", header), chunk(b"noIs", bytes(range(256)) * (noise // 256)), chunk(b"IDAT", rows)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


class OnePoll:
    """A poll policy that ends after the first answer and stores it."""

    def __init__(self, kling_task_id, give_up_at=float("inf")):
        self.kling_task_id, self.give_up_at, self.answer = kling_task_id, give_up_at, None

    def update(self, answer, now):
        self.answer = answer
        return PollResult(task=answer)


async def poll(client, kling_task_id):
    """Poll once for a job with a pooled client, and return the task or raise the error."""
    policy = OnePoll(kling_task_id)
    async with client.wait(policy, 0.0) as results:
        async for _ in results:
            pass
    if isinstance(policy.answer, Exception):
        raise policy.answer
    return policy.answer
