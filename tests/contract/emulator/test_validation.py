"""The emulator takes and refuses what the documented service takes and refuses."""

import base64
import io
import json

import pytest
from aiohttp import web
from PIL import Image

from airflow_provider_kling.emulator import Call, Gateway, Settings
from airflow_provider_kling.emulator.models import MODELS

KEY = {"Authorization": "Bearer emulator-key"}
LINK = "https://pictures.example/cat.png"
VIDEO = "https://pictures.example/cat.mp4"
PRO, STD, PRO_T2V = "kling-v3.0-pro-i2v", "kling-v3.0-std-i2v", "kling-v3.0-pro-t2v"
TURBO, V26, V21, V16 = "kling-2.5-turbo-i2v", "kling-v2.6-pro-i2v", "kling-v2.1-i2v", "kling-v1.6-i2v"
REF, EDIT, MOTION = "kling-o1-ref2v", "kling-o1-video-edit", "kling-v3.0-motion-control"
V16_T2V = "kling-v1.6-t2v"
LEAST = {
    "image": LINK,
    "image_url": LINK,
    "prompt": "a cat",
    "video": VIDEO,
    "character_orientation": "image",
}


def picture(width=400, height=300, form="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, form)
    return file.getvalue()


def data_uri(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


@pytest.fixture
def gateway():
    return Gateway(Settings(render=False))


async def submit(gateway, slug, **changes):
    """Submit the least body that the model takes, changed; give the reason of the refusal."""
    fields = MODELS[slug].fields
    body = {name: value for name, value in LEAST.items() if name in fields and fields[name].required}
    if MODELS[slug].exactly_one:
        body["prompt"] = "a cat"
    body = {name: value for name, value in (body | changes).items() if value is not ...}
    call = Call("POST", f"/v3/async/{slug}", {}, KEY, json.dumps(body).encode())
    answer = json.loads((await gateway.handle("api", call)).body)
    return answer.get("reason", "")


@pytest.mark.parametrize("slug", sorted(MODELS))
async def test_every_model_takes_its_least_body_and_no_less(gateway, slug):
    assert await submit(gateway, slug) == ""
    for name, field in MODELS[slug].fields.items():
        if field.required:
            assert await submit(gateway, slug, **{name: ...}) == "INVALID_REQUEST_BODY"


@pytest.mark.parametrize("slug", sorted(MODELS))
async def test_every_input_of_every_model_has_a_type(gateway, slug):
    for name in MODELS[slug].fields:
        assert await submit(gateway, slug, **{name: {"not": "this"}}) == "INVALID_REQUEST_BODY"


@pytest.mark.parametrize(
    ("slug", "changes"),
    [
        (PRO, {"duration": 3, "cfg_scale": 1, "sound": True, "end_image": LINK, "negative_prompt": "dogs"}),
        (PRO, {"prompt": ..., "multi_prompt": ["one", "two"]}),
        (PRO, {"prompt": ..., "multi_prompt": [{"prompt": "one", "duration": 3}]}),
        (PRO, {"prompt": "x" * 2500, "duration": 15}),
        (PRO, {"never_heard_of": 1}),
        (PRO, {"prompt": ..., "multi_prompt": [{"prompt": "one", "duration": 1}]}),
        (STD, {"multi_prompt": ["one"]}),
        (STD, {"multi_prompt": [{"prompt": "one"}, {"prompt": "two", "duration": 15}]}),
        (EDIT, {"aspect_ratio": "1:1", "fast_mode": True}),
        (PRO_T2V, {"aspect_ratio": "9:16"}),
        (V26, {"duration": 10, "voice_list": ["a", "b"]}),
        (TURBO, {"duration": "10", "mode": "pro"}),
        (V21, {"guidance_scale": 0.5, "mode": "Professional", "duration": "5"}),
        (V16, {"end_image_url": LINK, "mode": "Professional"}),
        (REF, {"images": [LINK] * 7, "duration": 4}),
        (MOTION, {"model_name": "kling-v3-0-pro", "keep_original_sound": False}),
    ],
)
async def test_what_is_documented_is_taken(gateway, slug, changes):
    assert await submit(gateway, slug, **changes) == ""


@pytest.mark.parametrize(
    ("slug", "changes"),
    [
        (PRO, {"prompt": ""}),
        (PRO, {"prompt": ...}),
        (PRO, {"prompt": "x" * 2501}),
        (PRO, {"negative_prompt": "x" * 2501}),
        (PRO, {"duration": "5"}),
        (PRO, {"duration": 5.0}),
        (PRO, {"duration": True}),
        (PRO, {"duration": 2}),
        (PRO, {"duration": 16}),
        (PRO, {"cfg_scale": 1.1}),
        (PRO, {"cfg_scale": -0.1}),
        (PRO, {"cfg_scale": float("nan")}),
        (PRO, {"never_heard_of": float("inf")}),
        (PRO, {"sound": "on"}),
        (PRO, {"multi_prompt": ["one"]}),
        (PRO, {"prompt": ..., "multi_prompt": ["one"], "end_image": LINK}),
        (PRO, {"prompt": ..., "multi_prompt": ["one", {"prompt": "two"}]}),
        (PRO, {"prompt": ..., "multi_prompt": [{"duration": 5}]}),
        (PRO, {"prompt": ..., "multi_prompt": [{"prompt": "one", "duration": "5"}]}),
        (PRO, {"prompt": " "}),
        (PRO, {"multi_prompt": []}),
        (PRO, {"prompt": ..., "multi_prompt": [" "]}),
        (PRO, {"prompt": ..., "multi_prompt": [{"prompt": "one", "duration": None}]}),
        (STD, {"prompt": ..., "multi_prompt": ["one"]}),
        (STD, {"multi_prompt": [{"prompt": "one", "duration": 2}]}),
        (STD, {"multi_prompt": [{"prompt": "one", "duration": 16}]}),
        (V16_T2V, {"mode": "Professional"}),
        (STD, {"multi_prompt": ["one"], "end_image": LINK}),
        (PRO_T2V, {"aspect_ratio": "4:3"}),
        (V26, {"duration": 7}),
        (V26, {"voice_list": ["a", "b", "c"]}),
        (TURBO, {"duration": 5}),
        (TURBO, {"mode": "std"}),
        (V21, {"mode": "pro"}),
        (V16, {"end_image_url": LINK}),
        (V16, {"prompt": "x" * 2001}),
        (REF, {"images": [LINK] * 8}),
        (REF, {"duration": 11}),
        (EDIT, {"images": [LINK] * 5}),
        (EDIT, {"video": "cat.mp4"}),
        (MOTION, {"character_orientation": "left"}),
    ],
)
async def test_what_breaks_a_documented_rule_is_refused(gateway, slug, changes):
    assert await submit(gateway, slug, **changes) == "INVALID_REQUEST_BODY"
    assert not gateway.jobs


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (picture(), ""),
        (picture(form="JPEG"), ""),
        (picture(750, 300), ""),
        (picture(299, 400), "INVALID_IMAGE_SIZE"),
        (picture(300, 751, "JPEG"), "INVALID_IMAGE_SIZE"),
        (picture(form="GIF"), "INVALID_IMAGE_FORMAT"),
        (b"\xff\xd8\xff\xe0", "INVALID_IMAGE_FORMAT"),
        (b"words", "INVALID_IMAGE_FORMAT"),
        (picture() + bytes(10 * 1024 * 1024), "IMAGE_FILE_EXCEEDS_MAX_SIZE"),
    ],
)
async def test_a_picture_is_checked_with_or_without_the_data_prefix(gateway, data, reason):
    assert await submit(gateway, PRO, image=data_uri(data)) == reason
    assert await submit(gateway, TURBO, image=data_uri(data).partition(",")[2]) == reason


async def test_what_is_no_picture_at_all_is_refused(gateway):
    for text in ("data:text/plain;base64,AAAA", "data:image/png,AAAA", "cat.png", "s3://bucket/cat.png", "ä"):
        assert await submit(gateway, PRO, image=text) == "INVALID_IMAGE_FORMAT"


async def test_the_last_picture_and_those_of_a_list_are_checked_too(gateway):
    small = data_uri(picture(10, 10))
    assert await submit(gateway, PRO, image=data_uri(picture()), end_image=small) == "INVALID_IMAGE_SIZE"
    assert await submit(gateway, REF, images=[LINK, small]) == "INVALID_IMAGE_SIZE"


async def test_a_job_is_found_again_by_its_picture(gateway):
    data = picture(form="JPEG")
    await submit(gateway, PRO, image=data_uri(data))
    await submit(gateway, PRO, image=LINK)
    assert gateway.times_paid(image=data) == gateway.times_paid(image=data_uri(data)) == 1
    assert gateway.times_paid(image=LINK) == 1


async def test_only_links_to_this_machine_are_followed(gateway):
    asked = []

    async def serve(request):
        asked.append(request.path)
        if request.path == "/small.png":
            return web.Response(body=picture(100, 100))
        raise web.HTTPNotFound

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    here = f"http://127.0.0.1:{runner.addresses[0][1]}"
    assert await submit(gateway, PRO, image=f"{here}/small.png") == "INVALID_IMAGE_SIZE"
    assert await submit(gateway, PRO, image=f"{here}/gone.png") == "INVALID_REQUEST_BODY"
    assert await submit(gateway, PRO, image="http://192.0.2.1/cat.png") == ""
    assert asked == ["/small.png", "/gone.png"]
    await runner.cleanup()
