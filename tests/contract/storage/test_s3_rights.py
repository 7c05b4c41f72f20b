"""The rights on S3 that docs/storage.md lists: with them all works, without one nothing is bought."""

import json
import re
import uuid
from pathlib import Path

import boto3
import pytest
from airflow.sdk.io import attach
from moto.core import set_initial_no_auth_action_count
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from targets import OTHER_VIDEO, VIDEO, later, store, target

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.files import read_file

PAGE = (Path(__file__).parents[3] / "docs" / "storage.md").read_text()
POLICY, RULE = map(json.loads, re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
PART = 5 * 1024**2


class Bucket:
    """A bucket on a server that checks rights, and a user whose rights can be changed."""

    def __init__(self, url):
        options = {"endpoint_url": url, "region_name": "us-east-1"}
        admin = {**options, "aws_access_key_id": "x", "aws_secret_access_key": "y"}
        self.s3, self.iam = boto3.client("s3", **admin), boto3.client("iam", **admin)
        self.s3.create_bucket(Bucket="shop")
        self.iam.create_user(UserName="worker")
        key = self.iam.create_access_key(UserName="worker")["AccessKey"]
        self.connection = f"c{uuid.uuid4().hex}"
        storage = S3FileSystem(
            key=key["AccessKeyId"],
            secret=key["SecretAccessKey"],
            client_kwargs=options,
            default_block_size=PART,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        attach("s3", conn_id=self.connection, fs=storage)

    def allow(self, *, without=()):
        """Give the user the rights of the page."""
        policy = json.loads(json.dumps(POLICY))
        for statement in policy["Statement"]:
            statement["Action"] = [action for action in statement["Action"] if action not in without]
        policy["Statement"] = [statement for statement in policy["Statement"] if statement["Action"]]
        self.iam.put_user_policy(UserName="worker", PolicyName="p", PolicyDocument=json.dumps(policy))

    def target(self, name=""):
        """Return the target of a new file."""
        return target(f"s3://{self.connection}@shop/videos/{uuid.uuid4()}{name}.mp4")

    def names(self):
        """Return the names of all objects, and of the uploads that are not complete."""
        objects = self.s3.list_objects_v2(Bucket="shop").get("Contents", [])
        uploads = self.s3.list_multipart_uploads(Bucket="shop").get("Uploads", [])
        return [each["Key"].rpartition("/")[2] for each in (*objects, *uploads)]


@pytest.fixture(scope="module")
def bucket():
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield Bucket("http://{}:{}".format(*server.get_host_and_port()))
    server.stop()


@set_initial_no_auth_action_count(0)
def with_checked_rights(action, *arguments):
    """Do something on a server that checks each call."""
    return action(*arguments)


CHECKS = {
    "a file": lambda where: where.claim(later()),
    "a folder": lambda where: where.check_writable(),
}


def test_the_rights_of_the_page_are_enough(bucket):
    bucket.allow()
    large = VIDEO + (PART * 3).to_bytes(4) + b"free" + bytes(PART * 3 - 8)

    def life(where):
        for check in CHECKS.values():
            check(where)
        for video in (VIDEO, OTHER_VIDEO, large):
            store(where, job=f"job of {len(video)} bytes", data=video)
        assert read_file(where.path, "image", 10) == large[:10]
        where.release()

    where = bucket.target()
    with_checked_rights(life, where)
    assert sorted(bucket.names()) == [where.path.name, f"{where.path.name}.json"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("right", ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"])
def test_a_missing_right_is_found_before_the_purchase(bucket, right, check):
    bucket.allow(without=[right])
    with pytest.raises(KlingInputError, match=r"no file can be written there \(PermissionError") as caught:
        with_checked_rights(CHECKS[check], bucket.target())
    assert "listed, written and removed" in caught.value.advice


def test_a_picture_needs_no_other_right_than_to_be_read(bucket):
    bucket.s3.put_object(Bucket="shop", Key="videos/lamp.png", Body=b"picture")
    bucket.allow(without=["s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:AbortMultipartUpload"])
    path = resolve_path(f"s3://{bucket.connection}@shop/videos/lamp.png", "image")
    assert with_checked_rights(read_file, path, "image", 100) == b"picture"


def test_a_large_video_needs_no_right_to_abort(bucket):
    bucket.allow(without=["s3:AbortMultipartUpload"])
    large = VIDEO + (PART * 3).to_bytes(4) + b"free" + bytes(PART * 3 - 8)
    with_checked_rights(lambda: store(bucket.target(), data=large))


def test_the_lifecycle_rule_of_the_page_is_one(bucket):
    bucket.s3.put_bucket_lifecycle_configuration(Bucket="shop", LifecycleConfiguration=RULE)
    (rule,) = bucket.s3.get_bucket_lifecycle_configuration(Bucket="shop")["Rules"]
    assert rule == RULE["Rules"][0]
