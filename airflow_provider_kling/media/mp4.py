"""Checks that a stream of bytes is a whole mp4: reads the headers of its boxes, in constant memory."""

from __future__ import annotations

from typing import BinaryIO

from airflow_provider_kling.errors import KlingDownloadError, KlingVideoError
from airflow_provider_kling.media.picture_formats import format_name

#: Bytes of a box's header, without and with a 64-bit size.
_SHORT, _LONG = 8, 16
#: More top-level boxes than any video has, also one with a fragment for each frame.
_MAX_BOXES = 100_000


def check_headers(file: BinaryIO, size: int) -> None:
    """Check that a file is a whole mp4, and read nothing but the headers of its boxes.

    :param size: bytes of the file.
    :raises KlingVideoError: it is none.
    """
    check = Mp4Check()
    check.read_from(file, size)
    check.finish(size)


class Mp4Check:
    """Takes a file's bytes in chunks of any size, and checks at the end that they are a whole mp4.

    The time is linear in the number of bytes. The number of boxes is limited.
    """

    def __init__(self) -> None:
        self.size = 0
        self.first_bytes = b""
        self._boxes = 0
        self._first_box = self._last_box = b""
        self._next_box = 0
        self._header = b""
        self._open_ended = self._has_moov = self._has_mdat = False

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        if len(self.first_bytes) < 64:  # for error messages
            self.first_bytes += chunk[: 64 - len(self.first_bytes)]
        start, self.size = self.size, self.size + len(chunk)
        while self._next_box < self.size and not self._open_ended and self._boxes < _MAX_BOXES:
            at = self._next_box + len(self._header) - start
            self._header += chunk[at : at + _LONG - len(self._header)]
            if not self._read_header():
                return

    def read_from(self, file: BinaryIO, size: int) -> None:
        """Take a file of *size* bytes instead of chunks, by the headers of its boxes alone."""
        self.size = size
        while self._next_box < size and not self._open_ended and self._boxes < _MAX_BOXES:
            file.seek(self._next_box)
            self._header = file.read(_LONG)
            self.first_bytes = self.first_bytes or self._header
            if not self._read_header():
                return

    def _read_header(self) -> bool:
        """Read the header of the next box. Return False if it is not complete yet."""
        header, header_size = self._header, _SHORT
        if len(header) < _SHORT:
            return False
        size, kind = int.from_bytes(header[:4]), header[4:8]
        if size == 1:  # a 64-bit size follows
            if len(header) < _LONG:
                return False
            size, header_size = int.from_bytes(header[8:16]), _LONG
        self._boxes += 1
        self._first_box, self._last_box = self._first_box or kind, kind
        self._has_moov |= kind == b"moov"
        self._has_mdat |= kind == b"mdat"
        self._open_ended = size == 0  # the box ends with the file
        self._next_box += max(size, header_size)
        self._header = b""
        return True

    def finish(self, expected_size: int | None) -> None:
        """Raise unless all chunks together are one whole mp4.

        :param expected_size: bytes that the storage host announced, or None.
        :raises KlingDownloadError: the stream may have broken: not all announced bytes came, or the file is
            cut off and no size was announced.
        :raises KlingVideoError: the file itself is wrong; the message says what is missing or what came.
        """
        if self._first_box != b"ftyp":
            what = f"; it is {name}" if (name := format_name(self.first_bytes)) else ""
            raise KlingVideoError(f"What came is not an mp4, by its content{what}.")
        if expected_size is not None and expected_size != self.size:
            raise KlingDownloadError(f"The video is not whole: {self.size} of {expected_size} bytes came.")
        if self._boxes == _MAX_BOXES:
            raise KlingVideoError(f"The file is no video: it has more than {_MAX_BOXES - 1} boxes.")
        if not self._open_ended and self._next_box != self.size:
            missing = f"its last box, {self._last_box!r}, ends at byte {self._next_box}"
            if self._next_box < self.size:
                missing = f"the last {self.size - self._next_box} are only the beginning of a box"
            kind = KlingDownloadError if expected_size is None else KlingVideoError
            raise kind(f"The video is not whole: {self.size} bytes came, but {missing}.")
        if not (self._has_moov and self._has_mdat):
            raise KlingVideoError("The file has the form of an mp4, but there is no video in it.")
