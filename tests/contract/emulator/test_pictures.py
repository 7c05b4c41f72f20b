"""The emulator accepts and refuses pictures as the documented service does."""

import base64
import io

import pytest
from aiohttp import web
from emulator_without_socket import call
from PIL import Image

from airflow_provider_kling.emulator import Gateway, Settings

LINK = "https://pictures.example/cat.png"
PRO, TURBO, REF = "kling-v3.0-pro-i2v", "kling-2.5-turbo-i2v", "kling-o1-ref2v"


def picture(width=400, height=300, form="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, form)
    return file.getvalue()


def data_uri(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


@pytest.fixture
def gateway():
    return Gateway(Settings(render=False))


async def submit(gateway, slug, **pictures):
    """Submit a request, and return the reason of its refusal, or an empty text."""
    _, answer = await call(gateway, "POST", f"/v3/async/{slug}", {"prompt": "a cat", **pictures})
    return answer.get("reason", "")


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


async def test_other_texts_are_refused_as_pictures(gateway):
    for text in ("data:text/plain;base64,AAAA", "data:image/png,AAAA", "cat.png", "s3://bucket/cat.png", "ä"):
        assert await submit(gateway, PRO, image=text) == "INVALID_IMAGE_FORMAT"


async def test_the_last_picture_and_those_of_a_list_are_checked_too(gateway):
    small = data_uri(picture(10, 10))
    assert await submit(gateway, PRO, image=data_uri(picture()), end_image=small) == "INVALID_IMAGE_SIZE"
    assert await submit(gateway, REF, images=[LINK, small]) == "INVALID_IMAGE_SIZE"


async def test_jobs_are_counted_by_their_picture(gateway):
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
