"""Keep-alive connections for nothing but queries: a fifth of the CPU of a general HTTP client."""

from __future__ import annotations

import asyncio
import ssl
import time
from urllib.parse import urlsplit

from airflow_provider_kling.http1 import Answer, read

#: A connection that was idle for longer is not used again, in seconds: the other side may have dropped it.
LONGEST_IDLE = 15.0


class UnreadableError(Exception):
    """The other side's answer is for the general HTTP client to understand."""


class Line(asyncio.Protocol):
    """One connection: one GET after another."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.idle_since = 0.0
        self._waiter: asyncio.Future[Answer] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's protocol
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def ask(self, request: bytes) -> Answer:
        """Send one GET and return the answer.

        :raises OSError: the connection ended first; see :attr:`silent`.
        :raises UnreadableError: what came is no plain answer.
        """
        self._data = b""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(request)
            return await self._waiter
        finally:
            self._waiter = None

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._hear(data, ended=False)

    def eof_received(self) -> None:  # noqa: D102
        self._hear(b"", ended=True)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        if not self.lost.done():
            self.lost.set_result(None)
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionResetError("the connection was closed"))

    def _hear(self, data: bytes, *, ended: bool) -> None:
        self._data += data
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody asked
            return
        try:
            answer = read(self._data, ended=ended)
        except ValueError as error:
            self._waiter.set_exception(UnreadableError(str(error)))
            return
        if answer:
            self._waiter.set_result(answer)  # else more will come, or connection_lost

    @property
    def silent(self) -> bool:
        """Whether nothing came since the last request."""
        return not self._data

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not (self.lost.done() or self._transport.is_closing())

    def close(self) -> None:
        """Close it at once."""
        self._transport.abort()


class Lines:
    """A gateway's connections, opened as they are needed.

    :param base_url: scheme, host and port.
    :param context: the TLS context, for https.
    """

    def __init__(self, base_url: str, context: ssl.SSLContext) -> None:
        parts = urlsplit(base_url)
        secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if secure else 80)
        self._context = context if secure else None
        self._idle: list[Line] = []
        self._all: set[Line] = set()

    async def ask(self, request: bytes) -> Answer:
        """Send one GET on a free connection and return the answer.

        A connection that was closed while nobody used it is no failure: the request goes out on a new one.

        :raises OSError: there is no connection, or it ended before the answer did.
        :raises UnreadableError: what came is no plain answer.
        """
        while line := self._free():
            try:
                return await self._ask(line, request)
            except OSError:
                if not line.silent:
                    raise
        return await self._ask(await self._open(), request)

    async def _ask(self, line: Line, request: bytes) -> Answer:
        keep = False
        try:
            answer = await line.ask(request)
            keep = answer.keep
            return answer
        finally:
            if keep and line.usable:
                line.idle_since = time.monotonic()
                self._idle.append(line)
            else:
                line.close()

    def _free(self) -> Line | None:
        """Take the connection that was used last; the longest unused ones are given up."""
        oldest = time.monotonic() - LONGEST_IDLE
        while self._idle and not (self._idle[0].usable and self._idle[0].idle_since > oldest):
            self._idle.pop(0).close()
        while self._idle:
            if (line := self._idle.pop()).usable:
                return line
        return None

    async def _open(self) -> Line:
        loop = asyncio.get_running_loop()
        name = self._host if self._context else None
        _, line = await loop.create_connection(
            Line, self._host, self._port, ssl=self._context, server_hostname=name, happy_eyeballs_delay=0.25
        )
        self._all.add(line)
        line.lost.add_done_callback(lambda _: self._all.discard(line))
        return line

    async def close(self) -> None:
        """Close all connections, and return when they are."""
        lost = [line.lost for line in self._all]
        for line in [*self._all]:
            line.close()
        self._idle.clear()
        await asyncio.gather(*lost)
