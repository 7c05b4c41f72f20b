"""A path that came out of a template stays inside what was allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.storage.allowed_paths import check_inside, checked_if_exists, is_local

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
    ("s3://bucket/x/../kling/a.mp4", "s3://bucket/kling"),
    ("/data2/a.mp4", "/data"),
    ("/data/../etc/passwd", "/data"),
    ("etc/passwd", "/data"),
    ("s3://other/kling/a.mp4", "s3://bucket/kling"),
    ("s3://bucket/kling2/a.mp4", "s3://bucket/kling"),
    ("s3://bucket/kling/../a.mp4", "s3://bucket/kling"),
    ("s3://bucket/kling/%2e%2e/a.mp4", "s3://bucket/kling"),
    ("gs://bucket/kling/a.mp4", "s3://bucket/kling"),
    ("s3://bucket@other/kling/a.mp4", "s3://bucket/kling"),
    ("/bucket/kling/a.mp4", "s3://bucket/kling"),
    ("s3://bucket/%6bling/a.mp4", "s3://bucket/kling"),
    ("s3:/bucket/kling/a.mp4", "s3://bucket/kling"),
    ("sftp://host/data?/../etc/passwd", "sftp://host/data"),
    ("sftp://host/data#/../etc/passwd", "sftp://host/data"),
    ("file:/etc/passwd", "/data"),
    ("FILE:///etc/passwd", "/data"),
    ("file:///data/%2e%2e/etc/passwd", "/data"),
    ("local:/etc/passwd", "/data"),
    ("~/a.mp4", "/data"),
]


@pytest.mark.parametrize(("path", "folder"), INSIDE)
def test_what_lies_inside_is_allowed(path, folder):
    check_inside(path, "target", ["/elsewhere", folder])


@pytest.mark.parametrize(("path", "folder"), OUTSIDE)
def test_what_lies_outside_is_refused_by_name(path, folder):
    with pytest.raises(KlingInputError) as caught:
        check_inside(path, "target", [folder])
    assert f"target={path!r} is outside of what is allowed: {folder!r}." in str(caught.value)


def test_without_folders_there_is_no_limit():
    check_inside("/anywhere/at/all", "target", [])


def test_a_link_of_the_file_system_leads_nowhere_else(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
    check_inside(f"{tmp_path}/inside/a.mp4", "target", [f"{tmp_path}/inside"])
    with pytest.raises(KlingInputError):
        check_inside(f"{tmp_path}/inside/link/a.mp4", "target", [f"{tmp_path}/inside"])


@pytest.mark.parametrize("path", ["file:/etc/x", "file://~/x", "~/x", "file:/../etc/x", "memory:/x", "s3:/x"])
def test_what_airflow_reads_as_another_place_is_not_taken_for_a_relative_path(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KlingInputError):
        check_inside(path, "target", [str(tmp_path)])


WAYS = st.lists(st.sampled_from(["..", ".", "a", "%2e%2e", "", "b"]), max_size=10)


@given(WAYS)
def test_a_storage_url_that_climbs_is_outside_wherever_it_ends(parts):
    path = "/".join(["s3://bucket/kling", *parts])
    if {"..", "%2e%2e"}.isdisjoint(parts):
        check_inside(path, "target", ["s3://bucket/kling"])
    else:
        with pytest.raises(KlingInputError):
            check_inside(path, "target", ["s3://bucket/kling"])


@pytest.mark.parametrize(
    "path", ["/a", "a.png", "~/a", "file:/a", "file:///a", "FILE://c@/a", "local:a", "./s3"]
)
def test_a_place_on_the_workers_disk_is_known_however_it_is_written(path):
    assert is_local(path)


@pytest.mark.parametrize("path", ["s3://b/a", "gs://c@b/a", "memory://b/a", "s3:/b/a"])
def test_a_place_on_a_storage_is_no_local_one(path):
    assert not is_local(path)


def test_what_to_do_with_a_file_that_is_there_is_one_of_three():
    assert [checked_if_exists(choice) for choice in ("overwrite", "skip", "fail")]
    with pytest.raises(ValueError, match="if_exists='ask': must be 'overwrite', 'skip' or 'fail'"):
        checked_if_exists("ask")
