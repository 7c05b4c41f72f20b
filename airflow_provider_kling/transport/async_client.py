"""The asynchronous client of the gateway, on ``aiohttp``. The synchronous one is in ``sync_client``."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Self, TypeVar

import aiohttp
import requests.utils
from aiohttp.http import StreamWriter
from yarl import URL

from airflow_provider_kling.gateways.base import Call, Reply
from airflow_provider_kling.transport.extra import wrong_connection
from airflow_provider_kling.transport.settings import Settings, proxy_url
from airflow_provider_kling.transport.sync_client import LONGEST_BODY, describe_failure, request_headers
from airflow_provider_kling.transport.tls import tls_context

T = TypeVar("T")

#: Connections that one client keeps open, and so its requests in flight.
MAX_CONNECTIONS = 64
_NO_TIMEOUT = aiohttp.ClientTimeout()  # ours is around all of it
#: Statuses of answers that come before the answer; not 101, which ends HTTP.
_INFORMATIONAL = (100, 102, 103)
#: The gateway closed the connection.
_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError)


class AsyncKlingClient:
    """Sends calls to the gateway without blocking. Use it as an async context manager on one event loop.

    It uses aiohttp's connections, writer and parser, but not its session, which takes twice the CPU time.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._redactor = settings.redactor

    async def __aenter__(self) -> Self:
        settings, proxy = self.settings, _proxy_for(self.settings)
        self._connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=await tls_context(settings))
        # Where to connect to, and the headers of all calls.
        self._destination = aiohttp.ClientRequest(
            "GET",
            URL(settings.base_url),
            headers={**request_headers(settings), "Authorization": f"Bearer {settings.api_key}"},
            proxy=URL(proxy) if proxy else None,
            loop=asyncio.get_running_loop(),
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._connector.close()

    async def send(self, call: Call[T]) -> T:
        """Send *call* and return what its reader makes of the reply. Redirects are not followed.

        A query, never a submit, is sent again where the gateway closed a kept connection meanwhile.

        :raises KlingError: the class says what to do next. Nothing else is raised.
        """
        connection = None
        try:
            # One deadline for all of it: connections, head, body and trailers. No byte resets it.
            async with asyncio.timeout(self.settings.request_timeout):
                connection = await self._connect()
                try:
                    reply = await self._exchange(call, connection)
                except _CLOSED:
                    if call.starts_job:
                        raise
                    reply = await self._exchange(call, await self._connect())
        except Exception as error:  # noqa: BLE001 - no wait ends because of an answer that we did not foresee
            timed_out = isinstance(error, TimeoutError)  # its cause, a cancellation, says nothing
            words = type(error).__name__ if timed_out else describe_failure(error)
            raise call.lost(f"{self.settings.base_url}, {words}", sent=connection is not None) from None
        return call.result(reply)

    async def _connect(self) -> aiohttp.connector.Connection:
        return await self._connector.connect(self._destination, [], _NO_TIMEOUT)

    async def _exchange(self, call: Call[T], connection: aiohttp.connector.Connection) -> Reply:
        """Write the request and read the answer. Keep the connection for the next call if both are whole."""
        body, cut_off = bytearray(), ""
        try:
            protocol = connection.protocol
            if protocol is None or protocol.should_close:
                # What came after an answer would be taken for the answer to this request.
                raise aiohttp.ServerDisconnectedError  # noqa: TRY301 - handled as a closed connection
            protocol.set_response_params(read_until_eof=True)
            await self._write(call, StreamWriter(protocol, self._destination.loop))
            message, content = await protocol.read()
            while message.code in _INFORMATIONAL:
                message, content = await protocol.read()
            try:
                await _read_limited(content, body)
            except aiohttp.ClientError as error:
                if not (call.starts_job and body):
                    raise
                cut_off = describe_failure(error)  # the task id may stand in what came
        except BaseException:
            connection.close()
            raise
        connection.release()
        headers: dict[str, str] = {}
        for given, value in message.headers.items():
            name = given.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value  # as requests does it
        return Reply(message.code, headers, bytes(body), time.time(), self._redactor, cut_off)

    async def _write(self, call: Call[T], writer: StreamWriter) -> None:
        url = URL(self.settings.base_url + call.path).extend_query(call.params)
        to_proxy = self._destination.proxy and url.scheme == "http"
        headers, body = self._destination.headers, b""
        if call.body is not None:
            body = json.dumps(call.body).encode()
            headers = headers.copy()
            headers.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
        target = url if to_proxy else url.raw_path_qs
        await writer.write_headers(f"{call.method} {target} HTTP/1.1", headers)
        await writer.write_eof(body)


async def _read_limited(content: aiohttp.StreamReader, body: bytearray) -> None:
    """Append the response's body to *body*, as far as it comes."""
    while not content.at_eof():
        body += await content.readany()  # at most what aiohttp decodes at a time
        if len(body) > LONGEST_BODY:
            raise aiohttp.ClientPayloadError("the answer is too large")


def _proxy_for(settings: Settings) -> str | None:
    """Return the proxy that requests would use: the connection's, else the environment's."""
    url = settings.base_url
    of_environment = requests.utils.get_environ_proxies(url) if settings.trust_env else {}
    proxy = requests.utils.select_proxy(url, {**of_environment, **settings.proxies})
    if (proxy or "").lower().startswith("socks"):
        what = "a task that is deferred cannot use a SOCKS proxy; use an HTTP proxy, or deferrable=False"
        raise wrong_connection(settings.conn_id, what)
    return proxy and proxy_url(proxy)
