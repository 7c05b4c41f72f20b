"""Our validation and the emulator's were written separately, and accept and refuse the same requests.

The emulator accepts each request that our side accepts, as we send it. Our side accepts each request that the
emulator accepts, and sends it unchanged. Three intended differences are left out: our side also accepts
numbers, booleans and lists as texts, and sends them in the documented form; an empty text and the word
"None", as templates produce them, count as not set; and the catalogue does not check whether a text that is
not a URL is a picture.
"""

import json

import pytest
from emulator_without_socket import EmulatorWithoutSocket
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_kling.emulator.myrouter.models import MODELS as THEIRS
from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.models.input_names import INPUTS
from airflow_provider_kling.models.myrouter import MODELS as OURS
from airflow_provider_kling.models.validation import build_job

PIC, CLIP = "https://p.example/a.png", "https://p.example/a.mp4"

TEXTS = [
    "a cat",
    "x",
    "ü" * 2000,
    "ü" * 2001,
    "ü" * 2500,
    "ü" * 2501,
    "",
    " ",
    "\n",
    7,
    ["a cat"],
    {},
    True,
    None,
]
NUMBERS = [
    *range(-1, 17),
    5.0,
    10.0,
    3.5,
    0.5,
    1.0,
    1.01,
    -0.01,
    "5",
    "10",
    "3",
    "7",
    "0.5",
    "",
    "many",
    True,
    [5],
    None,
]
FLAGS = [True, False, None, 0, 1, "true", "False", "yes", "", []]
CHOICES = [
    *("16:9", "9:16", "1:1", "4:3", "pro", "std", "Standard", "Professional", "standard", "image", "video"),
    *("kling-v3-0-std", "kling-v3-0-pro", "kling-v3.0-pro", "", " ", None, 1, True, ["16:9"]),
]
PICTURES = [PIC, "HTTP://p.example/b.jpg", "", None, 7, [PIC], {"url": PIC}]
LISTS = [None, [], *([PIC] * n for n in range(1, 9)), [PIC, 7], [PIC, ""], [PIC, None], {}, "", 7, (PIC,)]
SHOTS = [
    *(None, [], "", {}, 7, "one", ["one"], ["one", "two"], ["x" * 600] * 9),
    *([""], [" "], ["one", " "], [None], [7]),
    *(["one", {"prompt": "two"}], [{}], [{"prompt": ""}], [{"prompt": " "}], [{"prompt": 7}], [["one"]]),
    *([{"prompt": "one", "duration": n}] for n in (-1, 0, 1, 2, 3, 5, 15, 16, 99, "5", 5.0, True, None)),
    *([{"prompt": "one"}, {"prompt": "two", "duration": 4}], [{"prompt": "one", "mood": "glad"}]),
]  # fmt: skip
VALUES = {
    **dict.fromkeys(("prompt", "negative_prompt"), TEXTS),
    **dict.fromkeys(("duration", "cfg_scale", "guidance_scale"), NUMBERS),
    **dict.fromkeys(("sound", "keep_original_sound", "fast_mode"), FLAGS),
    **dict.fromkeys(("aspect_ratio", "mode", "character_orientation", "model_name"), CHOICES),
    **dict.fromkeys(("image", "end_image", "image_url", "end_image_url", "last_image"), PICTURES),
    **dict.fromkeys(("images", "voice_list"), LISTS),
    "multi_prompt": SHOTS,
    "video": [CLIP, "HTTPS://v.example/b.mov", "a.mp4", "file:///a.mp4", "", 7, [CLIP], None],
}
LEAST = {
    **dict.fromkeys(("image", "image_url"), PIC),
    "prompt": "a cat",
    "video": CLIP,
    "character_orientation": "video",
}


def is_set(value):
    return value is not None and not (isinstance(value, str) and not value.strip())


@pytest.fixture(scope="module")
def service():
    """The emulator as MyRouter."""
    with EmulatorWithoutSocket.running() as emulator:
        yield emulator


def why_refused(service, slug, body):
    """Return why it refuses a body; empty: it takes it and knows all of it."""
    reply = service.post(f"/v3/async/{slug}", body)
    return " ".join(service.newest.unknown_fields) if "task_id" in reply else reply["message"]


def ours(slug, arguments, extra=None):
    """Return the body that we send; None: we refuse."""
    try:
        return dict(build_job(slug, arguments, extra)[0].inputs)
    except KlingInputError:
        return None


def agreed(service, slug, body):
    """Hold both sides to each other for one body, under the model's own words; return whether it is taken."""
    words = {field.json_key: field.name for field in OURS[slug].fields}
    arguments = {words[name]: value for name, value in body.items()}
    sent, refusal = ours(slug, arguments), why_refused(service, slug, body)
    assert ours(slug, {}, body) == sent, "as arguments and as extra_body"
    if sent is not None:
        assert why_refused(service, slug, sent) == "", (slug, sent)
    if not refusal:
        assert sent == json.loads(json.dumps({n: v for n, v in body.items() if is_set(v)})), (slug, body)
    return not refusal


def least(slug):
    needed = {name for name, field in THEIRS[slug].fields.items() if field.required}
    return {
        name: value for name, value in LEAST.items() if name in needed or name in THEIRS[slug].exactly_one
    }


def test_both_have_the_same_models_and_inputs():
    theirs = {slug: set(model.fields) for slug, model in THEIRS.items()}
    assert theirs == {slug: {field.json_key for field in model.fields} for slug, model in OURS.items()}
    names = {
        name for model in OURS.values() for field in model.fields for name in (field.name, field.json_key)
    }
    assert VALUES.keys() == names


def around(slug, name):
    """Return a body in which the input alone decides."""
    body = least(slug) | {other: value for one, other, value in THEIRS[slug].needs if one == name}
    rivals = set(THEIRS[slug].exactly_one) - {name} if name in THEIRS[slug].exactly_one else ()
    return {other: value for other, value in body.items() if other not in rivals}


@pytest.mark.parametrize("slug", sorted(THEIRS))
def test_they_agree_on_every_value_of_every_input(service, slug):
    for name in THEIRS[slug].fields:
        verdicts = {agreed(service, slug, around(slug, name) | {name: value}) for value in VALUES[name]}
        assert verdicts == {True, False}, f"{name} decides nothing"


@pytest.mark.parametrize("slug", sorted(THEIRS))
def test_they_agree_on_rules_about_two_inputs(service, slug):
    ruled = {name for pair in OURS[slug].excludes for name in pair} | {*OURS[slug].exactly_one}
    ruled |= {name for need in OURS[slug].needs for name in need[:2]}
    wire = [field.json_key for field in OURS[slug].fields if field.name in ruled]
    for one in wire:
        for other in wire:
            for first in VALUES[one]:
                for second in VALUES[other]:
                    agreed(service, slug, least(slug) | {one: first, other: second})


#: The provider also refuses texts that no person sees; the service is not known to.
VISIBLE = st.characters(
    exclude_categories=["C", "Z"], exclude_characters="\u034f\u115f\u1160\u2800\u3164\uffa0"
) | st.just(" ")


def is_plain_text(text):
    """Return whether no form or template makes this text of another value: we alone refuse those."""
    is_list_or_object = text.strip().startswith(("[", "{"))
    return not is_list_or_object and text.strip().lower() not in ("none", "null", "undefined", "nan")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 20)
    | st.floats()
    | st.text(VISIBLE, max_size=20).filter(is_plain_text),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(VISIBLE, max_size=9), inner, max_size=3)
    ),
    max_leaves=4,
)


@st.composite
def bodies(draw):
    """Draw a model and a body for it, from the least one, with any values of some of its inputs."""
    slug = draw(st.sampled_from(sorted(THEIRS)))
    names = draw(st.lists(st.sampled_from(sorted(THEIRS[slug].fields)), max_size=5, unique=True))
    changes = {}
    for name in names:
        known = st.sampled_from(VALUES[name])
        changes[name] = draw(known if VALUES[name] in (PICTURES, LISTS) else st.one_of(known, ANYTHING))
    return slug, least(slug) | changes


@settings(max_examples=1000, deadline=None)
@given(bodies())
def test_they_agree_on_any_mixture(service, drawn):
    agreed(service, *drawn)


TEMPLATED = st.sampled_from(
    ["None", "5", " 10 ", "5.0", "true", "False", '["a", "b"]', f'["{PIC}"]', "[]", "{}"]
)


@settings(max_examples=600, deadline=None)
@given(
    slug=st.sampled_from(sorted(OURS)),
    arguments=st.dictionaries(st.sampled_from(INPUTS), TEMPLATED, max_size=5),
)
def test_texts_from_templates_are_sent_in_the_documented_form(service, slug, arguments):
    words = {field.json_key: field.name for field in OURS[slug].fields}
    needed = {words[name]: value for name, value in least(slug).items()}
    sent = ours(slug, needed | arguments)
    pictures = {"image", "end_image", "images"} & arguments.keys()
    if sent is not None and not pictures:
        assert why_refused(service, slug, sent) == ""


@pytest.mark.parametrize("slug", sorted(OURS))
def test_an_input_of_another_model_is_refused_by_us_and_unknown_to_the_emulator(service, slug):
    words = {field.json_key: field.name for field in OURS[slug].fields}
    needed = {words[name]: value for name, value in least(slug).items()}
    for name in {field.name for model in OURS.values() for field in model.fields} - set(words.values()):
        with pytest.raises(
            KlingInputError, match=f"{name} is not an input of this model .it is one of kling-"
        ):
            build_job(slug, needed | {name: "1"})
        assert why_refused(service, slug, least(slug) | {name: "1"}) == name
