"""A request as a value, with Kling's names; its job has the model's names."""

import inspect
from dataclasses import FrozenInstanceError, fields
from decimal import Decimal
from pathlib import Path

import pytest

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.models.input_names import INPUTS
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.request import VideoRequest

CAT = VideoRequest(
    model="kling-o1-i2v", image="https://p.example/cat.png?sig=secret", prompt="a cat", duration="10"
)


def test_a_request_has_the_inputs_of_all_models_and_nothing_else():
    assert {field.name for field in fields(VideoRequest)} == {"model", "extra_body", *INPUTS}


def test_a_request_has_the_operators_arguments_with_the_operators_types():
    from airflow_provider_kling.operators import KlingSubmitOperator

    arguments = inspect.signature(KlingSubmitOperator.__init__).parameters
    ours = {field.name: field.type for field in fields(VideoRequest) if field.name != "model"}
    assert {name: arguments[name].annotation.replace(" | XComArg", "") for name in ours} == ours


def test_a_request_becomes_a_job_with_the_models_names():
    request = VideoRequest(model="kling-v1.6-i2v", image=Path("/cat.png"), prompt="a cat", cfg_scale="1")
    words = {"image_url": "/cat.png", "prompt": "a cat", "guidance_scale": 1}
    assert request.job() == (VideoJob("kling-v1.6-i2v", words), [])


def test_a_request_has_an_estimate():
    assert CAT.estimate() == Decimal("1.12")
    assert CAT.estimate({"kling-o1-i2v": Decimal(2)}) == 20
    assert VideoRequest(
        image="https://p.example/cat.png", prompt="a cat", sound="true"
    ).estimate() == Decimal("0.84")
    assert VideoRequest(
        image="https://p.example/cat.png", prompt="a cat", sound="false"
    ).estimate() == Decimal("0.56")
    assert VideoRequest(model="kling-v2.1-i2v", image="cat.png", prompt="a cat").estimate() is None


def test_a_wrong_request_has_no_estimate():
    with pytest.raises(KlingInputError, match="duration=99"):
        VideoRequest(image="https://p.example/cat.png", prompt="a cat", duration=99).estimate()


def test_a_video_on_a_storage_has_an_estimate_but_cannot_be_sent_unsigned():
    for video in ("s3://conn@shop/a.mp4", "gs://shop/a.mp4", "https://v.example/a.mp4"):
        assert VideoRequest(model="kling-o1-ref2v", prompt="a cat", video=video).estimate() == Decimal("0.84")
    for wrong in ("a.mp4", "file:///a.mp4"):
        with pytest.raises(KlingInputError, match="video="):
            VideoRequest(model="kling-o1-ref2v", prompt="a cat", video=wrong).estimate()
    with pytest.raises(KlingInputError, match="video="):
        VideoRequest(model="kling-o1-ref2v", prompt="a cat", video="s3://shop/a.mp4").job()


def test_a_request_is_one_item_of_a_mapped_task():
    assert VideoRequest(prompt="a cat", model="m", sound=False).arguments() == {
        "model": "m",
        "prompt": "a cat",
        "sound": False,
    }


def test_a_request_shows_no_signature_and_stays_as_it_is():
    assert "https://p.example/cat.png" in repr(CAT)
    assert "secret" not in repr(CAT)
    with pytest.raises(FrozenInstanceError):
        CAT.prompt = "a dog"


def test_pictures_may_be_paths_or_bytes_in_a_request_too():
    request = VideoRequest(
        model="kling-o1-ref2v", prompt="a cat", images=[Path("/cat.png"), b"\x89PNG", bytearray(b"\x89PNG")]
    )
    job, _ = request.job()
    assert job.inputs["images"] == ["/cat.png", "iVBORw==", "iVBORw=="]
    assert "PNG" not in repr(request)
    assert VideoRequest(prompt='{"a": 1}', image="cat.png").job()[0].inputs["prompt"] == '{"a": 1}'
