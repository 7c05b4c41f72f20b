"""Which addresses of the internet may be asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

#: IPv6 networks with an IPv4 address in the last four bytes: compatible, SIIT, NAT64 (RFC 4291, 2765, 6052).
_WRAPPING = tuple(map(ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
#: The network for NAT64 in a site (RFC 8215), and where RFC 6052 puts the four bytes in it.
_LOCAL_NAT64 = ip_network("64:ff9b:1::/48")
_IN_LOCAL_NAT64 = ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))
#: How the last eight bytes of an ISATAP address begin (RFC 5214).
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
#: Local by their standards, but global to older versions of Python.
_LOCAL = tuple(map(ip_network, ("64:ff9b:1::/48", "fec0::/10", "::/96", "168.63.129.16/32")))
#: Global to some versions of Python only; the IPv4 address in it decides (RFC 3056).
_6TO4 = ip_network("2002::/16")
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
    if any(ip in network for ip in _addresses(address) for network in _METADATA):
        return False
    return allow_private or is_public(address)


def is_public(address: str) -> bool:
    """Return whether an IP address, and each IPv4 address in it, is a public one."""
    return all(
        (ip.is_global or ip in _6TO4) and not ip.is_multicast and not any(ip in local for local in _LOCAL)
        for ip in _addresses(address)
    )


def _addresses(address: str) -> Iterator[IPv4Address | IPv6Address]:
    """Yield an IP address, and each IPv4 address that a translator or a tunnel may read in it."""
    ip = ip_address(address.split("%", maxsplit=1)[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    yield ip
    if isinstance(ip, IPv4Address):
        return
    if any(ip in network for network in _WRAPPING) or ip.packed[8:12] in _ISATAP:
        yield IPv4Address(ip.packed[12:])
    if ip.sixtofour:
        yield ip.sixtofour
    if ip.teredo:
        yield from ip.teredo
    if ip in _LOCAL_NAT64:
        yield from (IPv4Address(bytes(ip.packed[at] for at in places)) for places in _IN_LOCAL_NAT64)


def address_in(host: str) -> str:
    """Return the IP address in a URL's host, in any spelling, or an empty text where the host is a name.

    ``localhost`` and names below it are this machine, without a look-up.
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
