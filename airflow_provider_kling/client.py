"""Transport: ``requests`` for sync, ``aiohttp`` for async. The only importer of an HTTP library."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeVar

import aiohttp
import certifi
import requests
import urllib3.exceptions
from airflow.providers.common.compat.sdk import Connection
from airflow.providers.http.hooks.http import HttpHook

from airflow_provider_kling.errors import KlingDownloadError
from airflow_provider_kling.replies import Reply
from airflow_provider_kling.settings import Settings
from airflow_provider_kling.wire import Call

T = TypeVar("T")

#: No answer of the gateway is larger; what a broken proxy sends beyond it is not read.
LONGEST_BODY = 4 * 1024 * 1024
_CHUNK = 256 * 1024
_MAX_SOCKETS = 32
_HEADERS = {"Accept": "application/json", "User-Agent": "airflow-provider-kling"}


class BearerAuth(requests.auth.AuthBase):
    """Sends the API key; being an *auth*, it also keeps a ``.netrc`` from replacing the key."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:  # noqa: D102 - requests' protocol
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


class _PlainHttpHook(HttpHook):
    """The http provider's hook on a connection that holds only what is meant for it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(http_conn_id=settings.conn_id, auth_type=lambda: BearerAuth(settings.api_key))
        self._connection = Connection(
            conn_id=settings.conn_id,
            conn_type="http",
            host=settings.base_url,
            extra=json.dumps(dict(settings.http_extra)),
        )

    def get_connection(self, conn_id: str) -> Connection:  # type: ignore[override]  # a classmethod there
        assert conn_id == self._connection.conn_id
        return self._connection


def gateway_session(settings: Settings) -> requests.Session:
    """Return a session as the http provider sets it up (proxies, TLS, keep-alive), carrying the API key."""
    return _PlainHttpHook(settings).get_conn()


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
        try:
            with self._session.request(
                call.method,
                self._settings.base_url + call.path,
                params=dict(call.params),
                json=call.body,
                headers=_HEADERS,
                timeout=self._settings.request_timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = b"".join(self._limited(response))
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise call.lost(_describe(error), sent=not _never_sent(error)) from None
        return call.read(Reply(response.status_code, headers, body, time.time()))

    def _limited(self, response: requests.Response) -> Iterator[bytes]:
        size, give_up_at = 0, time.monotonic() + self._settings.request_timeout
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > LONGEST_BODY:
                raise requests.exceptions.ContentDecodingError("the answer is too large")
            if time.monotonic() > give_up_at:
                raise requests.exceptions.ReadTimeout("the answer dripped for too long")
            yield chunk


class AsyncKlingClient:
    """The same over ``aiohttp``, to be used as an async context manager on one event loop.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._session = aiohttp.ClientSession(
            headers={**_HEADERS, "Authorization": f"Bearer {settings.api_key}", **settings.headers},
            timeout=aiohttp.ClientTimeout(total=settings.request_timeout),
            connector=aiohttp.TCPConnector(limit=_MAX_SOCKETS, ssl=await _tls(settings)),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=settings.trust_env,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def send(self, call: Call[T]) -> T:
        """Do what :meth:`KlingClient.send` does, without blocking."""
        url = self._settings.base_url + call.path
        try:
            async with self._session.request(
                call.method,
                url,
                params=dict(call.params),
                json=call.body,
                proxy=_proxy_for(url, self._settings),
                allow_redirects=False,
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = await _read_limited(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise call.lost(_describe(error), sent=not _never_sent(error)) from None
        return call.read(Reply(response.status, headers, body, time.time()))


async def _read_limited(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > LONGEST_BODY:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return bytes(body)


@dataclass(frozen=True, slots=True)
class Stream:
    """An opened download.

    :param length: the bytes that the storage host promised, or None where it promised nothing.
    :param content_type: what it says they are.
    :param chunks: the bytes, as they come.
    """

    length: int | None
    content_type: str
    chunks: Iterator[bytes]


@contextmanager
def open_link(url: str, settings: Settings) -> Iterator[Stream]:
    """Open a video's link for reading, with the connection's proxies and TLS settings, but without its key.

    :raises KlingDownloadError: with the ``http_status`` where the storage host answered with one.
    """
    with requests.Session() as session:
        session.auth = _no_auth  # keeps a .netrc out
        session.trust_env = settings.trust_env
        session.proxies = settings.proxies
        session.verify = settings.verify
        try:
            with session.get(
                url, timeout=settings.request_timeout, stream=True, headers=_IDENTITY
            ) as response:
                if response.status_code != requests.codes.ok:
                    what = f"The storage host answered HTTP {response.status_code} to the video's link."
                    raise KlingDownloadError(what, http_status=response.status_code)
                length = response.headers.get("Content-Length", "")
                content_type = response.headers.get("Content-Type", "")
                chunks = response.iter_content(_CHUNK)
                yield Stream(int(length) if length.isdecimal() else None, content_type, chunks)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise KlingDownloadError(f"The video's stream broke ({_describe(error)}).") from None


_IDENTITY = {"Accept-Encoding": "identity", "User-Agent": _HEADERS["User-Agent"]}


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _never_sent(error: BaseException) -> bool:
    """Whether the transport failed before a byte of the request could reach the gateway."""
    unopened = (
        requests.exceptions.ConnectTimeout,
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.InvalidProxyURL,
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.InvalidURL,
        ssl.SSLCertVerificationError,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
    )
    return any(isinstance(cause, unopened) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what it wraps; requests and urllib3 hide causes in args and ``reason``."""
    seen = 0
    while error is not None and seen < 10:
        yield error
        inner = getattr(error, "reason", None) or getattr(error, "original_error", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        error, seen = inner, seen + 1


def _describe(error: BaseException) -> str:
    """Say what broke without URLs, which may hold signatures or a proxy's password."""
    *_, innermost = _causes(error)
    words = getattr(innermost, "strerror", None) or getattr(innermost, "verify_message", None) or ""
    return f"{type(error).__name__}: {words}" if words else type(innermost).__name__


def _proxy_for(url: str, settings: Settings) -> str | None:
    return requests.utils.select_proxy(url, settings.proxies)


async def _tls(settings: Settings) -> ssl.SSLContext | bool:
    """Build the TLS context off the loop: it costs some 15 ms of CPU, once per process and setting."""
    if settings.verify is False:
        return False
    bundle = settings.verify if isinstance(settings.verify, str) else None
    return await asyncio.to_thread(_context, bundle, settings.cert)


@lru_cache(maxsize=8)
def _context(bundle: str | None, cert: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=bundle or certifi.where())
    if cert:
        context.load_cert_chain(*cert)
    return context
