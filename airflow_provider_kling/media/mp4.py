"""Whether a stream of bytes is a whole mp4: its boxes are walked as they come, in constant memory."""

from __future__ import annotations

from airflow_provider_kling.errors import KlingDownloadError

_LONG, _SHORT = 16, 8


class Mp4Check:
    """Feed it a file's bytes in any pieces, then ask whether that was a whole mp4."""

    def __init__(self) -> None:
        self.size = 0
        self.first_bytes = b""
        self._boxes: list[bytes] = []
        self._next_box = 0
        self._pending = b""
        self._open_ended = False

    def feed(self, chunk: bytes) -> None:
        """Take the next piece."""
        if len(self.first_bytes) < 64:  # enough to show in an error
            self.first_bytes += chunk[: 64 - len(self.first_bytes)]
        start, self.size = self.size, self.size + len(chunk)
        while not self._open_ended and self._next_box < self.size:
            self._pending += chunk[max(0, self._next_box + len(self._pending) - start) :][
                : _LONG - len(self._pending)
            ]
            if not self._read_header():
                return

    def _read_header(self) -> bool:
        head = self._pending
        if len(head) < _SHORT:
            return False
        size, kind, smallest = int.from_bytes(head[:4]), head[4:8], _SHORT
        if size == 1 and len(head) < _LONG:
            return False
        if size == 1:
            size, smallest = int.from_bytes(head[8:16]), _LONG
        self._open_ended = size == 0
        self._boxes.append(kind)
        self._next_box += max(size, smallest)
        self._pending = b""
        return True

    def finish(self, expected_size: int | None) -> None:
        """Raise unless all that was fed is one whole mp4.

        :param expected_size: bytes that the storage host promised, or None.
        :raises KlingDownloadError: saying what is missing or what came instead.
        """
        if self._boxes[:1] != [b"ftyp"]:
            raise KlingDownloadError(f"What came is not an mp4; it starts with {self.first_bytes[:40]!r}.")
        whole = self._open_ended or self._next_box == self.size
        if (expected_size is not None and expected_size != self.size) or not whole:
            wanted = max(self._next_box, self.size + 1) if expected_size is None else expected_size
            raise KlingDownloadError(f"The video is not whole: {self.size} of {wanted} bytes came.")
        if b"moov" not in self._boxes or b"mdat" not in self._boxes:
            raise KlingDownloadError("The file has the form of an mp4 but no moving picture in it.")
