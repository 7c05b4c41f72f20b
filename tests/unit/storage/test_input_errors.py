"""Which errors of a storage say that an input is wrong."""

import pytest
from botocore.exceptions import ParamValidationError

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.storage.allowed_paths import StoragePath, resolve_path
from airflow_provider_kling.storage.files import input_errors, open_file


def test_a_bucket_name_that_the_storage_never_accepts_is_a_wrong_input():
    with pytest.raises(KlingInputError), input_errors(StoragePath("s3://a:b/0", "a:b/0", "s3"), "image"):
        raise ParamValidationError(report="invalid bucket name")


def test_a_missing_file_is_named_once_and_whole(tmp_path):
    path = resolve_path(f"{tmp_path}/no/such/cat.png", "image", [str(tmp_path)])
    with pytest.raises(KlingInputError) as caught, input_errors(path, "image"), open_file(path):
        pass
    assert caught.value.what.endswith(" (FileNotFoundError: [Errno 2] No such file or directory).")
    assert f"image='{tmp_path}/no/such/cat.png'" in caught.value.what
