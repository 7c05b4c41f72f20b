"""What of a text from outside may be shown: no control characters, no signature, no key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any


def printable(text: str) -> str:
    """Return foreign words without what no database or log takes: control characters, lone surrogates."""
    return _UNPRINTABLE.sub("\ufffd", text)


def clean(text: str) -> str:
    """Return foreign words, printable, without what must not be told: a URL's signature, a picture's data."""
    unsigned = _QUERY.sub(r"\1", printable(text))
    return _DATA.sub(lambda found: f"<{len(found[0])} characters>", unsigned)


_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_QUERY = re.compile(r"(https?://[^\s\"'<>?]*)\?[^\s\"'<>]*")
_DATA = re.compile(r"[A-Za-z0-9+/_=-]{200,}")


def shorten(text: str, limit: int = 500) -> str:
    """Return *text* on one line, cut off after *limit* characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit]}…"


#: How the base64 of a PNG and of a JPEG begins.
PICTURES_IN_BASE64 = ("iVBORw0KGgo", "/9j/")
#: How bytes look that a template has made a text of.
BYTES_AS_TEXT = tuple(f"b{quote}{begin}" for quote in "'\"" for begin in (r"\x89PNG", r"\xff\xd8"))
_PICTURE_DATA = ("data:", *PICTURES_IN_BASE64, *BYTES_AS_TEXT)
_LONGEST_TEXT = 4096


def told(value: Any) -> Any:
    """Return an input as it may be shown: pictures' data as a hash, URLs without their query."""
    if isinstance(value, Mapping):
        return {name: told(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _hashed(bytes(value), f"{len(value)} bytes")
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return re.sub(r"//[^/@]*@", "//", value.split("?", maxsplit=1)[0])
    if isinstance(value, str) and (value.startswith(_PICTURE_DATA) or len(value) > _LONGEST_TEXT):
        return _hashed(value.encode("utf-8", "surrogatepass"), f"{len(value)} characters")
    return value


def _hashed(data: bytes, what: str) -> str:
    return f"<{what}, sha256 {hashlib.sha256(data).hexdigest()}>"
