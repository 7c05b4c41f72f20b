"""The emulator renders real videos of the given picture."""

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import av
import pytest
from emulator_without_socket import call
from PIL import Image, ImageChops, ImageStat

from airflow_provider_kling.emulator import Gateway, Settings
from airflow_provider_kling.emulator.myrouter.bodies import render_request
from airflow_provider_kling.emulator.myrouter.models import MODELS
from airflow_provider_kling.emulator.render_queue import tiny_video


@pytest.fixture
def gateway():
    gateway = Gateway(Settings(queue_seconds=0, render_seconds=0))
    yield gateway
    gateway.close()


def quarters(width, height):
    """Build a picture whose four quarters have colours of their own."""
    picture = Image.new("RGB", (width, height), "red")
    picture.paste("blue", (width // 2, 0, width, height // 2))
    picture.paste("yellow", (0, height // 2, width // 2, height))
    picture.paste("green", (width // 2, height // 2, width, height))
    return picture


def data_uri(picture, form="JPEG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


async def ask(gateway, job):
    _, answer = await call(gateway, "GET", "/v3/async/task-result", task_id=job.task_id)
    return answer["task"]


async def submit(gateway, model, **body):
    status, _ = await call(gateway, "POST", f"/v3/async/{model}", {"prompt": "a cat", **body})
    assert status == 200
    return gateway.jobs[-1]


async def make(gateway, model="kling-v3.0-pro-i2v", **body):
    """Submit, wait for the render, and give the bytes of the video."""
    job = await submit(gateway, model, **body)
    wait([gateway.render_queue._renderings[job.task_id]])
    assert (await ask(gateway, job))["status"] == "TASK_STATUS_SUCCEED"
    return await gateway.render_queue.video(job.task_id)


def look(data):
    """Give the streams of a video by kind, and its frames."""
    with av.open(io.BytesIO(data)) as file:
        kinds = {stream.type: stream.codec_context.name for stream in file.streams}
        frames = [frame.to_image() for frame in file.decode(video=0)]
        assert file.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert file.streams.video[0].average_rate == 24
        return kinds, frames


def differ(one, other):
    """Tell how much two pictures differ, 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other.resize(one.size))).mean) / 3


def loudness(data):
    with av.open(io.BytesIO(data)) as file:
        return max(
            abs(float(v)) for frame in file.decode(audio=0) for v in memoryview(frame.planes[0]).cast("f")
        )


async def test_the_video_shows_the_moving_picture_and_has_sound(gateway):
    picture = quarters(1200, 800)
    data = await make(gateway, image=data_uri(picture), duration=3, sound=True)
    kinds, frames = look(data)
    assert kinds == {"video": "h264", "audio": "aac"}
    assert (len(frames), frames[0].size) == (72, (960, 640))
    assert differ(frames[0], picture) < 6
    assert differ(frames[-1], frames[0]) > 6
    assert 0.1 < loudness(data) < 1
    assert data.index(b"moov") < data.index(b"mdat"), "plays before it is whole"


async def test_the_exif_rotation_is_applied(gateway):
    upright = quarters(400, 600)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    lying = data_uri(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    kinds, frames = look(await make(gateway, image=lying, duration=3))
    assert kinds == {"video": "h264"}
    assert frames[0].size == (640, 960)
    assert differ(frames[0], upright) < 6


async def test_the_last_picture_is_the_last_frame(gateway):
    first, last = quarters(800, 400), Image.new("RGB", (600, 300), "teal")
    body = {"image": data_uri(first), "end_image": data_uri(last, "PNG"), "duration": 3}
    _, frames = look(await make(gateway, **body))
    assert differ(frames[0], first) < 6
    assert differ(frames[-1], last) < 6


async def test_a_prompt_without_a_picture_is_drawn_in_the_requested_ratio(gateway):
    _, frames = look(await make(gateway, "kling-v3.0-pro-t2v", aspect_ratio="9:16", duration=3))
    assert frames[0].size == (540, 960)
    assert max(ImageStat.Stat(frames[0]).stddev) > 10


async def test_a_url_that_is_not_fetched_is_drawn_too(gateway):
    _, frames = look(await make(gateway, image="https://pictures.example/cat.png", duration=3))
    assert frames[0].size == (960, 540)


LINK = "https://pictures.example/clip.mp4"
CHARACTER = data_uri(quarters(800, 400))


@pytest.mark.parametrize(
    ("model", "body", "seconds", "shows"),
    [
        ("kling-o1-ref2v", {"images": [CHARACTER], "duration": 3}, 3, "the picture"),
        ("kling-o1-video-edit", {"video": LINK, "images": []}, 5, "the words"),
        (
            "kling-v2.6-pro-motion-control",
            {"image": CHARACTER, "video": LINK, "character_orientation": "video", "prompt": None},
            5,
            "the picture",
        ),
        (
            "kling-v3.0-pro-t2v",
            {"multi_prompt": ["one", "two"], "prompt": None, "duration": 3},
            3,
            "the words",
        ),
        ("kling-v1.6-i2v", {"image_url": CHARACTER}, 5, "the picture"),
        ("kling-2.5-turbo-i2v", {"image": CHARACTER.partition(",")[2], "duration": "5"}, 5, "the picture"),
    ],
)
async def test_every_other_kind_of_video_is_rendered_too(gateway, model, body, seconds, shows):
    _, frames = look(await make(gateway, model, **body))
    assert len(frames) == 24 * seconds
    assert (differ(frames[0], quarters(800, 400)) < 6) == (shows == "the picture")


def test_some_models_have_sound_by_default():
    loud = MODELS["kling-v2.6-pro-t2v"]
    assert render_request(loud, {"prompt": "a cat"}).sound
    assert not render_request(loud, {"prompt": "a cat", "sound": False}).sound
    assert not render_request(MODELS["kling-v3.0-pro-t2v"], {"prompt": "a cat"}).sound


async def test_no_job_succeeds_before_its_video_is_rendered(gateway):
    camera = threading.Event()
    gateway.render_queue._pool = pool = ThreadPoolExecutor(1)
    pool.submit(camera.wait)  # the render_queue is busy with something else
    job = await submit(gateway, "kling-v3.0-pro-t2v", duration=3)
    task = await ask(gateway, job)
    assert (task["status"], task["progress_percent"]) == ("TASK_STATUS_PROCESSING", 99)
    gateway.render_queue._stop.set()
    camera.set()


async def test_a_picture_that_cannot_be_decoded_fails_the_job(gateway):
    whole = base64.b64decode(data_uri(quarters(800, 800), "PNG").partition(",")[2])
    broken = base64.b64encode(whole[: len(whole) // 2]).decode()
    job = await submit(gateway, "kling-v3.0-pro-i2v", image=broken)
    wait([gateway.render_queue._renderings[job.task_id]])
    task = await ask(gateway, job)
    assert task["status"] == "TASK_STATUS_FAILED"
    assert "could not be rendered" in task["reason"]


def test_the_video_of_the_bench_mode_is_a_real_one():
    with av.open(io.BytesIO(tiny_video())) as file:
        assert len(list(file.decode(video=0))) == 4
