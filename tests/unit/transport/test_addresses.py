"""Whatever a host is written like, its address is known before anybody is asked for it."""

import pytest

from airflow_provider_kling.transport.addresses import address_in, is_public


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


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *(("93.184.216.34", True), ("2606:2800:220:1::1", True), ("::ffff:93.184.216.34", True)),
        *(("127.0.0.1", False), ("10.0.0.1", False), ("169.254.169.254", False), ("fe80::1%eth0", False)),
        *(("64:ff9b::7f00:1", False), ("64:ff9b::5db8:d822", True), ("224.0.0.1", False), ("::1", False)),
    ],
)
def test_an_address_is_public_or_not(address, public):
    assert is_public(address) is public
