"""Format and size of a picture, compared with an imaging library."""

import base64
import hashlib
import io
import zlib
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.media.pictures import (
    MAX_PICTURE_BYTES,
    check_picture,
    check_shape,
    check_video,
    from_base64,
)

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOF = [0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF]
PNG = b"\x89PNG\r\n\x1a\n"


def segment(marker, payload=b"", fill=0, length=None):
    length = len(payload) + 2 if length is None else length
    return b"\xff" * (1 + fill) + bytes([marker]) + length.to_bytes(2) + payload


def frame(width=400, height=300, marker=0xC0, **options):
    size = b"\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    return segment(marker, size, **options)


SCAN = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"scanned"


def jpeg(*segments):
    return SOI + b"".join(segments) + SCAN + EOI


def chunk(kind, data=b"", check_sum=None):
    check_sum = zlib.crc32(kind + data) if check_sum is None else check_sum
    return len(data).to_bytes(4) + kind + data + check_sum.to_bytes(4)


def png(width=400, height=300, kind=b"IHDR", more=b"", check_sum=None):
    header = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0"
    return PNG + chunk(kind, header, check_sum) + more + chunk(b"IDAT", b"x") + chunk(b"IEND")


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


def exif(orientation=6):
    data = Image.Exif()
    data[0x0112] = orientation
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
        assert (picture.width, picture.height) == ImageOps.exif_transpose(known).size
        assert picture.media_type == known.get_format_mimetype()
    assert picture.data is data


@pytest.mark.parametrize("marker", SOF)
def test_the_size_is_read_from_every_kind_of_jpeg_frame(marker):
    picture = check(jpeg(frame(400, 301, marker)))
    assert (picture.width, picture.height, picture.media_type) == (400, 301, "image/jpeg")


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xEF, 0xFE])
def test_other_jpeg_segments_are_skipped(marker):
    hidden = frame(999, 999)
    assert check(jpeg(segment(marker, hidden * 3), frame())).width == 400


def test_fill_bytes_and_markers_without_length_are_skipped():
    assert check(jpeg(frame(fill=7))).width == 400
    assert (
        check(jpeg(segment(0xE0, b"x", fill=3), b"\xff\x01", b"\xff\xd0", b"\xff\xd8", frame())).width == 400
    )


@pytest.mark.parametrize("length", [0, 1])
@pytest.mark.parametrize("tail", [frame(), b"\xff" * 100, b""])
def test_a_jpeg_segment_that_is_shorter_than_its_own_length_field_is_damage(length, tail):
    assert "damaged or cut off" in refusal(SOI + segment(0xE0, b"", length=length) + tail)


@pytest.mark.parametrize("data", [jpeg(segment(0xE1, b"x" * 50), frame()), png(), png(more=chunk(b"tEXt"))])
def test_a_picture_that_is_cut_off_anywhere_is_damage(data):
    assert check(data).data == data
    for cut in range(len(data)):
        words = refusal(data[:cut])
        assert any(word in words for word in ("not a JPEG or PNG", "cut off", "the file is empty"))


def test_the_end_of_the_small_picture_inside_is_not_the_end():
    inside = segment(0xE1, b"Exif\0\0" + jpeg(frame(160, 120)))
    assert "its end is missing" in refusal(jpeg(inside, frame())[: -len(EOI)])


LIES = {
    "png, another check sum": png(check_sum=1),
    "png, sides changed after the fact": png()[:16] + (500).to_bytes(4) + png()[20:],
    "png, another first chunk": png(kind=b"IDAT"),
    "png, a header of another length": PNG + chunk(b"IHDR", bytes(20)) + chunk(b"IEND"),
    "png, no pixels": png(0, 300),
    "png, no lines": png(300, 0),
    "jpeg, no pixels": jpeg(frame(0, 300)),
    "jpeg, no lines": jpeg(frame(300, 0)),
    "jpeg, two sizes": jpeg(frame(400, 300), frame(500, 300)),
    "jpeg, a frame longer than its parts": jpeg(frame(length=500)),
    "jpeg, a frame shorter than its parts": jpeg(frame(length=11)),
    "jpeg, a frame without parts": SOI + segment(0xC0, b"\x08\x01\x2c\x01\x2c"),
    "jpeg, no frame": jpeg(),
    "jpeg, a segment beyond the file": SOI + segment(0xE0, b"x", length=60_000) + frame() + SCAN + EOI,
    "jpeg, a segment shorter than its length": SOI + segment(0xE0, length=1) + b"\xff" + frame() + SCAN + EOI,
    "jpeg, nothing but fill": SOI + b"\xff" * 200_000,
    "jpeg, ended before it began": SOI + b"\xff\xd9\0\0" + frame() + SCAN + EOI,
    "jpeg, a frame and no scan": SOI + frame() + EOI,
}


@pytest.mark.parametrize("data", LIES.values(), ids=LIES)
def test_a_wrong_header_is_damage(data):
    assert "header is damaged" in refusal(data)


class Counted(bytes):
    """Bytes that count how many of them are copied out."""

    copied = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        Counted.copied += len(found) if isinstance(key, slice) else 1
        return found


MANY_PIECES = {
    "empty chunks": png(more=chunk(b"noIs") * 50_000),
    "empty Exif chunks": png(more=chunk(b"eXIf") * 50_000),
    "large Exif chunks": png(more=chunk(b"eXIf", bytes(100_000)) * 50),
    "empty segments": jpeg(*[segment(0xE0)] * 50_000, frame()),
    "Exif segments": jpeg(*[segment(0xE1, b"Exif\0\0")] * 50_000, frame()),
    "large Exif segments": jpeg(*[segment(0xE1, b"Exif\0\0" + bytes(60_000))] * 50, frame()),
    "fill bytes": jpeg(segment(0xE0, fill=90_000), frame()),
    "an Exif table of 65535 entries": jpeg(
        segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(60_000)), frame()
    ),
}


@pytest.mark.parametrize("data", MANY_PIECES.values(), ids=MANY_PIECES)
def test_the_time_is_linear_in_the_bytes_also_with_many_segments(data):
    Counted.copied = 0
    check_shape(Counted(data), "image", "x")
    assert Counted.copied < 5 * len(data)


def test_the_number_of_segments_is_limited():
    assert "cut off" in refusal(PNG + png()[8:33] + chunk(b"tEXt") * 150_000 + chunk(b"IEND"))
    assert "cut off" in refusal(SOI + b"\xff\x01" * 150_000 + frame() + SCAN + EOI)


def quarter_turn(data, orientation):
    """Return the orientation as a camera writes it, in either order of bytes."""
    assert data in ("II", "MM")
    order = "little" if data == "II" else "big"
    fields = [(0x010E, 3, 1, 9), (0x0112, 3, 1, orientation)]
    entries = b"".join(
        tag.to_bytes(2, order)
        + kind.to_bytes(2, order)
        + many.to_bytes(4, order)
        + value.to_bytes(2, order)
        + b"\0\0"
        for tag, kind, many, value in fields
    )
    return data.encode() + (42).to_bytes(2, order) + (8).to_bytes(4, order) + (2).to_bytes(2, order) + entries


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("orientation", range(10))
def test_the_exif_rotation_swaps_the_sides(order, orientation):
    note = quarter_turn(order, orientation)
    upright = quarter_turn(order, 1)
    turned = (300, 400) if orientation in range(5, 9) else (400, 300)
    for data in (
        jpeg(segment(0xE1, b"Exif\0\0" + note), frame()),
        png(more=chunk(b"eXIf", note)),
        jpeg(segment(0xE1, b"Exif\0\0" + note), segment(0xE1, b"Exif\0\0" + upright), frame()),
        png(more=chunk(b"eXIf", note) + chunk(b"eXIf", upright)),
        jpeg(segment(0xE1, b"http://ns.adobe.com/xap"), segment(0xE1, b"Exif\0\0" + note), frame()),
    ):
        picture = check(data)
        assert (picture.width, picture.height) == turned


@given(st.binary(max_size=60), st.sampled_from([b"", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]))
def test_an_unreadable_exif_orientation_changes_nothing(note, head):
    wanted = {(400, 300), (300, 400)}
    for data in (
        jpeg(segment(0xE1, b"Exif\0\0" + head + note), frame()),
        png(more=chunk(b"eXIf", head + note)),
    ):
        picture = check(data)
        assert (picture.width, picture.height) in wanted


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_an_imaging_library_rotates_the_picture_in_the_same_way(form, orientation):
    data = saved(form, (600, 400), exif=exif(orientation))
    picture = check(data)
    with Image.open(io.BytesIO(data)) as known:
        assert (picture.width, picture.height) == ImageOps.exif_transpose(known).size


FOREIGN = {"html": b"<script>alert(1)</script>", "zip": b"PK\3\4" + bytes(100), "many": bytes(5000)}


@pytest.mark.parametrize("more", FOREIGN.values(), ids=FOREIGN)
def test_bytes_after_the_end_of_a_png_are_cut_off(more):
    assert check(png() + more).data == png()


@pytest.mark.parametrize(
    "more", [*FOREIGN.values(), jpeg(frame(500, 500))], ids=[*FOREIGN, "a second picture"]
)
def test_bytes_after_the_end_of_a_jpeg_stay(more):
    picture = check(jpeg(frame()) + more)
    assert (picture.width, picture.data) == (400, jpeg(frame()) + more)


def test_a_picture_within_another_files_bytes_is_not_found():
    for before in (b"<html>", b"PK\3\4", b"\0", b"GIF89a"):
        assert "not a JPEG or PNG" in refusal(before + png())


OTHERS = {
    **{name: saved(name.upper()) for name in ("GIF", "WebP", "BMP", "TIFF", "ICO")},
    "TIFF, the other way round": b"MM\0*",
    "AVIF": b"\0\0\0 ftypavif",
    "HEIC": b"\0\0\0 ftypheic",
    "a video": b"\0\0\0 ftypisom",
    "JPEG XL": b"\xff\x0a12",
    "JPEG 2000": saved("JPEG2000"),
    "SVG or other XML": b"  <svg xmlns=''>",
    "HTML": b"<!DOCTYPE html><html>",
    "PDF": b"%PDF-1.7",
    "a zip archive": b"PK\3\4",
}


@pytest.mark.parametrize(("name", "data"), OTHERS.items(), ids=OTHERS)
def test_other_formats_are_refused_by_content_and_named(name, data):
    assert f"not a JPEG or PNG picture, by its content; it is {name.split(',')[0]}." in refusal(data)


@pytest.mark.parametrize("data", [b"RIFF0000", b"text", b"\xff\xd8", b"\0" * 40])
def test_a_file_of_an_unknown_format_is_refused(data):
    assert "not a JPEG or PNG picture, by its content." in refusal(data)
    assert "the file is empty" in refusal(b"")


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (300, 300, ""), (299, 300, "299x300 pixels; each side"), (300, 299, "300x299 pixels; each side"),
        (750, 300, ""), (751, 300, "between 1:2.5"), (300, 750, ""), (300, 751, "between 1:2.5"),
        (1000, 400, ""), (400, 1000, ""), (1001, 400, "between"), (400, 1001, "between"), (13377, 13377, ""),
        (13378, 13378, "13378x13378 pixels; together they must not be more than 178,956,970"),
        (65535, 65535, "must not be more"), (65535, 26213, "between"),
    ],
)  # fmt: skip
def test_sides_and_ratio_are_accepted_within_their_limits_only(width, height, words):
    for data in (png(width, height), jpeg(frame(width, height))):
        if words:
            assert words in refusal(data)
        else:
            assert (check(data).width, check(data).height) == (width, height)


def of_size(size):
    return png(more=chunk(b"tEXt", bytes(size - len(png()) - 12)))


def test_a_file_is_accepted_up_to_ten_mebibytes():
    assert len(check(of_size(MAX_PICTURE_BYTES)).data) == MAX_PICTURE_BYTES
    assert "more than the 10 MiB" in refusal(of_size(MAX_PICTURE_BYTES + 1))


def test_a_picture_describes_itself_and_becomes_base64():
    picture = check(of_size(2000))
    assert picture.describe() == "PNG 400x300, 2 kB"
    assert picture.sha256 == hashlib.sha256(picture.data).hexdigest()
    assert base64.b64decode(picture.as_base64(bare=True)) == picture.data
    assert picture.as_base64() == f"data:image/png;base64,{picture.as_base64(bare=True)}"
    assert from_base64(picture.as_base64()) == from_base64(picture.as_base64(bare=True)) == picture.data


@pytest.mark.parametrize(
    "text", ["data:image/png,abcd", "data:", "data:;base64,?", "a", "ü", "ab cd", "=", "/tmp/a.png"]
)
def test_a_text_that_is_not_base64_gives_none(text):
    assert from_base64(text) is None


HEADS = st.sampled_from([b"", SOI, SOI + b"\xff", PNG, png()[:16], png()[:33], SOI + segment(0xE0, b"JFIF")])
PIECES = st.lists(
    st.sampled_from([b"\xff", b"\x00", b"\x01", b"\xc0", b"\xe0", b"\xff\xd0", frame(), SCAN, EOI])
    | st.builds(chunk, st.sampled_from([b"IDAT", b"IEND", b"eXIf", b"IHDR"]), st.binary(max_size=40))
    | st.binary(max_size=8),
    max_size=40,
)


@settings(max_examples=500, deadline=None)
@given(HEADS, PIECES)
def test_any_bytes_are_a_picture_or_an_input_error(head, pieces):
    data = head + b"".join(pieces)
    try:
        picture = check(data)
    except KlingInputError:
        return
    assert data.startswith(picture.data)
    assert min(picture.width, picture.height) >= 300


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["jpeg", "jpeg, with Exif", "png"]), st.data())
def test_a_real_picture_with_bytes_changed_is_read_as_an_imaging_library_reads_it_or_refused(kind, draw):
    data = bytearray(_made(kind))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, 700))] = draw.draw(st.integers(0, 255))
    try:
        picture = check(bytes(data))
    except KlingInputError:
        return
    try:
        with Image.open(io.BytesIO(data)) as known:
            sizes = {known.size, known.size[::-1]}
    except (OSError, SyntaxError, ValueError, Warning):  # what a decoder refuses, the gateway refuses unpaid
        return
    assert (picture.width, picture.height) in sizes


@cache
def _made(kind):
    return REAL[kind]()


@given(st.text())
def test_any_text_is_base64_or_none(text):
    for form in (text, f"data:{text}", f"data:image/png;base64,{text}"):
        assert isinstance(from_base64(form), bytes | None)


@pytest.mark.parametrize("begin", [b"\0\0\0\x20ftypisom", b"\0\0\0\x08wide\0\0\0\0mdat", b"\0\0\1\0moov"])
def test_a_video_is_known_by_its_first_box(begin):
    check_video(begin, "video", "a.mov")


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "content."), (png(), "content."), (b"GIF89a", "it is GIF.")]
)
def test_other_files_than_videos_are_refused_by_content(data, words):
    with pytest.raises(KlingInputError, match=f"video='a.mov': not an MP4 or MOV video, by its .*{words}"):
        check_video(data, "video", "a.mov")


def test_the_size_is_read_from_the_beginning_of_a_picture():
    for data in (jpeg(frame()), png()):
        for cut in (40, len(data)):
            shape = check_shape(data[:cut], "image", "a.jpg", whole=False)
            assert (shape.width, shape.height) == (400, 300)
