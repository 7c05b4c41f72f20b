"""Checks the format, size and ratio of pictures against the gateway's limits, without decoding them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.media.picture_formats import DamagedPictureError, Shape, format_name, read_shape

#: The gateway's documented limits: bytes, pixels per side, width to height.
MAX_PICTURE_BYTES = 10 * 1024 * 1024
MIN_SIDE = 300
MAX_RATIO, MIN_RATIO = 2.5, 1 / 2.5
#: With more pixels, Pillow (a common imaging library) refuses to open a file.
MAX_PIXELS = 178_956_970


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture within the gateway's documented limits.

    :param data: the picture's bytes, without bytes after the end of a PNG.
    :param media_type: ``image/jpeg`` or ``image/png``, by content.
    :param width: in pixels, after the Exif rotation.
    :param height: in pixels, after the Exif rotation.
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
        """The SHA-256 of the picture, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    def describe(self) -> str:
        """Return format and size for a log line."""
        kind = self.media_type.removeprefix("image/").upper()
        return f"{kind} {self.width}x{self.height}, {len(self.data) / 1000:.0f} kB"


def check_picture(data: bytes, argument: str, source: str, most: int = MAX_PICTURE_BYTES) -> Picture:
    """Return the picture in *data* if it is within the gateway's limits.

    Bytes after the end of a PNG are cut off: they may be the rest of a cropped screenshot, or another file.
    A JPEG stays as it is: cameras store a second picture or a short video after the first one.

    :param argument: the operator's argument, for the message.
    :param source: the path or kind of the picture, for the message.
    :param most: bytes that are allowed.
    :raises KlingInputError: the message says what is wrong and what is allowed.
    """
    check_size(len(data), argument, source, most)
    shape = check_shape(data, argument, source)
    return Picture(data[: shape.end], shape.media_type, shape.width, shape.height)


def check_size(size: int, argument: str, source: str, most: int = MAX_PICTURE_BYTES) -> None:
    """Raise :class:`KlingInputError` if a picture or a video has no bytes, or more than *most*."""
    if not size:
        raise _wrong(argument, source, "the file is empty")
    if size > most:
        raise _wrong(argument, source, f"the file has more than the {most // 2**20} MiB allowed")


def check_shape(data: bytes, argument: str, source: str, *, whole: bool = True) -> Shape:
    """Return the format and size of a picture if they are within the gateway's limits.

    :param data: the file, or its beginning.
    :param argument: the operator's argument, for the message.
    :param source: the path or kind of the picture, for the message.
    :param whole: *data* is the whole file, so its end is checked too.
    :raises KlingInputError: the message says what is wrong and what is allowed.
    """
    try:
        shape = read_shape(data, whole=whole)
    except DamagedPictureError as broken:
        raise _wrong(argument, source, str(broken)) from None
    if shape is None:
        what = f"; it is {name}" if (name := format_name(data)) else ""
        raise _wrong(argument, source, f"not a JPEG or PNG picture, by its content{what}")
    width, height = shape.width, shape.height
    if min(width, height) < MIN_SIDE:
        raise _wrong(argument, source, f"{width}x{height} pixels; each side must have at least {MIN_SIDE}")
    if not MIN_RATIO <= width / height <= MAX_RATIO:
        what = f"{width}x{height} pixels; width to height must be between 1:2.5 and 2.5:1"
        raise _wrong(argument, source, what)
    if width * height > MAX_PIXELS:
        what = f"{width}x{height} pixels; together they must not be more than {MAX_PIXELS:,}"
        raise _wrong(argument, source, what)
    return shape


def check_video(data: bytes, argument: str, source: str) -> None:
    """Raise :class:`KlingInputError` if a file does not begin like an MP4 or MOV."""
    if (name := format_name(data)) != "a video":
        what = f"; it is {name}" if name else ""
        raise _wrong(argument, source, f"not an MP4 or MOV video, by its content{what}")


def _wrong(argument: str, source: str, what: str) -> KlingInputError:
    return KlingInputError(f"{argument}={source!r}: {what}.")


def from_base64(text: str) -> bytes | None:
    """Return the bytes of a data URI or of bare base64, or None if the text is neither."""
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
