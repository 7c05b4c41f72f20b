"""The emulator's storage host: signed links and ranges."""

import pytest
import requests

from airflow_provider_kling.emulator import Emulator


@pytest.fixture
def gateway():
    with Emulator(render=False, queue_seconds=0, render_seconds=0, link_seconds=100) as gateway:
        yield gateway


@pytest.fixture
def link(gateway):
    """Ask for links to the video of a job that is done."""
    headers = {"Authorization": f"Bearer {gateway.api_key}"}
    submit = gateway.url + "/v3/async/kling-v3.0-pro-t2v"
    known = requests.post(submit, json={"prompt": "a cat"}, headers=headers, timeout=10).json()

    def ask():
        query = gateway.url + "/v3/async/task-result"
        answer = requests.get(query, params=known, headers=headers, timeout=10).json()
        return answer["videos"][0]["video_url"]

    return ask


def get(url, method="GET", **headers):
    return requests.request(method, url, headers=headers, timeout=10)


def test_videos_have_their_own_host(gateway, link):
    assert link().startswith(gateway.storage_url)
    assert gateway.storage_url != gateway.url


def test_a_video_is_served_whole(link):
    video = get(link())
    assert video.content[4:8] == b"ftyp"
    assert video.headers["Content-Type"] == "video/mp4"
    assert int(video.headers["Content-Length"]) == len(video.content)
    assert get(link(), **{"If-None-Match": video.headers["ETag"]}).status_code == 304


def test_a_head_request_has_the_length_and_no_body(link):
    head = get(link(), "HEAD")
    assert int(head.headers["Content-Length"]) == len(get(link()).content)
    assert head.content == b""


@pytest.mark.parametrize(
    ("wanted", "part"),
    [("bytes=0-3", slice(0, 4)), ("bytes=100-", slice(100, None)), ("bytes=-10", slice(-10, None))],
)
def test_a_range_request_gets_its_range(link, wanted, part):
    whole = get(link())
    answer = get(link(), Range=wanted, **{"If-Range": whole.headers["ETag"]})
    assert (answer.status_code, answer.content) == (206, whole.content[part])
    assert answer.headers["Content-Range"].endswith(f"/{len(whole.content)}")


def test_a_range_of_another_version_gets_the_whole_video(link):
    assert get(link(), Range="bytes=0-3", **{"If-Range": '"other"'}).status_code == 200


@pytest.mark.parametrize("wanted", ["bytes=999999-", "bytes=-0", "bytes=5-4"])
def test_an_impossible_range_is_refused(link, wanted):
    assert get(link(), Range=wanted).status_code == 416


def test_each_query_returns_a_new_link_and_old_ones_stay_valid(link):
    old, new = link(), link()
    assert old != new
    assert get(old).ok
    assert get(new).ok


def test_a_link_expires_and_a_new_one_works(gateway, link):
    old = link()
    gateway.advance(99)
    assert get(old).ok
    gateway.advance(1)
    assert get(old).status_code == 403
    assert get(link()).ok


def test_a_forged_link_is_refused(gateway, link):
    assert get(link() + "0").status_code == 403
    assert get(link().replace("X-Expires=", "X-Expires=9")).status_code == 403
    assert get(link().partition("?")[0]).status_code == 403
    assert get(gateway.storage_url + "/").status_code == 404
    assert get(link(), "PUT").status_code == 405


def test_a_key_that_is_sent_to_the_storage_host_is_noticed(gateway, link):
    get(link())
    assert not gateway.key_reached_storage
    get(link(), Authorization="Bearer emulator-key")
    assert gateway.key_reached_storage
    assert [request.authorization for request in gateway.requests if request.host == "storage"] == [
        False,
        True,
    ]
