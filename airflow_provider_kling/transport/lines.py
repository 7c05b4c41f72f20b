"""Keep-alive connections for nothing but queries: a fraction of the CPU of a general HTTP client."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from airflow_provider_kling.gateways.base import Reply
from airflow_provider_kling.transport.http1 import read

#: A connection that was idle for longer is not used again, in seconds: the other side may have dropped it.
LONGEST_IDLE = 15.0


class UnreadableError(Exception):
    """The other side's answer is for the general HTTP client to understand."""


class StaleError(ConnectionError):
    """The connection was closed before it said a word: most likely while nobody used it."""


class Receiver(Protocol):
    """Who waits for an answer, such as a future."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: Reply, /) -> None:
        """Take the answer."""

    def set_exception(self, exception: Exception, /) -> None:
        """Take the reason why there is none."""


class Line(asyncio.Protocol):
    """One connection: one GET after another.

    :param timeout: seconds that one GET may take.
    :param done: is told when the line is free again.
    """

    def __init__(self, timeout: float, done: Callable[[Line], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.lost = self.loop.create_future()
        self.idle_since = 0.0
        self._timeout, self._done = timeout, done
        self._waiter: Receiver | None = None
        self._data = b""
        self._late_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's protocol
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes, waiter: Receiver) -> None:
        """Send one GET; *waiter* gets the answer, or the reason why there is none.

        Its exception is a :class:`StaleError` where another line should be asked, an
        :class:`UnreadableError` where the general client should be, else an :class:`OSError`.
        """
        self._waiter, self._data = waiter, b""
        self._late_at = self.loop.time() + self._timeout
        if self._timer is None:  # it is set again when it rings, not at each request
            self._timer = self.loop.call_at(self._late_at, self._ring)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._hear(data, ended=False)

    def eof_received(self) -> None:  # noqa: D102
        self._hear(b"", ended=True)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        if self._timer:
            self._timer.cancel()
        self.lost.set_result(None)
        self._end(exc if self._data and exc else self._closed())

    def _closed(self) -> OSError:
        return ConnectionResetError("the answer was cut off") if self._data else StaleError("no answer")

    def _hear(self, data: bytes, *, ended: bool) -> None:
        self._data += data
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody asked, or nobody waits any more
            return
        try:
            answer = read(self._data, ended=ended)
        except ValueError as error:
            self._end(UnreadableError(str(error)))
            return
        if answer:
            waiter, self._waiter = self._waiter, None
            if answer.keep and self.usable:
                self.idle_since = self.loop.time()
                self._done(self)
            else:
                self.close()
            waiter.set_result(Reply(answer.status, answer.headers, answer.body, time.time()))

    def _end(self, error: Exception) -> None:
        """Tell the one who waits, and close."""
        waiter, self._waiter = self._waiter, None
        self.close()
        if waiter and not waiter.done():
            waiter.set_exception(error)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self.loop.time() < self._late_at:
            self._timer = self.loop.call_at(self._late_at, self._ring)
        else:
            self._end(TimeoutError())

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not self._transport.is_closing()

    def close(self) -> None:
        """Close it at once."""
        self._transport.abort()


class Lines:
    """A gateway's connections, opened as they are needed.

    :param base_url: scheme, host and port.
    :param context: the TLS context, for https.
    :param timeout: seconds that a connection or a GET may take.
    """

    def __init__(self, base_url: str, context: ssl.SSLContext, timeout: float) -> None:
        parts = urlsplit(base_url)
        secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if secure else 80)
        self._context, self._timeout = context if secure else None, timeout
        self._idle: list[Line] = []
        self._all: set[Line] = set()

    async def ask(self, request: bytes) -> Reply:
        """Send one GET, on a new connection if need be, and return the answer.

        :raises OSError: there is no connection, or it ended before the answer did.
        :raises UnreadableError: what came is no plain answer.
        """
        while line := self.free():
            try:
                return await self._ask(line, request)
            except StaleError:
                continue
        async with asyncio.timeout(self._timeout):
            line = await self._open()
        return await self._ask(line, request)

    async def _ask(self, line: Line, request: bytes) -> Reply:
        waiter: asyncio.Future[Reply] = line.loop.create_future()
        line.ask(request, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            line.close()
            raise

    def free(self) -> Line | None:
        """Take the connection that was used last, if there is one; the longest unused are given up."""
        idle = self._idle
        while idle and idle[0].idle_since < idle[0].loop.time() - LONGEST_IDLE:
            idle.pop(0).close()
        while idle:
            if (line := idle.pop()).usable:
                return line
        return None

    async def _open(self) -> Line:
        loop = asyncio.get_running_loop()
        name = self._host if self._context else None
        _, line = await loop.create_connection(
            lambda: Line(self._timeout, self._idle.append),
            *(self._host, self._port),
            ssl=self._context,
            server_hostname=name,
            happy_eyeballs_delay=0.25,
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
