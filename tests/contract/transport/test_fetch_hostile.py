"""Links that mean no good. A small internet of our own stands in for the real one: names and public
addresses that lead to servers of this test, below everything that the provider does."""

import threading

import pytest
from airflow_fakes import settings_of
from fake_internet import PUBLIC
from odd_servers import answering, dripping_in, serving

from airflow_provider_kling.errors import KlingAccessError, KlingDownloadError, Money
from airflow_provider_kling.transport.download_stream import open_link

VIDEO = bytes(range(256)) * 64


def fetched(url, **extra):
    settings = settings_of(**{"request_timeout": 5, "X-Team": "video", **extra})
    with open_link(url, settings) as stream:
        return b"".join(stream.chunks)


def test_a_public_address_is_fetched_from(internet):
    with serving(answering(VIDEO)) as server:
        internet.serve(server, PUBLIC, "videos.example")
        assert fetched("http://videos.example/v.mp4") == VIDEO
        assert fetched(f"http://{PUBLIC}/v.mp4") == VIDEO


def test_a_proxy_whose_head_drips_is_left():
    dripping = dripping_in("header", threading.Event())
    with serving(dripping) as proxy, pytest.raises(KlingDownloadError, match="TimeoutError"):
        fetched("http://videos.example/v.mp4", request_timeout=1, proxies={"http": proxy.url})


SPELLINGS = [
    *("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "0.0.0.0"),
    *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "private.example", "me:s3cret@127.0.0.1"),
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_the_own_machine_is_refused_however_it_is_spelled_before_a_byte_is_sent(internet, inside, host):
    internet.names["private.example"] = ["127.0.0.1"]
    with pytest.raises((KlingAccessError, KlingDownloadError)) as caught:
        fetched(f"http://{host}:{inside.port}/v.mp4?sig=1")
    assert caught.value.money is Money.PAID
    assert set(inside.got) <= {b""}
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "private.example"])
def test_the_refusal_says_what_to_do_where_the_gateway_is_ones_own(internet, inside, host):
    internet.names["private.example"] = ["127.0.0.1"]
    with pytest.raises(KlingAccessError, match="not a public address") as caught:
        fetched(f"http://{host}:{inside.port}/v.mp4")
    assert "allow_private_hosts" in caught.value.advice


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_from_a_public_address_into_the_inner_network_is_refused_before_a_byte_is_sent(
    internet, inside, status
):
    way_in = f"http://127.0.0.1:{inside.port}/latest/meta-data"
    with serving(answering(status=status, Location=way_in)) as server:
        internet.serve(server, PUBLIC, "videos.example")
        with pytest.raises(KlingAccessError, match=r"127\.0\.0\.1, which is not a public address"):
            fetched("http://videos.example/v.mp4")
        assert len(server.seen) == 1
    assert set(inside.got) <= {b""}
    assert "127.0.0.1" not in internet.connected


def test_a_name_that_changes_its_mind_is_caught(internet, inside):
    way_on = f"http://videos.example:{inside.port}/v.mp4"
    with serving(answering(status=302, Location=way_on)) as server:
        internet.serve(server, PUBLIC)
        internet.names["videos.example"] = [PUBLIC, "127.0.0.1"]
        with pytest.raises(KlingAccessError):
            fetched("http://videos.example/v.mp4")
    assert set(inside.got) <= {b""}


def test_a_stream_that_is_resumed_elsewhere_is_checked_again(internet, inside):
    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(2 * 64 * len(VIDEO)))
        handler.send_header("ETag", '"v1"')
        handler.end_headers()
        handler.wfile.write(64 * VIDEO)

    with serving(half) as server:
        internet.serve(server, PUBLIC)
        internet.names["videos.example"] = [PUBLIC, "127.0.0.1"]
        with pytest.raises(KlingAccessError):
            fetched(f"http://videos.example:{inside.port}/v.mp4")


LOCATIONS = [
    *("file:///etc/passwd", "ftp://videos.example/v.mp4", "gopher://x/", "data:video/mp4;base64,AA==", "//"),
    *(
        "http://[::1",
        "http://",
        "http://a..b/",
        "http://videos.example:99999/",
        "http://\u00e9\u0000/",
        "javascript:1",
    ),
    *("http://127.0.0.1:0/", "http://127.0.0.1:1/"),
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_redirect_to_what_is_no_place_of_the_web_is_told_in_our_words(internet, location):
    with serving(answering(status=302, Location=location.encode().decode("latin-1"))) as server:
        internet.serve(server, PUBLIC, "videos.example")
        with pytest.raises((KlingDownloadError, KlingAccessError)) as caught:
            fetched("http://videos.example/v.mp4?sig=a-signature")
    assert "a-signature" not in str(caught.value)


def test_no_credential_reaches_any_storage_host_also_not_after_a_redirect(internet, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with (
        serving(answering(VIDEO)) as last,
        serving(answering(status=302, Location="http://me:s3cret@last.example/v.mp4")) as first,
    ):
        internet.serve(first, PUBLIC, "first.example")
        internet.serve(last, "93.184.216.35", "last.example")
        assert fetched("http://me:s3cret@first.example/v.mp4") == VIDEO
        assert len(first.seen) == len(last.seen) == 1
        for _, _, headers in [*first.seen, *last.seen]:
            assert not {"authorization", "x-team", "cookie"} & {name.lower() for name in headers}


def test_behind_a_proxy_it_is_the_proxy_that_connects_and_decides_about_names(internet):
    with serving(answering(VIDEO)) as proxy:
        assert fetched("http://inside.example/v.mp4", proxies={"http": proxy.url}) == VIDEO
        ((_, path, headers),) = proxy.seen
    assert path == "http://inside.example/v.mp4"
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "127.0.0.1", "127.1", "0x7f000001", "2130706433", "169.254.169.254", "10.0.0.1."),
        *("[::1]", "[::ffff:10.0.0.1]", "localhost", "LOCALHOST.", "x.localhost"),
    ],
)
def test_no_proxy_is_asked_for_an_address_that_is_not_public(internet, host):
    with serving(answering(VIDEO)) as proxy:
        with pytest.raises(KlingAccessError, match="not a public address"):
            fetched(f"http://{host}/v.mp4", proxies={"http": proxy.url})
        assert proxy.seen == []


def test_behind_a_proxy_a_redirect_leads_to_no_private_address_either(internet):
    with serving(answering(status=302, Location="http://10.0.0.1/v.mp4")) as proxy:
        with pytest.raises(KlingAccessError, match="not a public address"):
            fetched("http://inside.example/v.mp4", proxies={"http": proxy.url})
        assert len(proxy.seen) == 1


def test_behind_a_proxy_a_public_address_may_be_asked_for(internet):
    with serving(answering(VIDEO)) as proxy:
        assert fetched(f"http://{PUBLIC}/v.mp4", proxies={"http": proxy.url}) == VIDEO


METADATA = [
    *("169.254.169.254", "169.254.1.1", "0xa9fea9fe", "2852039166", "[::ffff:169.254.169.254]"),
    *("[64:ff9b::a9fe:a9fe]", "[fe80::1]", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16"),
]


@pytest.mark.parametrize("host", METADATA)
@pytest.mark.parametrize("proxied", [True, False])
def test_a_metadata_address_is_never_asked_even_where_private_hosts_are_allowed(internet, host, proxied):
    with serving(answering(VIDEO)) as proxy:
        proxies = {"proxies": {"http": proxy.url}} if proxied else {}
        with pytest.raises(KlingAccessError, match="never asked"):
            fetched(f"http://{host}/latest/meta-data", allow_private_hosts=True, **proxies)
        assert proxy.seen == []


def test_a_name_or_a_redirect_that_leads_to_a_metadata_address_is_not_followed(internet):
    way_in = "http://metadata.example/latest"
    with serving(answering(VIDEO)) as server, serving(answering(status=302, Location=way_in)) as first:
        internet.serve(server, "169.254.169.254", "metadata.example")
        for url in (way_in, first.url):
            with pytest.raises(KlingAccessError, match="never asked"):
                fetched(url, allow_private_hosts=True)
        assert server.seen == []
