"""Sessions of ``requests``: the one for the gateway, with the key, and what holds for all of them."""

from __future__ import annotations

import http.client
import io
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import Any, Self

import requests
import urllib3
from airflow.providers.common.compat.sdk import Connection
from airflow.providers.http.hooks.http import HttpHook
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from airflow_provider_kling.redaction import clean
from airflow_provider_kling.transport.settings import Settings


def _redact(record: logging.LogRecord) -> bool:
    """Take the query of a URL, and what a peer wrote into broken headers, out of a log record."""
    text = record.getMessage().partition(", unparsed data")[0]
    record.msg, record.args, record.exc_info = re.sub(r"\?[^\s\"')]*", "", clean(text)), (), None
    return True


# urllib3 logs whole URLs with their signatures, and headers that it cannot read, into the task's log.
for _name in ("connection", "connectionpool", "poolmanager", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_redact)


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
    session.get_redirect_target = _no_redirect  # type: ignore[method-assign] # no other switch
    return timed(session)


def _no_redirect(resp: requests.Response) -> None:  # noqa: ARG001 - the argument names it
    return None


def timed(session: requests.Session) -> requests.Session:
    """Let the session's connections obey a :class:`Deadline`, and read interim responses as HTTP wants it."""
    for adapter in session.adapters.values():
        assert isinstance(adapter, HTTPAdapter)
        use_connections(adapter.poolmanager, TimedConnection)
        # requests makes a manager for a proxy when it first needs it.
        adapter.proxy_manager_for = _timed_managers(adapter.proxy_manager_for)  # type: ignore[method-assign]
    return session


def _timed_managers(make: Callable[..., urllib3.PoolManager]) -> Callable[..., Any]:
    def timed_manager(*args: Any, **kwargs: Any) -> urllib3.PoolManager:
        return use_connections(make(*args, **kwargs), TimedConnection)

    return timed_manager


def use_connections(manager: urllib3.PoolManager, kind: type[Any]) -> urllib3.PoolManager:
    """Let a manager's connections be of *kind* too, and return it."""
    manager.pool_classes_by_scheme = {
        scheme: _pool(pool, kind) for scheme, pool in manager.pool_classes_by_scheme.items()
    }
    return manager


def _pool(pool: type[Any], kind: type[Any]) -> type[Any]:
    if issubclass(pool.ConnectionCls, kind):
        return pool
    connection = type(kind.__name__, (kind, pool.ConnectionCls), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class Deadline:
    """Limits all that its block does over HTTP: connection, TLS handshake, sending, each part of an answer.

    The timeout of a socket begins anew with each byte, so a slow peer keeps a call going for hours. So each
    wait for the peer gets only what is left of the time.

    :param seconds: what the block may take.
    :ivar unopened: the block's connection could not be opened, so that no byte of a request was sent.
    """

    unopened = False

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    def __enter__(self) -> Self:
        self._token = _current_deadline.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current_deadline.reset(self._token)

    @property
    def seconds_left(self) -> float:
        """The seconds that are left, a little more than 0 at the end."""
        return max(0.001, self._ends_at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the time is over, but for the inaccuracy of a timer."""
        return self.seconds_left <= _INACCURACY


_INACCURACY = 0.01
_current_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def _limit(sock: socket.socket | None) -> None:
    """Let the next operation of a socket end at the deadline of the running block, if it has one.

    The socket's timeout ends only an operation that waits, and a fast peer lets none wait.

    :raises TimeoutError: after the deadline.
    """
    if sock is not None and (deadline := _current_deadline.get()):
        if deadline.expired:
            raise TimeoutError
        sock.settimeout(deadline.seconds_left)


class _TimedReader(io.RawIOBase):
    """Reads from a socket, each time within the deadline."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock, self._raw = sock, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _limit(self._sock)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """Reads within the deadline, and skips every interim response, such as 103 Early Hints.

    ``http.client`` skips only 100 Continue.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(sock, self.fp.detach()))

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # typeshed does not know it
            if not 100 <= status < 200 or status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many interim responses")


_MAX_INTERIM = 10_000
#: What a socket is given to send at a time: with TLS, each such part could take the whole timeout.
_RECORD = 16 * 1024


class TimedConnection(HTTPConnection):
    """A connection that obeys the deadline of its block."""

    response_class = _TimedResponse

    def connect(self) -> None:
        """Open the connection, with its tunnel through a proxy and its TLS."""
        try:
            super().connect()
        except BaseException:
            if deadline := _current_deadline.get():
                deadline.unopened = True
            raise

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
        by_proxy = hasattr(self, "_socks_options")  # a SOCKS proxy looks names up itself
        addresses = [name] if by_proxy else _addresses(name, deadline.seconds_left)
        for address in addresses:
            self._dns_host, self.timeout = address, deadline.seconds_left
            try:
                sock: socket.socket = super()._new_conn()
            except urllib3.exceptions.HTTPError:
                if address == addresses[-1] or deadline.expired:
                    raise
            else:
                sock.settimeout(deadline.seconds_left)  # for the TLS handshake
                return sock
        raise urllib3.exceptions.ConnectTimeoutError(self, "the name was not looked up in time")

    def send(self, data: Any) -> None:
        """Send bytes, all of them within the deadline."""
        if self.sock is None or not isinstance(data, bytes):
            super().send(data)
            return
        for start in range(0, len(data), _RECORD):
            _limit(self.sock)
            super().send(data[start : start + _RECORD])


def _addresses(name: str, seconds: float) -> list[str]:
    """Return the addresses of a name; the name where it has none; nothing where that takes too long.

    Nothing ends a look-up. So it runs in a thread, which is left alone.
    """
    found: SimpleQueue[list[str]] = SimpleQueue()
    threading.Thread(target=lambda: found.put(_looked_up(name)), daemon=True).start()
    try:
        return found.get(timeout=seconds)
    except Empty:
        return []


def _looked_up(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(
            name.strip("[]"), None, urllib3.util.connection.allowed_gai_family(), socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        return [name]  # urllib3 says what is wrong with it
    return list(dict.fromkeys(str(address[4][0]) for address in found)) or [name]
