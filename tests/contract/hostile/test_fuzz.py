"""Answers that are almost right: both clients make the same of them, and no operator breaks a promise."""

import asyncio
import gc
import json
import logging
import traceback

import pytest
from airflow_fakes import Store, settings_of
from hostile_gateway import (
    CLOSE,
    DIALECTS,
    GATEWAY,
    HEADER,
    JOB,
    KEY,
    KLING_JOB,
    KLING_OTHER,
    OTHER,
    SIGNATURE,
    VIDEO,
    Script,
    chunk,
    chunked,
    http,
    kling_task,
    kling_tasks,
    task,
)
from hostile_runs import QUERY_WAYS, SECRETS, STORAGE_WAYS, SUBMIT_WAYS, Run, broken_promises, is_bad, leak
from hostile_spellings import SPELLINGS, TEXTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_kling.errors import KlingError, KlingSubmitUncertainError, KlingUnavailableError, Money
from airflow_provider_kling.gateways import kling, myrouter
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.transport.async_client import AsyncKlingClient
from airflow_provider_kling.transport.sessions import gateway_session
from airflow_provider_kling.transport.sync_client import KlingClient

REQUEST = VideoJob("text-to-video/kling-3.0", {"prompt": "a"})
CALLS = {
    "query": lambda: myrouter.query(JOB),
    "submit": lambda: myrouter.submit(REQUEST),
    "query of Kling": lambda: kling.query(KLING_JOB),
    "submit to Kling": lambda: kling.submit(REQUEST, "of-ours"),
}
ECHO = f"E42 {KEY} {HEADER[1]} https://s.example/x?X-Amz-Signature={SIGNATURE}"
BODIES = [
    task(link=GATEWAY.link()),
    task("TASK_STATUS_PROCESSING", progress_percent=50, eta=12),
    task("TASK_STATUS_FAILED", reason=ECHO),
    task(link=GATEWAY.link("other"), kling_task_id=OTHER),
    {"task_id": JOB},
    {"code": 403, "reason": "INVALID_API_KEY", "message": ECHO, "metadata": {}},
    {"error": {"code": 500, "reason": "CREATE_TASK_FAILED", "message": ECHO}},
    {"code": 404, "reason": "TASK_NOT_FOUND", "message": "no such task"},
    kling_tasks(kling_task(link=GATEWAY.link())),
    kling_tasks(kling_task("processing")),
    kling_tasks(kling_task("failed", message=ECHO)),
    kling_tasks(kling_task(kling_task_id=KLING_OTHER, link=GATEWAY.link("other"))),
    kling_tasks(),
    {"code": 0, "message": "SUCCEED", "request_id": "r", "data": kling_task("submitted")},
    *(
        {"code": code, "message": ECHO, "request_id": KEY}
        for code in (1002, 1102, 1201, 1302, 1303, 5000, 1305)
    ),
]
STATUSES = [200, 200, 200, 201, 202, 203, 206, 299, 301, 302, 307, 400, 401, 403, 404, 407, 408, 409, 425]
STATUSES += [429, 451, 500, 502, 503, 504, 520, 599]
HEADERS = [
    "Content-Type: text/html", "Content-Type: application/json; charset=utf-16", "Content-Encoding: gzip",
    "Content-Encoding: deflate", "Content-Encoding: br", "Content-Encoding: identity, gzip", "Retry-After: 7",
    "Retry-After: -1", "Retry-After: never", f"Location: https://portal.example/{KEY}", "Age: 99", "Vary: *",
    "Set-Cookie: a=b; Domain=x", f"Set-Cookie: {KEY}", "Connection: upgrade", "Trailer: X", "Via: 1.1 x",
    f"Server: {KEY}", "Date: nonsense", "Content-Range: bytes 0-1/2", "WWW-Authenticate: Basic realm=x",
    "Link: <x>; rel=next", "Content-Length: 5", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [None, True, False, "", " ", [], {}, [[]], [None], -1, 1.5, 10**30, JOB, OTHER, KEY, HEADER[1]]
    ),
    st.sampled_from([*TEXTS.values(), *(spell(KEY) for spell in SPELLINGS.values())]),
    st.sampled_from(["TASK_STATUS_SUCCEED", "succeed", "FAILED", "CANCELED", "NaN", "1e999", GATEWAY.link()]),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
)
PIECES = [
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\0",
        b"\xff",
        b":",
        b" ",
        b'"',
        b"{",
        b"}",
        b"\\u0000",
        b"\\ud800",
        b"-1",
    ),
    *(
        b"0\r\n\r\n",
        b"ffffffff\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 103 Hi\r\n\r\n",
        b"Content-Length: 3\r\n",
    ),
    *(b"\x1b[31m", b"X: " + b"y" * 9000, KEY.encode(), b"\xef\xbb\xbf"),
]


@st.composite
def changed(draw, value):
    """Change one part of a JSON value: put another in its place, take it away, or wrap it."""
    at = draw(st.sampled_from(list(paths_of(value))))
    if not at:
        return draw(VALUES)
    copy = json.loads(json.dumps(value))
    parent = copy
    for step in at[:-1]:
        parent = parent[step]
    action = draw(st.sampled_from(["replace", "replace", "delete", "rename", "wrap", "add"]))
    if action == "delete":
        del parent[at[-1]]
    elif action == "wrap":
        parent[at[-1]] = draw(st.sampled_from([[parent[at[-1]]], {"value": parent[at[-1]]}]))
    elif action == "add" and isinstance(parent, dict):
        parent[
            draw(st.sampled_from(["task", "videos", "reason", "error", "data", "task_id", "status", "x"]))
        ] = draw(VALUES)
    elif action == "rename" and isinstance(parent, dict):
        parent[str(at[-1]).upper()] = parent.pop(at[-1])
    else:
        parent[at[-1]] = draw(VALUES)
    return copy


def paths_of(value, at=()):
    """Yield where the parts of a JSON value stand."""
    yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from paths_of(part, (*at, key))


@st.composite
def readable(draw):
    """Return an HTTP answer that is right as HTTP, whatever its body is."""
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        body = draw(changed(body))
    text = json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        text = draw(broken(text))
    plain = [
        line
        for line in HEADERS
        if not line.startswith(("Content-Encoding", "Transfer", "Content-Length", "Conn"))
    ]
    headers = draw(st.lists(st.sampled_from(plain), max_size=3))
    if text and draw(st.integers(0, 5)) == 0:  # a chunk of nothing is the last one
        return chunked(chunk(text), head=headers)
    return http(text, draw(st.sampled_from(STATUSES)), *headers)


@st.composite
def broken(draw, data):
    """Change some bytes of an answer."""
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.sampled_from([0, 0, 1, 1, 2, 9, 60]))
        data = data[:at] + draw(st.sampled_from([b"", *PIECES])) + data[at + length :]
    return data


@st.composite
def unreadable(draw):
    """Return an HTTP answer that was right once."""
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=3))
    body = json.dumps(draw(st.sampled_from(BODIES))).encode()
    return draw(broken(http(body, draw(st.sampled_from(STATUSES)), *headers)))


def whole_secrets(answer):
    """Return the secrets in an answer; one that lost a byte is no secret any more."""
    spellings = {secret: [spell(secret) for spell in SPELLINGS.values()] for secret in (KEY, HEADER[1])}
    spellings[SIGNATURE] = [f"Signature={SIGNATURE}"]
    spelt = {
        secret: [*texts, *(json.dumps(text)[1:-1] for text in texts)] for secret, texts in spellings.items()
    }
    return [secret for secret, texts in spelt.items() if any(text.encode() in answer for text in texts)]


def recognizable_secrets(answer):
    """Return the secrets that an operator must not tell: not a signature that is torn from its name."""
    whole = answer.count(f"Signature={SIGNATURE}".encode())
    torn = any(answer.count(part.encode()) > whole for part in (SIGNATURE[:12], SIGNATURE[-12:]))
    return (KEY, HEADER[1]) if torn else SECRETS


class Outcome:
    """What a client made of an answer."""

    def __init__(self, value, logged):
        self.value, self.logged = value, logged
        self.error = value if isinstance(value, BaseException) else None
        self.texts = [logged, "" if self.error else repr(value).replace(SIGNATURE, "")]
        if self.error:
            self.texts.append("".join(traceback.format_exception(value)) + json.dumps(value.to_dict()))

    @property
    def answered(self):
        """Whether the HTTP library took it for an answer."""
        return self.error is None or self.error.http_status is not None

    @property
    def seen(self):
        """What both clients must agree about; each HTTP library has its own words for a broken answer."""
        error = self.error
        return (type(error), error.money, error.reason, error.retry_after) if error else self.value

    def check(self, kind, answer):
        assert self.error is None or isinstance(self.error, KlingError), self.texts[-1]
        for text in self.texts:
            for secret in whole_secrets(answer):
                assert not leak(text, secret), text
            assert not any(map(is_bad, text)), text
        if kind == "query" and self.error:
            assert self.error.money is not Money.UNTOUCHED
        if not self.answered:
            assert isinstance(
                self.error, KlingSubmitUncertainError if kind == "submit" else KlingUnavailableError
            )


class Records(logging.Handler):
    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture(scope="module")
def clients():
    """Both clients, each as a function from a call to its result, over a connection of its own."""
    ours = settings_of(GATEWAY.url, KEY, **GATEWAY.connection()["extra"])

    def send(call):
        with gateway_session(ours) as session:
            return KlingClient(session, ours).send(call)

    async def send_async(call):
        async with AsyncKlingClient(ours) as client:
            return await client.send(call)

    with asyncio.Runner() as runner:
        yield {"sync": send, "async": lambda call: runner.run(send_async(call))}


@pytest.fixture(scope="module", autouse=True)
def records():
    """All that anything logs at INFO or above, for the root logger."""
    handler = Records()
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


def outcomes(clients, records, call, answer):
    """Return what both clients make of an answer."""
    found, kind = [], call.split()[0]
    for send in clients.values():
        GATEWAY.begin(**{kind: Script(((answer, CLOSE),), for_ever=True)})
        records.lines.clear()
        try:
            value = send(CALLS[call]())
        except Exception as error:  # noqa: BLE001 - judged by the caller
            value = error
        found.append(Outcome(value, "\n".join(records.lines)))
        assert GATEWAY.count("submit") == (kind == "submit")
        found[-1].check(kind, answer)
    return found


FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("call", CALLS)
@FUZZ
@given(answer=readable())
def test_both_clients_read_the_same_from_an_odd_answer(clients, records, call, answer):
    one, other = outcomes(clients, records, call, answer)
    assert one.seen == other.seen
    assert one.error is None or one.error.what == other.error.what


@pytest.mark.parametrize("call", CALLS)
@FUZZ
@given(answer=unreadable())
def test_both_clients_say_the_same_of_a_broken_answer_where_both_can_read_it(clients, records, call, answer):
    one, other = outcomes(clients, records, call, answer)
    if one.answered and other.answered:
        assert one.seen == other.seen


#: Where one of these is in an answer, the gateway has surely started no job.
SAFE = (b" 429", b"RATE_LIMIT_EXCEEDED", b"CREATE_TASK_FAILED", b"BILLING_FAILED")
ANSWERS = readable() | unreadable() | st.binary(max_size=60)
#: What urllib3 opened for an answer that it could not read, the collector closes.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
FEWER = settings(FUZZ, max_examples=40)


@pytest.fixture(scope="module", autouse=True)
def collected():
    yield
    gc.collect()


@pytest.fixture
def live(hostile, clock, logged, tmp_path_factory):
    """Let an operator run with an answer to one kind of request, and check all promises."""

    def live(way, kind, answer, store=None, *, makes_jobs=False):
        folder = tmp_path_factory.mktemp("videos")
        logged.clear()
        hostile.begin(**{kind: Script(((answer, CLOSE),), makes_jobs=makes_jobs)})
        run = Run(way, folder, hostile.job, store=store or Store()).live(clock, logged)
        refused = kind == "submit" and any(word in answer for word in SAFE)
        problems = list(broken_promises(run, hostile, int(refused), secrets=recognizable_secrets(answer)))
        assert not problems, "\n".join(problems)
        return run

    return live


@pytest.mark.parametrize("way", SUBMIT_WAYS)
@FEWER
@given(answer=ANSWERS)
def test_no_answer_to_a_submit_is_paid_twice_by_a_task_or_its_retry(live, way, answer):
    first = live(way, "submit", answer)
    if first.error is None or isinstance(first.error, KlingSubmitUncertainError):
        retry = live(way, "submit", answer, first.store)
        assert GATEWAY.count("submit") == 0
        assert retry.outcome == first.outcome


@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
@pytest.mark.parametrize("dialect", ["kling"], indirect=True)
@FEWER
@given(answer=ANSWERS)
def test_no_answer_of_kling_to_a_submit_is_paid_twice_by_a_task_or_its_retry(dialect, live, answer, made):
    first = live("submit", "submit", answer, makes_jobs=made)
    if first.error is None:
        live("submit", "submit", answer, first.store)
        assert GATEWAY.count("submit") == 0


@pytest.mark.parametrize("way", QUERY_WAYS)
@pytest.mark.parametrize("dialect", DIALECTS, indirect=True)
@FEWER
@given(answer=ANSWERS)
def test_no_answer_to_a_query_breaks_a_wait(dialect, live, way, answer):
    live(way, "query", answer)


@st.composite
def videos(draw):
    """Return what a storage host sends: a video or its beginning, behind a head that may be broken."""
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=2))
    head = http(b"", draw(st.sampled_from(STATUSES)), *headers, length=len(VIDEO))
    head = draw(broken(head)) if draw(st.booleans()) else head
    return head + VIDEO[: draw(st.just(len(VIDEO)) | st.integers(0, len(VIDEO)))]


@pytest.mark.parametrize("way", STORAGE_WAYS)
@FEWER
@given(answer=videos() | ANSWERS)
def test_no_answer_of_a_storage_host_leaves_half_a_video(live, way, answer):
    live(way, "storage", answer)
