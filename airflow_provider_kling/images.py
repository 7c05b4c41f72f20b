"""A picture's format and size, read from its header: no decoding, no imaging library."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from airflow_provider_kling.errors import KlingInputError

#: Limits of the gateway's pages: bytes, pixels a side, width to height.
LARGEST_FILE = 10 * 1024 * 1024
SMALLEST_SIDE = 300
WIDEST, TALLEST = 2.5, 1 / 2.5

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that the gateway's documented limits allow.

    :param data: the file's bytes.
    :param media_type: ``image/jpeg`` or ``image/png``, by content.
    :param width: pixels.
    :param height: pixels.
    """

    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int

    def as_base64(self, *, bare: bool = False) -> str:
        """Return the picture as a data URI, or as bare base64."""
        text = base64.b64encode(self.data).decode("ascii")
        return text if bare else f"data:{self.media_type};base64,{text}"

    @property
    def sha256(self) -> str:
        """The hash of the file."""
        return hashlib.sha256(self.data).hexdigest()

    def describe(self) -> str:
        """Return format and size for a log line."""
        kind = self.media_type.removeprefix("image/").upper()
        return f"{kind} {self.width}x{self.height}, {len(self.data) / 1000:.0f} kB"


def check_picture(data: bytes, argument: str, source: str) -> Picture:
    """Return the picture in *data* if the gateway's limits allow it.

    :param argument: the operator's argument, for the message.
    :param source: where the picture came from, for the message.
    :raises KlingInputError: saying what is wrong and what is allowed.
    """

    def wrong(what: str) -> KlingInputError:
        return KlingInputError(f"{argument}={source!r}: {what}.")

    if len(data) > LARGEST_FILE:
        raise wrong(f"the file has more than the {LARGEST_FILE // 2**20} MiB that are allowed")
    media_type, size = _header(data)
    if not media_type:
        raise wrong("not a JPEG or PNG picture, by its content")
    if size is None:
        raise wrong("the picture's header is damaged or cut off")
    width, height = size
    if min(width, height) < SMALLEST_SIDE:
        raise wrong(f"{width}x{height} pixels; each side must have at least {SMALLEST_SIDE}")
    if not TALLEST <= width / height <= WIDEST:
        raise wrong(f"{width}x{height} pixels; width to height must be between 1:2.5 and 2.5:1")
    return Picture(data, media_type, width, height)


def from_base64(text: str) -> bytes | None:
    """Return the bytes of a data URI or of bare base64, or None where the text is neither."""
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _header(data: bytes) -> tuple[str, tuple[int, int] | None]:
    if data.startswith(_PNG):
        return "image/png", _png_size(data)
    if data.startswith(_JPEG):
        return "image/jpeg", _jpeg_size(data)
    return "", None


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 33 or data[12:16] != b"IHDR":  # signature and the whole first chunk
        return None
    return _positive(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:  # a marker starts with FF
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _START_OF_FRAME:
            return _positive(int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7]))
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def _positive(width: int, height: int) -> tuple[int, int] | None:
    return (width, height) if width and height else None
