"""Links to videos that are signed and expire, as on a real storage host."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import urlencode


class Links:
    """Creates signed links, and refuses forged and expired ones."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._secret = secrets.token_bytes(32)

    def make(self, storage_url: str, task_id: str, now: float) -> str:
        """Return a fresh link to the video of a job."""
        known = {"X-Expires": f"{now + self.seconds:.3f}", "X-Nonce": secrets.token_hex(8)}
        signature = self._sign(task_id, known)
        return f"{storage_url}/videos/{task_id}.mp4?{urlencode(known | {'X-Signature': signature})}"

    def problem(self, task_id: str, query: Mapping[str, str], now: float) -> str:
        """Return why a link is refused, or an empty text."""
        signature = self._sign(task_id, query)
        if not hmac.compare_digest(signature.encode(), query.get("X-Signature", "").encode()):
            return "SignatureDoesNotMatch"
        return "" if now < float(query["X-Expires"]) else "AccessDenied: Request has expired"

    def _sign(self, task_id: str, query: Mapping[str, str]) -> str:
        text = "|".join((task_id, query.get("X-Expires", ""), query.get("X-Nonce", "")))
        return hmac.digest(self._secret, text.encode(), "sha256").hex()
