"""What a hostile storage host sends: the file is the job's own and whole, or there is none."""

import gzip

import pytest
from hostile_gateway import (
    CLOSE,
    GATEWAY,
    HEADER,
    KEY,
    OTHER_VIDEO,
    RESET,
    SIGNATURE,
    VIDEO,
    Drip,
    chunk,
    chunked,
    http,
    stored,
)
from hostile_runs import DONE, STORAGE_WAYS, Story, play
from hostile_spellings import SPELLINGS, TEXTS

from airflow_provider_kling.errors import Money

NOT_WHOLE = ("KlingDownloadError", "KlingVideoError")
MP4, ETAG = "Content-Type: video/mp4", 'ETag: "right"'
HALF = len(VIDEO) // 2


def overcome(*answers):
    return Story(answers)


def never(answer, **more):
    return Story((answer,), for_ever=True, ends=NOT_WHOLE, money=Money.PAID, **more)


def forbidden(answer):
    return Story((answer,), for_ever=True, ends=("KlingAccessError",), money=Money.PAID)


def either(*answers, **more):
    return Story(answers, for_ever=True, ends=(DONE, *NOT_WHOLE), money=Money.PAID, **more)


def part(first, total=len(VIDEO), data=None, etag=ETAG):
    data = VIDEO[first:] if data is None else data
    return http(data, 206, MP4, etag, f"Content-Range: bytes {first}-{first + len(data) - 1}/{total}")


CUT = (http(VIDEO[:HALF], 200, MP4, ETAG, "Accept-Ranges: bytes", length=len(VIDEO)), CLOSE)
TWISTED = VIDEO[:-8] + bytes(8)
RESUMED = {
    "from the start again": overcome(CUT, stored(VIDEO)),
    "from where it stopped": overcome(CUT, part(HALF)),
    "from somewhere else": either(CUT, part(HALF - 10)),
    "from further on": either(CUT, part(HALF + 10)),
    "with another total": either(CUT, part(HALF, len(VIDEO) + 5)),
    "of another file": either(CUT, part(HALF, data=OTHER_VIDEO[HALF:], etag='ETag: "other"')),
    "of another file, of the same length": either(CUT, part(HALF, data=TWISTED[HALF:], etag='ETag: "other"')),
    "of another length": either(CUT, part(HALF, len(OTHER_VIDEO), data=OTHER_VIDEO[HALF:])),
    "with 416": either(CUT, http(b"", 416, f"Content-Range: bytes */{len(VIDEO)}")),
    "with 200 and only the rest": either(CUT, http(VIDEO[HALF:], 200, MP4, ETAG)),
    "cut each time": either(CUT),
    "reset": overcome((http(VIDEO[:HALF], 200, MP4, ETAG, length=len(VIDEO)), RESET)),
}
REFUSED = {
    **{
        f"{code} once": overcome(http(b"", code))
        for code in (400, 401, 403, 404, 408, 410, 429, 500, 502, 503, 504)
    },
    **{
        f"{code} for ever": never(http(b"<Error><Code>AccessDenied</Code></Error>", code))
        for code in (400, 403, 404, 410, 418, 429, 500, 503)
    },
    **{
        f"{code} to the link itself": never(http(b"", code, f"Location: {GATEWAY.link()}"))
        for code in (301, 302, 307)
    },
    "a redirect to a file": never(http(b"", 302, "Location: file:///etc/passwd")),
    "a redirect to the metadata address": forbidden(
        http(b"", 302, "Location: http://169.254.169.254/latest/")
    ),
    "a redirect to a script": never(http(b"", 302, "Location: javascript:alert(1)")),
    "a redirect behind a user": forbidden(
        http(b"", 302, f"Location: http://127.0.0.1:{SIGNATURE}@169.254.169.254/")
    ),
    "an error with 200": never(
        http(b"<Error><Code>AccessDenied</Code></Error>", 200, "Content-Type: application/xml")
    ),
    "204": never(http(b"", 204, length=False)),
    "304": never(http(b"", 304, length=False)),
    "nothing": never((CLOSE,)),
    "reset": never((RESET,)),
    "an empty file": never(http(b"", 200, MP4)),
    "a page": never(http(b"<html>Sign in</html>", 200, "Content-Type: text/html")),
    "a page that says it is a video": never(http(b"<html>Sign in</html>" * 99, 200, MP4)),
    "zeros of the right length": never(http(bytes(len(VIDEO)), 200, MP4)),
    "the first half, whole by its length": never(http(VIDEO[:HALF], 200, MP4)),
    "a byte less": never(http(VIDEO[:-1], 200, MP4)),
    "a length of 2 to the 60": never((http(VIDEO, 200, MP4, length=2**60), CLOSE)),
    "a length that is none": either((http(VIDEO, 200, MP4, length="x"), CLOSE)),
    "a bad chunk": never((chunked(chunk(VIDEO[:HALF]), b"zz\r\n", head=[MP4]), CLOSE)),
    "chunks without an end": either((chunked(chunk(VIDEO), end=b"", head=[MP4]), CLOSE)),
    "gzip that is none": either(http(VIDEO, 200, MP4, "Content-Encoding: gzip")),
    "a status line that is none": never((b"nonsense\r\n\r\n", CLOSE)),
    "a drip": Story(
        ((http(b"", 200, MP4, ETAG, length=len(VIDEO)), Drip(VIDEO[:30])),), ends=(DONE, *NOT_WHOLE)
    ),
}
WHOLE = {
    "in chunks": either(chunked(chunk(VIDEO[:100]), chunk(VIDEO[100:]), head=[MP4])),
    "without a length": either((http(VIDEO, 200, MP4, length=False), CLOSE)),
    "with gzip": either(http(gzip.compress(VIDEO), 200, MP4, "Content-Encoding: gzip")),
    "with two types": Story(
        (http(VIDEO, 200, MP4, "Content-Type: text/html"),), for_ever=True, ends=(DONE, *NOT_WHOLE)
    ),
    "with trailers": Story((chunked(chunk(VIDEO), end=b"0\r\nX: 1\r\n\r\n", head=[MP4]),), for_ever=True),
    "in chunks of a byte": Story(
        (chunked(*(chunk(VIDEO[n : n + 1]) for n in range(len(VIDEO))), head=[MP4]),)
    ),
    "with br that is none": either(http(VIDEO, 200, MP4, "Content-Encoding: br")),
    "with a range of all": either(
        http(VIDEO, 200, MP4, f"Content-Range: bytes 0-{len(VIDEO) - 1}/{len(VIDEO)}")
    ),
    "with 206 unasked": either(part(0)),
    "without a type": Story((http(VIDEO, 200),), for_ever=True),
    "with an answer more behind it": Story((stored(VIDEO) + stored(OTHER_VIDEO),), for_ever=True),
    "with a byte behind it": Story((stored(VIDEO) + b"x",), for_ever=True),
    "after Early Hints": Story((b"HTTP/1.1 103 Early Hints\r\n\r\n" + stored(VIDEO),), for_ever=True),
    "with a name for the file": Story(
        (http(VIDEO, 200, MP4, 'Content-Disposition: attachment; filename="../../x"'),), for_ever=True
    ),
    "after a redirect": Story((http(b"", 302, f"Location: {GATEWAY.link()}&again=1"),)),
    "after a redirect without a scheme": Story(
        (http(b"", 302, f"Location: {GATEWAY.link().removeprefix('http:')}"),)
    ),
    "after a relative redirect": Story(
        (http(b"", 302, f"Location: /videos/right.mp4?X-Amz-Signature={SIGNATURE}"),)
    ),
}
WHOLE |= {
    f"with {name} in its type": Story(
        (
            http(
                VIDEO,
                200,
                f"Content-Type: video/mp4{text.replace(chr(13), '').replace(chr(10), '')}".encode(
                    "utf-8", "surrogatepass"
                ).decode("utf-8", "surrogateescape"),
            ),
        ),
        for_ever=True,
        ends=(DONE, *NOT_WHOLE),
    )
    for name, text in TEXTS.items()
}
ECHOES = {}
for how, spell in SPELLINGS.items():
    words = f"{spell(KEY)} {spell(HEADER[1])} {spell(GATEWAY.link())}"
    ECHOES |= {
        f"{how} in an error": never(
            http(f"<Error>{words}</Error>".encode(), 403, "Content-Type: application/xml")
        ),
        f"{how} in the type": Story(
            (http(VIDEO, 200, f"Content-Type: video/mp4; x={words}"),), for_ever=True, ends=(DONE, *NOT_WHOLE)
        ),
        f"{how} in the status line": never(http(b"", 503, reason=words)),
        f"{how} in a redirect": forbidden(http(b"", 302, f"Location: http://169.254.169.254/{words}")),
    }
STORIES = {
    f"{family}: {name}": story
    for family, stories in {"resumed": RESUMED, "refused": REFUSED, "whole": WHOLE, "echo": ECHOES}.items()
    for name, story in stories.items()
}


@pytest.mark.parametrize("name", STORIES)
def test_what_a_storage_host_sends_is_the_video_whole_or_no_file(hostile, clock, logged, tmp_path, name):
    problems = play(STORIES[name], "storage", STORAGE_WAYS, hostile, clock, logged, tmp_path)
    assert not problems, "\n".join(problems)
