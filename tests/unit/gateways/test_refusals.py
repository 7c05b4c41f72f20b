"""What comes back is read in every form, and each error is sorted by what the caller does next."""

import json
import re
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from airflow_provider_kling.emulator.myrouter.errors import STATUS_OF_REASON
from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import Reply
from airflow_provider_kling.gateways.myrouter import query, submit
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.polling.policy import REFUSED_GRACE, PollPolicy
from airflow_provider_kling.redaction import shorten
from airflow_provider_kling.values import read_number

SUBMIT, QUERY = submit(VideoJob("kling-v3.0-pro-i2v", {})), query("t-1")
TRACE = "trace_id: 0af7651916cd43dd"

# reason, HTTP status, what it means to a submit, what it means to a query
DOCUMENTED = [
    ("MISSING_API_KEY", 400, KlingAccessError, KlingAccessError),
    ("FAILED_TO_AUTH", 401, KlingAccessError, KlingAccessError),
    ("INVALID_API_KEY", 403, KlingAccessError, KlingAccessError),
    ("API_NOT_ALLOWED", 403, KlingAccessError, KlingAccessError),
    ("FEATURE_NOT_ALLOWED", 403, KlingAccessError, KlingAccessError),
    ("NEED_REAL_NAME_VERIFY", 403, KlingAccessError, KlingAccessError),
    ("ACCESS_DENY", 403, KlingAccessError, KlingAccessError),
    ("BILLING_AUTH_FAILED", 403, KlingAccessError, KlingAccessError),
    ("BILLING_BALANCE_NOT_ENOUGH", 400, KlingBalanceError, KlingBalanceError),
    ("NOT_ENOUGH_BALANCE", 403, KlingBalanceError, KlingBalanceError),
    ("ILLEGAL_PROMPT", 400, KlingModerationError, KlingModerationError),
    ("ILLEGAL_IMAGE_CONTENT", 400, KlingModerationError, KlingModerationError),
    ("INVALID_REQUEST_BODY", 400, KlingInputError, KlingInputError),
    ("IMAGE_FILE_EXCEEDS_MAX_SIZE", 400, KlingInputError, KlingInputError),
    ("INVALID_IMAGE_FORMAT", 400, KlingInputError, KlingInputError),
    ("IMAGE_EXCEEDS_MAX_RESOLUTION", 400, KlingInputError, KlingInputError),
    ("INVALID_IMAGE_SIZE", 400, KlingInputError, KlingInputError),
    ("API_NOT_FOUND", 404, KlingInputError, KlingInputError),
    ("API_NOT_FOUND", 400, KlingInputError, KlingInputError),
    ("RATE_LIMIT_EXCEEDED", 429, KlingUnavailableError, KlingUnavailableError),
    ("BILLING_FAILED", 500, KlingUnavailableError, KlingUnavailableError),
    ("CREATE_TASK_FAILED", 500, KlingUnavailableError, KlingUnavailableError),
    ("GET_RESULT_FAILED", 500, KlingSubmitUncertainError, KlingUnavailableError),
    ("TASK_FAILED", 500, KlingSubmitUncertainError, KlingJobFailedError),
    ("TASK_NOT_FOUND", 404, KlingSubmitUncertainError, KlingTaskNotFoundError),
]
# The same without a reason of the gateway: a proxy may have answered, before the gateway or after it.
BARE = [
    (200, KlingSubmitUncertainError, KlingUnavailableError),
    (204, KlingSubmitUncertainError, KlingUnavailableError),
    (301, KlingSubmitUncertainError, KlingUnavailableError),
    (307, KlingSubmitUncertainError, KlingUnavailableError),
    (400, KlingSubmitUncertainError, KlingUnavailableError),
    (401, KlingAccessError, KlingAccessError),
    (402, KlingSubmitUncertainError, KlingUnavailableError),
    (403, KlingSubmitUncertainError, KlingAccessError),
    (404, KlingSubmitUncertainError, KlingUnavailableError),
    *((status, KlingInputError, KlingUnavailableError) for status in (405, 411, 413, 414, 415, 431)),
    (407, KlingAccessError, KlingAccessError),
    (408, KlingSubmitUncertainError, KlingUnavailableError),
    (422, KlingSubmitUncertainError, KlingUnavailableError),
    (429, KlingUnavailableError, KlingUnavailableError),
    (500, KlingSubmitUncertainError, KlingUnavailableError),
    (502, KlingSubmitUncertainError, KlingUnavailableError),
    (503, KlingSubmitUncertainError, KlingUnavailableError),
    (504, KlingSubmitUncertainError, KlingUnavailableError),
    (599, KlingSubmitUncertainError, KlingUnavailableError),
]
# A reason that the gateway does not document may come from a proxy, or from behind the start of the job.
UNDOCUMENTED = [
    *(
        (status, KlingSubmitUncertainError, KlingUnavailableError)
        for status in (400, 402, 403, 404, 409, 422)
    ),
    (401, KlingAccessError, KlingAccessError),
    (407, KlingAccessError, KlingUnavailableError),
    (413, KlingInputError, KlingUnavailableError),
    (429, KlingUnavailableError, KlingUnavailableError),
]
PAGE = b"<html><head><title>502 Bad Gateway</title></head>\n<body>nginx</body></html>"


def refused(call, status, body=b"", received_at=0.0, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    with pytest.raises(KlingError) as caught:
        call.read(Reply(status, headers, body, received_at))
    return caught.value


def error_body(reason):
    return {"code": 1, "reason": reason, "message": f"It was not to be; {TRACE}", "metadata": {}}


def test_the_emulator_answers_each_reason_with_its_documented_status():
    assert {(reason, status) for reason, status, *_ in DOCUMENTED} >= STATUS_OF_REASON.items()
    assert {reason for reason, *_ in DOCUMENTED} == STATUS_OF_REASON.keys()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("reason", "status", "of_submit", "of_query"), DOCUMENTED)
def test_a_documented_reason_sorts_a_refusal(reason, status, of_submit, of_query, nested):
    body = {"error": error_body(reason)} if nested else error_body(reason)
    for call, kind, job in ((SUBMIT, of_submit, None), (QUERY, of_query, "t-1")):
        error = refused(call, status, body)
        assert type(error) is kind
        assert (error.reason, error.http_status, error.kling_task_id) == (reason, status, job)
        assert f"HTTP {status} {reason}" in str(error)
        assert TRACE in str(error)
        if job:
            assert error.money is not Money.UNTOUCHED, "a job is running while it is asked for"
        else:
            assert error.money is kind.default_money


@pytest.mark.parametrize(("reason", "kind"), [(row[0], row[2]) for row in DOCUMENTED[:20]])
def test_the_reason_decides_before_the_status(reason, kind):
    assert type(refused(SUBMIT, 503, error_body(reason))) is kind


@pytest.mark.parametrize(
    "body", [b"", PAGE, b"null", b"[1]", b'{"task_id": ""}', b'{"id": 7}', b'{"reason": "log in"}']
)
@pytest.mark.parametrize(("status", "of_submit", "of_query"), BARE)
def test_without_a_reason_the_status_sorts(status, of_submit, of_query, body):
    assert type(refused(SUBMIT, status, body)) is of_submit
    error = refused(QUERY, status, body)
    assert type(error) is of_query
    assert error.money is Money.RUNNING


@pytest.mark.parametrize(("status", "of_submit", "of_query"), UNDOCUMENTED)
def test_a_reason_that_is_not_documented_makes_nothing_certain(status, of_submit, of_query):
    said = {"reason": "DUPLICATE_REQUEST", "message": "the same request is running"}
    assert type(refused(SUBMIT, status, said)) is of_submit
    error = refused(QUERY, status, said)
    assert type(error) is of_query
    assert "DUPLICATE_REQUEST" in error.what


def test_a_wait_does_not_end_at_once_for_a_reason_that_is_not_documented():
    portal = {"reason": "UNAUTHORIZED", "message": "sso session expired"}
    now, policy = 1000.0, PollPolicy("t-1", 0, 3600, 10)
    while (result := policy.update(refused(QUERY, 401, portal), now)).next_poll_at:
        now = result.next_poll_at
    assert now == 1000 + REFUSED_GRACE
    assert PollPolicy("t-1", 0, 3600, 10).update(refused(QUERY, 401, error_body("FAILED_TO_AUTH")), 9).error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "HTTP 502: an empty answer"),
        (PAGE, "HTTP 502: <html><head><title>502 Bad Gateway</title></head> <body>nginx</body></html>"),
        ({"message": "m " * 1500}, f"HTTP 502: {'m ' * 1000}…"),
        ({"message": 7}, 'HTTP 502: {"message": 7}'),
        ({"message": " "}, 'HTTP 502: {"message": " "}'),
        ({"reason": 7, "message": "m."}, "HTTP 502 7: m"),
        ({"error": "text", "x": 1}, 'HTTP 502: {"error": "text", "x": 1}'),
        ({"message": "outer", "error": {"reason": " NEW ", "message": "inner"}}, "HTTP 502 NEW: inner"),
        (b"x " * 950, f"HTTP 502: {'x ' * 500}…"),
        (
            {"message": "no data:image/png;base64," + "QUJD" * 99},
            f"HTTP 502: no data:image/png;base64,{'QUJD' * 10}<396 characters>",
        ),
        (
            {"message": "see https://s.example/v.mp4?sig=secret, now"},
            "HTTP 502: see https://s.example/v.mp4 now",
        ),
        (b"\xff\xc0", "HTTP 502: ��"),
    ],
)
def test_the_answer_is_shown_in_its_own_words(body, words):
    assert refused(QUERY, 502, body).what == f"The gateway answered for job t-1 {words}."


def test_a_redirect_is_told_without_its_signature():
    error = refused(SUBMIT, 307, location="https://other.example/x?sig=secret")
    assert "HTTP 307 pointing to https://other.example/x, where the key is not sent" in str(error)
    assert "secret" not in str(error)


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 2.5 ", 2.5),
        ("3, 7", 7.0),
        ("-3", 0.0),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC).replace(tzinfo=None)), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC)), 0.0),
        ("", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("Wed, 99 Feb 2026 99:99:99 GMT", None),
        ("1 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
@pytest.mark.parametrize("call", [SUBMIT, QUERY])
def test_a_time_to_wait_is_read_as_seconds_or_as_a_date(call, value, seconds):
    assert refused(call, 429, received_at=NOW, retry_after=value).retry_after == seconds


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (7, 7.0),
        (0, 0.0),
        (7.5, 7.5),
        ("7", 7.0),
        (" 7.5 ", 7.5),
        ("", None),
        ("many", None),
        (None, None),
        (True, None),
        ([], None),
        ({}, None),
        (float("nan"), None),
        (float("inf"), None),
        ("nan", None),
        ("-inf", None),
        (10**400, None),
        (10**15, None),
        (-(10**15), None),
        (10**14, 1e14),
    ],
)
def test_a_number_is_read_in_every_form_that_it_comes_in(value, number):
    assert read_number(value) == number


@pytest.mark.parametrize("body", [b"{", b"", b"[" * 100_000, b"\xff", b'"x"', b"7" * 5000])
def test_what_is_no_json_object_is_an_empty_one(body):
    assert Reply(200, {}, body).json == {}


def test_a_text_is_shortened_to_one_line():
    assert shorten(" a\n b\t c ") == "a b c"
    assert shorten("x" * 11, 10) == "x" * 10 + "…"
    assert shorten("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize("call", [submit(VideoJob("m", {})), query("t-1")])
def test_a_refusal_says_nothing_that_a_database_or_a_log_does_not_take(call):
    body = json.dumps({"reason": "NO\ud800", "message": "a\0b\x1b"}).encode()
    with pytest.raises(KlingError) as caught:
        call.read(Reply(400, {"location": "/x\udcff\0"}, body))
    assert caught.value.reason is None
    assert "HTTP 400 pointing to /x\ufffd\ufffd, where the key is not sent" in caught.value.what
    assert not re.search(r"[\x00-\x1f\ud800-\udfff]", str(caught.value))
