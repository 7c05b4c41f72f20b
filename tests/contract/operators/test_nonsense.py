"""A gateway that answers anything at all: whatever comes, a clean error of ours, and never a second job."""

import gc
import gzip
import json
import zlib
from contextlib import ExitStack
from importlib.resources import files

import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred
from airflow_fakes import KEY, TI, Clock, Store, context_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from odd_servers import serving
from sensor_modes import Wait

from airflow_provider_kling.errors import KlingError, KlingSubmitUncertainError
from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator

#: What urllib3 opened for an answer that it then could not read, the collector closes.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
VIDEO = (files("airflow_provider_kling.emulator") / "tiny.mp4").read_bytes()
#: Refusals after which the gateway has surely made no job.
SAFE = (b" 429", b"RATE_LIMIT_EXCEEDED", b"CREATE_TASK_FAILED", b"BILLING_FAILED")
REASONS = [
    "INVALID_API_KEY",
    "ILLEGAL_PROMPT",
    "TASK_FAILED",
    "TASK_NOT_FOUND",
    "GET_RESULT_FAILED",
    "NEVER_SEEN",
]
STATES = [
    f"TASK_STATUS_{word}" for word in ("QUEUED", "PROCESSING", "SUCCEED", "FAILED", "CANCELED", "\ud800")
]
LINKS = [
    "http://[::1",
    "ftp://127.0.0.1/x",
    "http://127.0.0.1:1/",
    "http://x\ud800/",
    "file:///etc/passwd",
    "http://127.0.0.1:99999/",
]

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),  # NaN and infinity too, as Python writes and reads them
    st.text(max_size=20),
    st.sampled_from(
        [
            "",
            " ",
            "None",
            "\0",
            "t\0",
            "\ud800",
            "t-\udfff",
            "\ufeff",
            "x" * 6000,
            "../../x",
            "%s%d{}",
            "t-1\r\nX: y",
            "\x1b[31m",
        ]
    ),
)
NAMES = [
    "task",
    "task_id",
    "status",
    "reason",
    "message",
    "error",
    "videos",
    "video_url",
    "extra",
    "debug_info",
]
JSON = st.recursive(
    ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


def either(*likely):
    return st.sampled_from(likely) | JSON


def an_object(**fields):
    """Return answers with some of these fields, and with some that nobody expects."""
    surplus = st.dictionaries(st.text(max_size=3), ODD, max_size=2)
    return st.builds(
        lambda known, more: {**more, **known}, st.fixed_dictionaries({}, optional=fields), surplus
    )


NUMBER = either(0, 50, "50", "", 1e308)
TASK = an_object(
    task_id=either("t-1"),
    status=either(*STATES),
    reason=either(*REASONS),
    progress_percent=NUMBER,
    eta=NUMBER,
)
DEBUG = an_object(submit_time_ms=NUMBER, execute_time_ms=NUMBER, complete_time_ms=NUMBER)
ANSWERS = st.one_of(
    an_object(task_id=either("t-1")),
    an_object(
        task=TASK | JSON,
        videos=st.lists(
            an_object(video_url=either(*LINKS), video_url_ttl=NUMBER, video_type=ODD) | JSON, max_size=2
        )
        | JSON,
        extra=an_object(debug_info=DEBUG | JSON) | JSON,
    ),
    an_object(
        code=NUMBER,
        reason=either(*REASONS, "CREATE_TASK_FAILED"),
        message=either("No.", "x" * 3000),
        error=an_object(reason=either(*REASONS)) | JSON,
    ),
    JSON,
)
BODIES = st.one_of(
    ANSWERS.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda value, code: json.dumps(value, ensure_ascii=False).encode(code, "surrogatepass"),
        ANSWERS,
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7"]),
    ),
    st.builds(lambda value, cut: json.dumps(value).encode()[:-cut], ANSWERS, st.integers(1, 9)),
    st.binary(max_size=60),
    st.sampled_from(
        [
            *(
                b"",
                b"[" * 200_000,
                b'{"task_id":' * 20_000,
                b'{"task_id": ' + b"9" * 5000 + b"}",
                b"\xff\xfe{}",
            ),
            *(
                b'{"task_id": "t-1", "task_id": null}',
                b'{"task_id": "\\ud800"}',
                b'{"task_id": "\xed\xa0\x80"}',
            ),
        ]
    ),
    st.just(VIDEO),
)
STATUS_LINES = st.sampled_from(
    [f"HTTP/1.1 {code} Words" for code in (200, 200, 200, 200, 201, 204, 205, 299, 304)]
) | (
    st.sampled_from(
        [
            f"HTTP/1.1 {code} Words"
            for code in (400, 401, 402, 403, 404, 408, 409, 418, 429, 499, 500, 502, 503, 600, 999)
        ]
    )
    | st.sampled_from(
        [
            "HTTP/1.1 307 x",
            "HTTP/1.0 200 OK",
            "HTTP/1.1 200",
            "HTTP/9.9 200 OK",
            "HTTP/1.1 abc",
            "ICY 200 OK",
            "HTTP/1.1 -5 x",
            "HTTP/1.1 200 \xff\xfe",
            "HTTP/1.1 0 x",
            "HTTP/1.1 2000 x",
            "",
        ]
    )
)
HEADERS = st.lists(
    st.sampled_from(
        [
            *(
                "Content-Type: application/json",
                "Content-Type: text/html; charset=\xff",
                "Content-Type: ;;;=",
                "Content-Type: x/y; charset=utf-7",
            ),
            *(
                "Retry-After: \xff",
                "Retry-After: 1e400",
                "Retry-After: -5",
                "Retry-After: nan",
                "Retry-After: Wed, 99 Feb",
                "Retry-After: 3",
            ),
            *(
                "Retry-After: 1 Jan 0001 00:00:00 +2359",
                "Location: http://[",
                "Location: ://",
                "Location: /elsewhere?X-Signature=hidden",
            ),
            *(
                "Set-Cookie: \0=\xff",
                "X-Long: " + "y" * 70_000,
                ": no name",
                "no colon",
                " folded",
                "X-\xff: y",
                "ETag: \xff",
                "Connection: keep-alive",
            ),
            *(
                "Connection: upgrade\r\nUpgrade: h2c",
                "\r\n".join(f"A{i}: x" for i in range(200)),
                "Content-Range: bytes 5-",
            ),
        ]
    ),
    max_size=2,
)
CODINGS = st.sampled_from(
    [
        None,
        None,
        None,
        None,
        "gzip",
        "deflate",
        "identity",
        "br",
        "zstd",
        "nonsense",
        "gzip, gzip",
        "x-gzip",
        "gzip, deflate, br, zstd",
    ]
)


def packed(body, coding, honest):
    """Return a body as its coding says, or not at all as it says."""
    if not honest:
        return body
    return {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding, bytes)(body)


def framed(body, how):
    """Return the headers that say how long a body is, and the body as it then goes out."""
    size = len(body)
    chunked = "Transfer-Encoding: chunked"
    return {
        "honest": ([f"Content-Length: {size}"], body),
        "silent": ([], body),
        "longer": ([f"Content-Length: {size + 9}"], body),
        "shorter": ([f"Content-Length: {size // 2}"], body),
        "no number": (["Content-Length: abc"], body),
        "negative": (["Content-Length: -1"], body),
        "two": (["Content-Length: 1, 2"], body),
        "huge": (["Content-Length: 99999999999999999999"], body),
        "chunked": ([chunked], b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)),
        "no end": ([chunked], b"%x\r\n%s\r\n" % (size, body)),
        "no chunk": ([chunked], b"zz\r\n" + body),
        "endless chunk": ([chunked], b"ffffffffffffffffffff\r\n" + body),
        "a coding nobody knows": (["Transfer-Encoding: gzip"], body),
    }[how]


FRAMES = [
    "honest",
    "honest",
    "honest",
    "silent",
    "longer",
    "shorter",
    "no number",
    "negative",
    "two",
    "huge",
    "chunked",
    "no end",
    "no chunk",
    "endless chunk",
    "a coding nobody knows",
]


@st.composite
def answers(draw):
    """Return what a server says, byte for byte, and the words in it before they were packed."""
    line, headers, body = draw(STATUS_LINES), draw(HEADERS), draw(BODIES)
    coding, honest = draw(CODINGS), draw(st.booleans())
    lengths, out = framed(packed(body, coding, honest), draw(st.sampled_from(FRAMES)))
    headers = [*headers, *([f"Content-Encoding: {coding}"] if coding else []), *lengths]
    head = "".join(f"{text}\r\n" for text in [line, *headers]).encode("latin-1")
    return draw(st.sampled_from([head + b"\r\n" + out] * 9 + [out])), line.encode("latin-1") + body


def plain(body, status="200 OK"):
    """Return an answer as a healthy server gives it."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Odd:
    """A server that says what it is told to say, by the path's last word."""

    def __init__(self, server, said):
        self.server, self.said, self.url = server, said, server.url

    def says(self, everywhere, **by_path):
        self.said.clear()
        self.said.update({"": everywhere, **by_path})
        self.server.seen.clear()

    @property
    def posts(self):
        return sum(method == "POST" for method, *_ in self.server.seen)


@pytest.fixture(scope="module")
def odd():
    said = {}

    def answer(handler):
        path = handler.path.partition("?")[0].rpartition("/")[2]
        handler.wfile.write(said.get(path, said[""]))

    with serving(answer) as server, pytest.MonkeyPatch.context() as patched, ExitStack():
        extra = {"request_timeout": 5, "allow_private_hosts": True}
        connection = {"conn_type": "kling", "host": server.url, "password": KEY, "extra": extra}
        patched.setenv("AIRFLOW_CONN_KLING_DEFAULT", json.dumps(connection))
        yield Odd(server, said)


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


@pytest.fixture(scope="module")
def clock():
    with pytest.MonkeyPatch.context() as patched:
        yield Clock(patched)


def fuzzed(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def outcome(act, *arguments):
    """Return what came of it: a value, or an error of ours that Airflow understands too."""
    try:
        return act(*arguments)
    except (KlingError, TaskDeferred) as error:
        came = error
    if isinstance(came, KlingError):
        assert isinstance(came, AirflowException)
        assert storable([str(came), came.to_dict()])
        assert KEY not in str(came)
        assert came.__cause__ is None or isinstance(came.__cause__, KlingError)
    return came


def storable(value):
    """Whether any database and any log takes it: no lone surrogate, no NUL."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return all(map(storable, value))
    return not isinstance(value, str) or (value.encode() and "\0" not in value) or value == ""


@fuzzed(250)
@given(answers())
@example((plain(b'{"task_id": "t-1"}'), b""))
@example((b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n{}", b""))
@example((b"HTTP/1.1 307 Moved\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n", b""))
@example((b"HTTP/1.1 302 Moved\r\nLocation: ://\xff\r\nContent-Length: 0\r\n\r\n", b""))
@example((plain(b'{"task_id": "t\\u0000"}'), b""))
@example((plain(b'{"task_id": "\\ud800"}'), b""))
@example((plain(b'{"reason": "\\ud800", "message": "a\\u0000b"}', "400 Bad"), b""))
def test_no_answer_makes_a_submit_pay_twice_or_break(odd, clock, answer):
    raw, words = answer
    odd.says(raw)
    store, ti = Store(), TI()
    task = KlingSubmitOperator(
        task_id="submit", model="kling-v3.0-pro-t2v", prompt="a cat waves", busy_timeout=30
    )
    came = outcome(task.execute, context_of(ti, store))
    sent = odd.posts
    assert sent == 1 or any(safe in raw + words for safe in SAFE)
    assert storable([ti.xcoms, store.values])
    if isinstance(came, str):
        assert came.strip()
        assert storable(came)
    if isinstance(came, str | KlingSubmitUncertainError):
        again = outcome(task.execute, context_of(TI(), store))  # as a retry does
        assert odd.posts == sent
        assert again == came or isinstance(again, KlingError)


@fuzzed(60)
@given(answer=answers(), late=st.booleans())
def test_no_answer_breaks_a_wait_in_any_mode(odd, clock, mode, answer, late):
    raw, _ = answer
    odd.says(raw)
    wait = Wait(mode, clock, kling_task_id="t-1", timeout=60.0)
    if late:  # the wait has begun when it comes
        wait.ti.upstream = [
            ("submit", -1, "kling_request", {"kling_task_id": "t-1", "submitted_at": clock.time() - 30})
        ]
    came = outcome(wait.end)
    assert isinstance(came, KlingError) or came["kling_task_id"] == "t-1"
    assert isinstance(came, KlingError) or storable(came)
    assert storable(wait.ti.xcoms)
    assert odd.posts == 0


@fuzzed(150)
@given(answer=answers(), of_storage=st.booleans())
def test_no_answer_breaks_a_download_or_leaves_half_a_video(odd, clock, tmp_path_factory, answer, of_storage):
    raw, _ = answer
    done = {"task": {"status": "TASK_STATUS_SUCCEED"}, "videos": [{"video_url": f"{odd.url}/video"}]}
    if of_storage:
        odd.says(plain(json.dumps(done).encode()), video=raw, elsewhere=raw)
    else:
        odd.says(raw)
    folder = tmp_path_factory.mktemp("videos")
    ti = TI()
    task = KlingDownloadOperator(task_id="get", kling_task_id="t-1", target=f"{folder}/")
    came = outcome(task.execute, context_of(ti))
    if isinstance(came, KlingError):
        assert list(folder.iterdir()) == []
    else:
        assert (folder / "t-1.mp4").read_bytes() == VIDEO
        assert sorted(path.name for path in folder.iterdir()) == ["t-1.mp4", "t-1.mp4.json"]
    assert storable(ti.xcoms)
    assert odd.posts == 0
    assert all("Authorization" not in headers for _, path, headers in odd.server.seen if path == "/video")
