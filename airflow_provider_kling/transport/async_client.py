"""The asynchronous client of the gateway, on ``aiohttp``. The synchronous one is in ``sync_client``."""

from __future__ import annotations

import ssl
import time
from functools import lru_cache
from typing import Self, TypeVar

import aiohttp
import requests.utils
from yarl import URL

from airflow_provider_kling.errors import KlingError
from airflow_provider_kling.gateways.base import Call, Reply
from airflow_provider_kling.transport.extra import wrong_connection
from airflow_provider_kling.transport.settings import Settings, proxy_url
from airflow_provider_kling.transport.sync_client import LONGEST_BODY, describe_failure, request_headers
from airflow_provider_kling.transport.tls import tls_context

T = TypeVar("T")

#: Connections that one client keeps open, and so its requests in flight.
MAX_CONNECTIONS = 64
#: The request was not sent: there was no connection to the gateway to send it over.
_NOT_SENT = (
    *(aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL),
    *(aiohttp.ClientHttpProxyError, ssl.SSLCertVerificationError),
)


class _Request(aiohttp.ClientRequest):
    """A request that is not sent over a kept connection on which the peer said too much.

    Bytes that came after an answer would be taken for the answer to this request. aiohttp then sends the
    request over another connection.
    """

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Send the request."""
        if conn.protocol is None or conn.protocol.should_close:
            raise aiohttp.ServerDisconnectedError
        return await super().send(conn)


class _NoCookies(aiohttp.DummyCookieJar):
    """Reads no cookies: aiohttp would log the names that it cannot read, and a peer wrote them."""

    def update_cookies_from_headers(self, *_: object) -> None:
        """Keep nothing."""


class AsyncKlingClient:
    """Sends calls to the gateway without blocking. Use it as an async context manager on one event loop.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._redactor = settings.redactor

    async def __aenter__(self) -> Self:
        settings, context = self.settings, await tls_context(self.settings)
        self._proxy = _proxy_for(settings)
        # Not the session's own headers: aiohttp would send those to a proxy too, in the clear.
        self._headers = {**request_headers(settings), "Authorization": f"Bearer {settings.api_key}"}
        self._session = aiohttp.ClientSession(
            # One deadline for the whole call: connection, head, body and trailers. No byte resets it.
            timeout=aiohttp.ClientTimeout(total=settings.request_timeout),
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=context),
            cookie_jar=_NoCookies(),
            request_class=_Request,
            trust_env=False,  # it would let a .netrc in as well
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def send(self, call: Call[T]) -> T:
        """Send *call* once and return what its reader makes of the reply. Redirects are not followed.

        aiohttp repeats a query, never a submit, where the gateway closed a kept connection meanwhile.

        :raises KlingError: the class says what to do next. Nothing else is raised.
        """
        try:
            reply = await self._request(call)
        except KlingError:
            raise
        except Exception as error:  # noqa: BLE001 - a wait must not end because of an answer that we did not foresee
            timed_out = isinstance(error, TimeoutError)  # its cause, a cancellation, says nothing
            words = type(error).__name__ if timed_out else describe_failure(error)
            cause = f"{self.settings.base_url}, {words}"
            raise call.lost(cause, sent=not isinstance(error, _NOT_SENT)) from None
        return call.result(reply)

    async def _request(self, call: Call[T]) -> Reply:
        async with self._session.request(
            call.method,
            _url(self.settings.base_url + call.path, tuple(call.params.items())),
            json=call.body,
            headers=self._headers,
            proxy=self._proxy,
            allow_redirects=False,
        ) as response:
            body, cut_off = bytearray(), ""
            try:
                await _read_limited(response, body)
            except (aiohttp.ClientError, TimeoutError) as error:
                if not (call.starts_job and body):
                    raise
                # The task id may stand in what came.
                cut_off = "the time is over" if isinstance(error, TimeoutError) else describe_failure(error)
            # Values of one name are joined, as requests does it.
            headers = {name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers}
            return Reply(response.status, headers, bytes(body), time.time(), self._redactor, cut_off)


async def _read_limited(response: aiohttp.ClientResponse, body: bytearray) -> None:
    """Append the response's body to *body*, as far as it comes."""
    while not response.content.at_eof():
        body += await response.content.readany()  # at most what aiohttp decodes at a time
        if len(body) > LONGEST_BODY:
            raise aiohttp.ClientPayloadError("the answer is too large")


@lru_cache(maxsize=20_000)
def _url(url: str, params: tuple[tuple[str, str], ...]) -> URL:
    """Return a URL whose parts are computed once for all polls of a wait."""
    return URL(url).extend_query(params)


def _proxy_for(settings: Settings) -> str | None:
    """Return the proxy that requests would use: the connection's, else the environment's."""
    url = settings.base_url
    of_environment = requests.utils.get_environ_proxies(url) if settings.trust_env else {}
    proxy = requests.utils.select_proxy(url, {**of_environment, **settings.proxies})
    if (proxy or "").lower().startswith("socks"):
        what = "a task that is deferred cannot use a SOCKS proxy; use an HTTP proxy, or deferrable=False"
        raise wrong_connection(settings.conn_id, what)
    return proxy and proxy_url(proxy)
