"""Reads the pictures of a request, and checks the documented limits by their headers."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import struct
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from airflow_provider_kling.emulator.jobs import Digest
from airflow_provider_kling.emulator.messages import RefusedError

MIB = 1024 * 1024
MIN_SIDE = 300
MAX_RATIO = 2.5
# JPEG markers that carry the size: SOF0..SOF15 without DHT, JPG and DAC, which share the range.
SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


def is_url(text: str) -> bool:
    """Return whether a text is a URL."""
    return text[:8].lower().startswith(("http://", "https://"))


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def check_pictures(pictures: Iterable[str], max_megabytes: int = 10) -> list[bytes | None]:
    """Return the bytes of each picture, or None for a URL. Refuse pictures beyond the limits."""
    found = [await _bytes_of(picture, max_megabytes * MIB) for picture in pictures]
    for picture in found:
        if picture is not None:
            check(picture, max_megabytes)
    return found


async def _bytes_of(text: str, enough: int) -> bytes | None:
    """Return the bytes of a data URI, base64 or loopback URL; None for any other URL."""
    if not is_url(text):
        return decode(text)
    return await _fetch(text, enough) if is_loopback(text) else None


def digest(picture: str | bytes) -> Digest:
    """Return the digest of a picture's bytes, or of its URL."""
    return Digest.of(picture if isinstance(picture, bytes) or is_url(picture) else decode(picture))


def decode(text: str) -> bytes:
    """Decode a data URI or bare base64."""
    head, comma, payload = text.partition(",")
    if head.startswith("data:") and not (
        head.startswith("data:image/") and head.endswith(";base64") and comma
    ):
        raise RefusedError("a data URI must begin with data:image/...;base64,", "INVALID_IMAGE_FORMAT")
    try:
        return base64.b64decode((payload if comma else text).replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("neither a URL nor base64", "INVALID_IMAGE_FORMAT") from None


async def _fetch(url: str, enough: int) -> bytes:
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as r,
        ):
            r.raise_for_status()
            found = bytearray()
            async for chunk in r.content.iter_chunked(1 << 16):
                found += chunk
                if len(found) > enough:
                    break
            return bytes(found)
    except (aiohttp.ClientError, TimeoutError):
        raise RefusedError("the picture could not be fetched") from None


def measure(picture: bytes) -> Size | None:
    """Return width and height of a PNG or JPEG, or None for other files."""
    if picture.startswith(b"\x89PNG\r\n\x1a\n") and len(picture) >= 24:
        return Size(*struct.unpack(">II", picture[16:24]))
    return _measure_jpeg(picture) if picture.startswith(b"\xff\xd8\xff") else None


def _measure_jpeg(picture: bytes) -> Size | None:
    at = 2
    while at + 9 <= len(picture) and picture[at] == 0xFF:
        marker = picture[at + 1]
        if marker == 0xFF:  # padding between segments
            at += 1
        elif marker in SOF_MARKERS:
            height, width = struct.unpack(">HH", picture[at + 5 : at + 9])
            return Size(width, height)
        else:
            at += 2 + int.from_bytes(picture[at + 2 : at + 4])
    return None


def check(picture: bytes, max_megabytes: int) -> None:
    """Refuse a picture beyond the documented limits."""
    if len(picture) > max_megabytes * MIB:
        raise RefusedError(f"the picture is larger than {max_megabytes} MB", "IMAGE_FILE_EXCEEDS_MAX_SIZE")
    size = measure(picture)
    if size is None:
        raise RefusedError("the picture is neither JPEG nor PNG", "INVALID_IMAGE_FORMAT")
    if min(size) < MIN_SIDE:
        raise RefusedError(f"{size.width}x{size.height}: both sides need 300 px", "INVALID_IMAGE_SIZE")
    if max(size) > MAX_RATIO * min(size):
        raise RefusedError(
            f"{size.width}x{size.height}: the ratio must be within 1:2.5 and 2.5:1", "INVALID_IMAGE_SIZE"
        )
