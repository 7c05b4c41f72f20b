"""The synchronous client of the gateway, on ``requests``. The asynchronous one is in ``async_client``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, TypeVar

import requests

from airflow_provider_kling.errors import KlingError
from airflow_provider_kling.gateways.base import Call, Reply
from airflow_provider_kling.transport.sessions import Deadline
from airflow_provider_kling.transport.settings import Settings
from airflow_provider_kling.transport.tls import verification

T = TypeVar("T")

#: No answer of the gateway is larger; what a broken proxy sends beyond it is not read.
LONGEST_BODY = 4 * 1024 * 1024
#: Small, because decoding may make a thousand times as many bytes of them, before they can be counted.
_CHUNK = 16 * 1024
USER_AGENT = "airflow-provider-kling"
_HEADERS = {
    "Accept": "application/json",
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "User-Agent": USER_AGENT,
}


class KlingClient:
    """Sends calls to the gateway and gives each reply to the call's own reader. Sync.

    :param session: a session that carries the key, the proxies and the TLS settings.
    """

    def __init__(self, session: requests.Session, settings: Settings) -> None:
        self._session, self._settings = session, settings
        self._redactor = settings.redactor

    def send(self, call: Call[T]) -> T:
        """Send *call* once and return what its reader makes of the reply.

        Redirects are not followed, so the key never reaches another host. All of it has one deadline.

        :raises KlingError: the class says what to do next. Nothing else is raised.
        """
        settings, deadline = self._settings, Deadline(self._settings.request_timeout)
        try:
            with deadline:
                reply = self._exchange(call, deadline)
        except KlingError:
            raise
        except Exception as error:  # noqa: BLE001 - an answer may break the libraries in ways that we did not foresee
            words = (
                f"no whole answer within {settings.request_timeout:g} s"
                if deadline.expired
                else describe_failure(error)
            )
            # The connection says whether a byte was sent: urllib3 raises the same errors before and after.
            sent = not (deadline.unopened or isinstance(error, _UNSENDABLE))
            raise call.lost(f"{settings.base_url}, {words}", sent=sent) from None
        return call.result(reply)

    def _exchange(self, call: Call[T], deadline: Deadline) -> Reply:
        settings = self._settings
        with self._session.request(
            call.method,
            settings.base_url + call.path,
            params=dict(call.params),
            json=call.body,
            headers=request_headers(settings),
            allow_redirects=False,
            **request_options(settings),
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            body, cut_off = bytearray(), ""
            try:
                _read_limited(response, body)
            except Exception as error:
                if not (call.starts_job and body):
                    raise
                # The task id may stand in what came.
                cut_off = "the time is over" if deadline.expired else describe_failure(error)
            return Reply(response.status_code, headers, bytes(body), time.time(), self._redactor, cut_off)


def _read_limited(response: requests.Response, body: bytearray) -> None:
    """Append the response's body to *body*, as far as it comes."""
    while chunk := response.raw.read1(_CHUNK, decode_content=True):  # what is there, without waiting
        body += chunk
        if len(body) > LONGEST_BODY:
            raise requests.exceptions.ContentDecodingError("the answer is too large")


def request_options(settings: Settings) -> dict[str, Any]:
    """Return what holds for all our requests; of a session's proxies, the environment's would win."""
    options = {"timeout": settings.request_timeout, "stream": True}
    return {**options, "proxies": settings.proxies, "verify": verification(settings)}


def request_headers(settings: Settings) -> dict[str, str]:
    """Return our headers and the connection's, which win; one spelling each, so that none goes out twice."""
    return {name.title(): value for name, value in {**_HEADERS, **settings.headers}.items()}


#: Raised before a connection is opened. Not InvalidHeader: it may speak of the answer's headers.
_UNSENDABLE = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidJSONError,
)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what it wraps; requests and urllib3 hide causes in args and ``reason``."""
    seen = 0
    while error is not None and seen < 10:
        yield error
        hidden = (getattr(error, "reason", None), getattr(error, "original_error", None), *error.args)
        inner = (cause for cause in (*hidden, error.__cause__) if isinstance(cause, BaseException))
        error, seen = next(inner, None), seen + 1


def describe_failure(error: BaseException) -> str:
    """Say what broke without URLs, which may hold signatures or a proxy's password."""
    *_, innermost = _causes(error)
    words = getattr(innermost, "strerror", None) or getattr(innermost, "verify_message", None) or ""
    return f"{type(error).__name__}: {words}" if words else type(innermost).__name__
