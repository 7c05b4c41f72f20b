"""Models of the family through the one operator: what is typed in the Dag is what the gateway takes."""

import inspect
import json
from dataclasses import replace

import pytest
from airflow_fakes import context_of, submits
from dialects import rows

from airflow_provider_kling.emulator.jobs import fingerprint
from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.models.input_names import INPUTS
from airflow_provider_kling.operators import KlingSubmitOperator

PIC, END, CLIP = "https://p.example/a.png", "https://p.example/b.png", "https://p.example/c.mp4"
TEXT, IMAGE = {"prompt": "a cat"}, {"image": PIC, "prompt": "a cat"}
MOTION = {"image": PIC, "video": CLIP, "character_orientation": "video"}

#: Model, the operator's arguments, and the JSON body that they have to become at MyRouter.
ORDERS = [
    ("kling-v3.0-pro-i2v", IMAGE | {"duration": "7"}, IMAGE | {"duration": 7}),
    ("kling-v3.0-pro-t2v", {"multi_prompt": '["a", "b"]'}, {"multi_prompt": ["a", "b"]}),
    ("kling-v3.0-std-t2v", TEXT | {"aspect_ratio": "9:16", "cfg_scale": 0.5}, ...),
    ("kling-v2.6-pro-motion-control", MOTION | {"prompt": "it dances", "keep_original_sound": False}, ...),
    ("kling-2.5-turbo-t2v", TEXT | {"duration": 10}, TEXT | {"duration": "10"}),
    ("kling-v2.1-i2v", IMAGE | {"cfg_scale": 1}, IMAGE | {"guidance_scale": 1}),
    ("kling-o1-i2v", IMAGE | {"end_image": END}, IMAGE | {"last_image": END}),
    ("kling-o1-ref2v", TEXT | {"images": json.dumps([PIC, END])}, TEXT | {"images": [PIC, END]}),
    ("kling-o1-video-edit", TEXT | {"video": CLIP, "images": [PIC], "fast_mode": True}, ...),
]
CAT, PRO = {"type": "prompt", "text": "a cat"}, {"resolution": "1080p"}
FIRST, LAST = {"type": "first_frame", "url": PIC}, {"type": "last_frame", "url": END}
SHOTS = [{"prompt": "a", "duration": 3}, {"prompt": "b", "duration": 4}]
#: The same at Kling, where the path has the operation too.
KLING_ORDERS = [
    (
        "kling-v3.0-pro-i2v",
        IMAGE | {"duration": "7"},
        "image-to-video/kling-3.0",
        {"settings": PRO | {"duration": 7, "multi_shot": False}, "contents": [CAT, FIRST]},
    ),
    (
        "kling-v3.0-pro-t2v",
        {"multi_prompt": json.dumps(SHOTS), "duration": 7},
        "text-to-video/kling-3.0",
        {"settings": PRO | {"duration": 7, "multi_shot": True}, "prompt": "shot 1, 3, a; shot 2, 4, b;"},
    ),
    (
        "kling-v2.6-pro-motion-control",
        MOTION | {"prompt": "a cat", "keep_original_sound": False},
        "motion-control/kling-2.6",
        {
            "settings": PRO | {"character_orientation": "video", "audio": "off"},
            "contents": [CAT, {"type": "image", "url": PIC}, {"type": "video", "url": CLIP}],
        },
    ),
    (
        "kling-2.5-turbo-t2v",
        TEXT | {"duration": "10"},
        "text-to-video/kling-2.5-turbo",
        {"settings": PRO | {"duration": 10}, "prompt": "a cat"},
    ),
    (
        "kling-o1-i2v",
        IMAGE | {"end_image": END},
        "omni-video/kling-o1",
        {"settings": PRO, "contents": [CAT, FIRST, LAST]},
    ),
]


def rendered(**arguments):
    """Return a submit whose templates are rendered as Airflow does it."""
    operator = KlingSubmitOperator(task_id="submit", **arguments)
    operator.render_template_fields(context_of())
    return operator


def test_every_input_of_every_model_is_a_templated_argument():
    arguments = inspect.signature(KlingSubmitOperator.__init__).parameters
    for name in INPUTS:
        assert arguments[name].default is None
        assert name in KlingSubmitOperator.template_fields
        assert f":param {name}:" in KlingSubmitOperator.__doc__


@rows(
    "model arguments path body",
    myrouter=[(model, given, model, given if body is ... else body) for model, given, body in ORDERS],
    kling=KLING_ORDERS,
)
def test_an_order_arrives_in_the_models_own_words(gateway, model, arguments, path, body):
    rendered(model=model, **arguments).execute(context_of())
    (job,) = gateway.jobs
    assert (job.model, job.unknown_fields) == (path, ())
    assert job.fingerprint == fingerprint(path, body)


@rows(
    "argument owner",
    myrouter=[({"fast_mode": True}, "kling-o1-video-edit")],
    kling=[({"keep_original_sound": True}, "omni-video/kling-o1")],
)
def test_an_input_of_another_model_is_refused_for_nothing(gateway, argument, owner):
    (name,) = argument
    with pytest.raises(KlingInputError, match=rf"{name} is not an input of this model .*{owner}"):
        rendered(model="kling-v3.0-std-t2v", prompt="a cat", **argument).execute(context_of())
    assert not submits(gateway)


@rows(
    "path body",
    myrouter=[("kling-v9-x2v", {"prompt": "a cat", "images": [PIC]})],
    kling=[
        (
            "omni-video/kling-v9-x2v",
            {
                "settings": {"aspect_ratio": "16:9"},
                "contents": [CAT, {"type": "refer_image", "url": PIC, "id": "image_1"}],
            },
        )
    ],
)
def test_an_unknown_model_is_tried_with_a_warning(gateway, logged, path, body):
    gateway.settings = replace(gateway.settings, models=(path,))
    rendered(model=path, prompt="a cat", images=[PIC]).execute(context_of())
    assert f"'{path}' is not in the catalogue" in logged.text()
    assert gateway.jobs[0].fingerprint == fingerprint(path, body)
