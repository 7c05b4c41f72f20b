"""Models of the family through the one operator: what is typed in the Dag is what the gateway takes."""

import inspect
import json
from dataclasses import replace

import pytest
from airflow_fakes import at_myrouter, context_of, submits

from airflow_provider_kling.emulator.jobs import fingerprint
from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.models.input_names import INPUTS
from airflow_provider_kling.operators import KlingSubmitOperator

PIC, END, CLIP = "https://p.example/a.png", "https://p.example/b.png", "https://p.example/c.mp4"
TEXT, IMAGE = {"prompt": "a cat"}, {"image": PIC, "prompt": "a cat"}
MOTION = {"image": PIC, "video": CLIP, "character_orientation": "video"}

#: Model, the operator's arguments, and the JSON body that they have to become.
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


@pytest.mark.parametrize(("model", "arguments", "body"), ORDERS)
@at_myrouter
def test_an_order_arrives_in_the_models_own_words(gateway, model, arguments, body):
    rendered(model=model, **arguments).execute(context_of())
    (job,) = gateway.jobs
    assert (job.model, job.unknown_fields) == (model, ())
    assert job.fingerprint == fingerprint(model, arguments if body is ... else body)


@at_myrouter
def test_an_input_of_another_model_is_refused_for_nothing(gateway):
    with pytest.raises(
        KlingInputError, match=r"fast_mode is not an input of this model .*kling-o1-video-edit"
    ):
        rendered(model="kling-v3.0-std-t2v", prompt="a cat", fast_mode=True).execute(context_of())
    assert not submits(gateway)


@at_myrouter
def test_an_unknown_model_is_tried_with_a_warning(gateway, logged):
    gateway.settings = replace(gateway.settings, models=("kling-v9-x2v",))
    rendered(model="kling-v9-x2v", prompt="a cat", images=[PIC]).execute(context_of())
    assert "'kling-v9-x2v' is not in the catalogue" in logged.text()
    assert gateway.jobs[0].fingerprint == fingerprint("kling-v9-x2v", {"prompt": "a cat", "images": [PIC]})
