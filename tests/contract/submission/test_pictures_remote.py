"""`check_url=True`: what is behind a picture's URL is looked at before it is paid for, with suspicion."""

import contextlib
import gzip
import json
import logging
import socket
import threading
import tracemalloc

import pytest
from airflow_fakes import KEY, context_of, png, submits
from fake_internet import PUBLIC
from odd_servers import DRIPPING_PARTS, answering, dripping_in, serving

from airflow_provider_kling.errors import KlingInputError, KlingUnavailableError, Money
from airflow_provider_kling.operators import KlingSubmitOperator
from airflow_provider_kling.submission.media_inputs import MediaInputs, MediaOptions
from airflow_provider_kling.transport.settings import Settings

CAT = png(noise=100_000)
CLIP = b"\0\0\0\x14ftypqt  " + bytes(300)
NAME = "http://pictures.example/cat.png"


def settings(**options):
    return Settings("kling_default", KEY, **options)


def looked_at(url, name="image", **options):
    """Look at a URL as the submit does; return what may be told of it."""
    options = {"allow_private_hosts": True, "request_timeout": 5.0, **options}
    found = MediaInputs(MediaOptions(settings(**options), check_url=True), logging.getLogger("airflow.task"))
    assert found.prepare({name: url}) == {name: url}
    return found.facts[name]


def refusal(url, kind=KlingInputError, name="image", **options):
    with pytest.raises(kind) as caught:
        looked_at(url, name, **options)
    assert caught.value.money is Money.UNTOUCHED
    assert type(caught.value) is kind
    assert f"{name}={url.partition('?')[0]!r}" in str(caught.value)
    assert "secret" not in str(caught.value)
    return str(caught.value)


def ranged(data):
    """Return an answer of a host that honours ranges, as storages do."""

    def answer(handler):
        last = min(int(handler.headers.get("Range", f"-{len(data)}").rpartition("-")[2]), len(data) - 1)
        handler.send_response(206 if handler.command == "GET" else 200)
        handler.send_header("Content-Length", str(last + 1 if handler.command == "GET" else len(data)))
        if handler.command == "GET":
            handler.send_header("Content-Range", f"bytes 0-{last}/{len(data)}")
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(data[: last + 1])

    return answer


def only_get(data, **headers):
    """Return an answer of a host that refuses HEAD, as it does for a link that is signed for GET."""

    def answer(handler):
        answering(
            b"" if handler.command == "HEAD" else data, 403 if handler.command == "HEAD" else 200, **headers
        )(handler)

    return answer


@pytest.mark.parametrize("host", [answering, only_get, ranged])
def test_a_good_picture_is_told_by_its_sides(host):
    with serving(host(CAT)) as server:
        facts = looked_at(f"{server.url}/cat.png?sig=secret")
        assert facts == {"source": f"{server.url}/cat.png", "width": 320, "height": 320}
        assert [method for method, *_ in server.seen] == ["HEAD", "GET"]
        for _, _, headers in server.seen:
            assert not {"authorization", "cookie", "x-team"} & {name.lower() for name in headers}
        assert server.seen[1][2]["Range"].startswith("bytes=0-")


def test_a_url_is_not_looked_at_unless_asked_for():
    with serving(answering(CAT)) as server:
        url = f"{server.url}/cat.png"
        assert MediaInputs(MediaOptions(settings()), logging.getLogger()).prepare({"image": url}) == {
            "image": url
        }
        assert server.seen == []


@pytest.mark.parametrize("large", [CAT + bytes(9_000_000), b"\xff\xd8\xff\xe0\0\2" + b"\xff" * 9_000_000])
def test_only_as_much_is_fetched_as_tells_the_sides_and_never_the_whole(large):
    written = []

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(large)))
        handler.end_headers()
        if handler.command == "GET":
            for at in range(0, len(large), 65536):
                handler.wfile.write(large[at : at + 65536])
                written.append(at)

    # Of the second, nothing is known after two megabytes.
    with serving(answer) as server, contextlib.suppress(KlingInputError):
        assert looked_at(f"{server.url}/cat.png")["width"] == 320
    assert len(written) * 65536 < len(large)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html>404, but with a smile</html>", "it is HTML"),
        (b"GIF89a" + bytes(300), "it is GIF"),
        (b"", "the file is empty"),
        (png(299, 320), "299x320 pixels; each side"),
        (png(300, 751), "between 1:2.5 and 2.5:1"),
        (b"\xff\xd8\xff\xe0\xff\xff" + bytes(3_000_000), "damaged or cut off"),
        (CAT[:20], "damaged or cut off"),
    ],
)
@pytest.mark.parametrize("host", [only_get, ranged])
def test_what_is_no_allowed_picture_is_refused(host, data, words):
    if host is ranged and not data:
        return
    with serving(host(data)) as server:
        assert words in refusal(f"{server.url}/cat.png?sig=secret")


@pytest.mark.parametrize("asked", ["HEAD", "GET", "range"])
def test_a_file_that_is_too_large_is_refused_by_its_length(asked):
    sizes = {"HEAD": 11_000_000, "GET": 11_000_000, "range": 100}

    def answer(handler):
        handler.send_response(
            403 if handler.command == "HEAD" and asked != "HEAD" else 206 if asked == "range" else 200
        )
        handler.send_header("Content-Length", str(sizes[asked]))
        if asked == "range":
            handler.send_header("Content-Range", "bytes 0-99/11000000")
        handler.end_headers()
        handler.wfile.write(CAT[:100])

    with serving(answer) as server:
        assert "more than the 10 MiB" in refusal(f"{server.url}/cat.png")
        assert len(server.seen) == (1 if asked == "HEAD" else 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 451])
def test_a_url_that_leads_nowhere_is_a_wrong_input(status):
    with serving(answering(status=status)) as server:
        told = refusal(f"{server.url}/cat.png?sig=secret")
        assert f"answered HTTP {status}, so the gateway cannot fetch it either" in told


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_host_in_trouble_may_be_asked_again(status):
    with serving(answering(status=status)) as server:
        assert f"answered HTTP {status}." in refusal(f"{server.url}/cat.png", KlingUnavailableError)


def test_a_host_that_is_not_there_or_breaks_off_may_be_asked_again():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/cat.png"
    assert "cannot be asked" in refusal(url, KlingUnavailableError)
    with serving(only_get(CAT[:100], **{"Content-Length": "5000"})) as server:
        assert "cannot be asked" in refusal(f"{server.url}/cat.png", KlingUnavailableError)


@pytest.mark.parametrize("part", DRIPPING_PARTS)
def test_a_host_that_drips_in_any_part_of_its_answer_is_over(part):
    over = threading.Event()
    with serving(dripping_in(part, over)) as server:
        refusal(f"{server.url}/cat.png?sig=secret", KlingUnavailableError, request_timeout=0.3)
        assert not over.is_set()


def test_all_redirects_together_have_one_deadline():
    def slowly_on(handler):
        threading.Event().wait(0.4)
        answering(status=302, Location=f"/{len(server.seen)}")(handler)

    with serving(slowly_on) as server:
        assert "too slow" in refusal(f"{server.url}/cat.png", KlingUnavailableError, request_timeout=1)
        assert len(server.seen) <= 3


def test_what_is_compressed_is_not_unpacked():
    bomb = gzip.compress(bytes(256 << 20))
    with serving(answering(bomb, Content_Encoding="gzip")) as server:
        tracemalloc.start()
        try:
            refusal(f"{server.url}/cat.png")
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://", "http://a..b/cat.png", "http://x:99999/", "http://\u00e9\u0000/"]
)
def test_what_is_no_url_at_all_is_a_wrong_input(url):
    with pytest.raises((KlingInputError, KlingUnavailableError)) as caught:
        looked_at(url)
    assert caught.value.money is Money.UNTOUCHED


HOSTS = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "private.example"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_private_address_is_refused_before_a_byte_is_sent(internet, inside, host):
    internet.names["private.example"] = ["127.0.0.1"]
    url = f"http://{host}:{inside.port}/cat.png?sig=secret"
    with pytest.raises((KlingInputError, KlingUnavailableError)) as caught:
        looked_at(url, allow_private_hosts=False)
    assert caught.value.money is Money.UNTOUCHED
    assert "secret" not in str(caught.value)
    assert set(inside.got) <= {b""}


def test_a_private_address_is_told_with_what_to_do(internet, inside):
    internet.names["pictures.example"] = ["127.0.0.1"]
    told = refusal(f"http://pictures.example:{inside.port}/cat.png", allow_private_hosts=False)
    assert "not a public address. The gateway could not fetch it either" in told
    assert "allow_private_hosts" in told


def test_a_redirect_is_followed_to_a_public_address_only_so_often(internet):
    with (
        serving(answering(CAT)) as last,
        serving(answering(status=302, Location="http://last.example/x")) as first,
    ):
        internet.serve(first, PUBLIC, "pictures.example")
        internet.serve(last, "93.184.216.35", "last.example")
        assert looked_at(NAME, allow_private_hosts=False)["width"] == 320
    with serving(answering(status=302, Location=NAME)) as server:
        internet.serve(server, PUBLIC, "pictures.example")
        assert "no such URL (TooManyRedirects)" in refusal(NAME, allow_private_hosts=False)


def test_a_video_is_looked_at_too():
    with serving(answering(CLIP)) as server:
        assert looked_at(f"{server.url}/clip.mp4", "video") == {"source": f"{server.url}/clip.mp4"}
    with serving(answering(CAT)) as server:
        assert "not an MP4 or MOV video" in refusal(f"{server.url}/clip.mp4", name="video")
    with serving(answering(CLIP, **{"Content-Length": "11000000"})) as server:
        assert "more than the 10 MiB" in refusal(f"{server.url}/clip.mp4", name="video")


def test_the_submit_pays_for_a_url_only_if_there_is_a_picture(gateway):
    def submit(url):
        operator = KlingSubmitOperator(
            task_id="submit", model="kling-v3.0-pro-i2v", image=url, prompt="a cat", check_url=True
        )
        return (
            operator.execute(context := context_of())
            and context["ti"].xcoms["kling_request"]["pictures"]["image"]
        )

    with serving(answering(CAT)) as server:
        assert submit(f"{server.url}/cat.png")["height"] == 320
        assert KEY not in json.dumps([headers for *_, headers in server.seen])
    assert submits(gateway) == 1
    with serving(answering(b"<html>")) as server, pytest.raises(KlingInputError, match="it is HTML"):
        submit(f"{server.url}/cat.png")
    assert submits(gateway) == 1
