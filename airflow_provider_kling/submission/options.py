"""The choices of a submission that an operator checks when the Dag file is read."""

from __future__ import annotations

from typing import Any, Literal

Choice = Literal["fail", "submit_again"]
Transport = Literal["auto", "data_uri", "base64", "url"]


def check_reuse(reuse: str | None, library: Any) -> None:
    """Raise :class:`ValueError` unless both arguments of the reuse are given, or none."""
    if reuse not in (None, "fingerprint"):
        raise ValueError(f"reuse={reuse!r}: must be 'fingerprint' or None")
    if bool(reuse) != bool(library):
        raise ValueError(f"reuse={reuse!r}, library={library!r}: give both or none")
