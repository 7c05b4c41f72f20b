"""Which addresses of the internet may be asked."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

#: IPv6 networks that wrap an IPv4 address in their last four bytes (RFC 6052, RFC 2765).
_WRAPPING = (ip_network("64:ff9b::/96"), ip_network("::ffff:0:0:0/96"))
#: Local by their standards, but global to older versions of Python.
_LOCAL = tuple(map(ip_network, ("64:ff9b:1::/48", "fec0::/10", "::/96", "168.63.129.16/32")))
#: Where clouds give out credentials: link-local, and the metadata services of AWS, Google, Alibaba, Azure
#: and Oracle beside it.
_METADATA = tuple(
    map(
        ip_network,
        (
            *("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "fd20:ce::254/128"),
            *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
        ),
    )
)


def may_be_asked(address: str, *, allow_private: bool) -> bool:
    """Return whether a link that came in as data may lead to an IP address.

    :param allow_private: private addresses may be asked too. Those of metadata services may never.
    """
    ip = _unwrapped(address)
    if any(ip in network for network in _METADATA):
        return False
    return allow_private or is_public(address)


def is_public(address: str) -> bool:
    """Return whether an IP address, or the IPv4 address that is wrapped in it, is a public one."""
    ip = _unwrapped(address)
    return ip.is_global and not ip.is_multicast and not any(ip in local for local in _LOCAL)


def _unwrapped(address: str) -> IPv4Address | IPv6Address:
    ip = ip_address(address.split("%", maxsplit=1)[0])
    if not isinstance(ip, IPv6Address):
        return ip
    wrapped = IPv4Address(int(ip) & 0xFFFFFFFF) if any(ip in net for net in _WRAPPING) else None
    return ip.ipv4_mapped or ip.sixtofour or wrapped or ip


def address_in(host: str) -> str:
    """Return the address that a URL's host is, however it is written, or an empty text where it is a name.

    ``localhost`` and names below it are this machine, whoever is asked.
    """
    if host.rstrip(".").lower().split(".")[-1] == "localhost":
        return "127.0.0.1"
    try:
        return str(ip_address(host.split("%", maxsplit=1)[0]))
    except ValueError:
        pass
    try:  # also the spellings with fewer than four numbers, or with octal and hexadecimal ones
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    except OSError:
        return ""
