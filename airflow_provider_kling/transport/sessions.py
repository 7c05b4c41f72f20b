"""Sessions of ``requests``: the one for the gateway, with the key, and what holds for all of them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import requests
import urllib3
from airflow.providers.common.compat.sdk import Connection
from airflow.providers.http.hooks.http import HttpHook
from urllib3.connection import HTTPConnection, HTTPSConnection

from airflow_provider_kling.transport.settings import Settings


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
    """Bound the time that the head of an answer may take; requests bounds that of each piece of it.

    Behind a proxy, the proxy's patience holds.
    """
    for adapter in session.adapters.values():
        adapter.poolmanager.pool_classes_by_scheme = {"http": _TimedPool, "https": _TimedTLSPool}  # type: ignore[attr-defined]
    return session


class TimedHTTP(HTTPConnection):
    """Waits for the head of an answer no longer than the read timeout."""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # noqa: D102 - as in urllib3
        with _shut_in_time(self):
            return super().getresponse()


class TimedHTTPS(HTTPSConnection):
    """The same with TLS."""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # noqa: D102
        with _shut_in_time(self):
            return super().getresponse()


class _TimedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = TimedHTTP


class _TimedTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = TimedHTTPS


@contextmanager
def _shut_in_time(connection: HTTPConnection) -> Iterator[None]:
    """Shut a connection's socket when its timeout is over and the block is not; that ends the read in it.

    :raises TimeoutError: it was.
    """
    over, sock = threading.Event(), connection.sock

    def shut() -> None:
        over.set()
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # under TLS too, whose own is not for two threads

    watch = threading.Timer(connection.timeout, shut)  # type: ignore[arg-type]  # requests always gives one
    watch.daemon = True
    watch.start()
    try:
        yield
    except Exception:
        if not over.is_set():
            raise
    finally:
        watch.cancel()
    if over.is_set():
        raise TimeoutError
