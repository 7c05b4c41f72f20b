"""What of a text may be shown: no secret, no signed URL, no picture's data, no control characters.

:class:`Redactor` is for texts that come from outside, :func:`redacted` for the inputs of a job.
"""

from __future__ import annotations

import hashlib
import html
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any
from urllib.parse import unquote

#: What stands for a secret.
MASK = "***"
#: Characters of a foreign text that are read at all.
_MAX_TEXT = 64 * 1024
#: A text that is escaped more often than this is not shown.
_MAX_LAYERS = 3 * 8
#: A shorter value of a header is no secret, and stands in half of all texts.
_SHORTEST_SECRET = 4
#: A shorter value of a header may stand in an id or a link by chance.
_SHORTEST_IN_ID = 12
#: The beginning or the end of a secret counts as the secret from this length on: an answer may be cut off.
_SHORTEST_PART = 12
#: A shorter base64 text may be anything.
_SHORTEST_CORE = 8


class Redactor:
    """Makes foreign texts fit to be shown. It knows the secrets of one connection.

    A secret is found in every spelling that JSON, HTTP, a URL or HTML has for it, also where it is escaped
    several times, is written in base64 or hexadecimal, or is cut off.

    :param key: the API key.
    :param values: further secrets, such as the values of the connection's headers.
    """

    def __init__(self, key: str = "", values: Iterable[str] = ()) -> None:
        values = [value for value in map(str.strip, values) if len(value) >= _SHORTEST_SECRET]
        self._spellings = _all_spellings([key, *values])
        self._in_ids = _all_spellings([key, *(value for value in values if len(value) >= _SHORTEST_IN_ID)])

    def shown(self, text: str, limit: int = 500) -> str:
        """Return *text* on one line, without secrets, then cut off after *limit* characters."""
        return shorten(self._redacted(text[:_MAX_TEXT]), limit)

    def finds_secret(self, text: str) -> bool:
        """Return whether a secret stands in an id or a link, in any spelling, or a part cannot be decoded.

        A header's short value does not count: it would hide the id or the link of a paid video.
        """
        layer = ""
        for layer in _layers(text[:_MAX_TEXT]):
            if _masked(layer, self._in_ids) != layer:
                return True
        return len(text) > _MAX_TEXT or _unescaped(layer) != layer

    def _redacted(self, text: str) -> str:
        # Secrets first, in all layers: what else is hidden could cut an escaped secret in two.
        shown, innermost = _in_all_layers(self._masked, text)
        # Whole secrets before their parts: else only the beginning of an escaped one is hidden.
        last = self._masked(innermost, cut_off=True)
        shown = shown if last == innermost else last
        for hide in (partial(self._masked, cut_off=True), _hidden):
            shown, _ = _in_all_layers(hide, shown)
        return _printable_line(shown)

    def _masked(self, text: str, *, cut_off: bool = False) -> str:
        return _masked(text, self._spellings, cut_off=cut_off)


def _masked(text: str, spellings: set[str], *, cut_off: bool = False) -> str:
    """Return *text* without the secrets that are not escaped; with *cut_off*, without their parts too."""
    if not spellings:
        return text
    table = _squeezing()
    squeezed = text.translate(table)
    found = sorted(place for spelling in spellings for place in _places(spelling, squeezed, cut_off=cut_off))
    if not found:
        return text
    index = [at for at, char in enumerate(text) if table.get(ord(char), 0) is not None]
    parts: list[str] = []
    shown = masked = 0  # so far in the text, and in the squeezed text
    for start, end in found:
        if start >= masked:
            parts += text[shown : index[start]], MASK
        if end > masked:
            shown, masked = index[end - 1] + 1, end
    return "".join((*parts, text[shown:]))


def _all_spellings(secrets: Iterable[str]) -> set[str]:
    return {spelling for secret in secrets if secret for spelling in _spellings(secret)}


def _spellings(secret: str) -> Iterator[str]:
    """Yield a secret in all spellings that are not escapes, squeezed."""
    data = secret.encode("utf-8", "surrogatepass")
    texts = (*_layers(secret), data.decode("latin-1"), data.hex(), *_base64_cores(data))
    for text in texts if len(secret) > 1 else (secret,):
        # A form writes a blank as +, and its reader may take a + for a blank.
        for form in (text, text.replace(" ", "+"), text.replace("+", " ")):
            squeezed = form.translate(_squeezing())
            if len(squeezed) >= min(len(secret), _SHORTEST_SECRET):
                yield squeezed


def _places(spelling: str, text: str, *, cut_off: bool) -> Iterator[tuple[int, int]]:
    """Yield where a spelling begins and ends in a text, both squeezed; with *cut_off*, also a part of it."""
    if cut_off:
        length = len(text)
        ends = _beginnings(spelling[::-1], text[::-1], _SHORTEST_PART)
        yield from ((length - end, length - start) for start, end in ends)
    yield from _beginnings(spelling, text, _SHORTEST_PART if cut_off else len(spelling))


def _beginnings(spelling: str, text: str, shortest: int) -> Iterator[tuple[int, int]]:
    """Yield the places in a text where a spelling stands, or its beginning of at least this length."""
    beginning = spelling[:shortest]
    start = text.find(beginning)
    while start >= 0:
        end = start + len(beginning)
        while end < len(text) and text[end] == spelling[end - start : end - start + 1]:
            end += 1
        yield start, end
        start = text.find(beginning, end)


# Also between the two halves of a key there may be what no reader sees.
_INVISIBLE = (
    "\\x00-\\x1f\\x7f-\\x9f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff0-\\uffff"
    "\\ud800-\\udfff\\U000e0000-\\U000e007f"
)
_UNPRINTABLE = re.compile(f"[{_INVISIBLE}]")
_CONTROL = re.compile(f"(?![\\t\\n\\r\ufffd])[{_INVISIBLE}]")


@cache
def _squeezing() -> dict[int, int | None]:
    """Return the table for a text in which to look for secrets: one case, no blanks, one kind of base64."""
    characters = "".join(map(chr, (*range(0x10000), *range(0xE0000, 0xE0080))))
    return {
        **{code: ord(chr(code).lower()) for code in range(256)},
        ord("-"): ord("+"),
        ord("_"): ord("/"),
        **{ord(gap): None for gap in re.findall(f"[{_INVISIBLE}\\s]", characters)},
    }


def _base64_cores(data: bytes) -> Iterator[str]:
    """Yield the characters that every base64 text with *data* in it has, by where *data* begins."""
    for before in range(3):
        text = b64encode(b"\0" * before + data).decode()
        core = text.rstrip("=")[(0, 2, 3)[before] :]
        core = core[:-1] if text.endswith("=") else core
        if len(core) >= _SHORTEST_CORE:
            yield core


def _layers(text: str) -> Iterator[str]:
    """Yield the text, and what it is without its escapes, until nothing is escaped any more."""
    for _ in range(_MAX_LAYERS):
        yield text
        decoded = _unescaped(text)
        if decoded == text:
            return
        text = decoded


def _in_all_layers(hide: Callable[[str], str], text: str) -> tuple[str, str]:
    """Return what may be shown of a text, and its innermost layer. A text with too many layers is not shown.

    The text is shown as it is, if no layer hides something; else without escapes.
    """
    shown = layer = hide(text)
    for _ in range(_MAX_LAYERS):
        decoded = _unescaped(layer)
        if decoded == layer:
            return shown, layer
        layer = hide(decoded)
        if layer != decoded:
            shown = layer
    return (_TOO_MANY_LAYERS,) * 2


_TOO_MANY_LAYERS = "<a text that is escaped again and again>"


def _hidden(text: str) -> str:
    return _without_data(_without_encoded_urls(without_signatures(_CONTROL.sub("\ufffd", text))))


def _unescaped(text: str) -> str:
    """Take the outermost escapes of one kind off: of HTML, else of URLs, else of JSON, JavaScript and Python.

    Never two kinds in one step: the second would change a secret that the first has laid open.
    """
    if "&" in text and (decoded := html.unescape(_NUMBERED.sub(_shorter, text))) != text:
        return decoded
    if "%" in text and (decoded := unquote(text, encoding="latin-1")) != text:
        return decoded
    return _BACKSLASHED.sub(_character_of, text) if "\\" in text or "%u" in text else text


#: Python refuses to read very long numbers.
_NUMBERED = re.compile("&#0*([0-9]+)")


def _shorter(found: re.Match[str]) -> str:
    return f"&#{found[1][:8]}"  # more digits are no character either


_BACKSLASHED = re.compile(
    r"%u([0-9a-fA-F]{4})|\\(?:u([0-9a-fA-F]{4})|u\{0*([0-9a-fA-F]{1,5})\}|U000([0-9a-fA-F]{5})"
    r"|x([0-9a-fA-F]{2})|([0-7]{3})|(.))",
    re.DOTALL,
)


def _character_of(found: re.Match[str]) -> str:
    *numbers, octal, letter = found.groups()
    number = next(filter(None, numbers), "")
    if number or octal:
        return chr(int(number or octal, 16 if number else 8))
    return _CONTROLS.get(letter, letter)


_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}


def clean(text: str) -> str:
    """Return a foreign text on one line, without signatures, pictures' data and control characters."""
    return NO_SECRETS.shown(text, _MAX_TEXT)


def _printable_line(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", " ".join(text.split()))


def _without_data(text: str) -> str:
    return _DATA.sub(lambda found: f"{found[0][:40]}<{len(found[0])} characters>", text)


_DATA = re.compile(r"[A-Za-z0-9+/_=-]{200,}")


def _without_encoded_urls(text: str) -> str:
    """Return *text* without base64 that holds a signed URL."""

    def replaced(found: re.Match[str]) -> str:
        data = found[0].translate(_STANDARD_BASE64)
        try:
            decoded = b64decode(data + "=" * (-len(data) % 4)).decode("ascii")
        except ValueError:
            return found[0]
        signed = decoded.isprintable() and without_signatures(decoded) != decoded
        return f"<{len(found[0])} characters>" if signed else found[0]

    return _BASE64.sub(replaced, text)


_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}")
_STANDARD_BASE64 = str.maketrans("-_", "+/")


def without_signatures(text: str) -> str:
    """Return *text* with each URL in it cut to scheme, host, port and path.

    User names, passwords, parameters, queries and fragments are not shown: any of them may be a secret.
    """
    text = _URL.sub(_without_signature, text) if _MAY_BE_URL.search(text) else text
    return _SIGNED.sub(rf"\1{MASK}", text) if "=" in text else text


_MAY_BE_URL = re.compile(r"[\\/]{2}|https?:", re.IGNORECASE)
_URL = re.compile(
    r"(\b[a-z][a-z0-9+.-]{0,30}:[\\/]{2,}|[\\/]{2,}|\bhttps?:[\\/]*)"
    # A quote ends a URL only where nothing of a URL follows.
    r"((?:[^\s\"'<>`]|'+(?=[\w/?#&=%@:]))+)",
    re.IGNORECASE,
)
_PORT = re.compile(r"[^/?#@]*:\d+(?:[/?#]|$)")
#: A parameter that signs a URL, where the URL itself is not seen as one, such as in a log of its path.
_SIGNED = re.compile(
    r"(?<![\w-])((?:x-[a-z]+-[\w-]*|[\w-]*(?:sig|signature|token|secret|credential|accesskeyid|auth_key)"
    r"|policy|key-pair-id|hmac)=)[^\s&\"'<>]+",
    re.IGNORECASE,
)


def _without_signature(found: re.Match[str]) -> str:
    scheme, rest = found[1], found[2]
    before, at, _ = rest.partition("@")
    if ":" not in before and not re.match(r"https?:|[\\/]", scheme, re.IGNORECASE):
        at = ""  # Airflow's storage URLs name a connection there
    user = at and (":" in before or not re.search(r"[/?#]", before)) and not _PORT.match(before)
    rest = rest.rpartition("@")[2] if user else rest
    return scheme + re.split(r"[?#;]", rest, maxsplit=1)[0]


def shorten(text: str, limit: int = 500) -> str:
    """Return *text* on one line, cut off after *limit* characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit]}…"


#: How the base64 of a PNG and of a JPEG begins.
PICTURES_IN_BASE64 = ("iVBORw0KGgo", "/9j/")
#: How bytes look that a template has made a text of.
BYTES_AS_TEXT = tuple(f"b{quote}{begin}" for quote in "'\"" for begin in (r"\x89PNG", r"\xff\xd8"))
_PICTURE_DATA = ("data:", *PICTURES_IN_BASE64, *BYTES_AS_TEXT)
_LONGEST_INPUT = 4096


def redacted(value: Any) -> Any:
    """Return an input as it may be shown: pictures' data as a hash, URLs cut to host and path."""
    if isinstance(value, Mapping):
        return {name: redacted(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _hashed(bytes(value), f"{len(value)} bytes")
    return _redacted_text(value) if isinstance(value, str) else value


def _redacted_text(text: str) -> str:
    is_url = text.lstrip().lower().startswith(("http:", "https:"))
    if not is_url and (text.startswith(_PICTURE_DATA) or len(text) > _LONGEST_INPUT):
        return _hashed(text.encode("utf-8", "surrogatepass"), f"{len(text)} characters")
    return without_signatures(text)


def _hashed(data: bytes, what: str) -> str:
    return f"<{what}, sha256 {hashlib.sha256(data).hexdigest()}>"


#: For texts that come before a connection is known.
NO_SECRETS = Redactor()
