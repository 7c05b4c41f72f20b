"""The stories of a hostile gateway: what it answers to queries, and how each wait must end."""

import gzip
import json
import zlib

from hostile_gateway import (
    CLOSE,
    GATEWAY,
    HEADER,
    JOB,
    KEY,
    OTHER,
    RESET,
    SIGNATURE,
    Drip,
    chunk,
    chunked,
    http,
    json_http,
    task,
)
from hostile_runs import DONE, Story
from hostile_spellings import SPELLINGS, TEXTS

from airflow_provider_kling.errors import Money

RIGHT, WRONG = GATEWAY.link("right"), GATEWAY.link("other")
TIMED_OUT, UNAVAILABLE = ("KlingWaitTimeoutError",), ("KlingUnavailableError",)
FAILED, ACCESS, NOT_FOUND = ("KlingJobFailedError",), ("KlingAccessError",), ("KlingTaskNotFoundError",)
LINK_REFUSED = ("KlingDownloadError", "KlingVideoError", "KlingAccessError", "KlingJobFailedError")
UNFINISHED = ("KlingUnavailableError", "KlingJobFailedError", "KlingDownloadError", "KlingWaitTimeoutError")
PROCESSING = json_http(task("TASK_STATUS_PROCESSING", progress_percent=50))
QUEUED = json_http(task("TASK_STATUS_QUEUED", progress_percent=0))
SUCCEEDED, EMPTY = json_http(task(link=RIGHT)), json_http(task(videos=[]))
BODY = json.dumps(task(link=RIGHT)).encode()
JSON = "Content-Type: application/json"


def refusal(reason, status=500, message="trace id 123", **more):
    return json_http({"code": status, "reason": reason, "message": message, "metadata": {}, **more}, status)


def passes(answer, **more):
    """An answer that is none comes twice, to the worker's query and to the triggerer's; then the right one."""
    return Story((answer, answer), **more)


def never_ends(answer, **more):
    """It comes again and again, and the wait ends at its deadline."""
    return Story((answer,), for_ever=True, ends=TIMED_OUT, money=Money.RUNNING, download=UNFINISHED, **more)


def final(answer, ends, money=None, **more):
    """It comes again and again, and ends the wait."""
    return Story((answer,), for_ever=True, ends=ends, money=money, **more)


def reads(answer, **more):
    """It comes again and again, and is the right answer."""
    return Story((answer,), for_ever=True, **more)


def either(answer, *ends, **more):
    """It comes again and again; the video may be fetched, or not."""
    return Story((answer,), for_ever=True, ends=(DONE, *(ends or UNFINISHED)), same=False, **more)


def named(value, **more):
    """Return a success with a task id that is odd, and with the video of another job."""
    return json_http(task(kling_task_id=value, link=WRONG, **more))


def without_id():
    body = task(link=RIGHT)
    del body["task"]["task_id"]
    return json_http(body)


OTHER_JOB = {
    "another job is done": never_ends(named(OTHER)),
    "another job is done, twice": passes(named(OTHER)),
    "another job has failed": passes(json_http(task("TASK_STATUS_FAILED", kling_task_id=OTHER))),
    "another job has failed, always": never_ends(json_http(task("TASK_STATUS_FAILED", kling_task_id=OTHER))),
    "another job goes on": passes(json_http(task("TASK_STATUS_PROCESSING", kling_task_id=OTHER))),
    "the id is missing": either(without_id()),
    "another job beside ours": either(json_http({**task(link=RIGHT), "task_id": OTHER})),
    "an internal id beside ours": reads(
        json_http(task(videos=[{"video_url": RIGHT, "video_type": "mp4", "task_id": "internal-1"}]))
    ),
    "our id at the top, another in the task": passes(
        json_http({**task(kling_task_id=OTHER, link=WRONG), "task_id": JOB})
    ),
}
SURPLUS = {
    "a second answer, of another job": Story((PROCESSING + named(OTHER), PROCESSING)),
    "a second answer says that ours failed": Story(
        (PROCESSING + json_http(task("TASK_STATUS_FAILED")), PROCESSING)
    ),
    "a second answer a little later": Story(
        ((PROCESSING, 0.05, json_http(task("TASK_STATUS_FAILED"))), PROCESSING)
    ),
    "a second answer after a 502": Story((http(b"x", 502) + json_http(task("TASK_STATUS_FAILED")),)),
    "a second answer in the first one's body": passes(
        http(b'{"task": {"task_id":', 200, JSON) + json_http(task(kling_task_id=OTHER, link=WRONG))
    ),
    "ten answers": Story((PROCESSING * 10, PROCESSING)),
    "an answer before the request": Story(((SUCCEEDED, 0.05, named(OTHER)),), for_ever=True),
    "a 204 with a body": passes(b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n" + BODY),
    "a 304 with a body": passes(b"HTTP/1.1 304 No\r\n\r\n" + named(OTHER)),
}
STALE = {
    "older states after newer ones": Story((PROCESSING, QUEUED, PROCESSING, QUEUED)),
    "an old copy": Story((json_http(task("TASK_STATUS_QUEUED"), 200, "Age: 3600", "X-Cache: HIT"),) * 3),
    "progress goes back": Story(
        tuple(json_http(task("TASK_STATUS_PROCESSING", progress_percent=n)) for n in (99, 10, 100, 0))
    ),
    "done, and then not for a while": Story(
        (PROCESSING, SUCCEEDED, PROCESSING, QUEUED, PROCESSING), download=(DONE, *UNFINISHED)
    ),
    "done and not done in turns": Story(
        (PROCESSING, SUCCEEDED) * 100, ends=(DONE, *TIMED_OUT), download=(DONE, *UNFINISHED), same=False
    ),
    "done and empty in turns": Story((EMPTY, SUCCEEDED) * 100, same=False),
    "empty, then going on again": Story((EMPTY, PROCESSING, EMPTY, PROCESSING)),
    "failed, then done": Story(
        (PROCESSING, json_http(task("TASK_STATUS_FAILED"), 200, "Age: 60")), ends=FAILED, money=Money.ENDED
    ),
    "not found in between": Story((PROCESSING, refusal("TASK_NOT_FOUND", 404), PROCESSING)),
}
SUCCESS_WORDS = ["SUCCEEDED", "success", " task_status_succeed\n"]
FAILURE_WORDS = ["failed", "TASK_STATUS_FAIL", "canceled", " TASK_STATUS_FAILED_PERMANENTLY "]
OPEN_WORDS = ["", "DREAMING", "COMPLETED", "NOT_SUCCEEDED", None, 7, ["x"], {"a": 1}, "x" * 100_000]
WORDS = {
    **{f"success {word!r}": reads(json_http(task(word, link=RIGHT))) for word in SUCCESS_WORDS},
    **{
        f"failure {word!r}": final(
            json_http(task(word, reason="because")), FAILED, Money.ENDED, shows="because"
        )
        for word in FAILURE_WORDS
    },
    **{f"open {str(word)[:30]!r}": passes(json_http(task(word, link=WRONG))) for word in OPEN_WORDS},
    "an unknown word for ever": never_ends(json_http(task("DREAMING"))),
    "no task": passes(json_http({"videos": [{"video_url": WRONG}]})),
    "a reason of a megabyte": final(
        json_http(task("TASK_STATUS_FAILED", reason="E42 " * 250_000)), FAILED, Money.ENDED, shows="E42"
    ),
}


def bad_link(link, *hides, **video):
    """A success whose link nobody can use. The sensor may end well, but it publishes nothing of it."""
    answer = json_http(task(videos=[{"video_url": link, "video_type": "mp4", **video}]))
    return Story(
        (answer,), for_ever=True, ends=(DONE, *LINK_REFUSED), download=LINK_REFUSED, hides=hides, same=False
    )


VIDEOS = {
    "empty": final(EMPTY, FAILED, Money.ENDED),
    "missing": final(json_http({"task": task()["task"]}), FAILED, Money.ENDED),
    "empty for a while": Story((EMPTY, EMPTY)),
    "an input under video": final(
        json_http({"task": {**task()["task"], "video": WRONG}, "videos": [], "metadata": {"video": WRONG}}),
        FAILED,
        Money.ENDED,
    ),
    "a link without a list": either(
        json_http({"task": task()["task"], "video_url": RIGHT}), shows="right.mp4"
    ),
    "a bad link, then a video": reads(
        json_http({**task(), "videos": [{"video_url": "javascript:1"}, {"video_url": RIGHT}]})
    ),
    "a wrong type": reads(json_http(task(videos=[{"video_url": RIGHT, "video_type": "image/png"}]))),
    "an upper-case link": reads(json_http(task(link=RIGHT.replace("http:", "HTTP:")))),
    "a link with a fragment": reads(json_http(task(link=f"{RIGHT}#x"))),
    "a script": bad_link("javascript:alert(1)//", "javascript"),
    "a link to the metadata address": bad_link("http://169.254.169.254/latest/meta-data"),
    "a link behind a user": bad_link(f"http://127.0.0.1:{SIGNATURE}@169.254.169.254/x", SIGNATURE),
    "a link with a port that is none": bad_link("http://127.0.0.1:99999/x"),
    "a link with a user": bad_link(f"http://me:{SIGNATURE}@127.0.0.1:1/x", SIGNATURE),
    "a huge link": bad_link("http://127.0.0.1:1/" + "x" * 3_000_000),
    "a link that holds the key": either(json_http(task(link=f"{RIGHT}&key={KEY}"))),
}


def times(**given):
    return {"debug_info": given}


def encoded(data, encoding, status=200):
    return http(data, status, JSON, f"Content-Encoding: {encoding}")


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODINGS = {
    "gzip": reads(encoded(gzip.compress(BODY), "gzip")),
    "x-gzip": either(encoded(gzip.compress(BODY), "x-gzip")),
    "deflate": reads(encoded(zlib.compress(BODY), "deflate")),
    "raw deflate": either(encoded(raw_deflate(BODY), "deflate")),
    "identity": reads(encoded(BODY, "identity")),
    "gzip that is none": passes(encoded(BODY, "gzip")),
    "gzip that is cut off": passes(encoded(gzip.compress(BODY)[:-12], "gzip")),
    "gzip with junk behind": either(encoded(gzip.compress(BODY) + b"junk", "gzip")),
    "deflate that is none": passes(encoded(BODY, "deflate")),
    "br that is none": either(encoded(BODY, "br")),
    "zstd that is none": either(encoded(BODY, "zstd")),
    "an unknown encoding": either(encoded(BODY, "rot13")),
    "gzip twice": either(encoded(gzip.compress(gzip.compress(BODY)), "gzip, gzip")),
    "gzip a hundred times": passes(encoded(BODY, ", ".join(["gzip"] * 100))),
    "gzip that swells": passes(encoded(gzip.compress(b" " * 60_000_000), "gzip")),
    "a body of 20 MB": passes(http(b" " * 20_000_000 + BODY)),
    "UTF-16": either(
        http(BODY.decode().encode("utf-16"), 200, "Content-Type: application/json; charset=utf-16")
    ),
    "a byte order mark": reads(http(b"\xef\xbb\xbf" + BODY)),
    "latin-1": reads(
        http(json.dumps(task(link=RIGHT, task_type="Schön"), ensure_ascii=False).encode("latin-1"))
    ),
    "invalid UTF-8": reads(http(BODY.replace(b"KLING", b"\xff\xfe\xc0\x80"))),
    "an unknown charset": reads(http(BODY, 200, "Content-Type: application/json; charset=klingon")),
    "no content type": reads(http(BODY)),
    "HTML by its type": either(http(BODY, 200, "Content-Type: text/html")),
}
for name, text in TEXTS.items():
    odd = task(link=RIGHT, task_type=text, reason=text, extra={"debug_info": {"request_info": text}})
    odd["videos"][0]["video_type"] = text
    ENCODINGS[f"{name} in every text"] = reads(json_http(odd, 200, f"X-Trace: {'x'}"))
    ENCODINGS[f"{name} in the status"] = passes(json_http(task(f"TASK_{text}", link=WRONG)))
    ENCODINGS[f"{name} in the reason"] = final(
        json_http(task("TASK_STATUS_FAILED", reason=f"E42 {text}")), FAILED, Money.ENDED, shows="E42"
    )
    ENCODINGS[f"{name} in an error"] = final(
        refusal("INVALID_API_KEY", 403, message=f"E42 {text}"), ACCESS, shows="E42"
    )


def flat(**more):
    """Return a success without the object ``task``, as other gateways write it."""
    return json_http({"task_id": JOB, "status": "SUCCEEDED", "videos": [{"video_url": RIGHT}], **more})


LAYOUTS = {
    "flat": either(flat()),
    "flat, of another job": passes(flat(task_id=OTHER, videos=[{"video_url": WRONG}])),
    "Kling's own": either(
        json_http(
            {
                "code": 0,
                "data": {
                    "task_id": JOB,
                    "task_status": "succeed",
                    "task_result": {"videos": [{"id": OTHER, "url": RIGHT}]},
                },
            }
        )
    ),
    "two states of the job": passes(
        json_http({**task("TASK_STATUS_PROCESSING"), "status": "succeed", "videos": [{"video_url": WRONG}]})
    ),
    "the answer is ok, the job goes on": passes(
        json_http({**task("TASK_STATUS_PROCESSING"), "status": "success", "code": 200})
    ),
    "an error that is empty": reads(json_http({**task(link=RIGHT), "error": {}, "message": "ok", "code": 0})),
    "an error beside a success": either(
        json_http({**task(link=RIGHT), "error": {"reason": "GET_RESULT_FAILED", "message": "m"}})
    ),
    "a reason beside a running job": passes(
        json_http(task("TASK_STATUS_PROCESSING", reason="FAILED to load quickly"))
    ),
    "videos beside a running job": passes(json_http(task("TASK_STATUS_PROCESSING", link=WRONG))),
    "videos beside a failed job": final(
        json_http(task("TASK_STATUS_FAILED", link=WRONG, reason="E42")), FAILED, Money.ENDED, shows="E42"
    ),
    "server-sent events": passes(http(b"data: " + BODY + b"\n\n", 200, "Content-Type: text/event-stream")),
}
ODD_JSON = {
    "a key twice, the right one last": either(
        json_http(json.dumps(task(link=RIGHT)).replace('"task_id"', f'"task_id": "{OTHER}", "task_id"', 1))
    ),
    "a key twice, the wrong one last": passes(
        json_http(
            json.dumps(task(kling_task_id=OTHER, link=WRONG)).replace(
                '"task_id"', f'"task_id": "{JOB}", "task_id"', 1
            )
        )
    ),
    "100 000 lists deep": passes(json_http("[" * 100_000)),
    "100 000 objects deep in extra": either(
        json_http(json.dumps(task(link=RIGHT)).replace("{}", '{"a":' * 100_000 + "1" + "}" * 100_000, 1))
    ),
    "junk behind": passes(http(BODY + b"}")),
    "null": passes(json_http("null")),
    "an empty body": passes(http(b"")),
    "a cut-off document": passes(http(BODY[:-20])),
    "an HTML page": passes(http(b"<html><title>Sign in</title></html>", 200, "Content-Type: text/html")),
    "HTML for ever": never_ends(http(b"<html><title>Sign in</title></html>", 200, "Content-Type: text/html")),
    "a key that is a lone surrogate": either(json_http(json.dumps({**task(link=RIGHT), "\ud800": 1}))),
}
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
STATUSES = {
    "100 Continue": reads(b"HTTP/1.1 100 Continue\r\n\r\n" + SUCCEEDED),
    "100 Continue a thousand times": passes(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + SUCCEEDED),
    "102 Processing": reads(b"HTTP/1.1 102 Processing\r\n\r\n" + SUCCEEDED),
    "103 Early Hints": reads(EARLY + SUCCEEDED),
    "103 Early Hints a thousand times": passes(EARLY * 1000 + SUCCEEDED),
    "101 Switching Protocols": passes((b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", CLOSE)),
    "199": either((b"HTTP/1.1 199 What\r\n\r\n" + SUCCEEDED, CLOSE)),
    "201": either(json_http(task(link=RIGHT), 201)),
    "202": either(json_http(task(link=RIGHT), 202)),
    "204": passes(http(b"", 204, length=False)),
    "205": passes(http(b"", 205)),
    "206": either(http(BODY, 206, "Content-Range: bytes 0-9/10")),
    "299": either(json_http(task(link=RIGHT), 299)),
    "304": passes(http(b"", 304, length=False)),
    "304 for ever": never_ends(http(b"", 304, length=False)),
    "a success with 500": passes(json_http(task(link=RIGHT), 500)),
    **{
        f"a success with {code}": passes(json_http(task(link=WRONG), code))
        for code in (401, 403, 404, 429, 502)
    },
    "a failure with 500": passes(json_http(task("TASK_STATUS_FAILED"), 500)),
    "000": passes((b"HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n", CLOSE)),
    "a status that is no number": passes((b"HTTP/1.1 OK Fine\r\n\r\n{}", CLOSE)),
    "-200": passes((b"HTTP/1.1 -200 Fine\r\nContent-Length: 0\r\n\r\n", CLOSE)),
    **{
        f"{code} bare": passes(http(b"", code))
        for code in (401, 402, 403, 404, 407, 408, 409, 410, 423, 425, 429, 451)
    },
    **{
        f"{code} as a page": passes(http(b"<html>No", code, "Content-Type: text/html"))
        for code in (401, 403, 407)
    },
    **{
        f"{code} bare, for ever": never_ends(http(b"", code))
        for code in (400, 402, 404, 408, 410, 418, 425, 429, 451, 500, 502, 503, 504, 520)
    },
    **{
        f"{code} bare, for ever": final(
            http(b"", code), (*ACCESS, *TIMED_OUT), Money.RUNNING, download=(*ACCESS, *UNAVAILABLE)
        )
        for code in (401, 403, 407)
    },
    "409 bare, for ever": final(
        http(b"", 409), ("KlingInputError", *TIMED_OUT), download=(*UNAVAILABLE, "KlingInputError")
    ),
    **{
        f"{code} to the sign-in page": passes(http(b"", code, "Location: https://portal.example/login"))
        for code in (301, 302, 303, 307, 308)
    },
    **{
        f"{code} to itself": passes(http(b"", code, "Location: /v3/async/task-result")) for code in (302, 307)
    },
    "a redirect without a place": passes(http(b"", 302)),
    "a redirect to nonsense": passes(http(b"", 302, "Location: http://[::1/\xff")),
    "a redirect to another door of ours": passes(http(b"", 302, f"Location: {WRONG}")),
    "a redirect for ever": final(
        http(b"", 302, f"Location: https://portal.example/?t={SIGNATURE}"),
        (*ACCESS, *TIMED_OUT),
        Money.RUNNING,
        download=(*ACCESS, *UNAVAILABLE),
    ),
}
for header in ["0", "-5", "99999999999", "1e999", "NaN", "soon", "", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 5000,
               "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 99 Foo 2026 99:99:99", "3600, 7200", "10", "\xff", "٣"]:  # fmt: skip
    busy = json_http({"reason": "RATE_LIMIT_EXCEEDED"}, 429, f"Retry-After: {header}")
    STATUSES[f"429, Retry-After {header[:30]!r}"] = Story((busy,), download=(DONE, *UNAVAILABLE))
    STATUSES[f"503, Retry-After {header[:30]!r}"] = Story(
        (http(b"", 503, f"Retry-After: {header}"),), download=(DONE, *UNAVAILABLE)
    )
STATUSES["429 for ever, Retry-After of a year"] = never_ends(json_http({}, 429, "Retry-After: 31536000"))
STATUSES["429 for ever, Retry-After of nothing"] = never_ends(json_http({}, 429, "Retry-After: 0"))

BALANCE, INPUT, MODERATION = ("KlingBalanceError",), ("KlingInputError",), ("KlingModerationError",)
#: What ends a submit or a query for good, and with which error.
REFUSALS = {
    ("MISSING_API_KEY", 400): ACCESS,
    ("FAILED_TO_AUTH", 401): ACCESS,
    ("INVALID_API_KEY", 403): ACCESS,
    **{
        (reason, 403): ACCESS
        for reason in ("API_NOT_ALLOWED", "FEATURE_NOT_ALLOWED", "NEED_REAL_NAME_VERIFY")
    },
    **{(reason, 403): ACCESS for reason in ("ACCESS_DENY", "BILLING_AUTH_FAILED")},
    ("BILLING_BALANCE_NOT_ENOUGH", 400): BALANCE,
    ("NOT_ENOUGH_BALANCE", 403): BALANCE,
    ("ILLEGAL_PROMPT", 400): MODERATION,
    ("ILLEGAL_IMAGE_CONTENT", 400): MODERATION,
    ("INVALID_REQUEST_BODY", 400): INPUT,
    ("INVALID_IMAGE_FORMAT", 400): INPUT,
    ("API_NOT_FOUND", 404): INPUT,
}
REASONS = {**REFUSALS, ("TASK_FAILED", 500): FAILED, ("TASK_NOT_FOUND", 404): NOT_FOUND}
MONEY = {FAILED: Money.ENDED, NOT_FOUND: Money.UNAFFECTED}
PASSING_REASONS = [("RATE_LIMIT_EXCEEDED", 429), ("BILLING_FAILED", 500), ("CREATE_TASK_FAILED", 500)]
PASSING_REASONS += [
    ("GET_RESULT_FAILED", 500),
    ("WHO_KNOWS", 500),
    ("RATE_LIMIT_EXCEEDED", 401),
    ("GET_RESULT_FAILED", 404),
]
ERRORS = {
    **{
        f"{reason} {status}": final(
            refusal(reason, status), ends, MONEY.get(ends, Money.RUNNING), shows=reason
        )
        for (reason, status), ends in REASONS.items()
    },
    **{
        f"{reason} {status}, nested": final(
            json_http({"error": {"code": status, "reason": reason, "message": "m"}}, status),
            ends,
            shows=reason,
        )
        for (reason, status), ends in REASONS.items()
    },
    **{
        f"{reason} with 200": final(
            refusal(reason, 200), (*ends, *TIMED_OUT), download=(*ends, *UNFINISHED), shows=reason
        )
        for (reason, _), ends in REASONS.items()
    },
    **{
        f"{reason} {status}": never_ends(refusal(reason, status), shows=reason)
        for reason, status in PASSING_REASONS
    },
    **{f"{reason} {status}, twice": passes(refusal(reason, status)) for reason, status in PASSING_REASONS},
    "INVALID_API_KEY with 502": final(refusal("INVALID_API_KEY", 502), ACCESS, shows="INVALID_API_KEY"),
    "TASK_NOT_FOUND with 500": final(refusal("TASK_NOT_FOUND", 500), NOT_FOUND),
    "TASK_NOT_FOUND after it was seen": Story((PROCESSING, refusal("TASK_NOT_FOUND", 404), PROCESSING)),
    "a reason of a proxy with 401": passes(refusal("UNAUTHORIZED", 401, message="sso session expired")),
    "an error in an error": passes(json_http({"error": {"error": {"reason": "INVALID_API_KEY"}}}, 500)),
    "a message of a megabyte": passes(refusal("X" * 1_000_000, 500, message="y" * 1_000_000)),
}
HEAD = b"HTTP/1.1 200 OK\r\n"
FRAMING = {
    "a cookie": reads(json_http(task(link=RIGHT), 200, "Set-Cookie: a=b; Path=/")),
    "a clock that is wrong": reads(json_http(task(link=RIGHT), 200, "Date: Thu, 01 Jan 1970 00:00:00 GMT")),
    "a place for an answer": reads(json_http(task(link=RIGHT), 200, "Location: https://portal.example/")),
    "HTTP/1.0 that stays open": reads(SUCCEEDED.replace(b"HTTP/1.1", b"HTTP/1.0")),
    "the same length twice": either((http(BODY, 200, f"Content-Length: {len(BODY)}"), CLOSE)),
    "a length with a sign": passes((http(BODY, 200, JSON, length=f"+{len(BODY)}"), CLOSE)),
    "gzip as a transfer encoding": either(
        (http(gzip.compress(BODY), 200, "Transfer-Encoding: gzip", length=False), CLOSE)
    ),
    "a length too short": passes(http(BODY, 200, JSON, length=len(BODY) - 40)),
    "a length too long": passes((http(BODY, 200, JSON, length=len(BODY) + 40), CLOSE)),
    "a length that is negative": passes((http(BODY, 200, JSON, length=-1), CLOSE)),
    "a length that is no number": passes((http(BODY, 200, JSON, length="many"), CLOSE)),
    "a length of 2 to the 70": passes((http(BODY, 200, JSON, length=2**70), CLOSE)),
    "a length of 5000 digits": passes((http(BODY, 200, JSON, length="9" * 5000), CLOSE)),
    "two lengths": passes((http(BODY, 200, "Content-Length: 7"), CLOSE)),
    "no length": either((http(BODY, 200, JSON, length=False), CLOSE)),
    "HTTP/1.0 without a length": either(
        (http(BODY, 200, JSON, length=False).replace(b"HTTP/1.1", b"HTTP/1.0"), CLOSE)
    ),
    "HTTP/0.9": passes((BODY, CLOSE)),
    "HTTP/2": passes((b"\0\0\x12\x04\0\0\0\0\0", CLOSE)),
    "HTTP/9.9": passes((SUCCEEDED.replace(b"HTTP/1.1", b"HTTP/9.9"), CLOSE)),
    "SSH": passes((b"SSH-2.0-OpenSSH_9.6\r\n", CLOSE)),
    "nothing": passes((CLOSE,)),
    "lines that end in LF": either((SUCCEEDED.replace(b"\r\n", b"\n"), CLOSE)),
    "a blank line before": either((b"\r\n" + SUCCEEDED, CLOSE)),
    "a header without a colon": either((SUCCEEDED.replace(b"\r\n", b"\r\nWhat is this\r\n", 1), CLOSE)),
    "a folded header": either((SUCCEEDED.replace(b"\r\n", b"\r\nX: a\r\n  b\r\n", 1), CLOSE)),
    "a header with NUL": either((SUCCEEDED.replace(b"\r\n", b"\r\nX: a\0b\r\n", 1), CLOSE)),
    "a header of 100 KiB": either(
        (SUCCEEDED.replace(b"\r\n", b"\r\nX: " + b"a" * 102_400 + b"\r\n", 1), CLOSE)
    ),
    "20 000 headers": either((SUCCEEDED.replace(b"\r\n", b"\r\n" + b"X: y\r\n" * 20_000, 1), CLOSE)),
    "chunks": reads(chunked(chunk(BODY[:10]), chunk(BODY[10:]), head=[JSON])),
    "a chunk for each byte": reads(chunked(*(chunk(BODY[n : n + 1]) for n in range(len(BODY))))),
    "chunks with trailers": reads(chunked(chunk(BODY), end=b"0\r\nX-Sum: 1\r\n\r\n")),
    "chunks and a length": either((chunked(chunk(BODY), head=["Content-Length: 5"]), CLOSE)),
    "a chunk size that is none": passes((chunked(b"zz\r\n" + BODY), CLOSE)),
    "a negative chunk size": passes((chunked(b"-5\r\n" + BODY), CLOSE)),
    "a chunk size of a million digits": passes((chunked(b"f" * 1_000_000 + b"\r\n" + BODY), CLOSE)),
    "a chunk size beyond all memory": passes((chunked(b"ffffffffffffffff\r\n" + BODY), CLOSE)),
    "a chunk extension of 60 KiB": either((chunked(chunk(BODY, b";x=" + b"y" * 61_440)), CLOSE)),
    "a chunk longer than it says": passes((chunked(b"5\r\n" + BODY + b"\r\n"), CLOSE)),
    "chunks without an end": passes((chunked(chunk(BODY), end=b""), CLOSE)),
    "chunks without CR LF between": passes((chunked(chunk(BODY[:10])[:-2], chunk(BODY[10:])), CLOSE)),
    "trailers of a megabyte": either(
        (chunked(chunk(BODY), end=b"0\r\n" + b"X: y\r\n" * 170_000 + b"\r\n"), CLOSE)
    ),
    "an unknown transfer encoding": passes(
        (http(BODY, 200, "Transfer-Encoding: rot13", length=False), CLOSE)
    ),
    "reset at once": passes((RESET,)),
    "reset in the status line": passes((b"HTTP/1.1 2", RESET)),
    "reset in the head": passes((HEAD + b"Content-Len", RESET)),
    "reset before the body": passes((http(b"", 200, JSON, length=len(BODY)), RESET)),
    "reset in the body": passes((http(BODY[:40], 200, JSON, length=len(BODY)), RESET)),
    "reset in a chunk size": passes((chunked(chunk(BODY[:40]), b"1", end=b""), RESET)),
    "cut for ever": never_ends((http(BODY[:40], 200, JSON, length=len(BODY)), CLOSE)),
    "the connection is closed behind the answer": reads((SUCCEEDED, CLOSE)),
    "a drip in the head": Story((PROCESSING, (HEAD + b"X: ", Drip()))),
}
ECHOES = {}
for how, spell in SPELLINGS.items():
    key, token = spell(KEY), spell(HEADER[1])
    signed = spell(RIGHT)
    words = f"E42 {key} and {token} and {signed}"
    ECHOES |= {
        f"{how} in the reason of a failure": final(
            json_http(task("TASK_STATUS_FAILED", reason=words)), FAILED, Money.ENDED, shows="E42"
        ),
        f"{how} in an error": final(refusal("INVALID_API_KEY", 403, message=words), ACCESS, shows="E42"),
        f"{how} in an error's code": never_ends(json_http({"reason": words, "code": words}, 500)),
        f"{how} in a page": never_ends(http(words.encode(), 502, "Content-Type: text/html")),
        f"{how} in the texts of a success": reads(
            json_http(
                task(link=RIGHT, task_type=words, reason=words, extra={"debug_info": {"request_info": words}})
            )
        ),
        f"{how} in the status": passes(json_http(task(f"TASK_STATUS_{words}"))),
        f"{how} in the numbers": reads(
            json_http(task(link=RIGHT, eta=words, progress_percent=words, extra=times(submit_time_ms=words)))
        ),
        f"{how} as the id": passes(named(words)),
        f"{how} as the type of the video": reads(
            json_http(task(videos=[{"video_url": RIGHT, "video_type": words, "video_url_ttl": words}]))
        ),
        f"{how} in Location": passes(http(b"", 302, f"Location: https://portal.example/{key}?{token}")),
        f"{how} in headers": passes(
            http(b"", 429, f"Retry-After: {key}", f"Content-Type: {token}", f"Server: {key}")
        ),
        f"{how} in the status line": passes(http(b"", 502, reason=f"{key} {token}")),
        f"{how} in a broken status line": passes((f"HTTP/1.1 {key} {token}\r\n\r\n".encode(), CLOSE)),
        f"{how} in a broken header": passes((HEAD + f"Content-Length: {key}\r\n\r\n".encode(), CLOSE)),
        f"{how} in a broken chunk": passes((chunked(f"{key}\r\n".encode()), CLOSE)),
        f"{how} as an encoding": passes(encoded(b"x", key)),
        f"{how} as videos that are none": final(
            json_http({**task(), "videos": words, "note": words}),
            (*FAILED, *LINK_REFUSED),
            download=LINK_REFUSED,
            same=False,
        ),
        f"{how} cut where texts end": final(
            json_http(task("TASK_STATUS_FAILED", reason="E42 " + "x " * 230 + words)),
            FAILED,
            Money.ENDED,
            shows="E42",
        ),
    }
STORIES = {
    f"{family}: {name}": story
    for family, stories in {
        "other job": OTHER_JOB, "surplus": SURPLUS, "stale": STALE, "word": WORDS, "videos": VIDEOS,
        "encoding": ENCODINGS, "layout": LAYOUTS,
        "JSON": ODD_JSON, "status": STATUSES,
        "error": ERRORS, "framing": FRAMING, "echo": ECHOES,
    }.items()
    for name, story in stories.items()
}  # fmt: skip
