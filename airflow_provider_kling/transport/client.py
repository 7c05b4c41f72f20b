"""Transport: ``requests`` for sync, ``aiohttp`` for async."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import requests
import urllib3.exceptions

from airflow_provider_kling.errors import KlingError
from airflow_provider_kling.gateways.base import Call, Reply
from airflow_provider_kling.transport.http1 import request
from airflow_provider_kling.transport.lines import Line, Lines, Receiver, UnreadableError
from airflow_provider_kling.transport.settings import Settings
from airflow_provider_kling.transport.tls import tls_context, verification

T = TypeVar("T")

#: No answer of the gateway is larger; what a broken proxy sends beyond it is not read.
LONGEST_BODY = 4 * 1024 * 1024
#: Small, because bytes may swell to a thousandfold when they are decoded, before anybody can count them.
_CHUNK = 16 * 1024
_MAX_SOCKETS = 64
USER_AGENT = "airflow-provider-kling"
_HEADERS = {"Accept": "application/json", "User-Agent": USER_AGENT}


class KlingClient:
    """Sends calls to the gateway and gives each reply to the call's own reader. Sync.

    :param session: a session that carries the key, the proxies and the TLS settings.
    :param settings: the connection.
    """

    def __init__(self, session: requests.Session, settings: Settings) -> None:
        self._session, self._settings = session, settings

    def send(self, call: Call[T]) -> T:
        """Send *call* once and return what its reader makes of the reply.

        Redirects are not followed, so the key never reaches another host.

        :raises KlingError: the class says what to do next.
        """
        settings = self._settings
        try:
            with self._session.request(
                call.method,
                settings.base_url + call.path,
                params=dict(call.params),
                json=call.body,
                headers=_headers(settings),
                timeout=settings.request_timeout,
                allow_redirects=False,
                stream=True,
                proxies=settings.proxies,  # of both, the session would let the environment win
                verify=verification(settings),
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = b"".join(self._limited(response))
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            # A ValueError is about the answer's Location, which requests reads although it does not follow.
            cause = f"{settings.base_url}, {describe_failure(error)}"
            raise call.lost(cause, sent=not _never_sent(error)) from None
        return call.read(Reply(response.status_code, headers, body, time.time()).without(settings.api_key))

    def _limited(self, response: requests.Response) -> Iterator[bytes]:
        size, give_up_at = 0, time.monotonic() + self._settings.request_timeout
        while chunk := response.raw.read1(_CHUNK, decode_content=True):  # what is there, without waiting
            size += len(chunk)
            if size > LONGEST_BODY:
                raise requests.exceptions.ContentDecodingError("the answer is too large")
            if time.monotonic() > give_up_at:
                raise requests.exceptions.ReadTimeout("the answer dripped for too long")
            yield chunk


class AsyncKlingClient:
    """The same, to be used as an async context manager on one event loop.

    Plain queries take the short way of ``lines``, everything else ``aiohttp``.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def __aenter__(self) -> Self:
        settings, context = self.settings, await tls_context(self.settings)
        headers = {**_headers(settings), "Authorization": f"Bearer {settings.api_key}"}
        self._proxy = _proxy_for(settings.base_url, settings)
        self._lines = Lines(settings.base_url, context, settings.request_timeout)
        self._plain = not self._proxy
        self._before, self._after = request(settings.base_url, headers)
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=settings.request_timeout),
            connector=aiohttp.TCPConnector(limit=_MAX_SOCKETS, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # it would also let a .netrc in
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()
        await self._lines.close()

    async def send(self, call: Call[T]) -> T:
        """Do what :meth:`KlingClient.send` does, without blocking."""
        try:
            return call.read((await self._reply_to(call)).without(self.settings.api_key))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self.lost(call, error) from None

    def lost(self, call: Call[T], error: Exception) -> KlingError:
        """Return what it means that the transport failed."""
        cause = f"{self.settings.base_url}, {describe_failure(error)}"
        return call.lost(cause, sent=not _never_sent(error))

    def send_at_once(self, call: Call[T], waiter: Receiver) -> Line | None:
        """Send a query if a connection is free and no more is needed than to read a plain answer.

        :param waiter: gets the reply, or the reason why there is none; see :meth:`Line.ask`.
        :returns: the connection, to be closed should nobody wait any more; None: nothing was sent.
        """
        line = self._lines.free() if self._plain and call.kling_task_id else None
        if line:
            line.ask(self._request_for(call), waiter)
        return line

    async def _reply_to(self, call: Call[T]) -> Reply:
        if self._plain and call.kling_task_id:
            try:
                return await self._lines.ask(self._request_for(call))
            except UnreadableError:
                self._plain = False  # the next answer will not be plainer
            except TimeoutError:
                raise TimeoutError from None  # its cause would be told
        return await self._request(call)

    def _request_for(self, call: Call[T]) -> bytes:
        params = "&".join(f"{name}={quote(value)}" for name, value in call.params.items())
        return b"%b%b?%b%b" % (self._before, call.path.encode(), params.encode(), self._after)

    async def _request(self, call: Call[T]) -> Reply:
        url = self.settings.base_url + call.path
        sent: dict[str, Any] = {"params": dict(call.params), "json": call.body, "proxy": self._proxy}
        async with self._session.request(call.method, url, allow_redirects=False, **sent) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers, await _read_limited(response), time.time())


async def _read_limited(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > LONGEST_BODY:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return bytes(body)


def _headers(settings: Settings) -> dict[str, str]:
    """Return our headers and the connection's, which win; one spelling each, so that none goes out twice."""
    return {name.title(): value for name, value in {**_HEADERS, **settings.headers}.items()}


def _proxy_for(url: str, settings: Settings) -> str | None:
    """Return the proxy that requests would use: the connection's, else the environment's."""
    of_environment = requests.utils.get_environ_proxies(url) if settings.trust_env else {}
    return requests.utils.select_proxy(url, {**of_environment, **settings.proxies})


_UNOPENED = (
    *(requests.exceptions.ConnectTimeout, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema),
    requests.exceptions.InvalidJSONError,  # not InvalidHeader: it may speak of the answer's headers
    *(aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL),
    *(aiohttp.ClientHttpProxyError, ssl.SSLCertVerificationError),
    *(urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError),
)
_BEFORE_THE_REQUEST = "Tunnel connection failed"  # told in words only


def _never_sent(error: BaseException) -> bool:
    """Whether the transport failed before a byte of the request could reach the gateway."""
    return any(
        isinstance(cause, _UNOPENED) or str(cause).startswith(_BEFORE_THE_REQUEST) for cause in _causes(error)
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
