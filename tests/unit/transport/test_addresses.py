"""Whatever a host is written like, its address is known before anybody is asked for it."""

import pytest

from airflow_provider_kling.transport.addresses import address_in, is_public, may_be_asked


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("93.184.216.34", "93.184.216.34"),
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("10.0.0.1.", "10.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("localhost", "127.0.0.1"),
        ("a.LocalHost.", "127.0.0.1"),
        ("notlocalhost", ""),
        ("localhost.example", ""),
        ("storage.example", ""),
        ("", ""),
    ],
)
def test_an_address_is_told_from_a_name(host, address):
    assert address_in(host) == address


#: With an IPv4 address, with its bytes in hexadecimal, and with their opposites.
IN_IPV6 = ["::ffff:{0}", "::{0}", "::ffff:0:{0}", "64:ff9b::{0}", "64:ff9b:1::{0}", "64:ff9b:1:2:3:4:{0}"]
IN_IPV6 += ["64:ff9b:1:{1}:00{b[2]}:{b[3]}00::", "64:ff9b:1:00{b[0]}:00{b[1]}:{b[2]}{b[3]}::"]
IN_IPV6 += [
    "64:ff9b:1:0:00{b[0]}:{b[1]}{b[2]}:{b[3]}00:0",
    "2002:{1}:{2}::1",
    "2001::{n[0]}{n[1]}:{n[2]}{n[3]}",
]
IN_IPV6 += ["2001:0:{1}:{2}::", "2606:2800::5efe:{0}", "2606:2800::200:5efe:{0}"]


def written(spelling, address):
    """Return an IPv6 address that holds an IPv4 one."""
    data = [int(number) for number in address.split(".")]
    b, n = ([f"{number ^ mask:02x}" for number in data] for mask in (0, 255))
    return spelling.format(address, b[0] + b[1], b[2] + b[3], b=b, n=n)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_an_address_of_the_internet_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.1"),
        *(
            "::",
            "::1",
            "::127.0.0.1",
            "::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "100::1",
            "fc00::1",
        ),
        *("::ffff:169.254.169.254", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "fd00:ec2::254"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2001::7f00:1", "2001:db8::1"),
        *("2002:7f00:1::", "2002:a00:1::1"),
    ],
)
def test_an_address_for_special_purposes_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("spelling", ["{0}", *IN_IPV6])
def test_an_address_of_clouds_is_never_asked_however_it_is_wrapped(spelling):
    assert not may_be_asked(written(spelling, "169.254.169.254"), allow_private=True)
    assert not may_be_asked(written(spelling, "10.0.0.1"), allow_private=False)
    assert may_be_asked(written(spelling, "10.0.0.1"), allow_private=True)


def test_a_public_address_behind_a_known_translator_or_tunnel_is_asked():
    for spelling in ("{0}", "::ffff:{0}", "::ffff:0:{0}", "64:ff9b::{0}", "2002:{1}:{2}::1"):
        assert may_be_asked(written(spelling, "93.184.216.34"), allow_private=False)
