"""Another project's client, `novita-client`, accepts the emulator's answers."""

import pytest
import requests
from novita_client import NovitaClient
from novita_client.exceptions import NovitaResponseError
from novita_client.proto import Txt2VideoPrompt, V3AsyncSubmitResponse, V3TaskResponseStatus

from airflow_provider_kling.emulator import Emulator

I2V = "/v3/async/kling-v3.0-pro-i2v"
BODY = {"image": "https://pictures.example/cat.png", "prompt": "a cat", "duration": 5}


@pytest.fixture
def gateway():
    with Emulator(render=False, queue_seconds=10, render_seconds=100, models=("txt2video",)) as gateway:
        yield gateway


@pytest.fixture
def client(gateway):
    client = NovitaClient(gateway.api_key, gateway.url)
    yield client
    client.session.close()


def submit(client):
    return V3AsyncSubmitResponse.from_dict(client._post(I2V, BODY)).task_id


def test_it_reads_the_answers_for_each_state_of_a_job(gateway, client):
    task_id = submit(client)
    seen = []
    for seconds in (0, 60, 50):
        gateway.advance(seconds)
        seen.append(client.async_task_result(task_id))
    status = V3TaskResponseStatus
    assert [answer.task.status for answer in seen] == [
        status.TASK_STATUS_QUEUED,
        status.TASK_STATUS_PROCESSING,
        status.TASK_STATUS_SUCCEED,
    ]
    assert [answer.finished() for answer in seen] == [False, False, True]
    assert [answer.task.progress_percent for answer in seen] == [0, 50, 100]
    assert seen[-1].videos[0].video_url_ttl == 3600
    assert seen[-1].extra.debug_info.submit_time_ms > 10**12


def test_it_waits_for_a_job_and_downloads_the_video(gateway, client):
    task_id = submit(client)
    gateway.advance(110)
    answer = client.wait_for_task_v3(task_id)
    (url,) = answer.get_video_urls()
    assert requests.get(url, timeout=10).content[4:8] == b"ftyp"
    assert gateway.times_paid(body=BODY) == 1
    assert not gateway.key_reached_storage


def test_its_own_method_for_another_model_works_too(gateway, client):
    gateway.set_timing(queue_seconds=0, render_seconds=0)
    prompts = [Txt2VideoPrompt(frames=16, prompt="a cat")]
    submitted = client.async_txt2video("SVD", 512, 512, 20, prompts, 7.5, loras=[], embeddings=[])
    assert client.wait_for_task_v3(submitted.task_id).get_video_urls()


def test_it_reads_a_failed_job(gateway, client):
    gateway.add_fault("job:fail=moderation")
    task_id = submit(client)
    gateway.advance(110)
    task = client.wait_for_task_v3(task_id).task
    assert task.status == V3TaskResponseStatus.TASK_STATUS_FAILED
    assert "moderation" in task.reason


def test_it_sees_a_refusal(gateway, client):
    with pytest.raises(NovitaResponseError, match="INVALID_REQUEST_BODY"):
        client._post(I2V, {"prompt": "a cat"})
    client.api_key = "other"
    with pytest.raises(NovitaResponseError, match="INVALID_API_KEY"):
        client._post(I2V, BODY)
