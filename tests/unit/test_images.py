"""A picture's format and size, read from its header and compared with what a real imaging library says."""

import base64
import hashlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.images import LARGEST_FILE, check_picture, from_base64

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOF = [0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF]


def segment(marker, payload=b"", fill=0, length=None):
    length = len(payload) + 2 if length is None else length
    return b"\xff" * (1 + fill) + bytes([marker]) + length.to_bytes(2) + payload


def frame(width=400, height=300, marker=0xC0, **options):
    size = b"\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    return segment(marker, size, **options)


def jpeg(*segments):
    return SOI + b"".join(segments) + EOI


def png(width=400, height=300, kind=b"IHDR"):
    return (
        b"\x89PNG\r\n\x1a\n"
        + (13).to_bytes(4)
        + kind
        + width.to_bytes(4)
        + height.to_bytes(4)
        + b"\x08\x02"
        + bytes(7)
    )


def saved(form, size=(640, 480), **options):
    file = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(file, form, **options)
    return file.getvalue()


def check(data):
    return check_picture(data, "image", "a.jpg")


def refusal(data):
    with pytest.raises(KlingInputError) as caught:
        check(data)
    assert "image='a.jpg': " in str(caught.value)
    return str(caught.value)


def exif():
    data = Image.Exif()
    data[0x0112] = 6  # turned by 90 degrees
    data[0x010E] = "x" * 3000
    return data


REAL = {
    "jpeg": lambda: saved("JPEG"),
    "jpeg, progressive": lambda: saved("JPEG", progressive=True),
    "jpeg, optimised": lambda: saved("JPEG", optimize=True, quality=95),
    "jpeg, with a comment": lambda: saved("JPEG", comment=b"\xff\xc0 not a frame" * 100),
    "jpeg, with Exif": lambda: saved("JPEG", exif=exif()),
    "jpeg, with a colour profile": lambda: saved("JPEG", icc_profile=bytes(range(256)) * 600),
    "jpeg, tall": lambda: saved("JPEG", (300, 750)),
    "jpeg, wide": lambda: saved("JPEG", (1000, 400)),
    "png": lambda: saved("PNG"),
    "png, with text": lambda: saved("PNG", pnginfo=_text()),
    "png, tall": lambda: saved("PNG", (301, 700)),
}


def _text():
    info = PngImagePlugin.PngInfo()
    info.add_text("IHDR", "not a header")
    return info


@pytest.mark.parametrize("make", REAL.values(), ids=REAL)
def test_a_real_picture_is_read_as_an_imaging_library_reads_it(make):
    data = make()
    picture = check(data)
    with Image.open(io.BytesIO(data)) as known:
        assert (picture.width, picture.height) == known.size
        assert picture.media_type == known.get_format_mimetype()
    assert picture.data is data


@pytest.mark.parametrize("marker", SOF)
def test_every_kind_of_jpeg_frame_tells_its_size(marker):
    picture = check(jpeg(frame(400, 301, marker)))
    assert (picture.width, picture.height, picture.media_type) == (400, 301, "image/jpeg")


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xEF, 0xFE])
def test_other_jpeg_segments_are_passed_over(marker):
    hidden = frame(999, 999)
    assert check(jpeg(segment(marker, hidden * 3), frame())).width == 400


def test_fill_bytes_and_markers_without_length_are_passed_over():
    assert check(jpeg(frame(fill=7))).width == 400
    assert (
        check(jpeg(segment(0xE0, b"x", fill=3), b"\xff\x01", b"\xff\xd0", b"\xff\xd8", frame())).width == 400
    )


@pytest.mark.parametrize("length", [0, 1])
@pytest.mark.parametrize("tail", [frame(), b"\xff" * 100, b""])
def test_a_jpeg_segment_that_is_shorter_than_its_own_length_field_is_damage(length, tail):
    assert "damaged or cut off" in refusal(SOI + segment(0xE0, b"", length=length) + tail)


@pytest.mark.parametrize("data", [jpeg(segment(0xE1, b"x" * 50), frame())[:-2], png()])
def test_a_header_that_is_cut_off_anywhere_is_damage(data):
    whole = data.index(b"\xff\xc0") + 9 if data.startswith(SOI) else len(data)
    assert check(data[:whole]).width == 400
    for cut in range(whole):
        assert "not a JPEG or PNG" in refusal(data[:cut]) or "damaged or cut off" in refusal(data[:cut])


@pytest.mark.parametrize(
    "data", [jpeg(frame(0, 300)), jpeg(frame(300, 0)), png(0, 300), png(300, 0), png(kind=b"IDAT")]
)
def test_a_size_of_zero_or_a_wrong_first_chunk_is_damage(data):
    assert "damaged or cut off" in refusal(data)


def test_a_jpeg_without_a_frame_is_damage():
    assert "damaged or cut off" in refusal(jpeg(segment(0xDA, b"x" * 10), b"scan data" * 10))
    assert "damaged or cut off" in refusal(jpeg(segment(0xE0, b"x", length=60_000)))
    assert "damaged or cut off" in refusal(SOI + b"\xff" * 1000)


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", b"RIFF0000WEBP", b"<html>", b"\xff\xd8", saved("GIF"), saved("WEBP"), saved("BMP")],
)
def test_other_formats_are_refused_by_content(data):
    assert "not a JPEG or PNG picture, by its content" in refusal(data)


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (300, 300, ""), (299, 300, "299x300 pixels; each side"), (300, 299, "300x299 pixels; each side"),
        (750, 300, ""), (751, 300, "between 1:2.5"), (300, 750, ""), (300, 751, "between 1:2.5"),
        (1000, 400, ""), (400, 1000, ""), (1001, 400, "between"), (400, 1001, "between"), (20000, 20000, ""),
        (65535, 65535, ""), (65535, 26214, ""), (65535, 26213, "between"),
    ],
)  # fmt: skip
def test_sides_and_ratio_are_taken_at_their_edges_and_refused_beyond(width, height, words):
    for data in (png(width, height), jpeg(frame(width, height))):
        if words:
            assert words in refusal(data)
        else:
            assert (check(data).width, check(data).height) == (width, height)


def test_a_file_is_taken_up_to_ten_mebibytes():
    head = png()
    assert check(head + bytes(LARGEST_FILE - len(head))).width == 400
    assert "more than the 10 MiB" in refusal(head + bytes(LARGEST_FILE - len(head) + 1))


def test_a_picture_describes_itself_and_becomes_base64():
    picture = check(png() + bytes(2000))
    assert picture.describe() == "PNG 400x300, 2 kB"
    assert picture.sha256 == hashlib.sha256(picture.data).hexdigest()
    assert base64.b64decode(picture.as_base64(bare=True)) == picture.data
    assert picture.as_base64() == f"data:image/png;base64,{picture.as_base64(bare=True)}"
    assert from_base64(picture.as_base64()) == from_base64(picture.as_base64(bare=True)) == picture.data


@pytest.mark.parametrize(
    "text", ["data:image/png,abcd", "data:", "data:;base64,?", "a", "ü", "ab cd", "=", "/tmp/a.png"]
)
def test_a_text_that_is_no_base64_is_none(text):
    assert from_base64(text) is None


HEADS = st.sampled_from(
    [b"", SOI, SOI + b"\xff", b"\x89PNG\r\n\x1a\n", png()[:16], SOI + segment(0xE0, b"JFIF")]
)
PIECES = st.lists(
    st.sampled_from([b"\xff", b"\x00", b"\x01", b"\xc0", b"\xe0", b"\xff\xd0", frame()])
    | st.binary(max_size=8),
    max_size=40,
)


@settings(max_examples=300)
@given(HEADS, PIECES)
def test_any_bytes_at_all_are_a_picture_or_an_input_error(head, pieces):
    data = head + b"".join(pieces)
    try:
        picture = check(data)
    except KlingInputError:
        return
    assert picture.data == data
    assert min(picture.width, picture.height) >= 300


@given(st.text())
def test_any_text_at_all_is_base64_or_not(text):
    for form in (text, f"data:{text}", f"data:image/png;base64,{text}"):
        assert isinstance(from_base64(form), bytes | None)
