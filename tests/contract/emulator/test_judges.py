"""Others judge the emulator's Kling side: the schemas and the command of comfy-cli, and standardwebhooks."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import requests
from jsonschema import Draft202012Validator
from judges import Judges

from airflow_provider_kling.callbacks import verify_callback
from airflow_provider_kling.emulator import Emulator
from airflow_provider_kling.emulator.kling.callbacks import sign
from airflow_provider_kling.gateways import kling
from airflow_provider_kling.models.job import VideoJob

PICTURE = "https://p.example/a.png"
FRAME = {"contents": [{"type": "prompt", "text": "a cat"}, {"type": "first_frame", "url": PICTURE}]}
LEGACY = "/v1/videos/image2video"
LEGACY_BODY = {"model_name": "kling-v3", "image": PICTURE, "prompt": "a cat"}
SECRET = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="


@pytest.fixture(scope="module")
def judges():
    return Judges()


@pytest.fixture(scope="module")
def fits(judges):
    """Give a check: a value fits one of comfy-cli's schemas, and has no members that the schema lacks."""
    document = judges.schemas()
    schemas = document["components"]["schemas"]

    def closed(schema):
        if isinstance(schema, list):
            return [closed(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        ends = {"additionalProperties": False} if "properties" in schema else {}
        return {**ends, **{name: closed(part) for name, part in schema.items()}}

    closed_document = {
        "components": {"schemas": {n: closed(s) for n, s in schemas.items() if n.startswith("Kling")}}
    }

    def check(name, value):
        rule = {**closed_document, "$ref": f"#/components/schemas/{name}"}
        assert name in schemas
        assert [error.message for error in Draft202012Validator(rule).iter_errors(value)] == []

    return check


@pytest.fixture
def gateway():
    with Emulator(render=False, queue_seconds=10, render_seconds=100, webhook_secret=SECRET) as gateway:
        yield gateway


def ask(gateway, method, path, body=None, **params):
    headers = {"Authorization": f"Bearer {gateway.api_key}"}
    answer = requests.request(
        method, gateway.url + path, json=body, params=params, headers=headers, timeout=10
    )
    return answer.json()


def test_the_answers_of_the_new_design_fit_the_schemas(gateway, fits):
    body = FRAME | {"options": {"external_task_id": "mine"}}
    created = ask(gateway, "POST", "/image-to-video/kling-3.0-turbo", body)
    fits("KlingV2CreateTaskResponse", created)
    for seconds in (0, 10, 100):
        gateway.advance(seconds)
        found = ask(gateway, "GET", "/tasks", task_ids=created["data"]["id"])
        fits("KlingV2QueryTaskResponse", found)
    assert found["data"][0]["outputs"]
    gateway.add_fault("query:numbers=float")
    with pytest.raises(AssertionError, match="is not of type 'string'"):
        fits("KlingV2QueryTaskResponse", ask(gateway, "GET", "/tasks", task_ids=created["data"]["id"]))
    fits("KlingErrorResponse", ask(gateway, "GET", "/tasks"))
    fits("KlingErrorResponse", ask(gateway, "POST", "/image-to-video/kling-3.0-turbo", body))


def test_the_answers_of_the_legacy_design_fit_the_schemas(gateway, fits):
    created = ask(gateway, "POST", LEGACY, LEGACY_BODY | {"external_task_id": "mine"})
    for seconds in (0, 10, 100):
        gateway.advance(seconds)
        found = ask(gateway, "GET", f"{LEGACY}/{created['data']['task_id']}")
        fits("KlingQueryTaskResponse", found)
    assert found["data"]["task_result"]["videos"]
    fits("KlingErrorResponse", ask(gateway, "GET", f"{LEGACY}/7"))


def test_a_command_of_others_gets_a_video_from_the_legacy_design(judges, tmp_path):
    with Emulator(render=False, queue_seconds=0, render_seconds=0) as gateway:
        said = judges.run(
            *("comfy", "generate", "kling-i2v", "--json", "--yes", "--download", str(tmp_path / "cat.mp4")),
            *("--model_name", "kling-v3", "--image", PICTURE, "--prompt", "a cat", "--mode", "pro"),
            home=tmp_path,
            COMFY_API_BASE_URL=gateway.url,
            COMFY_API_KEY=gateway.api_key,
        )
        (job,) = gateway.jobs
    assert json.loads(said)["data"]["result"]["data"]["task_id"] == job.task_id
    assert (job.dialect, job.model, job.unknown_fields) == ("kling-legacy", "image-to-video/kling-3.0", ())
    assert (tmp_path / "cat.mp4").read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("model", "schema", "inputs"),
    [
        ("text-to-video/kling-3.0-turbo", "KlingV2Text2VideoRequest", {"aspect_ratio": "9:16"}),
        ("image-to-video/kling-3.0-turbo", "KlingV2Image2VideoRequest", {"image": PICTURE}),
    ],
)
def test_our_requests_fit_the_schemas(fits, model, schema, inputs):
    job = VideoJob(model, {"prompt": "a cat", "duration": 7, "resolution": "1080p", **inputs})
    body = kling.submit(job, "mine").body
    assert body["options"] == {"external_task_id": "mine"}
    fits(schema, body)


class Receiver:
    """Receives callbacks; the first answers have these statuses."""

    def __init__(self, *statuses):
        self.received, left = [], list(statuses)
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                received.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(left.pop(0) if left else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/done"

    def __enter__(self):
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def statuses(self):
        bodies = [json.loads(body) for _, body in self.received]
        return [body.get("status") or body["task_status"] for body in bodies]


VERIFY = """
import json, sys
from standardwebhooks import Webhook
for headers, body in json.loads(sys.argv[2]):
    Webhook(sys.argv[1]).verify(body, headers)
    try:
        Webhook(sys.argv[1]).verify(body + " ", headers)
    except Exception:
        continue
    sys.exit("a changed body is accepted")
"""


def test_a_signature_is_that_of_the_documents():
    times = b'"create_time":1781080778802,"update_time":1781080794151'
    body = b'{"id":"1234567890","status":"succeeded","message":"",' + times + b"}"
    assert sign(SECRET, "9876543210", 1781080794, body) == "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4="


@pytest.mark.parametrize("legacy", [False, True])
def test_callbacks_at_each_change_of_status_are_verified_by_others(gateway, judges, fits, tmp_path, legacy):
    with Receiver() as receiver:
        if legacy:
            ask(gateway, "POST", LEGACY, LEGACY_BODY | {"callback_url": receiver.url})
        else:
            body = FRAME | {"options": {"callback_url": receiver.url, "external_task_id": "mine"}}
            ask(gateway, "POST", "/image-to-video/kling-3.0", body)
        for number, seconds in enumerate((0, 10, 100), 1):
            gateway.advance(seconds)
            gateway.wait_until(lambda number=number: len(receiver.received) == number)
        gateway.wait_until(lambda: not gateway.background)
    assert receiver.statuses() == ["submitted", "processing", "succeed" if legacy else "succeeded"]
    for headers, body in receiver.received:
        task = json.loads(body)
        callback = verify_callback(headers, body, SECRET)
        assert callback.kling_task_id == gateway.jobs[0].task_id
        assert callback.client_id == ("" if legacy else "mine")
        fits("KlingQueryTaskResponse", {"data": task}) if legacy else fits("KlingV2Task", task)
    judges.run("python", "-c", VERIFY, SECRET, json.dumps(receiver.received), home=tmp_path)


@pytest.mark.parametrize(
    ("statuses", "repeat", "seen"),
    [([503], True, 2), ([503, 503], True, 2), ([503], False, 1), ([404], True, 1)],
)
def test_a_callback_is_repeated_once_after_a_server_error(statuses, repeat, seen):
    with (
        Receiver(*statuses) as receiver,
        Emulator(render=False, queue_seconds=0, render_seconds=0, repeat_callbacks=repeat) as gateway,
    ):
        ask(gateway, "POST", LEGACY, LEGACY_BODY | {"callback_url": receiver.url})
        gateway.wait_until(lambda: receiver.received and not gateway.background)
    assert receiver.statuses() == ["succeed"] * seen
    assert not any("webhook-signature" in headers for headers, _ in receiver.received)


def test_only_addresses_of_this_machine_are_called(gateway):
    ask(gateway, "POST", LEGACY, LEGACY_BODY | {"callback_url": "https://elsewhere.example/done"})
    assert len(gateway.jobs) == 1
    assert not gateway.background
