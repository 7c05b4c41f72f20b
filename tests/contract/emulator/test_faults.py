"""Faults of all calls, over real sockets."""

import pytest
import requests

from airflow_provider_kling.emulator import Emulator

MODEL = "/v3/async/kling-v3.0-pro-t2v"
SUCCEED = "TASK_STATUS_SUCCEED"
LOST = requests.ConnectionError


class Client:
    """The simplest client there is: one try, no opinion."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {gateway.api_key}"

    def submit(self, prompt="a cat", **options):
        url = self.gateway.url + MODEL
        return self.session.post(url, json={"prompt": prompt}, **{"timeout": 10} | options)

    def query(self, task_id=None, **options):
        known = {"task_id": task_id or self.gateway.jobs[-1].task_id}
        url = self.gateway.url + "/v3/async/task-result"
        return self.session.get(url, params=known, **{"timeout": 10} | options)

    def task(self, task_id=None):
        return self.query(task_id).json()["task"]

    def download(self, **options):
        url = self.query().json()["videos"][0]["video_url"]
        return requests.get(url, **{"timeout": 10} | options)


@pytest.fixture
def gateway():
    with Emulator(render=False, queue_seconds=0, render_seconds=0) as gateway:
        yield gateway


@pytest.fixture
def client(gateway):
    client = Client(gateway)
    yield client
    client.session.close()


@pytest.mark.parametrize(
    ("reason", "status"),
    [("ILLEGAL_PROMPT", 400), ("FAILED_TO_AUTH", 401), ("NOT_ENOUGH_BALANCE", 403), ("BILLING_FAILED", 500)],
)
def test_a_submit_can_be_refused_with_a_documented_reason(gateway, client, reason, status):
    gateway.add_fault(f"submit:error={reason}")
    refused = client.submit()
    assert (refused.status_code, refused.json()["reason"]) == (status, reason)
    assert not gateway.jobs
    assert client.submit().status_code == 200


def test_a_reason_can_come_with_an_unusual_status(gateway, client):
    gateway.add_fault("submit:error=API_NOT_FOUND/400")
    assert client.submit().status_code == 400


def test_an_error_can_be_nested(gateway, client):
    gateway.add_fault("submit:nested=ILLEGAL_PROMPT")
    refused = client.submit()
    assert (refused.status_code, refused.json()["error"]["reason"]) == (400, "ILLEGAL_PROMPT")


def test_a_failed_job_can_answer_as_an_error_on_a_query(gateway, client):
    client.submit()
    gateway.add_fault("query:error=TASK_FAILED")
    assert (client.query().status_code, client.task()["status"]) == (500, SUCCEED)


def test_a_proxy_can_answer_in_html(gateway, client):
    gateway.add_fault("submit:html=503")
    page = client.submit()
    assert (page.status_code, page.headers["Content-Type"]) == (503, "text/html")
    assert "nginx" in page.text


def test_a_429_comes_with_and_without_retry_after(gateway, client):
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    gateway.add_fault("submit:rate-limit=2", "submit:rate_limit", f'submit:rate-limit="{date}"')
    waits = [client.submit().headers.get("Retry-After") for _ in range(3)]
    assert waits == ["2", None, date]


def test_a_fault_applies_to_a_given_number_of_calls(gateway, client):
    gateway.add_fault("submit:status=502,times=2")
    assert [client.submit().status_code for _ in range(3)] == [502, 502, 200]


def test_a_fault_can_be_permanent(gateway, client):
    gateway.add_fault("submit:status=500,times=always")
    assert {client.submit().status_code for _ in range(5)} == {500}
    gateway.clear_faults()
    assert client.submit().status_code == 200


def test_a_fault_can_apply_to_a_prompt_or_to_one_job(gateway, client):
    gateway.add_fault("submit:status=500,match=dog", "submit:status=501,job=3")
    answers = [client.submit(prompt).status_code for prompt in ("cat", "dog", "bird", "fish")]
    assert answers == [200, 500, 200, 501]


def test_a_hanging_submit_whose_client_disconnects_creates_no_job(gateway, client):
    gateway.add_fault("submit:hang=0.5")
    with pytest.raises(requests.ReadTimeout):
        client.submit(timeout=0.2)
    gateway.wait_until(lambda: gateway.requests)
    assert gateway.requests[0].cut
    assert not gateway.jobs


def test_a_late_hanging_submit_creates_a_job_without_an_answer(gateway, client):
    gateway.add_fault("submit:hang=30,late")
    with pytest.raises(requests.ReadTimeout):
        client.submit(timeout=0.2)
    assert gateway.times_paid(prompt="a cat") == 1


def test_a_client_that_waits_is_answered(gateway, client):
    gateway.add_fault("submit:hang=0.1", "query:hang=0.1")
    assert client.submit().status_code == 200
    assert client.task()["status"] == SUCCEED


@pytest.mark.parametrize(("when", "jobs"), [("", 0), (",late", 1)])
def test_a_connection_can_be_closed_before_or_after_the_job_is_created(gateway, client, when, jobs):
    gateway.add_fault(f"submit:cut{when}")
    with pytest.raises(LOST):
        client.submit()
    assert len(gateway.jobs) == jobs
    assert gateway.requests[0].cut


def test_a_server_error_can_come_after_the_job_was_created(gateway, client):
    gateway.add_fault("submit:status=500,late", "submit:html=504,late", "submit:malformed,late")
    assert [client.submit().status_code for _ in range(3)] == [500, 504, 200]
    assert gateway.times_paid(prompt="a cat") == 3


def test_json_can_be_malformed(gateway, client):
    gateway.add_fault("submit:malformed")
    with pytest.raises(requests.JSONDecodeError):
        client.submit().json()


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_link_can_be_dead_and_the_next_one_works(gateway, client, status):
    client.submit()
    gateway.add_fault(f"download:dead={status}")
    assert [client.download().status_code for _ in range(2)] == [status, 200]


def test_a_video_can_be_cut_off(gateway, client):
    client.submit()
    gateway.add_fault("download:truncate=500", "download:wrong-length=7")
    for _ in range(2):
        with pytest.raises((requests.exceptions.ChunkedEncodingError, LOST)):
            client.download()


def test_a_video_can_be_cut_off_with_a_matching_length(gateway, client):
    client.submit()
    whole = client.download().content
    gateway.add_fault("download:wrong-length=-500")
    assert client.download().content == whole[:-500]


def test_a_video_can_be_a_web_page(gateway, client):
    client.submit()
    gateway.add_fault("download:not-video")
    assert client.download().text.startswith("<!doctype html>")


def test_a_video_can_be_slow(gateway, client):
    client.submit()
    gateway.add_fault("download:slow=0.3")
    answer = client.download(stream=True)
    assert len(list(answer.raw.stream(64))) > 10


@pytest.mark.parametrize("call", ["submit", "query"])
def test_a_redirect_to_another_host_shows_whether_the_key_is_sent(gateway, client, call):
    client.submit()
    gateway.add_fault(f"{call}:redirect=302/{gateway.storage_url}/elsewhere", f"{call}:redirect")
    send = getattr(client, call)
    send()
    assert not gateway.key_reached_storage, "requests drops the header when the port changes"
    moved = send(allow_redirects=False)
    assert moved.headers["Location"].startswith(gateway.storage_url)
    requests.get(moved.headers["Location"], headers=client.session.headers, timeout=10)
    assert gateway.key_reached_storage


def test_the_same_seed_gives_the_same_faults():
    def run(seed):
        seen = []
        with Emulator(render=False, fail_rate=0.5, seed=seed) as gateway:
            client = Client(gateway)
            for _ in range(30):
                try:
                    seen.append(client.submit().status_code)
                except LOST:
                    seen.append(0)
            client.session.close()
        return seen

    first = run(7)
    assert first == run(7)
    assert first != run(8)
    assert 5 < first.count(200) < 25
