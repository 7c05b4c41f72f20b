"""What a job becomes in the words of Kling's own API, and what is refused before it is paid."""

from decimal import Decimal

import pytest

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.gateways import kling, myrouter
from airflow_provider_kling.models.kling import MODELS
from airflow_provider_kling.models.prices import estimate
from airflow_provider_kling.models.validation import build_job

PIC, END, CLIP = "https://p.example/a.jpg", "https://p.example/b.jpg", "https://p.example/a.mp4"


def job_of(model, extra_body=None, **inputs):
    path, implied = kling.resolve_model(model, inputs)
    return build_job(path, {**implied, **inputs}, extra_body)[0]


def call_of(model, extra_body=None, client_id="", **inputs):
    return kling.submit(job_of(model, extra_body, **inputs), client_id)


BODIES = [
    (
        {"model": "kling-3.0", "prompt": "x", "resolution": "720p", "aspect_ratio": "16:9", "duration": 5},
        "/text-to-video/kling-3.0",
        {
            "prompt": "x",
            "settings": {"resolution": "720p", "aspect_ratio": "16:9", "duration": 5, "multi_shot": False},
        },
    ),
    (
        {
            "model": "kling-v3.0-pro-i2v",
            "image": PIC,
            "end_image": END,
            "prompt": "a slow push-in",
            "sound": False,
        },
        "/image-to-video/kling-3.0",
        {
            "contents": [
                {"type": "prompt", "text": "a slow push-in"},
                {"type": "first_frame", "url": PIC},
                {"type": "last_frame", "url": END},
            ],
            "settings": {"resolution": "1080p", "audio": "off", "multi_shot": False},
        },
    ),
    (
        {
            "model": "kling-3.0",
            "image": "data:image/png;base64,iVBORw0KGgo",
            "multi_prompt": [{"prompt": "one", "duration": 3}, {"prompt": "two", "duration": 2}],
            "element_list": ["7", {"element_id": 8, "id": "Zhang"}],
        },
        "/image-to-video/kling-3.0",
        {
            "contents": [
                {"type": "prompt", "text": "shot 1, 3, one; shot 2, 2, two;"},
                {"type": "first_frame", "url": "iVBORw0KGgo"},
                {"type": "element", "id": "element_1", "element_id": "7"},
                {"type": "element", "id": "Zhang", "element_id": "8"},
            ],
            "settings": {"duration": 5, "multi_shot": True},
        },
    ),
    (
        {"model": "kling-3.0-omni", "prompt": "@image_1 waves", "images": [PIC]},
        "/omni-video/kling-3.0-omni",
        {
            "contents": [
                {"type": "prompt", "text": "@image_1 waves"},
                {"type": "refer_image", "url": PIC, "id": "image_1"},
            ],
            "settings": {"multi_shot": False, "aspect_ratio": "16:9"},
        },
    ),
    (
        {"model": "kling-o1-video-edit", "prompt": "snow", "video": CLIP, "keep_original_sound": True},
        "/omni-video/kling-o1",
        {
            "contents": [
                {"type": "prompt", "text": "snow"},
                {"type": "base_video", "url": CLIP, "id": "video_1"},
            ],
            "settings": {"resolution": "1080p", "audio": "original"},
        },
    ),
    (
        {"model": "kling-3.0", "image": PIC, "video": CLIP, "character_orientation": "video"},
        "/motion-control/kling-3.0",
        {
            "contents": [{"type": "image", "url": PIC}, {"type": "video", "url": CLIP}],
            "settings": {"character_orientation": "video"},
        },
    ),
    (
        {"model": "kling-4.0", "image": PIC, "prompt": "x", "duration": 30},
        "/image-to-video/kling-4.0",
        {
            "contents": [{"type": "prompt", "text": "x"}, {"type": "first_frame", "url": PIC}],
            "settings": {"duration": 30},
        },
    ),
]


@pytest.mark.parametrize(("arguments", "path", "body"), BODIES, ids=[row[1] for row in BODIES])
def test_a_job_in_the_words_of_kling(arguments, path, body):
    call = call_of(**arguments)
    assert (call.path, call.body) == (path, {**body, "options": {}})


def test_the_options_hold_the_client_id_the_callback_and_what_extra_body_adds():
    extra = {"options": {"watermark_info": {"enabled": True}}}
    call = call_of("kling-3.0", extra, "ours", prompt="x", callback_url="https://me.example/")
    assert call.body["options"] == {
        "callback_url": "https://me.example/",
        "watermark_info": {"enabled": True},
        "external_task_id": "ours",
    }


SHOT = {"prompt": "one", "duration": 1}
REFUSED = [
    ({"model": "kling-3.0", "prompt": "x", "negative_prompt": "y"}, "say in the prompt"),
    ({"model": "kling-3.0", "prompt": "x", "cfg_scale": 0.5}, "cfg_scale"),
    ({"model": "kling-3.0", "image": PIC, "prompt": "x", "mode": "pro"}, "resolution takes its place"),
    (
        {"model": "kling-3.0", "image": PIC, "prompt": "x", "aspect_ratio": "1:1"},
        "aspect_ratio is not an input",
    ),
    ({"model": "kling-3.0-turbo", "prompt": "x", "resolution": "4k"}, "'720p' or '1080p'"),
    ({"model": "kling-3.0-turbo", "prompt": "x", "sound": True}, "always makes sound"),
    ({"model": "kling-3.0-turbo", "prompt": "x" * 3073}, "at most 3072 characters"),
    ({"model": "kling-2.6", "prompt": "x", "sound": True}, "sound needs resolution='1080p'"),
    ({"model": "kling-2.6", "image": PIC, "prompt": "x", "end_image": END}, "end_image needs resolution"),
    (
        {"model": "kling-2.5-turbo", "image": PIC, "prompt": "x", "end_image": END},
        "end_image needs resolution",
    ),
    ({"model": "kling-2.6", "image": PIC, "prompt": "x", "voice_list": ["1"]}, "voice_list needs sound"),
    ({"model": "kling-3.0", "prompt": "x", "images": [PIC]}, "images is not an input"),
    ({"model": "kling-3.0-omni", "prompt": "x", "video": CLIP}, "video needs refer_type"),
    ({"model": "kling-3.0-omni", "prompt": "x", "end_image": END}, "end_image needs image"),
    ({"model": "kling-o1", "prompt": "x", "image": PIC, "duration": 7}, "must be 5 or 10"),
    ({"model": "kling-3.0", "multi_prompt": ["one", "two"]}, "object with prompt and duration"),
    ({"model": "kling-3.0", "multi_prompt": [SHOT, SHOT]}, "last 2 s together; this model makes 3 to 15 s"),
    ({"model": "kling-3.0", "multi_prompt": [SHOT] * 7}, "at most 6"),
    ({"model": "kling-3.0", "multi_prompt": [{**SHOT, "prompt": "a; b"}]}, "semicolon"),
    ({"model": "kling-3.0", "multi_prompt": [{"prompt": "y" * 512, "duration": 2}] * 6}, "a prompt of 3"),
    ({"model": "kling-3.0", "image": PIC, "prompt": "x", "element_list": [{"id": "a"}]}, "element_list.0."),
    (
        {
            "model": "kling-3.0-omni",
            "prompt": "@Li",
            "element_list": [{"element_id": 8, "id": n} for n in ("Li", "Lin")],
        },
        "'Li' is a part of the id 'Lin'",
    ),
    ({"model": "kling-v2.1-i2v", "image": PIC, "prompt": "x"}, "does not have this model"),
    # models that the catalogue does not know
    ({"model": "kling-4.0", "image": PIC, "prompt": "x", "negative_prompt": "y"}, "say in the prompt"),
    ({"model": "text-to-video/kling-4.0", "image": PIC, "prompt": "x"}, "text-to-video takes none"),
    # what the limits and the estimate would not see
    (
        {"model": "kling-3.0", "prompt": "x", "extra_body": {"settings": {"duration": 15}}},
        "argument duration",
    ),
    (
        {"model": "kling-3.0", "prompt": "x", "extra_body": {"settings": {"audio": "native"}}},
        "argument sound",
    ),
    ({"model": "kling-3.0-omni", "prompt": "x", "extra_body": {"contents": []}}, "give the argument image"),
    ({"model": "kling-3.0", "prompt": "x", "extra_body": {"settings": 4}}, "settings must be an object"),
    ({"model": "kling-3.0", "prompt": "x", "extra_body": {"options": {"external_task_id": "a"}}}, "makes it"),
]


@pytest.mark.parametrize(("arguments", "why"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_kling_would_refuse_or_ignore_is_refused_before_it_is_paid(arguments, why):
    with pytest.raises(KlingInputError, match=why):
        call_of(**arguments)


def test_a_name_of_kling_is_refused_at_myrouter_with_the_name_there():
    with pytest.raises(KlingInputError, match=r"MyRouter calls it .*kling-v3\.0-pro-i2v"):
        myrouter.resolve_model("kling-3.0", {"image": PIC})


@pytest.mark.parametrize(
    ("arguments", "usd"),
    [
        ({"model": "kling-3.0", "image": PIC, "prompt": "x"}, "0.42"),
        ({"model": "kling-v3.0-pro-i2v", "image": PIC, "prompt": "x"}, "0.56"),
        ({"model": "kling-3.0", "prompt": "x", "resolution": "4k", "duration": 15, "sound": True}, "6.30"),
        ({"model": "kling-2.6", "prompt": "x", "sound": True, "resolution": "1080p"}, "0.70"),
        ({"model": "kling-o1-ref2v", "prompt": "x", "video": CLIP}, "0.84"),
        ({"model": "kling-o1-video-edit", "prompt": "x", "video": CLIP}, None),
        ({"model": "kling-4.0", "prompt": "x"}, None),
    ],
)
def test_the_estimate_is_units_times_their_price(arguments, usd):
    assert estimate(job_of(**arguments)) == (None if usd is None else Decimal(usd))


def test_each_model_has_units_for_each_of_its_resolutions():
    for model in MODELS.values():
        units = {resolution for rates in model.units.values() for resolution in rates}
        assert units == set(model.field("resolution").choices)
