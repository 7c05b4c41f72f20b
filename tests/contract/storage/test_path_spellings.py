"""Nothing outside of the allowed folders is read or written, however a path is written.

Files that must not be touched stand outside on each storage. Each example reads, signs, claims and writes
through one spelling of a path, and then compares all that stands outside. It uses only what Airflow 3.1 and
3.2 have too, and runs on their storage libraries as well: see docs/development.md.
"""

import json
import os
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from targets import VIDEO, store, target

from airflow_provider_kling.errors import KlingError, KlingInputError
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.files import file_size, read_file, signed_url
from airflow_provider_kling.storage.target import Target

INSIDE, OUTSIDE = b"inside", b"outside"
FILES = {
    **dict.fromkeys(
        ("kling/x.png", "kling/a/x.png", "kling/a/b/x.png", "kling/deep/x.png", "kling/%2e%2e/x.png"), INSIDE
    ),
    **dict.fromkeys(
        ("x.png", "kling2/x.png", "private/x.png", "private/a/x.png", "%2e%2e/x.png", "klin/x.png"), OUTSIDE
    ),
}
#: A part of a path; SECRET stands for the folder beside the allowed one.
PARTS = [
    "..", ".", "", "a", "b", "x.png", "new.mp4", "SECRET", "kling", "link", "~", ".\t.", ".\r.", ".\n.",
    "\t..", "..\n", "\x00", "..\x7f", ".\x85.", "%2e%2e", "%2E.", "%252e%252e", "..%2f..", "%2f",
    "..%5c..", "%09..",
    ".%0a.", "%00", "\\..\\", "..\\", "C:", "a::b", "::", "?", "?versionId=1", "#",
    "a b", " ", "\u2028", "*", "[a]",
]  # fmt: skip


class Storage:
    """One storage with its allowed folder, and how all of its files are listed."""

    def __init__(self, allowed, prefixes, listing):
        self.allowed, self.prefixes, self.listing = allowed, prefixes, listing

    def outside(self):
        return {path: data for path, data in self.listing().items() if not path.startswith("kling/")}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    root = tmp_path_factory.mktemp("disk")
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "kling/link").symlink_to(root / "private")
    (root / "kling/a/link").symlink_to(root / "kling")
    (root / "kling/new.mp4").symlink_to(root / "private/new.mp4")
    allowed, before = f"{root}/kling", Path.cwd()
    os.chdir(root / "private")
    old_home = os.environ["HOME"]
    os.environ["HOME"] = str(root / "private")
    yield Storage(
        allowed,
        [
            f"{allowed}/", f"file://{allowed}/", f"file:{allowed}/", f"FILE://{allowed}/",
            f"local:{allowed}/",
            f"local://{allowed}/", f"file:/{allowed}/", f"file://localhost{allowed}/", f"/{allowed}/", "",
            "./",
            "../kling/", "../", "~/", "~root/", "file:", "file://", "file:///", f"{root}/",
            f"file://{root}/", "C:",
            f"c:{allowed}/", f" {allowed}/", f"\t{allowed}/", f"simplecache::{allowed}/",
            f"simplecache::file://{allowed}/", f"dir://::file://{allowed}/", f"{allowed}", f"{allowed}/../",
        ],
        lambda: {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*") if path.is_file() and not path.is_symlink()
        },
    )  # fmt: skip
    os.chdir(before)
    os.environ["HOME"] = old_home


@pytest.fixture(scope="module")
def memory():
    connection, root = f"c{uuid.uuid4().hex}", "/bucket"
    storage = type("Private", (MemoryFileSystem,), {"cachable": False, "store": {}, "pseudo_dirs": [""]})()
    attach("memory", conn_id=connection, fs=storage)
    for name, data in FILES.items():
        storage.pipe_file(f"{root}/{name}", data)
    at = f"memory://{connection}@bucket"
    return Storage(
        f"{at}/kling",
        [
            f"{at}/kling/", f"{at}/", at, f"memory://{connection}@/bucket/kling/",
            f"MEMORY://{connection}@bucket/kling/",
            f"memory:/{connection}@bucket/kling/", "memory://bucket/kling/",
            f"memory-{connection}://bucket/kling/",
            f"memory://{connection}@bucket/kling", f"memory://x:y@{connection}@bucket/kling/",
            f"simplecache::{at}/kling/",
            f"memory://{connection}@bucket//kling/", f"memory://{connection}@x/../bucket/kling/",
        ],
        lambda: {
            path.removeprefix("/bucket/"): file.getvalue() for path, file in storage.store.items()
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


def s3_storage(server):
    options = {
        "key": "x",
        "secret": "y",
        "endpoint_url": server,
        "client_kwargs": {"region_name": "eu-central-1"},
    }
    return S3FileSystem(**options, skip_instance_cache=True, use_listings_cache=False)


@pytest.fixture(scope="module")
def s3(server):
    connection, storage = f"c{uuid.uuid4().hex}", s3_storage(server)
    attach("s3", conn_id=connection, fs=storage)
    for bucket in ("bucket", "other"):
        storage.mkdir(bucket)
        for name, data in FILES.items():
            storage.pipe_file(f"{bucket}/{name}", data if bucket == "bucket" else OUTSIDE)
    at = f"s3://{connection}@bucket"

    def listing():  # asked of the server in this process: much faster than by its API
        buckets = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets
        keys = {
            f"{name}/{key}".removeprefix("bucket/"): found.value
            for name, bucket in buckets.items()
            for key, found in bucket.keys.items()
        }
        return {"buckets": sorted(buckets), **keys}

    return Storage(
        f"{at}/kling",
        [
            f"{at}/kling/", f"{at}/", at, f"S3://{connection}@bucket/kling/",
            f"s3a://{connection}@bucket/kling/",
            f"s3://{connection}@other/kling/", f"s3://{connection}@new/kling/",
            f"s3:/{connection}@bucket/kling/",
            f"s3:///{connection}@bucket/kling/", f"s3-{connection}://bucket/kling/",
            f"s3://{connection}@bucket/kling",
            f"s3://{connection}@bucket//kling/", f"s3://{connection}@bucket\t/kling/",
            f"simplecache::{at}/kling/",
            f"s3://{connection}@bucket?/kling/", f"{server}/bucket/kling/",
            f"filecache://{connection}@bucket/kling/",
        ],
        listing,
    )  # fmt: skip


def attempt(operation, path):
    """Do one operation; what it may raise is one of our errors."""
    with suppress(KlingError):
        return operation(path)
    return None


def touch(storage, path):
    """Do everything that a task does with a path, and check that nothing outside is read or written."""
    before = storage.outside()
    with suppress(KlingInputError):
        resolved = resolve_path(path, "image", [storage.allowed])
        data = attempt(lambda path: read_file(path, "image", 1000), resolved)
        assert data is None or not data.startswith(OUTSIDE)
        attempt(lambda path: file_size(path, "image"), resolved)
        attempt(lambda path: signed_url(path, "image"), resolved)
    with suppress(KlingInputError):
        resolved = resolve_path(path, "target", [storage.allowed], for_writing=True)
        where = target(resolved)
        attempt(Target.sidecar, where)
        attempt(Target.check, where)
        attempt(Target.check_writable, where)
        attempt(lambda where: where.claim(1e12), where)
        attempt(store, where)
        attempt(Target.remove_leftovers, where)
    assert storage.outside() == before


SPELLINGS = st.tuples(
    st.just(0) | st.integers(0, 100), st.lists(st.sampled_from(PARTS), max_size=6), st.booleans()
)


def spelled(storage, spelling):
    prefix, parts, ends_in_file = spelling
    parts = ["private" if part == "SECRET" else part for part in parts]
    return storage.prefixes[prefix % len(storage.prefixes)] + "/".join([*parts, *["x.png"] * ends_in_file])


OPTIONS = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@OPTIONS
@given(spelling=SPELLINGS)
@example(spelling=(0, [".\t.", "private", "x.png"], False))
@example(spelling=(9, ["x.png"], False))
@example(spelling=(0, ["link", "new.mp4"], False))
@example(spelling=(0, ["new.mp4"], False))
def test_on_a_local_disk(local, spelling):
    touch(local, spelled(local, spelling))


@OPTIONS
@given(spelling=SPELLINGS)
@example(spelling=(0, [".\t.", "private", "x.png"], False))
def test_in_memory(memory, spelling):
    touch(memory, spelled(memory, spelling))


@settings(OPTIONS, max_examples=150)
@given(spelling=SPELLINGS)
@example(spelling=(0, [".\t.", "private", "x.png"], False))
@example(spelling=(6, ["new.mp4"], False))
def test_on_s3(s3, spelling):
    touch(s3, spelled(s3, spelling))


@pytest.mark.parametrize("name", ["local", "memory", "s3"])
def test_what_lies_inside_is_read_and_written(name, request):
    storage = request.getfixturevalue(name)
    picture = resolve_path(f"{storage.allowed}/deep/x.png", "image", [storage.allowed])
    assert read_file(picture, "image", 1000) == INSIDE
    where = target(resolve_path(f"{storage.allowed}/some where/né 50%.mp4", "target", [storage.allowed]))
    where.claim(1e12)
    store(where)
    assert storage.listing()["kling/some where/né 50%.mp4"] == VIDEO


def test_a_bucket_that_is_missing_is_found_before_the_purchase_and_is_not_made(s3):
    missing = s3.allowed.replace("@bucket", "@buckett")
    where = target(f"{missing}/cat.mp4")
    for check in (where.check_writable, lambda: where.claim(1e12)):
        with pytest.raises(KlingInputError, match=r"target='s3://.*bucket"):
            check()
    attempt(store, where)
    assert s3.listing()["buckets"] == ["bucket", "other"]


def test_a_storage_is_found_through_the_airflow_connection_in_its_url(server, s3, monkeypatch):
    connection = f"c{uuid.uuid4().hex}"
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{connection.upper()}",
        json.dumps(
            {"conn_type": "aws", "login": "x", "password": "y",
             "extra": {"endpoint_url": server, "region_name": "eu-central-1"}}
        ),
    )  # fmt: skip
    try:
        BaseHook.get_connection(connection)
    except Exception:  # noqa: BLE001 - each version has its own
        pytest.skip("This Airflow finds connections in running tasks only.")
    path = resolve_path(
        f"s3://{connection}@bucket/kling/x.png", "image", [f"s3://{connection}@bucket/kling/"]
    )
    assert read_file(path, "image", 100) == INSIDE
