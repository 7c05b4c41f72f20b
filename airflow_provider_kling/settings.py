"""What an Airflow connection of type ``kling`` says, read and checked. Pure: plain values in, a value out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_kling.catalog import DEFAULT_MODEL
from airflow_provider_kling.errors import KlingAccessError

DEFAULT_HOST = "https://api.myrouter.ai"
DEFAULT_TIMEOUT = 60.0
_LONGEST_TIMEOUT = 600.0
_PORTS = range(1, 65536)

#: Our own keys of the connection's extra; everything else there belongs to the http provider.
OWN_FIELDS = ("default_model", "request_timeout", "allow_private_hosts")
#: What the http provider reads there; it sends the remaining keys as HTTP headers.
_TRANSPORT_FIELDS = (
    *("proxies", "proxy", "verify", "verify_ssl", "cert", "stream", "timeout", "trust_env"),
    *("allow_redirects", "max_redirects", "check_response", "srv_lookup"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked connection.

    :param conn_id: the Airflow connection's id.
    :param api_key: the gateway's key.
    :param base_url: scheme, host, port and path prefix of the gateway, without a slash at the end.
    :param request_timeout: seconds that one HTTP call may take, 1..600.
    :param default_model: the model for operators that name none.
    :param allow_private_hosts: videos may be fetched from loopback and private addresses.
    :param http_extra: what the connection's extra says to the http provider: proxies, TLS, headers.
    """

    conn_id: str
    api_key: str = field(repr=False)
    base_url: str = DEFAULT_HOST
    request_timeout: float = DEFAULT_TIMEOUT
    default_model: str = DEFAULT_MODEL
    allow_private_hosts: bool = False
    http_extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def proxies(self) -> dict[str, str]:
        """Proxies by scheme, as ``requests`` takes them."""
        proxies = self.http_extra.get("proxies") or self.http_extra.get("proxy") or {}
        return dict(proxies)

    @property
    def verify(self) -> bool | str:
        """Whether to verify TLS certificates, or the path of the bundle to do it with."""
        for key in ("verify", "verify_ssl"):
            if isinstance(value := self.http_extra.get(key), (bool, str)):
                return value
        return True

    @property
    def cert(self) -> tuple[str, ...]:
        """The client certificate: no path, one for both, or certificate and key."""
        cert = self.http_extra.get("cert") or ()
        return (cert,) if isinstance(cert, str) else tuple(cert)

    @property
    def headers(self) -> dict[str, str]:
        """Further HTTP headers for the gateway, as the http provider understands the extra."""
        return {key: str(value) for key, value in self.http_extra.items() if key not in _TRANSPORT_FIELDS}

    @property
    def trust_env(self) -> bool:
        """Whether the proxy variables of the environment count."""
        return bool(self.http_extra.get("trust_env", True))

    @classmethod
    def from_connection(cls, connection: Any) -> Settings:
        """Return the settings in an Airflow connection.

        :param connection: anything with Airflow's connection attributes.
        :raises KlingAccessError: naming the field that is wrong, what was given and what is allowed.
        """
        conn_id = connection.conn_id
        extra = _extra(conn_id, connection.extra)
        return cls(
            conn_id=conn_id,
            api_key=_api_key(conn_id, connection.password),
            base_url=_base_url(conn_id, connection.host, connection.schema, connection.port),
            request_timeout=_timeout(conn_id, extra),
            default_model=_model(conn_id, extra.get("default_model")),
            allow_private_hosts=_flag(
                conn_id, "allow_private_hosts", extra.get("allow_private_hosts", False)
            ),
            http_extra={key: value for key, value in extra.items() if key not in OWN_FIELDS},
        )


def _wrong(conn_id: str, what: str) -> KlingAccessError:
    advice = "Correct the connection in Airflow (Admin, Connections), then run the task again."
    return KlingAccessError(f"Connection {conn_id!r}: {what}.", advice=advice)


def _extra(conn_id: str, text: str | None) -> dict[str, Any]:
    try:
        extra = json.loads(text) if text else {}
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise _wrong(conn_id, "the extra is not a JSON object")
    return {key: value for key, value in extra.items() if value is not None}


def _api_key(conn_id: str, password: str | None) -> str:
    key = (password or "").strip()
    if key.lower().startswith("bearer "):
        key = key[len("bearer ") :].strip()
    if not key:
        raise _wrong(
            conn_id, "the API key is missing; it belongs in the password (in a URI: kling://:KEY@host)"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise _wrong(conn_id, "the API key has a space or a character that no key has; paste it again")
    return key


def _base_url(conn_id: str, host: str | None, schema: str | None, port: int | None) -> str:
    host, schema = (host or "").strip().rstrip("/"), (schema or "").strip().strip("/")
    scheme, prefix = (schema, "") if schema.lower() in ("http", "https", "") else ("", schema)
    if "://" not in host:
        host = f"{scheme or 'https'}://{host}" if host else DEFAULT_HOST
    parts = urlsplit(f"{host}/{prefix}".rstrip("/"))
    try:
        own_port = parts.port
    except ValueError:
        raise _wrong(conn_id, f"host={host!r} has a port that is no number from 1 to 65535") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise _wrong(conn_id, f"host={host!r} is not a host name or an http(s) URL such as {DEFAULT_HOST!r}")
    if parts.username is not None or parts.password is not None:
        raise _wrong(
            conn_id, "the host holds a user name or password; the API key belongs in the password field"
        )
    if port and port not in _PORTS:
        raise _wrong(conn_id, f"port={port} is not a number from 1 to 65535")
    if port and own_port and port != own_port:
        raise _wrong(conn_id, f"the host says port {own_port}, the port field says {port}")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"{name}:{port or own_port}" if port or own_port else name
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def _timeout(conn_id: str, extra: Mapping[str, Any]) -> float:
    value = extra.get("request_timeout", extra.get("timeout", DEFAULT_TIMEOUT))
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(value, bool) or not 1 <= seconds <= _LONGEST_TIMEOUT:
        raise _wrong(conn_id, f"request_timeout={value!r} is not a number of seconds from 1 to 600")
    return seconds


def _model(conn_id: str, value: Any) -> str:
    if value in (None, ""):
        return DEFAULT_MODEL
    if not isinstance(value, str) or "/" in value or value != value.strip():
        raise _wrong(conn_id, f"default_model={value!r} is not a model's name such as {DEFAULT_MODEL!r}")
    return value


def _flag(conn_id: str, name: str, value: Any) -> bool:
    flag = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise _wrong(conn_id, f"{name}={value!r} is not true or false")
    return flag
