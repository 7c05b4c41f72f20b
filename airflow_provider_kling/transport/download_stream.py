"""Reads videos from storage hosts: follows links that came in as data, with care and without the key."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from airflow_provider_kling.errors import KlingAccessError, KlingDownloadError, KlingVideoError, Money
from airflow_provider_kling.redaction import Redactor
from airflow_provider_kling.transport.addresses import address_in, may_be_asked
from airflow_provider_kling.transport.sessions import Deadline, TimedConnection, timed, use_connections
from airflow_provider_kling.transport.settings import Settings
from airflow_provider_kling.transport.sync_client import USER_AGENT, describe_failure, request_options
from airflow_provider_kling.values import is_web_url

_CHUNK = 1024 * 1024
_MAX_REDIRECTS = 5
_MAX_RESUMES = 5
#: Bytes a second that a host must send over each `request_timeout` of waiting for it.
_MIN_BYTES_PER_SECOND = 4096
#: What is raised for a URL that no request can be sent to.
WRONG_URL = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)


@dataclass(frozen=True, slots=True)
class Stream:
    """An opened download.

    :param length: the bytes that the storage host promised, or None.
    :param content_type: what the host says they are, cleaned and bounded.
    :param chunks: the bytes. A stream that breaks is resumed where it stopped.
    """

    length: int | None
    content_type: str
    chunks: Iterator[bytes]


@contextmanager
def open_link(url: str, settings: Settings) -> Iterator[Stream]:
    """Open a video's link for reading, with the connection's proxies and TLS settings, but without its key.

    Only http and https are followed, and only to public addresses unless the connection allows private
    ones. The address is checked on the socket that was opened, and again after every redirect.

    No part of an answer may hold the caller. The head has a deadline, redirects included, and so has each
    single read. Over each ``request_timeout`` of waiting the host must send a minimum of bytes. A deadline
    for the whole download would end large videos on slow lines, so there is none.

    :raises KlingVideoError: where the link is no http(s) URL.
    :raises KlingDownloadError: with the ``http_status`` where the storage host answered with one.
    :raises KlingAccessError: where the link leads to an address that is not allowed.
    """
    with guarded_session(settings) as session:
        link = _Link(url, session, settings)
        response = link.open()
        content_type = _media_type(response.headers.get("Content-Type", ""), settings)
        try:
            yield Stream(link.length, content_type, link.chunks())
        finally:
            link.close()


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the number of bytes that a Content-Length promises, or None."""
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and length.isascii() and len(length) < 20 else None


def _media_type(content_type: str, settings: Settings) -> str:
    """Return a Content-Type without its parameters, or an empty text where it is none."""
    media_type = content_type.partition(";")[0].strip()
    return Redactor(settings.api_key).shown(media_type) if _MEDIA_TYPE.fullmatch(media_type) else ""


_MEDIA_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,40}/[A-Za-z0-9.+-]{1,80}")


class _Link:
    """One link and the response that is read from it at the moment."""

    def __init__(self, url: str, session: requests.Session, settings: Settings) -> None:
        if not is_web_url(url):
            raise KlingVideoError("The video's link is no http(s) URL.")
        self._url = url
        self._session = session
        self._settings = settings
        self.length: int | None = None

    def open(self, offset: int = 0, etag: str = "") -> requests.Response:
        headers = {"Range": f"bytes={offset}-", "If-Range": etag} if offset else {}
        with _download_errors(), Deadline(self._settings.request_timeout):
            response = self._session.get(self._url, headers=headers, **request_options(self._settings))
        self._response = response
        if response.status_code != (206 if offset else 200):
            response.close()
            what = f"The storage host answered HTTP {response.status_code} to the video's link."
            raise KlingDownloadError(what, http_status=response.status_code)
        if not offset:
            self.length = content_length(response.headers)
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
                if not offset or not etag or etag.startswith("W/") or resumes > _MAX_RESUMES:
                    raise
                self.close()
                self._resume(offset, etag)
            else:
                return

    def _pieces(self) -> Iterator[bytes]:
        """Yield what has come, without waiting for more, so that a break loses nothing.

        Nothing is decoded: a video is not compressed, and compressed bytes may swell to a thousandfold.
        """
        waited, received = 0.0, 0
        while True:
            asked_at = time.monotonic()
            with _download_errors(), Deadline(self._settings.request_timeout):
                piece = self._response.raw.read1(_CHUNK, decode_content=False)
            waited, received = waited + time.monotonic() - asked_at, received + len(piece)
            if waited > self._settings.request_timeout:
                if received < _MIN_BYTES_PER_SECOND * waited:
                    what = f"The storage host sends less than {_MIN_BYTES_PER_SECOND} bytes a second."
                    raise KlingDownloadError(what)
                waited, received = 0.0, 0
            if not piece:
                return
            yield piece

    def _resume(self, offset: int, etag: str) -> None:
        headers = self.open(offset, etag).headers
        place, _, total = headers.get("Content-Range", "").partition("/")
        same_place = place.startswith(f"bytes {offset}-")
        same_file = headers.get("ETag", etag) == etag and total in ("*", str(self.length or total))
        if not (same_place and same_file):
            raise KlingDownloadError("The video's stream broke, and the storage host resumed it elsewhere.")

    def close(self) -> None:
        self._response.close()


@contextmanager
def _download_errors() -> Iterator[None]:
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise KlingDownloadError(f"The video's stream broke ({describe_failure(error)}).") from None


class _BareSession(requests.Session):
    """A session that takes nothing along to a redirect's target: no ``.netrc``, no body."""

    def rebuild_auth(self, *_: object) -> None:
        """Add nothing; there is nothing to take away."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Leave the body of a redirect unread: requests would take all of it into memory."""
        target = super().get_redirect_target(resp)
        if target is not None:
            resp.close()
        return target


def guarded_session(settings: Settings) -> requests.Session:
    """Return a session for links that came in as data: no key, no ``.netrc``, allowed addresses only."""
    session = _BareSession()
    session.auth = _no_auth  # keeps a .netrc, and a user name in the link, out
    session.headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    session.max_redirects = _MAX_REDIRECTS
    session.trust_env = settings.trust_env
    for scheme in ("http://", "https://"):
        session.mount(scheme, _GuardedAdapter(allow_private=settings.allow_private_hosts))
    return timed(session)


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _check_address(address: str, *, allow_private: bool) -> None:
    if may_be_asked(address, allow_private=allow_private):
        return
    if allow_private:
        what = f"The link leads to {address}, where clouds keep credentials. It is never asked."
        advice = "Look at where this link comes from."
    else:
        what = f"The link leads to {address}, which is not a public address."
        advice = "If this gateway is your own, set allow_private_hosts in the connection's extra."
    raise KlingAccessError(what, money=Money.PAID, advice=advice)


def _guarded_connection(*, allow_private: bool) -> type[TimedConnection]:
    """Return a kind of connection that checks the address at its other end before a byte is sent."""

    class Guarded(TimedConnection):
        def _new_conn(self) -> socket.socket:
            sock = super()._new_conn()
            try:
                _check_address(sock.getpeername()[0], allow_private=allow_private)
            except KlingAccessError:
                sock.close()
                raise
            return sock

    return Guarded


class _GuardedAdapter(HTTPAdapter):
    """Connects to allowed addresses only.

    Behind a proxy it is the proxy that connects and decides about names. Addresses are refused here too.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if address := address_in(urlsplit(request.url or "").hostname or ""):
            _check_address(address, allow_private=self._allow_private)
        return super().send(request, *args, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        use_connections(self.poolmanager, _guarded_connection(allow_private=self._allow_private))

    def close(self) -> None:
        """Close all connections now; urllib3 leaves that to the garbage collector."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - the container is no mapping to iterate over
                manager.pools[key].close()
        super().close()
