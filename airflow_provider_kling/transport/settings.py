"""What an Airflow connection of type ``kling`` says, read and checked. Pure: plain values in, a value out."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.gateways import kling, myrouter
from airflow_provider_kling.gateways.base import Gateway
from airflow_provider_kling.models.kling import UNIT_PRICE
from airflow_provider_kling.models.prices import read_limit, read_prices
from airflow_provider_kling.redaction import Redactor
from airflow_provider_kling.transport.addresses import address_in, may_be_asked
from airflow_provider_kling.transport.extra import (
    TRANSPORT_FIELDS,
    WrongFieldError,
    http_extra,
    wrong_connection,
)

T = TypeVar("T")

#: The dialects by the names that a connection may give. A host decides where none is given, else the first.
GATEWAYS: Mapping[str, Gateway] = {"myrouter": myrouter, "kling": kling}
DEFAULT_TIMEOUT = 60.0
_LONGEST_TIMEOUT = 600.0
#: A shorter part of a header's value is no secret: it stands in many texts.
_SHORTEST_PART = 8
#: The gateway documents no limit for queries; this is what a thousand waits at ten seconds need.
DEFAULT_QUERIES_PER_SECOND = 100.0
_QUERIES_PER_SECOND = (0.1, 10_000.0)
_PORTS = range(1, 65536)
#: The port that the connection's form may have filled in.
_PREFILLED_PORT = 443
#: The connection types that may hold a gateway's key. Another type is another system's connection.
_TYPES = frozenset({"kling", "http", "generic", ""})

#: Our own keys of the connection's extra; everything else there belongs to the http provider.
OWN_FIELDS = (
    *("gateway", "default_model", "request_timeout", "queries_per_second", "allow_private_hosts"),
    *("allowed_paths", "prices", "unit_price_usd", "max_cost_usd", "max_run_cost_usd"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked connection.

    :param conn_id: the Airflow connection's id.
    :param api_key: the gateway's key.
    :param base_url: scheme, host, port and path prefix of the gateway, without a slash at the end.
    :param gateway: the dialect that the gateway speaks.
    :param request_timeout: seconds that one HTTP call may take, 1..600.
    :param queries_per_second: how many queries the waits of one process may send in a second, 0.1..10000.
    :param default_model: the model for operators that name none.
    :param allow_private_hosts: videos may be fetched from loopback and private addresses.
    :param allowed_paths: folders and storage URLs that pictures and videos must lie in; none, no limit.
    :param prices: US dollars a second without sound, by model, in place of the catalogue's estimates.
    :param unit_price_usd: US dollars for a unit of a resource pack, where the gateway's bill names units.
    :param max_cost_usd: US dollars that one job may cost, or None.
    :param max_run_cost_usd: US dollars that all jobs of one Dag run may cost together, or None.
    :param http_extra: what the connection's extra says to the http provider: proxies, TLS, headers.
    """

    conn_id: str
    api_key: str = field(repr=False)
    base_url: str = next(iter(myrouter.hosts.values()))
    gateway: Gateway = field(default=myrouter, repr=False)
    request_timeout: float = DEFAULT_TIMEOUT
    queries_per_second: float = DEFAULT_QUERIES_PER_SECOND
    default_model: str = myrouter.default_model
    allow_private_hosts: bool = False
    allowed_paths: tuple[str, ...] = ()
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    unit_price_usd: Decimal = UNIT_PRICE
    max_cost_usd: Decimal | None = None
    max_run_cost_usd: Decimal | None = None
    http_extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def redactor(self) -> Redactor:
        """Hides the key, the further headers' values and their parts, and the proxies' passwords in texts."""
        proxies = [*self.proxies.values(), *(getproxies().values() if self.trust_env else ())]
        secrets = (*self.headers.values(), *filter(None, map(_credentials, proxies)))
        return _redactor(self.api_key, secrets)

    @property
    def proxies(self) -> dict[str, str]:
        """Proxies by scheme, as ``requests`` takes them."""
        proxies = self.http_extra.get("proxies", self.http_extra.get("proxy", {}))
        return {scheme: proxy_url(proxy) for scheme, proxy in proxies.items()}

    @property
    def verify(self) -> bool | str:
        """Whether to verify TLS certificates, or the path of the bundle to do it with."""
        verify: bool | str = self.http_extra.get("verify", self.http_extra.get("verify_ssl", True))
        return verify

    @property
    def cert(self) -> tuple[str, ...]:
        """The client certificate: no path, one for both, or certificate and key."""
        cert = self.http_extra.get("cert", ())
        return (cert,) if isinstance(cert, str) else tuple(cert)

    @property
    def headers(self) -> dict[str, str]:
        """Further HTTP headers for the gateway, as the http provider understands the extra."""
        return {key: str(value) for key, value in self.http_extra.items() if key not in TRANSPORT_FIELDS}

    @property
    def trust_env(self) -> bool:
        """Whether the proxy variables of the environment count."""
        return self.http_extra.get("trust_env", True) is True

    @classmethod
    def from_connection(cls, connection: Any) -> Settings:
        """Return the settings in an Airflow connection.

        :param connection: anything with Airflow's connection attributes.
        :raises KlingAccessError: naming the field that is wrong, what was given and what is allowed.
        """
        try:
            _check_type(getattr(connection, "conn_type", ""))
            extra = _extra(connection.extra)
            gateway = _gateway(extra.get("gateway"), connection.host)
            return cls(
                conn_id=connection.conn_id,
                api_key=_api_key(connection.password, getattr(connection, "login", ""), gateway),
                gateway=gateway,
                base_url=_base_url(connection.host, connection.schema, connection.port, gateway),
                request_timeout=_timeout(extra),
                queries_per_second=_queries(extra),
                default_model=_model(extra.get("default_model"), gateway),
                allow_private_hosts=_flag("allow_private_hosts", extra.get("allow_private_hosts", False)),
                allowed_paths=_paths(extra.get("allowed_paths", ())),
                prices=_money("prices", read_prices, extra.get("prices", {})),
                unit_price_usd=_money("unit_price_usd", read_limit, extra.get("unit_price_usd", UNIT_PRICE))
                or Decimal(0),
                max_cost_usd=_money("max_cost_usd", read_limit, extra.get("max_cost_usd")),
                max_run_cost_usd=_money("max_run_cost_usd", read_limit, extra.get("max_run_cost_usd")),
                http_extra=http_extra({k: v for k, v in extra.items() if k not in OWN_FIELDS}),
            )
        except WrongFieldError as wrong:
            raise wrong_connection(connection.conn_id, str(wrong)) from None


@lru_cache(maxsize=64)
def _redactor(api_key: str, values: tuple[str, ...]) -> Redactor:
    return Redactor(api_key, [secret for value in values for secret in (value, *_secrets_inside(value))])


def _secrets_inside(value: str) -> Iterator[str]:
    """Yield the parts of a header's value that may be secrets, such as the token behind ``Bearer``."""
    yield from (part for part in re.split(r"[\s;,=\"']+", value) if len(part) >= _SHORTEST_PART)
    if basic := re.match(r"(?i)basic\s+(\S+)", value):
        with suppress(ValueError):
            credentials = b64decode(f"{basic[1]}==").decode("utf-8", "replace")
            yield from (credentials, credentials.partition(":")[2])


def proxy_url(address: str) -> str:
    """Return a proxy's address as a URL: like curl, read one without a scheme as http."""
    address = address.strip()
    return address if "://" in address or not address else f"http://{address}"


def _credentials(proxy: str) -> str:
    """Return the password in a proxy's URL, or the user name where there is none, which may be a token."""
    user, _, password = unquote(proxy_url(proxy).partition("//")[2].rpartition("@")[0]).partition(":")
    return password or user


def _check_type(conn_type: str | None) -> None:
    if (conn_type or "").strip().lower() not in _TYPES:
        raise WrongFieldError(
            f"its type is {conn_type!r}, so its password is not a key of the gateway; the type is 'kling'"
        )


def _extra(text: str | None) -> dict[str, Any]:
    try:
        extra = json.loads(text) if text else {}
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise WrongFieldError("the extra is not a JSON object")
    return {key: value for key, value in extra.items() if value is not None}


def _gateway(name: Any, host: str | None) -> Gateway:
    if isinstance(name, str) and name.strip().lower() in GATEWAYS:
        return GATEWAYS[name.strip().lower()]
    if name not in (None, ""):
        raise WrongFieldError(f"gateway={name!r} is not one of {', '.join(GATEWAYS)}")
    host = (host or "").strip().lower()
    place = ""
    with suppress(ValueError):  # the error comes where the host is read
        place = urlsplit(host if "://" in host else f"//{host}").hostname or ""
    at_host = (known for known in GATEWAYS.values() if host in known.hosts or place.endswith(known.domain))
    return next(at_host, myrouter)


def _api_key(password: str | None, login: str | None, gateway: Gateway) -> str:
    key = re.sub(r"(?i)^bearer(\s+|$)", "", (password or "").strip())
    if not key:
        raise WrongFieldError(
            "the API key is missing; it belongs in the password (in a URI: kling://:KEY@host)"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise WrongFieldError("the API key has a space or a character that no key has; paste it again")
    if problem := gateway.key_problem(key, (login or "").strip()):
        raise WrongFieldError(problem)
    return key


def _base_url(host: str | None, schema: str | None, port: int | None, gateway: Gateway) -> str:
    host, schema = (host or "").strip(), (schema or "").strip().strip("/")
    scheme, prefix = (schema, "") if schema.lower() in ("http", "https", "") else ("", schema)
    default = next(iter(gateway.hosts.values()))
    host = gateway.hosts.get(host.lower(), host) or default
    if "://" not in host:
        host = f"{scheme or 'https'}://{host}"
    if host and "@" in host:
        raise WrongFieldError(
            "the host holds a user name or password; the API key belongs in the password field"
        )
    try:
        parts = urlsplit(f"{host.rstrip('/')}/{prefix}".rstrip("/"))
        name, own_port = parts.hostname or "", parts.port
    except ValueError as error:
        raise WrongFieldError(f"host={host!r} is not a host name or URL ({error})") from None
    usual = parts.scheme in ("http", "https") and name and not (parts.query or parts.fragment)
    if not usual or any(char.isspace() for char in host):
        raise WrongFieldError(f"host={host!r} is not a host name or an http(s) URL such as {default!r}")
    if port and port not in _PORTS:
        raise WrongFieldError(f"port={port} is not a number from 1 to 65535")
    if port == _PREFILLED_PORT and (own_port or parts.scheme == "http"):
        port = None
    if port and own_port and port != own_port:
        raise WrongFieldError(f"the host says port {own_port}, the port field says {port}")
    address = address_in(name)
    if address and not may_be_asked(address, allow_private=True):
        raise WrongFieldError(f"host={host!r} is an address where clouds keep credentials")
    name = f"[{name}]" if ":" in name else name
    place = f"{name}:{port or own_port}" if port or own_port else name
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def _timeout(extra: Mapping[str, Any]) -> float:
    name = "request_timeout" if "request_timeout" in extra else "timeout"
    value = extra.get(name, DEFAULT_TIMEOUT)
    return _number(name, value, "of seconds from 1 to 600", 1, _LONGEST_TIMEOUT)


def _queries(extra: Mapping[str, Any]) -> float:
    value = extra.get("queries_per_second", DEFAULT_QUERIES_PER_SECOND)
    return _number("queries_per_second", value, "from 0.1 to 10000", *_QUERIES_PER_SECOND)


def _number(name: str, value: Any, what: str, least: float, most: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not least <= number <= most:
        raise WrongFieldError(f"{name}={value!r} is not a number {what}")
    return number


def _model(value: Any, gateway: Gateway) -> str:
    default = gateway.default_model
    if value in (None, ""):
        return default
    if not isinstance(value, str) or value != value.strip() or value.count("/") > 1:
        raise WrongFieldError(f"default_model={value!r} is not a model's name such as {default!r}")
    try:
        gateway.resolve_model(value, {})
    except KlingInputError as error:
        raise WrongFieldError(f"default_{error.what.rstrip('.')}") from None
    return value


def _paths(value: Any) -> tuple[str, ...]:
    paths = [path.strip() for path in value.split(",")] if isinstance(value, str) else value
    if not isinstance(paths, (list, tuple)) or not all(isinstance(path, str) for path in paths):
        raise WrongFieldError(f"allowed_paths={value!r} is not a list of folders or storage URLs")
    return tuple(path for path in paths if path)


def _money(name: str, read: Callable[[Any], T], value: Any) -> T:
    try:
        return read(value)
    except ValueError as problem:
        raise WrongFieldError(f"{name}={value!r} {problem}") from None


def _flag(name: str, value: Any) -> bool:
    flag = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise WrongFieldError(f"{name}={value!r} is not true or false")
    return flag
