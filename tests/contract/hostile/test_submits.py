"""What a hostile gateway answers to submits: paid at most once, and an id that came is not lost."""

import gzip
import json

import pytest
from hostile_gateway import (
    CLOSE,
    HEADER,
    JOB,
    KEY,
    OTHER,
    RESET,
    Drip,
    chunk,
    chunked,
    http,
    json_http,
    task,
)
from hostile_queries import ACCESS, BALANCE, INPUT, JSON, MODERATION, REFUSALS, UNAVAILABLE
from hostile_runs import DONE, SUBMIT_WAYS, Story, play
from hostile_spellings import SPELLINGS, TEXTS

from airflow_provider_kling.errors import Money

UNCERTAIN = ("KlingSubmitUncertainError",)
BODY = json.dumps({"task_id": JOB}).encode()


def uncertain(answer, **more):
    return Story((answer,), for_ever=True, ends=UNCERTAIN, money=Money.MAYBE, **more)


def refused(answer, ends, **more):
    return Story((answer,), for_ever=True, ends=ends, money=Money.UNTOUCHED, **more)


def starts(answer, job=JOB):
    """The id is plain: it is used."""
    return Story((answer,), job=job)


def used_or_shown(answer, job=JOB, shows=JOB):
    """An id came, in an odd way: it is used, or the uncertain end shows it."""
    return Story((answer,), ends=(DONE, *UNCERTAIN), money=Money.MAYBE, shows=shows, job=job)


IDS = {
    "an integer": starts(json_http({"task_id": 12345}), "12345"),
    "with blanks": starts(json_http({"task_id": f" {JOB}\n"})),
    "with gzip": starts(http(gzip.compress(BODY), 200, "Content-Encoding: gzip")),
    "as HTML by its type": starts(http(BODY, 200, "Content-Type: text/html")),
    "in chunks": starts(chunked(chunk(BODY))),
    "with 202": starts(json_http({"task_id": JOB}, 202)),
    "after 100 Continue": starts(b"HTTP/1.1 100 Continue\r\n\r\n" + http(BODY)),
    "after 103 Early Hints": starts(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http(BODY)),
    "before the connection closes": starts((http(BODY), CLOSE)),
    "without a length": starts((http(BODY, 200, JSON, length=False), CLOSE)),
    "an answer more behind it": starts(http(BODY) + json_http(task(kling_task_id=OTHER))),
    "nested in data": used_or_shown(json_http({"code": 0, "data": {"task_id": JOB}})),
    "as an object": used_or_shown(json_http({"task_id": {"id": JOB}})),
    "as task-id": used_or_shown(json_http({"task-id": JOB})),
    "in a message": used_or_shown(json_http({"message": f"task {JOB} was created"})),
    "in capitals": used_or_shown(json_http({"task_id": JOB.upper()}), job=JOB.upper(), shows=JOB.upper()),
    "with braces": used_or_shown(json_http({"task_id": f"{{{JOB}}}"})),
    "as a URN": used_or_shown(json_http({"task_id": f"urn:uuid:{JOB}"}), job=f"urn:uuid:{JOB}"),
    "with an id of the request": starts(json_http({"task_id": JOB, "request_id": OTHER, "id": 7})),
    "beside a failure": used_or_shown(json_http({"success": False, "code": 500, "task_id": JOB})),
    "beside a job that has failed": used_or_shown(json_http(task("TASK_STATUS_FAILED"))),
    "in server-sent events": used_or_shown(http(b"data: " + BODY + b"\n\n")),
    "in many chunks": starts(chunked(*(chunk(BODY[n : n + 1]) for n in range(len(BODY))))),
    "with trailers": starts(chunked(chunk(BODY), end=b"0\r\nX-Sum: 1\r\n\r\n")),
    "with a cookie and a wrong clock": starts(
        http(BODY, 200, "Set-Cookie: a=b", "Date: Thu, 01 Jan 1970 00:00:00 GMT")
    ),
    "negative": used_or_shown(json_http({"task_id": -17}), job="-17", shows="-17"),
    **{
        f"with {code} and a reason": used_or_shown(json_http({"task_id": JOB, "reason": reason}, code))
        for code, reason in (
            (200, "RATE_LIMIT_EXCEEDED"),
            (401, "FAILED_TO_AUTH"),
            (403, "NOT_ENOUGH_BALANCE"),
            (400, "ILLEGAL_PROMPT"),
            (429, "RATE_LIMIT_EXCEEDED"),
            (500, "BILLING_FAILED"),
        )
    },
    **{
        f"with {code}": used_or_shown(json_http({"task_id": JOB}, code)) for code in (401, 402, 404, 409, 429)
    },
    "as a plain text": used_or_shown(http(JOB.encode())),
    "as a JSON text": used_or_shown(json_http(json.dumps(JOB))),
    "in a page": used_or_shown(http(f"<html>{JOB}</html>".encode(), 200, "Content-Type: text/html")),
    "with a length too long": used_or_shown((http(BODY, length=len(BODY) + 10), CLOSE)),
    "with a length too short": used_or_shown(http(BODY, length=len(BODY) - 2)),
    "with a length that is no number": used_or_shown((http(BODY, length="x"), CLOSE), shows=""),
    "cut off behind it": used_or_shown((http(BODY[:-1], length=len(BODY)), CLOSE)),
    "reset behind it": used_or_shown((http(BODY[:-1], length=len(BODY)), 0.05, RESET), shows=""),
    "in chunks that do not end": used_or_shown((chunked(chunk(BODY), end=b""), CLOSE)),
    "in a bad chunk": used_or_shown((chunked(chunk(BODY), b"zz\r\n", end=b""), CLOSE), shows=""),
    "with 206": used_or_shown(json_http({"task_id": JOB}, 206)),
    "with 500": used_or_shown(json_http({"task_id": JOB}, 500)),
    "with 302": used_or_shown(json_http({"task_id": JOB}, 302, "Location: /x")),
    "of 300 characters": used_or_shown(json_http({"task_id": "a" * 300}), job="a" * 300, shows="a" * 40),
    "of a megabyte": uncertain(json_http({"task_id": "a" * 1_000_000})),
    "with a slash": used_or_shown(json_http({"task_id": "job/17"}), job="job/17", shows="job/17"),
    "with a question mark": used_or_shown(
        json_http({"task_id": "job?a=1&b"}), job="job?a=1&b", shows="job?a=1"
    ),
    "not ASCII": used_or_shown(json_http({"task_id": "jöb"}), job="jöb", shows="b"),
    "missing": uncertain(json_http({"message": "accepted"}), shows="accepted"),
    "an empty object": uncertain(json_http({})),
}
IDS |= {
    f"with {name}": used_or_shown(json_http({"task_id": f"job{text}17"}), job="", shows="17")
    for name, text in TEXTS.items()
}
ANSWERS = {
    **{
        f"{code} bare": uncertain(http(b"", code))
        for code in (200, 205, 206, 301, 302, 303, 307, 308, 408, 409, 500, 502, 503, 504, 520, 599)
    },
    **{f"{code} bare": uncertain(http(b"", code, length=False)) for code in (204, 304)},
    **{
        f"{code} to elsewhere": uncertain(http(b"", code, f"Location: https://portal.example/{KEY}"))
        for code in (301, 302, 303, 307, 308)
    },
    "425 bare": Story((http(b"", 425),), for_ever=True, ends=(*UNCERTAIN, *UNAVAILABLE)),
    "a page": uncertain(http(b"<html>Welcome", 200, "Content-Type: text/html")),
    "br that is none": used_or_shown(http(BODY, 200, "Content-Encoding: br"), shows=""),
    "deflate that is gzip": Story(
        (http(gzip.compress(BODY), 200, "Content-Encoding: deflate"),), ends=(DONE, *UNCERTAIN)
    ),
    "server-sent events": uncertain(http(b": ping\n\n", 200, "Content-Type: text/event-stream")),
    "a failure without a reason": uncertain(json_http({"success": False, "message": "E42"}), shows="E42"),
    "a list of errors": uncertain(json_http({"errors": [{"reason": "ILLEGAL_PROMPT"}]}), shows="ILLEGAL"),
    "100 000 lists deep": uncertain(json_http("[" * 100_000)),
    "gzip that is none": uncertain(http(BODY, 200, "Content-Encoding: gzip")),
    "gzip that swells": uncertain(http(gzip.compress(b" " * 60_000_000), 200, "Content-Encoding: gzip")),
    "nothing": uncertain((CLOSE,)),
    "reset at once": uncertain((RESET,)),
    "reset in the head": uncertain((b"HTTP/1.1 200 O", RESET)),
    "reset in the body": uncertain((http(b"{", length=50), RESET)),
    "a tunnel that failed, it says": uncertain((b"Tunnel connection failed: 403 Forbidden\r\n\r\n", CLOSE)),
    "a tunnel that failed, by its status line": uncertain(
        http(b"", 502, reason="Tunnel connection failed: 407 Proxy")
    ),
    "connection refused, it says": uncertain((b"[Errno 111] Connection refused\r\n\r\n", CLOSE)),
    "name resolution failed, it says": uncertain(http(b"NameResolutionError: Failed to resolve", 502)),
    "HTTP/0.9": uncertain((b"hello", CLOSE)),
    "20 000 headers": Story(((http(BODY, 200, *["X: y"] * 20_000), CLOSE),), ends=(DONE, *UNCERTAIN)),
    "100 Continue a thousand times": Story(
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + http(BODY),), ends=(DONE, *UNCERTAIN)
    ),
    "101": uncertain((b"HTTP/1.1 101 Switching\r\n\r\n", CLOSE)),
    "a drip in the body": uncertain((http(b"", length=200), Drip())),
    **{f"{code} bare": refused(http(b"", code), ACCESS) for code in (401,)},
    **{
        f"{code} bare": Story(
            (http(b"", code),), for_ever=True, ends=(*ACCESS, *INPUT, *UNAVAILABLE, *UNCERTAIN)
        )
        for code in (400, 402, 403, 404, 405, 407, 410, 411, 413, 414, 415, 422, 431, 451)
    },
    "an error with 200": refused(
        json_http({"code": 403, "reason": "NOT_ENOUGH_BALANCE", "message": "m"}), BALANCE
    ),
    **{
        f"an unknown error with {code}": uncertain(
            json_http({"reason": "DUPLICATE_REQUEST", "message": "the same request is running"}, code),
            shows="DUPLICATE_REQUEST",
        )
        for code in (400, 402, 403, 404, 409, 422)
    },
}
MORE_INPUTS = (
    *("IMAGE_FILE_EXCEEDS_MAX_SIZE", "IMAGE_EXCEEDS_MAX_RESOLUTION"),
    *("INVALID_IMAGE_SIZE", "API_NOT_FOUND"),
)
REASONS = {**REFUSALS, **{(reason, 400): INPUT for reason in MORE_INPUTS}}
for (reason, status), ends in REASONS.items():
    error = {"code": status, "reason": reason, "message": "trace id 123", "metadata": {"a": 1}}
    ANSWERS[f"{reason} {status}"] = refused(json_http(error, status), ends, shows="trace id 123")
    ANSWERS[f"{reason} {status}, nested"] = refused(
        json_http({"error": error}, status), ends, shows="trace id 123"
    )
    ANSWERS[f"{reason} with 500"] = refused(json_http(error, 500), ends)
SAFE = {
    "429 bare": http(b"", 429),
    "429 as a page": http(b"<html>Slow", 429, "Content-Type: text/html"),
    **{
        f"429, Retry-After {value[:20]!r}": http(b"", 429, f"Retry-After: {value}")
        for value in ("0", "-1", "soon", "1e999", "NaN", "5", "9" * 400)
    },
    "RATE_LIMIT_EXCEEDED": json_http({"reason": "RATE_LIMIT_EXCEEDED"}, 429),
    "429, Retry-After in the past": http(b"", 429, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"),
    "RATE_LIMIT_EXCEEDED with 200": json_http({"reason": "RATE_LIMIT_EXCEEDED"}),
    "CREATE_TASK_FAILED": json_http({"reason": "CREATE_TASK_FAILED"}, 500),
    "BILLING_FAILED, nested": json_http({"error": {"reason": "BILLING_FAILED"}}, 500),
}
ECHOES = {}
for how, spell in SPELLINGS.items():
    words = f"E42 {spell(KEY)} and {spell(HEADER[1])}"
    ECHOES |= {
        f"{how} in a refusal": refused(
            json_http({"reason": "ILLEGAL_PROMPT", "message": words}, 400), MODERATION, shows="E42"
        ),
        f"{how} in JSON of its own": uncertain(http(f'{{"message": "{words}"}}'.encode())),
        f"{how} in a page": uncertain(http(words.encode(), 502), shows="E42"),
        f"{how} as the id": Story(
            (json_http({"task_id": spell(KEY)}),), for_ever=True, ends=UNCERTAIN, money=Money.MAYBE
        ),
        f"{how} in the status line and headers": uncertain(
            http(b"", 502, f"Server: {spell(KEY)}", reason=words)
        ),
        f"{how} in a broken header": uncertain(
            (f"HTTP/1.1 200 OK\r\nContent-Length: {words}\r\n\r\n".encode(), CLOSE)
        ),
    }
STORIES = {
    f"{family}: {name}": story
    for family, stories in {"id": IDS, "answer": ANSWERS, "echo": ECHOES}.items()
    for name, story in stories.items()
}


@pytest.mark.parametrize("name", STORIES)
def test_an_answer_to_a_submit_is_paid_once_at_most_and_no_id_is_lost(hostile, clock, logged, tmp_path, name):
    problems = play(STORIES[name], "submit", SUBMIT_WAYS, hostile, clock, logged, tmp_path)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", SAFE)
def test_an_answer_that_no_job_was_made_is_overcome(hostile, clock, logged, tmp_path, name):
    story = Story((SAFE[name],), ends=(DONE, *UNAVAILABLE))
    problems = play(story, "submit", SUBMIT_WAYS, hostile, clock, logged, tmp_path, refused=1)
    assert not problems, "\n".join(problems)
