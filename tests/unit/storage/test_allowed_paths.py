"""Which paths are allowed, and what is opened for them."""

import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from airflow.sdk.io import attach
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options
from hypothesis import given
from hypothesis import strategies as st
from s3fs import S3FileSystem

import airflow_provider_kling
from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.storage.allowed_paths import is_local, resolve_path
from airflow_provider_kling.storage.options import checked_max_bytes


class Sftp(AbstractFileSystem):
    """Reads a URL as fsspec's SFTP storage does: it drops the host and the query."""

    @classmethod
    def _strip_protocol(cls, path):
        return infer_storage_options(path)["path"]


@pytest.fixture(scope="module", autouse=True)
def storages():
    """Storages that Airflow knows; none of them is asked for a file here."""
    for conn_id in (None, "conn"):
        attach("s3", conn_id=conn_id, fs=S3FileSystem(anon=True))
        attach("sftp", conn_id=conn_id, fs=Sftp())
    attach("memory", fs=MemoryFileSystem())


def resolved(path, *allowed):
    return resolve_path(path, "target", allowed).resolved


INSIDE = [
    ("/data/a.mp4", "/data"),
    ("/data/", "/data"),
    ("/data/x/../a.mp4", "/data/"),
    ("file:///data/a.mp4", "/data"),
    ("/data/a.mp4", "file:///data/"),
    ("s3://bucket/kling/a.mp4", "s3://bucket/kling"),
    ("s3://conn@bucket/kling/a.mp4", "s3://conn@bucket/kling/"),
    ("s3://bucket/a.mp4", "s3://bucket"),
    ("s3://bucket/a%20b/100%.mp4", "s3://bucket/a%20b"),
    ("S3://bucket/kling/a.mp4", "s3://bucket/kling"),
    ("file:/data/a.mp4", "/data"),
    ("~/videos/a.mp4", "~/videos"),
]
OUTSIDE = [
    ("s3://conn@bucket/kling/a.mp4", "s3://bucket/kling/"),
    ("/data2/a.mp4", "/data"),
    ("/data/../etc/passwd", "/data"),
    ("etc/passwd", "/data"),
    ("s3://other/kling/a.mp4", "s3://bucket/kling"),
    ("s3://bucket/kling2/a.mp4", "s3://bucket/kling"),
    ("gs://bucket/kling/a.mp4", "s3://bucket/kling"),
    ("s3a://bucket/kling/a.mp4", "s3://bucket/kling"),
    ("s3://bucket@other/kling/a.mp4", "s3://bucket/kling"),
    ("/bucket/kling/a.mp4", "s3://bucket/kling"),
    ("s3://bucket/%6bling/a.mp4", "s3://bucket/kling"),
    ("s3://bucket/kling%2fa.mp4", "s3://bucket/kling"),
    ("s3://bucket//kling/a.mp4", "s3://bucket/kling"),
    ("s3://bucket", "s3://bucket/kling"),
    ("sftp://host/other", "sftp://host/data"),
    ("sftp://other/data/x", "sftp://host/data"),
    ("file:/etc/passwd", "/data"),
    ("FILE:///etc/passwd", "/data"),
    ("local:/etc/passwd", "/data"),
    ("~/a.mp4", "/data"),
]
NEVER = [
    ("", "it is empty"),
    (" \t", "it is empty"),
    (" /data/a", "begins or ends with a blank"),
    ("/data/a\u00a0", "begins or ends with a blank"),
    ("/data/%2e%2e/etc/passwd", "percent-encoded '..'"),
    ("/data/%252e%252e/etc/passwd", "percent-encoded '..'"),
    ("/data/%2525252525252e", "percent-encoded too often"),
    ("/data/a%2f..%2f..%2fb", "percent-encoded '..'"),
    ("/data/%00", "control characters"),
    ("/data/%250a", "control characters"),
    ("/data\\..\\etc", "backslashes"),
    ("s3://bucket\\x/kling", "backslashes"),
    ("/data/%5c..%5c", "backslashes"),
    ("C:\\videos\\a.mp4", "drive letters"),
    ("c:/videos/a.mp4", "drive letters"),
    ("zip://a.txt::/data/a.zip", "chained"),
    ("simplecache::s3://bucket/a", "chained"),
    ("file://host/a", "file:///folder/name"),
    ("file://conn@/data/a", "file:///folder/name"),
    ("file:a", "file:///folder/name"),
    ("local:a", "file:///folder/name"),
    ("file://~/x", "file:///folder/name"),
    ("file:////etc/x", "file:///folder/name"),
    ("~nobodyatall/x", "the home folder"),
    ("s3:/bucket/a", "s3://bucket/path"),
    ("s3:bucket/a", "s3://bucket/path"),
    ("s3:///bucket/a", "s3://bucket/path"),
    ("memory:/x", "memory://bucket/path"),
    ("s3://buc ket/a", "s3://bucket/path"),
    ("s3://:/0", "s3://bucket/path"),
    ("s3://-/a", "s3://bucket/path"),
    ("s3://./a", "s3://bucket/path"),
    ("s3://bucket?x/a", "s3://bucket/path"),
    ("s3://bucket#x/a", "s3://bucket/path"),
    ("s3://user:word@bucket/a", "the id of an Airflow connection"),
    ("s3://a@b@bucket/a", "the id of an Airflow connection"),
    ("s3://@bucket/a", "the id of an Airflow connection"),
    ("s3://bucket/kling/../a.mp4", "no '.' or '..'"),
    ("s3://bucket/kling/./a.mp4", "no '.' or '..'"),
    ("s3://bucket/kling/%2e%2e/a.mp4", "percent-encoded '..'"),
    ("s3://bucket/a?versionId=1", "names no version"),
    ("sftp://host/data?/../etc/passwd", "no '.' or '..'"),
    (None, "a path or a storage URL"),
    (7, "a path or a storage URL"),
    (b"/data/a", "a path or a storage URL"),
]


@pytest.mark.parametrize(("path", "folder"), INSIDE)
def test_a_path_inside_of_an_allowed_folder_is_allowed(path, folder):
    assert resolve_path(path, "target", ["/elsewhere", folder])


@pytest.mark.parametrize(("path", "folder"), OUTSIDE)
def test_a_path_outside_of_the_allowed_folders_is_refused(path, folder):
    with pytest.raises(KlingInputError) as caught:
        resolve_path(path, "target", [folder])
    assert f"target={path!r} is outside of what is allowed: {folder!r}" in str(caught.value)


@pytest.mark.parametrize(("path", "words"), NEVER)
@pytest.mark.parametrize("allowed", [[], ["/", "s3://bucket", "memory://bucket"]])
def test_a_path_that_can_be_read_in_two_ways_is_refused_wherever_it_leads(path, words, allowed):
    with pytest.raises(KlingInputError) as caught:
        resolve_path(path, "target", allowed)
    assert "target=" in caught.value.what
    assert words in caught.value.what


@pytest.mark.parametrize(
    "character", [*map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0)), "\u2028", "\ud800"]
)
@pytest.mark.parametrize("base", ["/data/", "s3://bucket/", "file:///data/", "memory://bucket/"])
def test_a_control_character_is_refused_in_every_path(base, character):
    encoded = quote(character, errors="surrogatepass") if character < "\ud800" else character
    for path in (f"{base}.{character}./a", f"{base}a{character}b", f"{base}a{encoded}b"):
        with pytest.raises(KlingInputError, match=r"target=[\s\S]*control characters"):
            resolve_path(path, "target", [])


def test_a_scheme_that_airflow_does_not_know_is_refused_without_a_request(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    for scheme in ("http", "https", "HTTP", "ftp", "zip", "github", "data", "reference", "simplecache"):
        with pytest.raises(KlingInputError, match=r"target=.*No filesystem registered"):
            resolve_path(f"{scheme}://127.0.0.1:1/a.mp4", "target", [])


def test_a_storage_that_drops_a_part_of_the_path_is_not_used():
    with pytest.raises(KlingInputError, match="reads it as '/data'"):
        resolve_path("sftp://host/data?/etc/passwd", "target")


def test_a_storage_with_real_folders_may_leave_out_its_host():
    assert resolved("sftp://conn@/data/a.mp4", "sftp://conn@/data") == "/data/a.mp4"
    with pytest.raises(KlingInputError, match="outside of what is allowed"):
        resolved("sftp://conn@/data/a.mp4", "sftp://conn@host/data")


def test_nothing_but_the_storage_modules_opens_paths_of_a_storage():
    package = Path(airflow_provider_kling.__file__).parent
    found = {
        module.relative_to(package).parts[0]
        for module in package.rglob("*.py")
        if re.search(r"import.*(ObjectStoragePath|fsspec|attach\b|get_fs)", module.read_text())
    }
    assert found == {"storage"}


def test_the_name_of_a_storage_with_its_connection_is_no_scheme():
    with pytest.raises(KlingInputError, match="No filesystem registered"):
        resolve_path("s3-conn://bucket/a.mp4", "target", [])


@pytest.mark.parametrize("allowed", [[], ["/data"]])
@pytest.mark.parametrize(
    "path",
    [
        "sftp://user:secret@host/a.mp4",
        "https://user:secret@host/a.mp4",
        "https://host/a.mp4?X-Amz-Signature=secret",
        "HTTPS://host/a.mp4?X-Amz-Signature=secret",
        " https://host/a.mp4?X-Amz-Signature=secret",
        "https://host/a.mp4?X-Amz-Signature=secret\n",
        "simplecache::https://host/a.mp4?X-Amz-Signature=secret",
    ],
)
def test_no_password_and_no_signature_of_a_url_is_shown(path, allowed):
    with pytest.raises(KlingInputError) as caught:
        resolve_path(path, "target", allowed)
    assert "secret" not in str(caught.value)


def test_without_allowed_folders_there_is_no_limit():
    assert resolved("/anywhere/at/all") == "/anywhere/at/all"


def test_the_path_must_lie_in_the_folders_of_every_list():
    assert resolve_path("/data/a/b", "target", ["/data"], ["/data/a"], [])
    with pytest.raises(KlingInputError):
        resolve_path("/data/a/b", "target", ["/data"], ["/data/b"])


def test_an_allowed_folder_that_cannot_be_read_allows_nothing():
    with pytest.raises(KlingInputError, match="allowed_paths='s3:/x'"):
        resolve_path("/data/a", "target", ["s3:/x"])


def test_links_on_a_local_disk_are_followed_before_the_path_is_judged(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "inside" / "new.mp4").symlink_to(tmp_path / "secret" / "new.mp4")
    assert resolved(f"{tmp_path}/inside/a.mp4", f"{tmp_path}/inside") == f"{tmp_path}/inside/a.mp4"
    for path in ("link/a.mp4", "new.mp4", "link/../inside/a.mp4/../../secret/x"):
        with pytest.raises(KlingInputError):
            resolved(f"{tmp_path}/inside/{path}", f"{tmp_path}/inside")


def test_a_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = resolve_path("a/cat.mp4", "target", [str(tmp_path)])
    assert (path.text, path.resolved) == (f"{tmp_path}/a/cat.mp4",) * 2
    assert str(resolve_path("~/cat.mp4", "target")) == f"{tmp_path}/home/cat.mp4"
    assert str(resolve_path(tmp_path / "cat.mp4", "target")) == f"{tmp_path}/cat.mp4"


@pytest.mark.parametrize("path", ["file:/etc/x", "~/x", "file:/../etc/x"])
def test_a_path_that_leads_elsewhere_is_not_taken_for_a_relative_one(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KlingInputError):
        resolved(path, str(tmp_path))


PARTS = st.lists(st.sampled_from(["..", ".", "a", "%2e%2e", "%252e%252e", "", "b", "a%20b"]), max_size=10)


@given(PARTS)
def test_a_storage_url_with_two_dots_is_refused_wherever_it_ends(parts):
    path = "/".join(["s3://bucket/kling", *parts])
    if {"..", ".", "%2e%2e", "%252e%252e"}.isdisjoint(parts):
        assert resolved(path, "s3://bucket/kling").startswith("bucket/kling")
    else:
        with pytest.raises(KlingInputError):
            resolved(path, "s3://bucket/kling")


@given(st.text(max_size=30))
def test_any_text_is_either_refused_or_resolved_to_a_plain_path(text):
    try:
        path = resolve_path(text, "target")
    except KlingInputError:
        return
    assert path.is_local
    assert path.resolved == os.path.realpath(path.text)


@pytest.mark.parametrize(
    "path", ["/a", "a.png", "~/a", "file:/a", "file:///a", "FILE://c@/a", "local:a", "./s3"]
)
def test_a_path_on_the_workers_disk_is_known_however_it_is_written(path):
    assert is_local(path)


@pytest.mark.parametrize("path", ["s3://b/a", "gs://c@b/a", "memory://b/a", "s3:/b/a"])
def test_a_path_on_a_storage_is_no_local_one(path):
    assert not is_local(path)


@pytest.mark.parametrize("given", ["4GB", None, 0, -1, 1.5, True])
def test_a_limit_of_bytes_that_is_none_is_refused_before_anything_is_bought(given):
    assert checked_max_bytes(1) == 1
    with pytest.raises(ValueError, match=r"max_bytes=.*whole number of bytes"):
        checked_max_bytes(given)


@pytest.mark.parametrize("given", ["s3://bucket", "memory://bucket", "s3://conn@bucket/"])
def test_a_bucket_alone_is_no_target(given):
    with pytest.raises(KlingInputError, match="it names no file in the bucket"):
        resolve_path(given, "target", for_writing=True)
