"""Videos from storage hosts: links that came in as data are followed with care, and without the key."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from airflow_provider_kling.errors import KlingAccessError, KlingDownloadError, Money
from airflow_provider_kling.redaction import clean
from airflow_provider_kling.transport.addresses import address_in, is_public
from airflow_provider_kling.transport.client import USER_AGENT, describe_failure
from airflow_provider_kling.transport.sessions import TimedHTTP, TimedHTTPS, timed
from airflow_provider_kling.transport.settings import Settings
from airflow_provider_kling.transport.tls import verification

_CHUNK = 1024 * 1024
_MOST_REDIRECTS = 5
_MOST_RESUMES = 5
#: Bytes a second that a host has to bring over each `request_timeout` of waiting for it.
_SLOWEST = 4096


def _unsign(record: logging.LogRecord) -> bool:
    record.msg, record.args, record.exc_info = clean(record.getMessage()), (), None
    return True


# Of an answer with broken headers, urllib3 logs the whole URL, with its signature, into the task's log.
logging.getLogger("urllib3.connection").addFilter(_unsign)


@dataclass(frozen=True, slots=True)
class Stream:
    """An opened download.

    :param length: the bytes that the storage host promised, or None where it promised nothing.
    :param content_type: what it says they are.
    :param chunks: the bytes, as they come; a broken stream goes on where it stopped.
    """

    length: int | None
    content_type: str
    chunks: Iterator[bytes]


@contextmanager
def open_link(url: str, settings: Settings) -> Iterator[Stream]:
    """Open a video's link for reading, with the connection's proxies and TLS settings, but without its key.

    Only http and https are followed, and only to public addresses unless the connection allows private
    ones. The address is checked on the very socket that was opened, after every redirect again, so a
    name that changes its mind is caught.

    :raises KlingDownloadError: with the ``http_status`` where the storage host answered with one.
    :raises KlingAccessError: where the link leads to an address that is not public.
    """
    with guarded_session(settings) as session:
        link = _Link(url, session, settings)
        response = link.open()
        try:
            yield Stream(link.length, response.headers.get("Content-Type", ""), link.chunks())
        finally:
            link.close()


class _Link:
    """One link and the response that is read from it at the moment."""

    def __init__(self, url: str, session: requests.Session, settings: Settings) -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise KlingDownloadError(
                f"The video's link is no http(s) URL but {url.split(':', maxsplit=1)[0]!r}."
            )
        self._url, self._session, self._settings = url, session, settings
        self.length: int | None = None

    def open(self, offset: int = 0, etag: str = "") -> requests.Response:
        headers = {"Range": f"bytes={offset}-", "If-Range": etag} if offset else {}
        with _in_our_words():
            response = self._session.get(
                self._url,
                timeout=self._settings.request_timeout,
                stream=True,
                headers=headers,
                proxies=self._settings.proxies,  # of both, the session would let the environment win
                verify=verification(self._settings),
            )
        self._response = response
        if response.status_code != (206 if offset else 200):
            response.close()
            what = f"The storage host answered HTTP {response.status_code} to the video's link."
            raise KlingDownloadError(what, http_status=response.status_code)
        if not offset:
            length = response.headers.get("Content-Length", "")
            self.length = int(length) if length.isdecimal() else None
        return response

    def chunks(self) -> Iterator[bytes]:
        offset, resumes = 0, 0
        while True:
            try:
                for chunk in self._pieces():
                    offset += len(chunk)
                    yield chunk
            except KlingDownloadError:
                etag = self._response.headers.get("ETag", "")
                resumes += 1
                if not offset or not etag or etag.startswith("W/") or resumes > _MOST_RESUMES:
                    raise
                self.close()
                self._resume(offset, etag)
            else:
                return

    def _pieces(self) -> Iterator[bytes]:
        """Yield what is there, without waiting for more: what came before a break is not lost.

        Nothing is decoded: a video is not compressed, and what would swell to a thousandfold is none.
        """
        waited, came = 0.0, 0
        while True:
            asked_at = time.monotonic()
            with _in_our_words():
                piece = self._response.raw.read1(_CHUNK, decode_content=False)
            waited, came = waited + time.monotonic() - asked_at, came + len(piece)
            if waited > self._settings.request_timeout:
                if came < _SLOWEST * waited:
                    raise KlingDownloadError(f"The storage host sends less than {_SLOWEST} bytes a second.")
                waited, came = 0.0, 0
            if not piece:
                return
            yield piece

    def _resume(self, offset: int, etag: str) -> None:
        where = self.open(offset, etag).headers.get("Content-Range", "")
        if not where.startswith(f"bytes {offset}-"):
            raise KlingDownloadError("The video's stream broke, and the storage host went on elsewhere.")

    def close(self) -> None:
        self._response.close()


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise KlingDownloadError(f"The video's stream broke ({describe_failure(error)}).") from None


class _BareSession(requests.Session):
    """A session that follows redirects with nothing: no ``.netrc`` for the next host, no body of the last."""

    def rebuild_auth(self, *_: object) -> None:
        """Add nothing; there is nothing to take away."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Leave the body of a redirect unread: requests would take all of it into memory."""
        target = super().get_redirect_target(resp)
        if target is not None:
            resp.close()
        return target


def guarded_session(settings: Settings) -> requests.Session:
    """Return a session for links that came in as data: no key, no ``.netrc``, public addresses only."""
    session = _BareSession()
    session.auth = _no_auth  # keeps a .netrc, and a user name in the link, out
    session.headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    session.max_redirects = _MOST_REDIRECTS
    session.trust_env = settings.trust_env
    timed(session)
    if not settings.allow_private_hosts:
        for scheme in ("http://", "https://"):
            session.mount(scheme, _PublicOnlyAdapter())
    return session


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _checked(sock: socket.socket) -> socket.socket:
    """Return the socket if the address at its other end is public; checked before a byte is sent."""
    address = sock.getpeername()[0]
    if is_public(address):
        return sock
    sock.close()
    raise _not_public(address)


def _not_public(address: str) -> KlingAccessError:
    return KlingAccessError(
        f"The link leads to {address}, which is not a public address.",
        money=Money.PAID,
        advice="If this gateway is your own, set allow_private_hosts in the connection's extra.",
    )


class _PublicHTTP(TimedHTTP):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


class _PublicHTTPS(TimedHTTPS):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


class _PublicHTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PublicHTTP


class _PublicHTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicHTTPS


class _PublicOnlyAdapter(HTTPAdapter):
    """Connects to public addresses only.

    Behind a proxy it is the proxy that connects, and decides about names; addresses are refused here too.
    """

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        address = address_in(urlsplit(request.url or "").hostname or "")
        if address and not is_public(address):
            raise _not_public(address)
        return super().send(request, *args, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PublicHTTPPool, "https": _PublicHTTPSPool}
