"""Small pictures of sources and videos, made in a process that a hostile file cannot misuse."""

import base64
import io
import random
import sys

import av
import pytest
from PIL import Image, ImageDraw

from airflow_provider_kling.emulator.render_queue import tiny_video
from airflow_provider_kling.media import preview
from airflow_provider_kling.media.preview import (
    MAX_CHARACTERS,
    Decoded,
    checked_preview,
    decode_picture,
    decode_video,
)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(text):
    assert text.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2])))


def noise(width, height):
    return Image.frombytes("RGB", (width, height), random.Random(1).randbytes(3 * width * height))


def video(colours=("red", "blue"), size=(320, 180), rate=10, kind="mp4"):
    """Return a video that shows each colour for a second."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream("h264", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt, stream.gop_size = "yuv420p", rate
        for colour in colours:
            for _ in range(rate):
                container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", size, colour))))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_becomes_a_small_jpeg(kind):
    small = opened(decode_picture(encoded(noise(900, 600), kind)).picture)
    assert small.format == "JPEG"
    assert small.width / small.height == pytest.approx(1.5, abs=0.02)
    assert max(small.size) <= 320


def test_each_picture_is_so_short_that_two_of_them_are_20_kb():
    for size in ((900, 600), (4000, 300), (300, 4000)):
        text = decode_picture(encoded(noise(*size))).picture
        assert text
        assert len(text) <= MAX_CHARACTERS
    assert 2 * MAX_CHARACTERS + len('{"kling_task_id": "", "source": "", "poster": ""}') + 250 < 20_000


def test_a_simple_picture_keeps_its_full_side():
    assert opened(decode_picture(encoded(Image.new("RGB", (1600, 900), "teal"))).picture).size == (320, 180)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_each_mode_of_a_picture_is_shown(mode):
    image = Image.new("L", (400, 400), 255).convert("RGB").convert(mode if mode != "I;16" else "L")
    data = encoded(image if mode != "I;16" else Image.new("I;16", (400, 400), 65535))
    assert min(opened(decode_picture(data).picture).convert("L").getextrema()) > 250


def test_what_is_transparent_is_white():
    image = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    assert opened(decode_picture(encoded(image)).picture).getpixel((9, 9)) == (255, 255, 255)


def test_a_rotated_photo_stands_upright_and_loses_its_metadata():
    photo = Image.new("RGB", (600, 300), "white")
    ImageDraw.Draw(photo).rectangle((0, 0, 299, 299), "red")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "at home"  # turned to the right; a description
    small = opened(decode_picture(encoded(photo, "JPEG", exif=exif)).picture)
    assert small.size == (160, 320)
    assert small.getpixel((80, 20))[1] < 60
    assert not small.getexif()


def test_the_poster_shows_the_middle_of_the_video():
    found = decode_video(io.BytesIO(video(("red", "blue", "lime"))))
    red, green, blue = opened(found.picture).getpixel((9, 9))
    assert blue > 200
    assert max(red, green) < 60


def test_the_properties_of_a_video_are_read():
    media = decode_video(io.BytesIO(video())).media
    assert media == {
        "duration": 2.0, "width": 320, "height": 180, "frames_per_second": 10.0, "audio": False
    }  # fmt: skip


def test_a_local_file_is_read_where_it_is(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(tiny_video())
    monkeypatch.setattr(preview.tempfile, "TemporaryFile", lambda: pytest.fail("a copy"))
    with (tmp_path / "a.mp4").open("rb") as file:
        assert decode_video(file).picture


def test_a_remote_file_may_know_no_file_number_or_one_of_its_own():
    class Numbered(io.BytesIO):
        def fileno(self):
            return 12345

    assert decode_video(Numbered(tiny_video())).picture


def test_of_a_large_remote_video_only_the_beginning_is_copied(monkeypatch):
    monkeypatch.setattr(preview, "_MAX_COPY", 1024**2)
    file = io.BytesIO(tiny_video() + bytes(8 * 1024**2))
    decode_video(file)
    assert file.tell() <= 2 * 1024**2


@pytest.mark.parametrize("data", [b"", b"no video", tiny_video()[:200]])
def test_a_broken_video_gives_nothing(data):
    found = decode_video(io.BytesIO(data))
    assert (found.picture, found.media) == (None, None)
    assert found.error


@pytest.mark.parametrize(
    "data", [b"no picture", encoded(noise(400, 400))[:-5000], encoded(Image.new("RGB", (400, 400)), "BMP")]
)
def test_a_broken_picture_gives_nothing(data):
    found = decode_picture(data)
    assert found.picture is None
    assert found.error


def test_only_an_mp4_is_decoded():
    assert decode_video(io.BytesIO(video(kind="matroska"))).media is None


def test_a_bomb_of_pixels_is_not_decoded():
    bomb = encoded(Image.new("1", (12_000, 12_000)))
    assert len(bomb) < 100_000
    assert decode_picture(bomb).error in ("ValueError", "DecompressionBombError")


def test_a_large_photo_is_decoded_in_a_smaller_size():
    assert decode_picture(encoded(Image.new("RGB", (9000, 9000), "teal"), "JPEG")).picture


EARLY = "the decoder ended early"
#: What a hostile file might do to a decoder, as a module that takes the decoder's place; and the error.
HOSTILE = {
    "hangs": ("while True: pass", EARLY),
    "sleeps": ("import time; time.sleep(99)", EARLY),
    "takes all memory": ("hog = bytearray(8 << 30)", "MemoryError"),
    "crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", EARLY),
    "fills the disk": ("open('{folder}/filled', 'wb', 0).write(bytes(1 << 20))", "OSError"),
    "prints": ("print('not JSON')", EARLY),
    "exits": ("raise SystemExit", "SystemExit"),
}


@pytest.fixture
def instead_of_pillow(tmp_path, monkeypatch):
    """Put a module of this code in Pillow's place, for the process that decodes."""

    def put(code):
        (tmp_path / "PIL").mkdir()
        (tmp_path / "PIL" / "__init__.py").write_text(code.replace("{folder}", str(tmp_path)))
        monkeypatch.syspath_prepend(tmp_path)

    return put


@pytest.mark.parametrize(("code", "error"), HOSTILE.values(), ids=HOSTILE)
def test_a_decoder_that_fails_ends_alone(instead_of_pillow, monkeypatch, code, error):
    monkeypatch.setattr(preview, "_SECONDS", 1)
    instead_of_pillow(code)
    assert decode_picture(b"x") == Decoded(error=error)


def test_the_process_that_decodes_has_no_secrets(instead_of_pillow, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "a-secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    instead_of_pillow("import os; raise type('/'.join(os.environ), (Exception,), {})")
    assert set(decode_picture(b"x").error.split("/")) - {"LC_CTYPE"} == {"LD_LIBRARY_PATH"}


def test_without_the_packages_nothing_is_decoded(monkeypatch):
    monkeypatch.setattr(preview.subprocess, "run", lambda *_, **__: pytest.fail("a process"))
    for module in ("av", "PIL"):
        monkeypatch.setitem(sys.modules, module, None)
    assert decode_picture(b"x") == Decoded()
    assert decode_video(io.BytesIO(tiny_video())).error == "PyAV is not installed"


@pytest.mark.parametrize(
    "value", [None, 7, "", "javascript:alert(1)", "data:text/html,x", "data:image/jpeg;base64," + "x" * 9800]
)
def test_only_a_small_picture_of_ours_is_taken_from_elsewhere(value):
    assert checked_preview(value) is None


def test_a_picture_of_ours_is_taken_from_elsewhere():
    ours = decode_picture(encoded(noise(400, 400))).picture
    assert checked_preview(ours) == ours
