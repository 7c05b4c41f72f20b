"""What is behind a URL that the gateway will fetch: looked at before it is paid for, with suspicion."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
import urllib3

from airflow_provider_kling.errors import KlingAccessError, KlingError, KlingInputError, KlingUnavailableError
from airflow_provider_kling.media.picture_formats import BrokenError, Shape, shape_of
from airflow_provider_kling.media.pictures import check_shape, check_size, check_video
from airflow_provider_kling.redaction import told
from airflow_provider_kling.transport.client import describe_failure
from airflow_provider_kling.transport.download_stream import guarded_session
from airflow_provider_kling.transport.settings import Settings
from airflow_provider_kling.transport.tls import verification

_CHUNK = 64 * 1024
#: Bytes within which a picture's header has to tell its size; metadata may fill some hundred thousand.
_MOST = 2 * 1024 * 1024
#: Bytes that tell any format from the others.
_LEAST = 256
_PASSING = frozenset({408, 425, 429})
#: What is raised for an address that leads nowhere, today and tomorrow.
_WRONG = (
    requests.TooManyRedirects,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)


def check_picture_link(url: str, argument: str, settings: Settings) -> Shape:
    """Return what the first bytes behind a picture's URL say, if the gateway's limits allow it.

    As many bytes are fetched as tell the sides, so whether the file is whole is not known.

    :param url: the address, http or https.
    :param argument: the operator's argument, for the messages.
    :param settings: the connection's: proxies, TLS, and whether private addresses are allowed.
    :raises KlingInputError: where there is no such picture, or it is not allowed, or its address is private.
    :raises KlingUnavailableError: where the host does not answer, which may pass.
    """
    return check_shape(_beginning(url, argument, settings, _has_shape), argument, told(url), whole=False)


def check_video_link(url: str, argument: str, settings: Settings) -> None:
    """Raise, as :func:`check_picture_link` does, where no MP4 or MOV of an allowed size is behind a URL."""
    check_video(_beginning(url, argument, settings, bool), argument, told(url))


def _has_shape(data: bytes) -> bool:
    try:
        shape_of(data, whole=False)
    except BrokenError:
        return False
    return True


def _beginning(url: str, argument: str, settings: Settings, enough: Callable[[bytes], bool]) -> bytes:
    """Return the first bytes behind a URL, after a look at how many there are."""
    shown, until = told(url), time.monotonic() + settings.request_timeout
    ask: dict[str, Any] = {
        "timeout": settings.request_timeout,
        "stream": True,
        "allow_redirects": True,
        "proxies": settings.proxies,
        "verify": verification(settings),
    }
    with _in_our_words(argument, shown), guarded_session(settings) as session:
        with session.head(url, **ask) as response:
            if response.ok:  # a link that is signed for GET alone is refused here
                _check_length(response.headers.get("Content-Length", ""), argument, shown)
        with session.get(url, headers={"Range": f"bytes=0-{_MOST - 1}"}, **ask) as response:
            if not response.ok:
                raise _refusal(response.status_code, argument, shown)
            headers, whole = response.headers, response.status_code == requests.codes.ok
            length = headers.get("Content-Length", "") if whole else headers.get("Content-Range", "")
            _check_length(length.rpartition("/")[2], argument, shown)
            data = b""
            for chunk in response.iter_content(_CHUNK):
                data += chunk
                if len(data) >= _MOST or (len(data) >= _LEAST and enough(data)):
                    break
                if time.monotonic() > until:
                    raise KlingUnavailableError(f"{argument}={shown!r}: its host is too slow.")
            return data


def _check_length(length: str, argument: str, shown: str) -> None:
    if length.isdecimal():
        check_size(int(length), argument, shown)


def _refusal(status: int, argument: str, shown: str) -> KlingError:
    what = f"{argument}={shown!r}: its host answered HTTP {status}"
    if status in _PASSING or status >= requests.codes.server_error:
        return KlingUnavailableError(f"{what}.")
    return KlingInputError(f"{what}, so the gateway cannot fetch it either.")


@contextmanager
def _in_our_words(argument: str, shown: str) -> Iterator[None]:
    try:
        yield
    except KlingAccessError as error:  # the guard's
        what = f"{argument}={shown!r}: {error.what} The gateway could not fetch it either."
        raise KlingInputError(what, advice=error.advice) from None
    except _WRONG as error:
        raise KlingInputError(f"{argument}={shown!r}: no such URL ({describe_failure(error)}).") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        what = f"{argument}={shown!r}: its host cannot be asked ({describe_failure(error)})."
        raise KlingUnavailableError(what) from None
