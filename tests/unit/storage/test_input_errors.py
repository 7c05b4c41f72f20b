"""Which errors of a storage say that an input is wrong."""

import pytest
from botocore.exceptions import ParamValidationError

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.storage.allowed_paths import StoragePath
from airflow_provider_kling.storage.files import input_errors


def test_a_bucket_name_that_the_storage_never_accepts_is_a_wrong_input():
    with pytest.raises(KlingInputError), input_errors(StoragePath("s3://a:b/0", "a:b/0", "s3"), "image"):
        raise ParamValidationError(report="invalid bucket name")
