"""Checks what is behind a URL that the gateway will fetch, before it is paid for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests
import urllib3

from airflow_provider_kling.errors import KlingAccessError, KlingError, KlingInputError, KlingUnavailableError
from airflow_provider_kling.media.picture_formats import DamagedPictureError, Shape, read_shape
from airflow_provider_kling.media.pictures import MAX_PICTURE_BYTES, check_shape, check_size, check_video
from airflow_provider_kling.redaction import redacted
from airflow_provider_kling.transport.download_stream import WRONG_URL, content_length, guarded_session
from airflow_provider_kling.transport.sessions import Deadline
from airflow_provider_kling.transport.settings import Settings
from airflow_provider_kling.transport.sync_client import describe_failure, request_options

_CHUNK = 64 * 1024
#: Bytes in which a picture's header must tell its size; metadata may fill some hundred thousand.
_MAX_BYTES = 2 * 1024 * 1024
#: Bytes by which each format can be recognized.
_MIN_BYTES = 256
_PASSING = frozenset({408, 425, 429})


def check_picture_link(url: str, argument: str, settings: Settings, most: int = MAX_PICTURE_BYTES) -> Shape:
    """Return what the first bytes behind a picture's URL say, if the gateway's limits allow it.

    Only the bytes up to the picture's size are fetched. So it is not known whether the file is whole.

    :param settings: the connection's: proxies, TLS, and whether private addresses are allowed.
    :param most: bytes that the picture may have.
    :raises KlingInputError: where there is no such picture, or it is not allowed, or its address is private.
    :raises KlingUnavailableError: where the host does not answer, which may pass.
    """
    return check_shape(
        _first_bytes(url, argument, settings, _has_shape, most), argument, redacted(url), whole=False
    )


def check_video_link(url: str, argument: str, settings: Settings, most: int = MAX_PICTURE_BYTES) -> None:
    """Raise, as :func:`check_picture_link` does, where no MP4 or MOV of an allowed size is behind a URL."""
    check_video(_first_bytes(url, argument, settings, bool, most), argument, redacted(url))


def _has_shape(data: bytes) -> bool:
    try:
        read_shape(data, whole=False)
    except DamagedPictureError:
        return False
    return True


def _first_bytes(
    url: str, argument: str, settings: Settings, is_enough: Callable[[bytes], bool], most: int
) -> bytes:
    """Return the first bytes behind a URL, after a check of how many there are.

    All of it, redirects included, has one deadline. Nothing is decoded: compressed bytes may swell.
    """
    shown, deadline = redacted(url), Deadline(settings.request_timeout)
    options = {**request_options(settings), "allow_redirects": True}
    with _input_errors(argument, shown, deadline), guarded_session(settings) as session, deadline:
        with session.head(url, **options) as response:
            if response.ok:  # a link that is signed for GET alone is refused here
                _check_length(response, argument, shown, most)
        with session.get(url, headers={"Range": f"bytes=0-{_MAX_BYTES - 1}"}, **options) as response:
            if not response.ok:
                raise _refusal(response.status_code, argument, shown)
            _check_length(response, argument, shown, most)
            data = b""
            while len(data) < _MAX_BYTES and not (len(data) >= _MIN_BYTES and is_enough(data)):
                chunk = response.raw.read1(_CHUNK, decode_content=False)
                if not chunk:
                    break
                data += chunk
            return data


def _check_length(response: requests.Response, argument: str, shown: str, most: int) -> None:
    total = response.headers.get("Content-Length", "")
    if response.status_code == requests.codes.partial_content:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    length = content_length({"Content-Length": total})
    if length is not None:
        check_size(length, argument, shown, most)


def _refusal(status: int, argument: str, shown: str) -> KlingError:
    what = f"{argument}={shown!r}: its host answered HTTP {status}"
    if status in _PASSING or status >= requests.codes.server_error:
        return KlingUnavailableError(f"{what}.")
    return KlingInputError(f"{what}, so the gateway cannot fetch it either.")


@contextmanager
def _input_errors(argument: str, shown: str, deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except KlingAccessError as error:  # of the guarded session
        what = f"{argument}={shown!r}: {error.what} The gateway could not fetch it either."
        raise KlingInputError(what, advice=error.advice) from None
    except (requests.TooManyRedirects, *WRONG_URL) as error:
        raise KlingInputError(f"{argument}={shown!r}: no such URL ({describe_failure(error)}).") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        is_slow = deadline.expired or isinstance(error, (TimeoutError, requests.Timeout))
        why = "is too slow" if is_slow else f"cannot be asked ({describe_failure(error)})"
        raise KlingUnavailableError(f"{argument}={shown!r}: its host {why}.") from None
