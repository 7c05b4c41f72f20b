"""Sessions of ``requests``: the one for the gateway, with the key, and what holds for all of them."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Self

import requests
import urllib3
from airflow.providers.common.compat.sdk import Connection
from airflow.providers.http.hooks.http import HttpHook
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from airflow_provider_kling.redaction import clean
from airflow_provider_kling.transport.settings import Settings


def _without_foreign_words(record: logging.LogRecord) -> bool:
    """Take the query of a URL, and what a peer wrote into broken headers, out of a log record."""
    text = record.getMessage().partition(", unparsed data")[0]
    record.msg, record.args, record.exc_info = re.sub(r"\?[^\s\"')]*", "", clean(text)), (), None
    return True


# urllib3 logs whole URLs with their signatures, and headers that it cannot read, into the task's log.
for _name in ("connection", "connectionpool", "poolmanager", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_without_foreign_words)


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
            extra=json.dumps({**settings.http_extra, **settings.headers}),
        )

    def get_connection(self, conn_id: str) -> Connection:  # type: ignore[override]  # a classmethod there
        assert conn_id == self._connection.conn_id
        return self._connection


def gateway_session(settings: Settings) -> requests.Session:
    """Return a session as the http provider sets it up (proxies, TLS, keep-alive), carrying the API key."""
    session = _PlainHttpHook(settings).get_conn()
    # Of a redirect that it does not follow, requests would still read the target, and all of the body.
    session.get_redirect_target = _nowhere  # type: ignore[method-assign]
    return timed(session)


def _nowhere(resp: requests.Response) -> None:  # noqa: ARG001 - the argument names it
    return None


def timed(session: requests.Session) -> requests.Session:
    """Let the session's connections obey a :class:`Deadline`, and read interim responses as HTTP wants it."""
    for adapter in session.adapters.values():
        assert isinstance(adapter, HTTPAdapter)
        _time(adapter.poolmanager)
        # requests makes a manager for a proxy when it first needs it.
        adapter.proxy_manager_for = _timed_managers(adapter.proxy_manager_for)  # type: ignore[method-assign]
    return session


def _time(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _TimedPool, "https": _TimedTLSPool}


def _timed_managers(make: Callable[..., urllib3.PoolManager]) -> Callable[..., Any]:
    def timed_manager(*args: Any, **kwargs: Any) -> urllib3.PoolManager:
        manager = make(*args, **kwargs)
        _time(manager)
        return manager

    return timed_manager


class Deadline:
    """Ends all that its block does over HTTP when the time is over: it shuts the block's connections down.

    The timeout of a socket begins anew with each byte, so a slow peer keeps a call going for hours. This one
    is never reset: it holds for connection, TLS handshake, interim responses, head, body and trailers.

    :param seconds: what the block may take.
    """

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.expired = False

    def __enter__(self) -> Self:
        self._token = _current_deadline.set(self)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        _current_deadline.reset(self._token)
        self._timer.cancel()
        with self._lock:
            for sock in self._sockets:
                sock.close()

    def check(self) -> None:
        """Raise a TimeoutError where the time is over: what was read last may be a part only."""
        if self.expired:
            raise TimeoutError

    @property
    def seconds_left(self) -> float:
        """The seconds that are left, a little more than 0 at the end."""
        return max(0.001, self._ends_at - time.monotonic())

    def watch(self, sock: socket.socket) -> None:
        """Shut *sock* down when the time is over.

        A copy of it is kept, because TLS takes the socket away from whoever opened it.
        """
        with self._lock, suppress(OSError):
            self._sockets.append(socket.socket(fileno=os.dup(sock.fileno())))
        if self.expired:
            self._expire()

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


_current_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class _FinalResponse(http.client.HTTPResponse):
    """Skips every interim response, such as 103 Early Hints; ``http.client`` skips only 100 Continue."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # typeshed does not know it
            if not 100 <= status < 200 or status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many interim responses")


_MAX_INTERIM = 10_000
#: Seconds for a head, where nobody has set a timeout.
_DEFAULT_TIMEOUT = 60.0


class TimedHTTP(HTTPConnection):
    """A connection that obeys the deadline of its block. Without one, the read timeout limits the head."""

    response_class = _FinalResponse

    def _new_conn(self) -> socket.socket:
        """Open the socket; urllib3 gives each address of a name the whole timeout."""
        deadline = _current_deadline.get()
        if deadline is None:
            return super()._new_conn()
        name, timeout = self._dns_host, self.timeout
        try:
            return self._connected(deadline, name)
        finally:
            self._dns_host, self.timeout = name, timeout

    def _connected(self, deadline: Deadline, name: str) -> socket.socket:
        addresses = _addresses(name)
        for address in addresses:
            self._dns_host, self.timeout = address, deadline.seconds_left
            try:
                sock: socket.socket = super()._new_conn()
            except urllib3.exceptions.HTTPError:
                if address == addresses[-1] or deadline.expired:
                    raise
            else:
                deadline.watch(sock)
                return sock
        raise AssertionError("a name has at least itself as an address")

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, also on a kept connection within the deadline."""
        deadline, sock = _current_deadline.get(), self.sock
        if deadline and sock is not None:
            deadline.watch(sock)
        super().request(*args, **kwargs)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as in urllib3
        """Return the response as far as its head."""
        if _current_deadline.get():
            return super().getresponse()
        response: Any = None
        with Deadline(self.timeout or _DEFAULT_TIMEOUT) as deadline:
            deadline.watch(self.sock)
            try:
                response = super().getresponse()
            except Exception:
                if not deadline.expired:
                    raise
        if deadline.expired and response is not None:
            response.close()  # its head may be a part only
        deadline.check()  # here, so that its error does not keep the other one and the socket alive
        return response  # type: ignore[no-any-return]


def _addresses(name: str) -> list[str]:
    """Return the addresses of a name, or the name where it has none, so that urllib3 says what is wrong."""
    try:
        found = socket.getaddrinfo(
            name.strip("[]"), None, urllib3.util.connection.allowed_gai_family(), socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        return [name]
    return list(dict.fromkeys(str(address[4][0]) for address in found)) or [name]


class TimedHTTPS(TimedHTTP, HTTPSConnection):
    """The same with TLS."""


class _TimedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = TimedHTTP


class _TimedTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = TimedHTTPS
