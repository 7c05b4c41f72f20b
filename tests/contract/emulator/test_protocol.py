"""The emulator's protocol: keys, errors, the states of a job, its log."""

import json
import tracemalloc
from uuid import UUID, uuid4

import pytest
from emulator_without_socket import KEY, call

from airflow_provider_kling.emulator import Call, Gateway, Settings
from airflow_provider_kling.emulator.jobs import Phase, state_at

T2V = "/v3/async/kling-v3.0-pro-t2v"
QUERY = "/v3/async/task-result"


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def gateway(clock):
    return Gateway(Settings(render=False, queue_seconds=10, render_seconds=100, clock=clock))


async def submit(gateway, headers=KEY, path=T2V, **body):
    return await call(gateway, "POST", path, {"prompt": "a cat", **body}, headers)


async def query(gateway, task_id, headers=KEY):
    return await call(gateway, "GET", QUERY, headers=headers, task_id=task_id)


async def ask(gateway, word, method="GET", **body):
    return await call(gateway, method, f"/_emulator/{word}", body, headers={})


async def test_a_submit_answers_with_the_uuid_of_a_job(gateway):
    status, answer = await submit(gateway)
    assert status == 200
    assert str(UUID(answer["task_id"])) == answer["task_id"] == gateway.jobs[0].task_id


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 400, "MISSING_API_KEY"),
        ({"Authorization": "Bearer "}, 400, "MISSING_API_KEY"),
        ({"Authorization": "Basic emulator-key"}, 401, "FAILED_TO_AUTH"),
        ({"Authorization": "Bearer other"}, 403, "INVALID_API_KEY"),
        ({"Authorization": "other"}, 403, "INVALID_API_KEY"),
    ],
)
async def test_a_bad_key_is_refused_on_every_path(gateway, headers, status, reason):
    for answered, body in (await submit(gateway, headers), await query(gateway, "x", headers)):
        assert (answered, body["code"], body["reason"]) == (status, status, reason)
        assert body["message"]
        assert "metadata" in body
    assert not gateway.jobs


async def test_the_key_is_accepted_without_the_word_bearer_too(gateway):
    assert (await submit(gateway, {"Authorization": "emulator-key"}))[0] == 200


async def test_an_unknown_model_or_path_is_not_found(gateway):
    assert (await submit(gateway, path="/v3/async/kling-v9"))[1]["reason"] == "API_NOT_FOUND"
    assert (await submit(gateway, path="/v2/async/kling-v3.0-pro-t2v"))[1]["reason"] == "API_NOT_FOUND"
    assert (await submit(gateway, path=QUERY))[1]["reason"] == "API_NOT_FOUND"


async def test_a_random_task_is_not_found_with_a_good_key(gateway):
    status, body = await query(gateway, str(uuid4()))
    assert (status, body["reason"]) == (404, "TASK_NOT_FOUND")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"prompt": "a cat", "extra": Infinity}'])
async def test_a_body_that_is_not_a_json_object_is_refused(gateway, body):
    reply = await gateway.handle("api", Call("POST", T2V, {}, KEY, body))
    assert json.loads(reply.body)["reason"] == "INVALID_REQUEST_BODY"


@pytest.mark.parametrize(
    ("age", "phase", "progress", "eta"),
    [
        (0, Phase.QUEUED, 0, 110),
        (9.9, Phase.QUEUED, 0, 100),
        (10, Phase.PROCESSING, 0, 100),
        (60, Phase.PROCESSING, 50, 50),
        (109.9, Phase.PROCESSING, 99, 0),
        (110, Phase.SUCCEED, 100, 0),
    ],
)
def test_the_state_of_a_job_follows_from_its_age(age, phase, progress, eta):
    assert state_at(age, 10, 100) == (phase, progress, eta)


def test_a_job_that_takes_no_time_is_done_at_once():
    assert state_at(0, 0, 0).phase == Phase.SUCCEED


async def test_a_job_is_described_as_the_service_does(gateway, clock):
    task_id = (await submit(gateway))[1]["task_id"]
    seen = []
    for seconds in (0, 20, 100):
        clock.now += seconds
        seen.append((await query(gateway, task_id))[1])
    queued, processing, done = seen
    assert [answer["task"]["status"] for answer in seen] == [Phase.QUEUED, Phase.PROCESSING, Phase.SUCCEED]
    assert queued["videos"] == processing["videos"] == []
    assert queued["extra"] == {}
    assert type(processing["task"]["progress_percent"]) is type(processing["task"]["eta"]) is int
    (video,) = done["videos"]
    assert (video["video_type"], video["video_url_ttl"]) == ("mp4", "3600")
    assert all(int(v) for k, v in done["extra"]["debug_info"].items() if k.endswith("_ms"))


async def test_the_clock_can_be_moved(gateway):
    task_id = (await submit(gateway))[1]["task_id"]
    gateway.advance(110)
    assert (await query(gateway, task_id))[1]["task"]["status"] == Phase.SUCCEED


async def test_new_timing_applies_to_new_jobs(gateway):
    first = (await submit(gateway))[1]["task_id"]
    gateway.set_timing(queue_seconds=0, render_seconds=0)
    second = (await submit(gateway))[1]["task_id"]
    assert (await query(gateway, first))[1]["task"]["status"] == Phase.QUEUED
    assert (await query(gateway, second))[1]["task"]["status"] == Phase.SUCCEED


async def test_a_body_that_is_paid_twice_is_noticed(gateway):
    await submit(gateway, prompt="one")
    await submit(gateway, prompt="two")
    await submit(gateway, prompt="two")
    assert gateway.times_paid(prompt="two") == 2
    assert gateway.times_paid(body={"prompt": "two"}) == 2
    assert gateway.times_paid(body={"prompt": "one"}, model="kling-v3.0-pro-t2v") == 1
    assert list(gateway.double_payments.values()) == [2]


async def test_the_prompts_of_shots_count_as_the_prompt(gateway):
    gateway.add_fault("submit:status=503,match=dog")
    shots = [{"prompt": "a cat"}, {"prompt": "a dog"}]
    assert (await submit(gateway, prompt=None, multi_prompt=shots))[0] == 503
    assert (await submit(gateway, prompt=None, multi_prompt=shots))[0] == 200
    assert gateway.times_paid(prompt="a cat\na dog") == 1


async def test_the_log_has_no_keys_and_no_bodies(gateway):
    await submit(gateway, extra="A" * 10_000)
    (request,) = gateway.requests
    assert (request.method, request.status, request.authorization, request.job) == ("POST", 200, True, 1)
    assert request.body.length > 10_000
    assert "AAAA" not in repr(request)
    assert "emulator-key" not in repr(request)
    assert gateway.jobs[0].unknown_fields == ("extra",)


async def test_the_control_paths_read_and_change_the_emulator(gateway):
    await submit(gateway)
    assert (await ask(gateway, "faults", "POST", faults="job:fail,job=1"))[1] == ["job:fail,job=1"]
    assert (await ask(gateway, "advance", "POST", seconds=1000))[0] == 200
    (job,) = (await ask(gateway, "jobs"))[1]
    assert (job["status"], job["prompt"], job["faults"]) == (Phase.FAILED, "a cat", ["job:fail,job=1"])
    assert [r["path"] for r in (await ask(gateway, "requests"))[1]] == [T2V]
    assert (await ask(gateway, "timing", "POST", queue_seconds=1))[1]["queue_seconds"] == 1
    assert (await ask(gateway, "summary"))[1]["jobs"] == 1
    assert (await ask(gateway, "faults", "DELETE"))[1] == []
    assert (await ask(gateway, "faults", "POST", faults="nonsense"))[0] == 400
    assert (await ask(gateway, "nonsense"))[0] == 404


async def test_twenty_thousand_open_jobs_are_cheap(clock):
    gateway = Gateway(Settings(render=False, render_seconds=1e6, clock=clock, keep_requests=100))
    await submit(gateway)
    tracemalloc.start()
    for number in range(2_000):
        await submit(gateway, prompt=f"cat {number}", cfg_scale=0.5)
    bytes_per_job = tracemalloc.get_traced_memory()[0] / 2_000
    tracemalloc.stop()
    for number in range(18_000):
        await submit(gateway, prompt=f"dog {number}")
    assert len(gateway.jobs) == 20_001
    assert len(gateway.requests) == 100
    assert bytes_per_job < 2_000


async def test_the_oldest_jobs_are_forgotten_beyond_the_limit(clock):
    gateway = Gateway(Settings(render=False, keep_jobs=2, clock=clock))
    for prompt in ("one", "two", "three"):
        await submit(gateway, prompt=prompt)
    assert [(job.number, job.prompt) for job in gateway.jobs] == [(2, "two"), (3, "three")]
