"""Reads size, orientation and end of a PNG or JPEG from the file's structure. No pixels are decoded."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_EXIF = b"Exif\0\0"
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _APP1 = 0xDA, 0xE1
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
#: More chunks (PNG) or segments (JPEG) than any picture of ten megabytes has.
_MAX_SEGMENTS = 100_000
_QUARTER_TURNS = range(5, 9)
#: An Exif entry for the orientation: tag, type (short) and count.
_ORIENTATION = (0x0112, 3, 1)

#: How other formats begin: offset, bytes, name.
_OTHERS = (
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (4, b"jP  ", "JPEG 2000"),
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc")),
    *((4, b"ftyp" + brand, "AVIF") for brand in (b"avif", b"avis")),
    *((4, box, "a video") for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    (0, b"%PDF", "PDF"),
    (0, b"PK\3\4", "a zip archive"),
    (0, b"\0\0\1\0", "ICO"),  # after the videos, which may begin so too
)


class DamagedPictureError(ValueError):
    """The file begins like a PNG or JPEG, and is damaged; the message says how."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The format and size of a picture.

    :param media_type: ``image/png`` or ``image/jpeg``.
    :param width: in pixels, after the Exif rotation.
    :param height: in pixels, after the Exif rotation.
    :param end: the number of bytes that belong to the picture; a file can have more.
    """

    media_type: str
    width: int
    height: int
    end: int


def read_shape(data: bytes, *, whole: bool = True) -> Shape | None:
    """Return the shape of a PNG or JPEG, or None for any other file.

    :param data: the file, or its beginning.
    :param whole: *data* is the whole file, so its end is checked too.
    :raises DamagedPictureError: it is damaged or cut off.
    """
    if data.startswith(_PNG):
        return _png(data, whole=whole)
    if data.startswith(_JPEG):
        return _jpeg(data, whole=whole)
    return None


def format_name(data: bytes) -> str:
    """Return the format of a file that is neither PNG nor JPEG, or an empty text."""
    for at, begin, name in _OTHERS:
        if data[at : at + len(begin)] == begin:
            return name
    text = data[:200].lstrip().lower()
    if text.startswith((b"<svg", b"<?xml")):
        return "SVG or other XML"
    return "HTML" if text.startswith((b"<!doctype html", b"<html")) else ""


def _png(data: bytes, *, whole: bool) -> Shape:
    header = data[8:33]  # length, kind, the first chunk, and its check sum
    if len(header) < 25 or header[:8] != b"\0\0\0\x0dIHDR":
        raise DamagedPictureError("the picture's header is damaged or cut off")
    if zlib.crc32(header[4:21]) != int.from_bytes(header[21:]):
        raise DamagedPictureError("the picture's header is damaged: its check sum is wrong")
    width, height = int.from_bytes(header[8:12]), int.from_bytes(header[12:16])
    at, exif = 33, b""
    for _ in range(_MAX_SEGMENTS):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if kind == b"eXIf" and not exif:
            exif = data[at + 8 : at + 8 + length]
        at += 12 + length
        if at > len(data) or kind == b"IEND":
            break
    if whole and (at > len(data) or kind != b"IEND"):
        raise DamagedPictureError("the picture is cut off: its end is missing")
    return _shape("image/png", width, height, exif, at)


def _jpeg(data: bytes, *, whole: bool) -> Shape:
    size, exif, scan = None, b"", 0
    for marker, start, end in _segments(data):
        if marker == _APP1 and data[start : start + 6] == _EXIF and not exif:
            exif = data[start + 6 : end]
        elif marker in _START_OF_FRAME:
            parts = data[start + 5 : start + 6]
            if size or not parts or end - start != 6 + 3 * parts[0]:  # a second frame, or a wrong length
                raise DamagedPictureError("the picture's header is damaged or cut off")
            size = int.from_bytes(data[start + 3 : start + 5]), int.from_bytes(data[start + 1 : start + 3])
        elif marker == _START_OF_SCAN:
            scan = end
    if size is None or (whole and not scan):
        raise DamagedPictureError("the picture's header is damaged or cut off")
    # Cameras add data after the end (a second picture, a short video), so the last end marker counts.
    if whole and data.rfind(_END_OF_IMAGE, scan) < 0:
        raise DamagedPictureError("the picture is cut off: its end is missing")
    return _shape("image/jpeg", *size, exif, len(data))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment up to the first scan."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF:  # a marker starts with FF
            return
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif length < 2:
            return
        else:
            yield marker, at + 4, at + 2 + length
            if marker == _START_OF_SCAN:
                return
            at += 2 + length


def _shape(media_type: str, width: int, height: int, exif: bytes, end: int) -> Shape:
    if not (width and height):
        raise DamagedPictureError("the picture's header is damaged: it says that there are no pixels")
    if _orientation(exif) in _QUARTER_TURNS:
        width, height = height, width
    return Shape(media_type, width, height, end)


def _orientation(exif: bytes) -> int:
    """Return the Exif orientation, 1 to 8; 1 (upright) if there is none."""
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    first = number(4, 4)
    for at in range(first + 2, min(first + 2 + 12 * number(first, 2), len(exif)), 12):
        if (number(at, 2), number(at + 2, 2), number(at + 4, 4)) == _ORIENTATION:
            return number(at + 8, 2)
    return 1
