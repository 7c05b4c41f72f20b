"""HTTP/1.1 as far as a query needs it, as pure functions: bytes in, values out.

Thousands of waits send hardly anything else, and a general HTTP client would take most of their time. What
these functions do not understand they refuse, and the general client is asked instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: A task's state is some thousand bytes; what is larger is left to the general client.
_LONGEST = 64 * 1024
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n\0]*)?(?![^\r])")
_HEADER = re.compile(r"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_HEADERS = re.compile(r"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*)*")
_DIGITS = re.compile(rb"[0-9a-fA-F]{1,8}")
_ONCE = frozenset(("content-length", "transfer-encoding", "content-encoding"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer.

    :param status: the HTTP status.
    :param headers: the headers, their names in lower case.
    :param body: the bytes of the body.
    :param keep: whether the connection may be used again.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    keep: bool


def request(base_url: str, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return what stands before and after the target's end in every GET for a gateway.

    :param base_url: scheme, host, port and path prefix, checked.
    :param headers: further headers, checked.
    """
    _, _, rest = base_url.partition("://")
    host, slash, prefix = rest.partition("/")
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": host, **headers}.items())
    return f"GET {slash}{prefix}".encode("ascii"), f" HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def read(data: bytes, *, ended: bool = False) -> Answer | None:
    """Return the answer in *data*, or None while it is not complete; with *ended*, it never will be.

    :param data: all that was received for one GET.
    :param ended: the other side has closed the connection.
    :raises ValueError: it is encoded, large, or no answer as HTTP/1.1 has it.
    """
    answer = _read(data, ended=ended)
    if answer is None and len(data) > _LONGEST:
        raise ValueError("too large")
    return answer


def _read(data: bytes, *, ended: bool) -> Answer | None:
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    status, newer, headers = _read_head(head.decode("latin-1"))
    if status in (100, 102, 103):  # more is to come
        return _read(rest, ended=ended)
    keep = (headers.get("connection", "").lower() if newer else "close") != "close"
    body, left = _read_body(status, headers, rest, ended=ended)
    return None if body is None else Answer(status, headers, body, keep and not ended and left == b"")


def _read_head(head: str) -> tuple[int, bool, dict[str, str]]:
    status = _STATUS.match(head)
    if not (status and _HEADERS.fullmatch(head, status.end())):
        raise ValueError("no head")
    found = _HEADER.findall(head, status.end())
    headers = {name.lower(): value.rstrip(" \t") for name, value in found}
    if len(headers) < len(found) and not _ONCE.isdisjoint(_twice(found)):
        raise ValueError("a header that stands twice")
    return int(status[2]), status[1] == "1", headers


def _twice(found: list[tuple[str, str]]) -> set[str]:
    names = [name.lower() for name, _ in found]
    return {name for name in names if names.count(name) > 1}


def _read_body(
    status: int, headers: Mapping[str, str], rest: bytes, *, ended: bool
) -> tuple[bytes | None, bytes | None]:
    """Return the body, None while it is not complete, and what follows it."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if headers.get("content-encoding", "identity") != "identity":
        raise ValueError("an encoded answer")
    if status in (204, 304):
        return b"", rest
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            raise ValueError("another transfer coding")
        return _read_chunks(rest)
    if length is None:
        return (rest, None) if ended else (None, None)
    if not (length.isascii() and length.isdigit()):
        raise ValueError("a length that is none")
    size = int(length)
    return (rest[:size], rest[size:]) if len(rest) >= size else (None, None)


def _read_chunks(rest: bytes) -> tuple[bytes | None, bytes | None]:
    parts: list[bytes] = []
    at = 0
    while (end := rest.find(b"\r\n", at)) >= 0:
        digits = rest[at:end].partition(b";")[0].strip()
        if not _DIGITS.fullmatch(digits):
            raise ValueError("a chunk's size that is none")
        begin, size = end + 2, int(digits, 16)
        if not size:
            return _after_the_last(b"".join(parts), rest[begin:])
        at = begin + size + 2
        if len(rest) < at:
            break
        if rest[at - 2 : at] != b"\r\n":
            raise ValueError("a chunk longer than its size")
        parts.append(rest[begin : at - 2])
    return None, None


def _after_the_last(body: bytes, rest: bytes) -> tuple[bytes | None, bytes | None]:
    """Read what may follow the last chunk; after a trailer the connection is not used again."""
    if rest.startswith(b"\r\n"):
        return body, rest[2:]
    return (body, None) if b"\r\n\r\n" in rest else (None, None)
