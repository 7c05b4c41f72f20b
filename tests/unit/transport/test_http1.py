"""HTTP/1.1 read by hand: what is plain is read exactly, everything else is refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.transport.http1 import read, request


def answer(body=b"{}", *headers, status="200 OK", length=True):
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*chunks, end=b"0\r\n\r\n"):
    head = answer(b"", "Transfer-Encoding: chunked", length=False)
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def test_a_request_names_the_host_the_path_and_the_headers():
    before, after = request("https://gateway.test:8443/prefix", {"Accept": "application/json"})
    assert before + b"/v3/x?task_id=1" + after == (
        b"GET /prefix/v3/x?task_id=1 HTTP/1.1\r\nHost: gateway.test:8443\r\nAccept: application/json\r\n\r\n"
    )
    assert request("http://gateway.test", {})[0] == b"GET "


def test_an_answer_is_read_with_its_status_headers_and_body():
    got = read(answer(b'{"a": 1}', "Content-Type: application/json ", "RETRY-AFTER:7", status="429"))
    assert (got.status, got.body, got.keep) == (429, b'{"a": 1}', True)
    assert got.headers == {"content-type": "application/json", "retry-after": "7", "content-length": "8"}


PLAIN = [
    answer(b"abc"),
    answer(b"abc", status="404 Not Found"),
    chunked(b"ab", b"c"),
    chunked(b"abc", end=b"0;ext=1\r\n\r\n"),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + answer(b"abc"),
]


@pytest.mark.parametrize("data", PLAIN)
def test_whatever_is_not_complete_waits_for_more_and_no_byte_counts_twice(data):
    assert all(read(data[:size]) is None for size in range(len(data)))
    assert all(read(data[:size], ended=True) is None for size in range(len(data)))
    assert read(data).body == b"abc"
    assert read(data).keep


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8))
def test_chunks_are_put_together_whatever_is_in_them(chunks):
    assert read(chunked(*chunks)).body == b"".join(chunks)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_needs_no_length(status):
    assert read(answer(b"", status=f"{status} X", length=False)).body == b""


@pytest.mark.parametrize(
    "data",
    [
        answer(b"abc", "Connection: Close"),
        answer(b"abc").replace(b"HTTP/1.1", b"HTTP/1.0"),
        answer(b"abc") + b"more than was asked for",
        chunked(b"abc", end=b"0\r\nTrailer: 1\r\n\r\n"),
    ],
)
def test_a_connection_that_may_not_be_used_again_is_not(data):
    assert read(data).body == b"abc"
    assert not read(data).keep


def test_a_body_without_a_length_lasts_to_the_end_of_the_connection():
    data = answer(b"abc", length=False)
    assert read(data) is None
    assert read(data, ended=True).body == b"abc"
    assert not read(data, ended=True).keep


def test_a_trailer_that_is_not_complete_waits_for_more():
    assert read(chunked(b"abc", end=b"0\r\nTrailer: 1\r\n")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"<html>what?</html>\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 20x X\r\n\r\n",
        answer(b"abc", "no colon"),
        answer(b"abc", " folded: line"),
        answer(b"abc", "Content-Length: 3"),
        answer(b"abc", "Content-Encoding: gzip"),
        answer(b"abc", "Transfer-Encoding: chunked"),
        answer(b"abc", "Transfer-Encoding: gzip", length=False),
        answer(b"abc", "Content-Length: +3", length=False),
        answer(b"abc", "Content-Length: 3, 3", length=False),
        answer(b"abc", "Content-Length: ³", length=False),
        chunked(b"abc", end=b"-1\r\n\r\n"),
        chunked(b"abc", end=b"\r\n0\r\n\r\n"),
        chunked(end=b"2\r\nabc\r\n0\r\n\r\n"),
        answer(b"x" * 70_000)[:-1],
        b"x" * 70_000,
        answer(b"", status="101 Switching Protocols", length=False) + b"x" * 70_000,
    ],
)
def test_what_is_not_plain_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        read(data)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_do_more_than_be_refused(data, ended):
    for given_bytes in (data, answer(data, length=False), chunked(data, end=data)):
        with suppress(ValueError):
            read(given_bytes, ended=ended)
