"""What a connection's extra says to the http provider: proxies, TLS, headers. Checked, passed on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_kling.errors import KlingAccessError

#: What the http provider reads in the extra; it sends the remaining keys as HTTP headers.
TRANSPORT_FIELDS = (
    *("proxies", "proxy", "verify", "verify_ssl", "cert", "stream", "timeout", "trust_env"),
    *("allow_redirects", "max_redirects", "check_response", "srv_lookup"),
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[ -~\t]*")


class WrongFieldError(Exception):
    """A field of a connection is wrong; the words do not repeat what may be secret."""


def wrong_connection(conn_id: str, what: str) -> KlingAccessError:
    """Return the error for a connection's field that is wrong."""
    advice = "Correct the connection in Airflow (Admin, Connections)."
    return KlingAccessError(f"Connection {conn_id!r}: {what}.", advice=advice)


def http_extra(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the extra says to the http provider, checked; values may be secret and are not repeated.

    :param extra: the extra without our own fields.
    :raises WrongFieldError: naming the key that is wrong.
    """
    for name, value in extra.items():
        if name not in TRANSPORT_FIELDS:
            if name.lower() == "authorization":
                raise WrongFieldError(f"the extra's {name!r}: the API key belongs in the password")
            if not _is_header(name, value):
                raise WrongFieldError(f"the extra's {name!r} cannot be sent as an HTTP header")
        elif name in _KINDS and not _KINDS[name][0](value):
            raise WrongFieldError(f"the extra's {name!r} is not {_KINDS[name][1]}")
    return dict(extra)


def _is_header(name: str, value: Any) -> bool:
    single = isinstance(value, (str, int, float))
    return single and bool(_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(str(value)))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("proxies", "proxy"),
        (lambda v: isinstance(v, dict) and _texts(list(v.values())), "an object of proxy URLs by scheme"),
    ),
    **dict.fromkeys(
        ("verify", "verify_ssl"),
        (lambda v: isinstance(v, (bool, str)), "true, false or the path of a certificate bundle"),
    ),
    "cert": (lambda v: isinstance(v, str) or (_texts(v) and len(v) == 2), "a path, or a list of two paths"),
    "trust_env": (lambda v: isinstance(v, bool), "true or false"),
}
