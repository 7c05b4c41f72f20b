"""Pictures from anywhere: found, checked, and in the form in which the gateway gets them."""

import base64
import io
import logging
import pathlib
import socket

import pytest
from airflow.sdk import Asset, ObjectStoragePath
from airflow_fakes import KEY, Signing, png
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import example, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_kling.errors import KlingInputError, KlingUnavailableError, Money
from airflow_provider_kling.submission.media_inputs import MediaInputs, MediaOptions
from airflow_provider_kling.transport.settings import Settings

pytestmark = pytest.mark.usefixtures("decoders")
LOG = logging.getLogger("airflow.task")
LINK = "https://pictures.example/cat.png?X-Amz-Signature=secret"
CAT = png(noise=8192)
AS_BASE64 = base64.b64encode(CAT).decode()
AS_URI = f"data:image/png;base64,{AS_BASE64}"
CLIP = b"\0\0\0\x14ftypqt  " + bytes(300)


def settings(**options):
    return Settings("kling_default", KEY, **options)


def pictures(form="data_uri", **options):
    return MediaInputs(MediaOptions(options.pop("settings", settings()), form, **options), LOG)


def sent(value, name="image", **options):
    return pictures(**options).prepare({name: value})[name]


def refusal(value, name="image", **options):
    with pytest.raises(KlingInputError) as caught:
        sent(value, name, **options)
    assert caught.value.money is Money.UNTOUCHED
    assert str(caught.value).startswith(f"{name}")
    return str(caught.value)


@pytest.fixture
def places(tmp_path, attached):
    """Return the same picture in all the places and forms that it may come in."""
    path = tmp_path / "a cat.png"
    path.write_bytes(CAT)
    folder = attached(Signing())
    ObjectStoragePath(f"{folder}cat.png").write_bytes(CAT)
    connection = folder.partition("://")[2].partition("@")[0]
    return {
        "path": str(path),
        "path with spaces around": f" {path}\n",
        "pathlib": path,
        "file": f"file://{path}",
        "storage": f"{folder}cat.png",
        "storage path": ObjectStoragePath(f"{folder}cat.png"),
        "storage path with a connection beside": ObjectStoragePath(
            f"memory://bucket/{connection}/cat.png", conn_id=connection
        ),
        "asset": Asset(name="cat", uri=f"file://{path}"),
        "bytes": CAT,
        "bytearray": bytearray(CAT),
        "memoryview": memoryview(CAT),
        "data URI": AS_URI,
        "data URI of another type": AS_URI.replace("image/png", "image/jpeg"),
        "base64": AS_BASE64,
        "short base64": base64.b64encode(png()).decode(),
    }


FORMS = [
    *("path", "path with spaces around", "pathlib", "file", "storage", "storage path", "asset", "bytes"),
    *("bytearray", "memoryview", "data URI", "data URI of another type", "base64", "short base64"),
    "storage path with a connection beside",
]


def test_every_form_is_tried(places):
    assert set(FORMS) == set(places)


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_is_the_same_wherever_it_comes_from(places, form):
    expected = png() if form == "short base64" else CAT
    encoded = base64.b64encode(expected).decode()
    found = pictures()
    assert found.prepare({"image": places[form]})["image"] == f"data:image/png;base64,{encoded}"
    facts = found.facts["image"]
    assert (facts["width"], facts["height"], len(facts["sha256"])) == (320, 320, 64)
    assert "iVBOR" not in str(facts)
    assert sent(places[form], form="base64") == encoded


def test_a_url_goes_as_it_is_and_is_told_without_its_signature():
    found = pictures()
    assert found.prepare({"image": f" {LINK}", "end_image": LINK}) == {"image": LINK, "end_image": LINK}
    assert found.facts["image"] == {"source": "https://pictures.example/cat.png"}
    for form in ("base64", "url"):
        assert sent(LINK, form=form) == LINK


@pytest.mark.parametrize("wrap", [list, tuple, lambda items: f'["{items[0]}", "{items[1]}"]'])
def test_a_list_may_mix_forms(places, wrap):
    found = pictures()
    ready = found.prepare({"images": wrap([places["path"], LINK])})
    assert ready["images"] == [AS_URI, LINK]
    assert [facts["source"] for facts in found.facts["images"]] == [places["path"], LINK.partition("?")[0]]


def test_a_single_picture_where_a_list_belongs_is_a_list_of_one(places):
    assert sent(places["pathlib"], "images") == [AS_URI]
    assert sent([places["pathlib"], CAT], "images") == [AS_URI, AS_URI]


def test_what_is_wrong_in_a_list_is_told_by_its_place(places):
    assert "images[1]='/dev/null/x.png'" in refusal([places["path"], "/dev/null/x.png"], "images")


@pytest.mark.parametrize("value", [None, "", " ", "None", 7, {"a": 1}, Asset.ref(name="cat")])
def test_what_is_not_set_or_no_picture_at_all_is_left_to_the_validation(value):
    for name in ("image", "images", "video"):
        assert sent(value, name) == value
    assert sent([value], "images") == [value]


WRONG = [
    *("{}", "{}/a cat.png/x.png", "{}/" + "x" * 300, "{}/\0.png", "nowhere://x/cat.png"),
    *("\ud800", "simplecache::file://{}/a cat.png", "~nobody-at-all/cat.png"),
]


@pytest.mark.parametrize("place", WRONG)
def test_a_picture_that_cannot_be_read_is_told_by_name(places, place):
    folder = places["path"].rpartition("/")[0]
    assert "end_image=" in refusal(place.format(folder), "end_image")


BEGINNINGS = [
    "",
    "/",
    "~",
    "file:",
    "file://",
    "local:",
    "s3://",
    "memory://",
    "data:",
    "data:;base64,",
    "iVBORw0KGgo",
    "b'",
    "[",
]


@settings_of(max_examples=300, deadline=None)
@given(st.sampled_from(BEGINNINGS), st.text(max_size=40))
@example("memory://", "bucket/cat.png")
def test_any_text_at_all_is_refused_or_is_left_to_the_validation(begin, rest):
    for name in ("image", "images", "video"):
        try:
            left = sent(begin + rest, name)
        except (KlingInputError, KlingUnavailableError):
            continue
        assert left == begin + rest or isinstance(left, (list, dict))


@pytest.mark.parametrize("name", ["image", "images"])
def test_a_local_file_that_this_worker_does_not_have_may_be_on_another_worker(tmp_path, name):
    for path in (f"{tmp_path}/gone.png", f"file://{tmp_path}/no/folder/gone.png", "//["):
        with pytest.raises(KlingUnavailableError, match=rf"^{name}=.*{socket.gethostname()}") as caught:
            sent(path, name)
        assert caught.value.money is Money.UNTOUCHED
        assert "another worker" in caught.value.advice


def test_a_file_that_the_storage_does_not_have_is_on_no_other_worker(attached):
    assert "FileNotFoundError" in refusal(f"{attached(Signing())}gone.png")


def test_a_trouble_of_the_storage_that_may_pass_is_not_called_a_wrong_input(attached):
    def away(*_, **__):
        raise ConnectionError("the storage is away")

    for method in ("_open", "sign"):
        storage = Signing()
        folder = attached(storage)
        ObjectStoragePath(f"{folder}cat.png").write_bytes(CAT)
        setattr(storage, method, away)
        with pytest.raises(KlingUnavailableError, match=r"cat\.png.*the storage is away"):
            sent(f"{folder}cat.png", form="url")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (CAT[:-20], "cut off"),
        (base64.b64encode(CAT[:-20]).decode(), "cut off"),
        (f"data:image/png;base64,{AS_BASE64[:-1]}", "neither a base64 data URI nor base64"),
        ("data:image/png,abc", "neither a base64 data URI nor base64"),
        ("x y" * 2000, "neither a base64 data URI nor base64"),
        (f"data:image/png;base64,{base64.b64encode(b'GIF89a').decode()}", "it is GIF"),
        (b"", "the file is empty"),
        (str(CAT), "a template has made a text of a picture's bytes"),
        (png(299, 400), "299x400 pixels"),
    ],
)
def test_data_that_is_no_picture_is_refused_without_being_repeated(value, words):
    told = refusal(value)
    assert words in told
    assert len(told) < 400
    assert "\\x89PNG" not in told
    assert AS_BASE64[40:80] not in told


def test_what_follows_a_png_does_not_go_out_and_that_is_said(caplog):
    caplog.set_level(logging.INFO)
    assert sent(CAT + b"<script>") == AS_URI
    assert "the 8 bytes after the picture's end are not sent" in caplog.text


def test_a_camera_that_was_turned_is_told_as_the_picture_is_shown():
    note, file = Image.Exif(), io.BytesIO()
    note[0x0112] = 6
    Image.new("RGB", (800, 400)).save(file, "JPEG", exif=note)
    found = pictures()
    found.prepare({"image": file.getvalue()})
    assert (found.facts["image"]["width"], found.facts["image"]["height"]) == (400, 800)


def test_a_storage_that_can_sign_hands_over_a_url_for_hours(attached):
    storage = Signing()
    folder = attached(storage)
    ObjectStoragePath(f"{folder}cat.png").write_bytes(CAT)
    found = pictures("url")
    url = found.prepare({"image": f"{folder}cat.png"})["image"]
    assert url.startswith("https://storage.example/bucket/")
    assert storage.expirations == [24 * 3600]
    assert "Signature" not in str(found.facts)
    assert found.signed[url].startswith(f"{folder}cat.png ")
    again = pictures("url")
    assert (other := again.prepare({"image": f"{folder}cat.png"})["image"]) != url
    assert again.signed[other] == found.signed[url]
    ObjectStoragePath(f"{folder}cat.png").write_bytes(png(400, 400))
    changed = pictures("url")
    changed.prepare({"image": f"{folder}cat.png"})
    assert set(changed.signed.values()) != set(found.signed.values())


def test_a_picture_is_checked_before_it_is_signed(attached):
    storage = Signing()
    folder = attached(storage)
    ObjectStoragePath(f"{folder}cat.png").write_bytes(CAT[:-20])
    assert "cut off" in refusal(f"{folder}cat.png", form="url")
    assert storage.expirations == []


def test_a_storage_that_cannot_sign_is_named(attached, tmp_path):
    folder = attached(MemoryFileSystem())
    ObjectStoragePath(f"{folder}cat.png").write_bytes(CAT)
    (tmp_path / "cat.png").write_bytes(CAT)
    for place, storage in ((f"{folder}cat.png", "memory"), (f"{tmp_path}/cat.png", "file")):
        told = refusal(place, form="url")
        assert f"the storage {storage!r} cannot sign any" in told
        assert "Give a public URL" in told
    assert "has to go to the gateway as a URL, and a picture's data has none" in refusal(CAT, form="url")
    assert "data has none" in refusal(AS_URI, form="url")


@pytest.mark.parametrize("signed", [None, "", "s3://bucket/cat.png", 7])
def test_a_signature_that_is_no_url_is_none(attached, signed):
    folder = attached(type("Odd", (Signing,), {"sign": lambda *_, **__: signed})())
    ObjectStoragePath(f"{folder}cat.png").write_bytes(CAT)
    assert "cannot sign any" in refusal(f"{folder}cat.png", form="url")


@pytest.mark.parametrize("error", [AttributeError, PermissionError, ValueError, ImportError])
def test_credentials_that_cannot_sign_are_a_wrong_input(attached, error):
    def sign(*_, **__):
        raise error("you need a private key")

    folder = attached(type("Odd", (Signing,), {"sign": sign})())
    ObjectStoragePath(f"{folder}cat.png").write_bytes(CAT)
    assert "you need a private key" in refusal(f"{folder}cat.png", form="url")


def test_a_video_is_a_public_url_or_is_signed(attached):
    folder = attached(Signing())
    ObjectStoragePath(f"{folder}clip.mov").write_bytes(CLIP)
    assert sent("https://p.example/clip.mp4", "video") == "https://p.example/clip.mp4"
    for value in (f"{folder}clip.mov", ObjectStoragePath(f"{folder}clip.mov")):
        found = pictures()
        url = found.prepare({"video": value})["video"]
        assert url.startswith("https://storage.example/")
        assert found.facts["video"] == {"source": str(value), "size": len(CLIP)}
        assert list(found.signed) == [url]


def test_a_video_that_the_gateway_cannot_fetch_is_refused(attached, tmp_path):
    folder = attached(Signing())
    for name, data in {"large.mp4": CLIP + bytes(10 * 2**20), "empty.mp4": b"", "cat.mp4": CAT}.items():
        ObjectStoragePath(f"{folder}{name}").write_bytes(data)
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    assert "more than the 10 MiB" in refusal(f"{folder}large.mp4", "video")
    assert "not an MP4 or MOV video" in refusal(f"{folder}empty.mp4", "video")
    assert "not an MP4 or MOV video, by its content" in refusal(f"{folder}cat.mp4", "video")
    assert "no such file" in refusal(f"{folder}gone.mp4", "video")
    assert "the storage 'file' cannot sign any" in refusal(tmp_path / "clip.mp4", "video")
    for data in (CLIP, "data:video/mp4;base64,AAAA", "A" * 5000):
        assert "must be a URL, or a path on a storage that can sign URLs" in refusal(data, "video")


def test_a_local_file_that_was_named_outside_is_read_in_allowed_folders_only(places, tmp_path):
    outside = {"from_outside": {"image"}}
    for form in ("path", "pathlib", "file", "asset"):
        told = refusal(places[form], **outside)
        assert "is read only in folders that were allowed" in told
        assert "allowed_paths=['/data']" in told
        for allowed in (
            {"allowed_paths": [str(tmp_path)]},
            {"settings": settings(allowed_paths=(str(tmp_path),))},
        ):
            assert sent(places[form], **outside, **allowed) == AS_URI
            assert sent(places[form], **allowed) == AS_URI
        for other in (
            {"allowed_paths": ["/elsewhere"]},
            {"settings": settings(allowed_paths=("/elsewhere",))},
        ):
            for known in ({}, outside):
                assert "outside of what is allowed: '/elsewhere'" in refusal(places[form], **known, **other)
        both = {"allowed_paths": [str(tmp_path)], "settings": settings(allowed_paths=("/elsewhere",))}
        assert "outside of what is allowed" in refusal(places[form], **both)


@pytest.mark.parametrize("name", ["image", "images", "video"])
def test_the_scheme_of_a_url_may_be_in_any_case(name):
    found = pictures()
    link = "HTTPS://p.example/clip?X-Amz-Signature=secret"
    assert found.prepare({name: f" {link}\n"})[name] in (link, [link])
    assert "secret" not in str(found.facts)


@pytest.mark.parametrize("form", ["storage", "storage path", "bytes", "data URI", "base64"])
def test_what_is_no_local_file_may_come_from_outside(places, form):
    assert sent(places[form], from_outside={"image"}) == AS_URI


def test_a_local_file_in_a_list_or_as_a_video_from_outside_is_refused_too(places, tmp_path):
    assert "images[1]=" in refusal([LINK, places["path"]], "images", from_outside={"images"})
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    assert "only in folders that were allowed" in refusal(
        str(tmp_path / "clip.mp4"), "video", from_outside={"video"}
    )


def test_a_relative_path_is_a_local_one(places, monkeypatch):
    monkeypatch.chdir(pathlib.Path(places["path"]).parent)
    assert sent("a cat.png") == AS_URI
    assert "only in folders" in refusal("a cat.png", from_outside={"image"})
