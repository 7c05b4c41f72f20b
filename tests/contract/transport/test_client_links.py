"""Links to videos: followed with care, without the key, and resumed where they broke."""

import gzip
import threading
import time
import tracemalloc
from dataclasses import replace
from itertools import count

import pytest
from airflow_fakes import settings_of
from odd_servers import DRIPPING_PARTS, answering, dripping_in, serving

from airflow_provider_kling.errors import KlingDownloadError, Money
from airflow_provider_kling.transport.download_stream import content_length, open_link

VIDEO = bytes(range(256)) * 4096


def settings(**extra):
    return settings_of(**{"allow_private_hosts": True, "request_timeout": 5, **extra})


def fetched(url, **extra):
    with open_link(url, settings(**extra)) as stream:
        return b"".join(stream.chunks)


def refusal(url, kind=KlingDownloadError, **extra):
    with pytest.raises(kind) as caught:
        fetched(url, **extra)
    assert caught.value.money is Money.PAID
    assert "sig=" not in str(caught.value)
    return caught.value


def test_a_link_is_read_without_key_and_without_the_connections_headers(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(answering(VIDEO, Content_Type="video/mp4")) as server:
        with open_link(f"{server.url}/v.mp4?sig=1", settings(**{"X-Team": "video"})) as stream:
            assert (stream.length, stream.content_type) == (len(VIDEO), "video/mp4")
            assert b"".join(stream.chunks) == VIDEO
        assert fetched(server.url.replace("//", "//me:s3cret@") + "/v.mp4") == VIDEO
    for _, _, headers in server.seen:
        assert not {"authorization", "x-team"} & {name.lower() for name in headers}
        assert headers["Accept-Encoding"] == "identity"


def test_the_signature_of_a_link_is_not_logged_where_the_answers_headers_are_broken(caplog):
    def broken(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n folded\r\nLocation: http://x/v?sig=2\r\n\r\n" + VIDEO)

    with serving(broken) as server:
        assert fetched(f"{server.url}/v.mp4?sig=1").endswith(VIDEO)
    assert "Failed to parse headers" in caplog.text
    assert "sig=" not in caplog.text


@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_a_dead_link_is_told_with_its_status(status):
    with serving(answering(status=status)) as server:
        assert refusal(f"{server.url}/v.mp4?sig=1").http_status == status


def test_a_redirect_is_followed_but_not_for_ever():
    with (
        serving(answering(VIDEO)) as server,
        serving(answering(status=302, Location=f"{server.url}/v.mp4")) as first,
    ):
        assert fetched(first.url) == VIDEO

    def round_and_round(handler):
        answering(status=302, Location="/again?sig=1")(handler)

    with serving(round_and_round) as server:
        assert "TooManyRedirects" in str(refusal(server.url))
        assert len(server.seen) <= 6


def flooding(sent, status=200, **headers):
    """Send bytes until nobody takes them any more, and count them."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(bytes(1 << 20))
            sent.append(1 << 20)

    return answer


def test_the_body_of_a_redirect_is_not_read():
    sent = []
    with (
        serving(answering(VIDEO)) as last,
        serving(flooding(sent, 302, Location=f"{last.url}/v.mp4")) as first,
    ):
        assert fetched(first.url) == VIDEO
    assert sum(sent) < 50 << 20  # what fits into the sockets


def test_a_stalled_stream_is_given_up_after_the_connections_timeout():
    left = threading.Event()

    def stall(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(VIDEO[:100])
        if handler.connection.recv(1) == b"":
            left.set()  # by the other side

    with serving(stall) as server:
        refusal(f"{server.url}/v.mp4?sig=1", request_timeout=1)
        assert left.wait(10)


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("part", DRIPPING_PARTS)
def test_a_host_that_drips_in_any_part_of_its_answer_is_over(certificate, part, tls):
    over = threading.Event()
    quick = replace(settings(verify=certificate), request_timeout=0.3)
    with serving(dripping_in(part, over), certificate if tls else None) as server:
        with (
            pytest.raises(KlingDownloadError),
            open_link(f"{server.url}/v.mp4?sig=1", quick) as stream,
        ):
            b"".join(stream.chunks)
        assert not over.is_set()


@pytest.mark.parametrize(
    ("content_type", "media_type"),
    [
        ("video/mp4", "video/mp4"),
        ("video/mp4; codecs=avc1", "video/mp4"),
        ("video/mp4; x=sk-secret", "video/mp4"),
        ("video/mp4\x1b[31m", ""),
        ("video/mp4" + 5000 * "x", ""),
        ("no type", ""),
    ],
)
def test_of_a_content_type_only_the_plain_media_type_is_kept(content_type, media_type):
    with (
        serving(answering(VIDEO, Content_Type=content_type)) as server,
        open_link(server.url, settings()) as stream,
    ):
        assert stream.content_type == media_type


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "\u0663", "1e3", "0x10", "5, 5"])
def test_a_length_that_is_no_number_of_bytes_is_no_promise(length):
    assert content_length({"Content-Length": length}) is None


DRIPS = {"from the start": [500] * 20, "after a while": [100_000] * 5 + [500] * 40}


@pytest.mark.parametrize("sizes", DRIPS.values(), ids=DRIPS)
def test_a_host_that_drips_is_left(monkeypatch, sizes):
    ticks = count(0, 0.1)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    with serving(dripping(VIDEO[:size] for size in sizes)) as server:
        error = refusal(f"{server.url}/v.mp4?sig=1", request_timeout=2)
    assert "sends less than 4096 bytes a second" in str(error)


def test_a_host_that_is_slow_is_waited_for(monkeypatch):
    ticks = count(0, 0.1)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    with serving(dripping([VIDEO[:100_000]] * 20)) as server:
        assert fetched(server.url, request_timeout=2) == VIDEO[:100_000] * 20


def dripping(pieces):
    """Send a piece only when the one before was taken, for which a chunk of its own is the sign."""

    def answer(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in [*pieces, b""]:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    return answer


def test_what_is_compressed_is_not_unpacked():
    bomb = gzip.compress(bytes(64 << 20))
    with serving(answering(bomb, Content_Encoding="gzip")) as server:
        tracemalloc.start()
        try:
            assert fetched(server.url) == bomb
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("url", ["ftp://x/v.mp4", "httpx://x", "file:///etc/passwd", "javascript:1", "x", ""])
def test_only_http_links_are_followed(url):
    refusal(url)


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1/v", "http://a..b/v", "http://kling.invalid/?sig=1", "http://127.0.0.1:1/"]
)
def test_a_link_that_leads_nowhere_is_told(url):
    refusal(url)


def breaking(times, etag='"v1"', *, honour=True):
    """Serve half of what is asked for, this often, and then all of the rest."""
    left = [times]

    def answer(handler):
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1]) if honour else 0
        body = VIDEO[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        if etag:
            handler.send_header("ETag", etag)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(VIDEO) - 1}/{len(VIDEO)}")
        handler.end_headers()
        left[0] -= 1
        handler.wfile.write(body if left[0] < 0 else body[: len(body) // 2])

    return answer


@pytest.mark.parametrize("times", [1, 3])
def test_a_stream_that_broke_goes_on_where_it_stopped(times):
    with serving(breaking(times)) as server:
        assert fetched(f"{server.url}/v.mp4?sig=1") == VIDEO
    asked = [headers.get("If-Range") for _, _, headers in server.seen]
    assert asked == [None] + ['"v1"'] * times


@pytest.mark.parametrize(
    ("etag", "honour", "times"), [("", True, 1), ('W/"v1"', True, 1), ('"v1"', False, 1), ('"v1"', True, 99)]
)
def test_a_stream_that_cannot_go_on_is_told(etag, honour, times):
    with serving(breaking(times, etag, honour=honour)) as server:
        refusal(f"{server.url}/v.mp4?sig=1")
        assert len(server.seen) <= 7


def test_a_host_that_goes_on_elsewhere_than_asked_is_not_believed():
    def answer(handler):
        again = "Range" in handler.headers
        handler.send_response(206 if again else 200)
        handler.send_header("Content-Length", str(len(VIDEO)))
        handler.send_header("ETag", '"v1"')
        if again:
            handler.send_header("Content-Range", f"bytes 0-{len(VIDEO) - 1}/{len(VIDEO)}")
        handler.end_headers()
        handler.wfile.write(VIDEO if again else VIDEO[: len(VIDEO) // 2])

    with serving(answer) as server:
        assert "resumed it elsewhere" in str(refusal(f"{server.url}/v.mp4?sig=1"))
        assert len(server.seen) == 2


def test_the_connections_proxy_and_certificates_count_before_the_environments(certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle")
    with serving(answering(VIDEO), certificate) as server:
        assert fetched(server.url, verify=certificate) == VIDEO
    with serving(answering(VIDEO)) as proxy:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert fetched("http://storage.example/v.mp4", proxies={"http": proxy.url}) == VIDEO
    assert proxy.seen[0][1] == "http://storage.example/v.mp4"


def test_a_certificate_that_nobody_signed_is_told(certificate):
    with serving(answering(VIDEO), certificate) as server:
        assert "self-signed" in str(refusal(server.url))
    assert not server.seen
