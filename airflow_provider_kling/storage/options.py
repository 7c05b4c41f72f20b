"""The choices of a download that an operator checks when the Dag file is read."""

from __future__ import annotations

from typing import Literal

#: Bytes that a video may have, unless the user says otherwise.
DEFAULT_MAX_BYTES = 4 * 1024**3
#: What to do when a file stands where a video shall go.
IfExists = Literal["overwrite", "skip", "fail"]


def checked_max_bytes(value: int) -> int:
    """Return *value* if it is a number of bytes.

    :raises ValueError: naming the argument and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"max_bytes={value!r}: must be a whole number of bytes, at least 1")
    return value
