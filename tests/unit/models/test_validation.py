"""Validation and prices: what each model accepts, refuses and costs."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.models.fields import Kind
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.myrouter import MODELS
from airflow_provider_kling.models.prices import describe_cost, estimate
from airflow_provider_kling.models.validation import build_job, check_media

PIC, END, CLIP = "https://p.example/a.png", "https://p.example/b.png", "https://p.example/c.mp4"
IMAGE = {"image": PIC, "prompt": "a cat"}
PRO, STD, T2V = "kling-v3.0-pro-i2v", "kling-v3.0-std-i2v", "kling-v3.0-pro-t2v"
TURBO = "kling-2.5-turbo-i2v"

POOL = {"image": PIC, "prompt": "a cat", "video": CLIP, "character_orientation": "video"}
#: The least request of each model.
MINIMAL = {
    slug: {
        field.name: POOL[field.name]
        for field in model.fields
        if field.name in model.required or field.name in model.exactly_one[:1]
    }
    for slug, model in MODELS.items()
}


def body(model, extra=None, **inputs):
    return dict(build_job(model, MINIMAL.get(model, {}) | inputs, extra)[0].inputs)


def refusal(model, extra=None, **inputs):
    with pytest.raises(KlingInputError) as caught:
        build_job(model, MINIMAL.get(model, {}) | inputs, extra)
    assert model in str(caught.value)
    return str(caught.value)


def warnings(model, **inputs):
    return build_job(model, MINIMAL[model] | inputs)[1]


@pytest.mark.parametrize(("model", "inputs"), MINIMAL.items())
def test_a_minimal_request_has_only_the_inputs_that_are_set(model, inputs):
    unset = {"negative_prompt": None, "sound": "", "duration": " ", "end_image": None, "multi_prompt": None}
    job, warned = build_job(model, inputs | unset)
    wire = {MODELS[model].field(name).json_key: value for name, value in inputs.items()}
    assert (job.model, job.inputs, warned) == (model, wire, [])


@pytest.mark.parametrize(("model", "name"), [(m, n) for m, inputs in MINIMAL.items() for n in inputs])
def test_a_missing_required_input_is_named(model, name):
    words = refusal(model, **{name: None})
    one_of_two = name == "prompt" and MODELS[model].exactly_one
    assert (
        "exactly one of prompt and multi_prompt must be given" if one_of_two else f"{name} is required"
    ) in words


#: One model of each kind; each value of each model is compared with the emulator's own table.
SECONDS = [
    (PRO, 3, 15, [2, 16, 3.5, 0, -5]),
    ("kling-v2.6-pro-i2v", 5, 10, [4, 6, 9, 11, 7.5]),
    (TURBO, 5, 10, [4, 6, 9, 11, 7.5]),
    ("kling-o1-ref2v", 3, 10, [2, 11]),
]


@pytest.mark.parametrize(("model", "low", "high", "beyond"), SECONDS)
def test_a_duration_is_accepted_within_its_limits_only(model, low, high, beyond):
    for seconds in (low, high):
        for form in (seconds, float(seconds), str(seconds), f" {seconds} ", f"{seconds}.0"):
            sent = body(model, duration=form)["duration"]
            assert sent == (str(seconds) if model == TURBO else seconds)
            assert type(sent) is (str if model == TURBO else int)
    for seconds in (*beyond, "many", True, float("nan"), "inf", 1e300, 10**400, [5]):
        assert "duration=" in refusal(model, duration=seconds)


@pytest.mark.parametrize(("model", "word"), [(PRO, "cfg_scale"), ("kling-v2.1-i2v", "guidance_scale")])
def test_a_scale_is_accepted_from_0_to_1_and_sent_by_the_models_name(model, word):
    for value, sent in ((0, 0), (1, 1), ("0.5", 0.5), (1.0, 1), (0.25, 0.25)):
        assert body(model, cfg_scale=value)[word] == sent
    for value in (-0.01, 1.01, "x", False, float("nan")):
        assert "cfg_scale=" in refusal(model, cfg_scale=value)
    assert "given twice" in refusal(model, {word: 0.5}, cfg_scale=0.5)


@pytest.mark.parametrize(("model", "most"), [(PRO, 2500), ("kling-v1.6-i2v", 2000)])
@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_prompt_is_accepted_up_to_its_limit(model, most, name):
    assert len(body(model, **{name: "ü" * most})[name]) == most
    words = refusal(model, **{name: "ü" * (most + 1)})
    assert f"at most {most} characters, not {most + 1}" in words
    assert len(words) < 300
    assert f"{name}=7" in refusal(model, **{name: 7})


FLAGS = [
    (model.slug, field.name)
    for model in MODELS.values()
    for field in model.fields
    if field.kind is Kind.BOOLEAN
]
CHOICES = [(m.slug, f) for m in MODELS.values() for f in m.fields if f.choices and f.kind is Kind.TEXT]


@pytest.mark.parametrize(("model", "name"), FLAGS)
def test_a_flag_is_true_or_false_also_as_a_text(model, name):
    for form, sent in ((True, True), (False, False), ("true", True), ("False", False), (" TRUE ", True)):
        assert body(model, **{name: form})[name] is sent
    for form in (1, 0, "yes", [True]):
        assert f"{name}=" in refusal(model, **{name: form})


@pytest.mark.parametrize(("model", "field"), CHOICES, ids=lambda value: getattr(value, "name", value))
def test_a_choice_must_be_documented(model, field):
    for choice in field.choices:
        assert body(model, **{field.name: choice})[field.json_key] == choice
    words = refusal(model, **{field.name: "other"})
    assert f"{field.name}='other': must be {field.choices[0]!r}" in words


@pytest.mark.parametrize(
    ("model", "given", "sent"),
    [
        (
            "kling-v1.6-i2v",
            {"image": PIC, "end_image": END, "mode": "Professional"},
            {"image_url": PIC, "end_image_url": END, "mode": "Professional"},
        ),
        ("kling-o1-i2v", {"image": PIC, "end_image": END}, {"image": PIC, "last_image": END}),
        ("kling-v2.1-i2v", {"cfg_scale": 0.5}, {"image": PIC, "guidance_scale": 0.5}),
        ("kling-v3.0-pro-i2v", {"end_image": END}, {"image": PIC, "end_image": END}),
    ],
)
def test_an_input_is_sent_by_the_models_name(model, given, sent):
    assert body(model, **given) == {"prompt": "a cat", **sent}
    wire = {key: value for key, value in sent.items() if MODELS[model].field(key).name in given}
    rest = {key: value for key, value in MINIMAL[model].items() if key not in given}
    assert dict(build_job(model, rest, wire)[0].inputs) == {"prompt": "a cat", **sent}


LISTS = [
    ("kling-v2.6-pro-i2v", "voice_list", 2),
    ("kling-o1-ref2v", "images", 7),
    ("kling-o1-video-edit", "images", 4),
]


@pytest.mark.parametrize(("model", "name", "most"), LISTS)
def test_a_list_is_accepted_up_to_its_limit_also_as_json(model, name, most):
    assert body(model, **{name: [PIC] * most})[name] == [PIC] * most
    assert body(model, **{name: f'["{PIC}"]'})[name] == [PIC]
    assert body(model, **{name: (PIC,)})[name] == [PIC]
    assert f"with 0 to {most} entries" in refusal(model, **{name: [PIC] * (most + 1)})
    for wrong in ({}, 7, "x", "[" * 100_000):
        assert f"{name}=" in refusal(model, **{name: wrong})


def test_each_picture_of_a_list_is_a_text():
    for wrong in (7, "", " ", None, "None", "undefined"):
        assert f"images[1]={wrong!r}" in refusal("kling-o1-ref2v", images=[PIC, wrong])


SHOTS = [
    ["one", "two"],
    [{"prompt": "one"}, {"prompt": "two", "duration": 3}],
    '[{"prompt": "one", "duration": 5}]',
]


@pytest.mark.parametrize("shots", SHOTS)
@pytest.mark.parametrize("model", [PRO, T2V])
def test_shots_replace_the_prompt(model, shots):
    sent = body(model, prompt=None, multi_prompt=shots)["multi_prompt"]
    assert sent == (shots if isinstance(shots, list) else [{"prompt": "one", "duration": 5}])
    assert "exactly one of prompt and multi_prompt" in refusal(model, multi_prompt=shots)


@pytest.mark.parametrize("model", [STD, "kling-v3.0-4k-i2v"])
def test_other_models_need_shots_and_a_prompt(model):
    assert set(body(model, multi_prompt=["one"])) == {"image", "prompt", "multi_prompt"}
    assert "prompt is required" in refusal(model, prompt=None, multi_prompt=["one"])


@pytest.mark.parametrize("model", [PRO, STD, "kling-v3.0-4k-i2v"])
def test_shots_and_a_last_frame_exclude_each_other(model):
    prompt = None if model == PRO else "a cat"
    words = refusal(model, prompt=prompt, multi_prompt=["one"], end_image=END)
    assert "multi_prompt and end_image exclude each other" in words


@pytest.mark.parametrize(
    "shots",
    [
        [], {}, "x", 7, ["one", {"prompt": "two"}], [7], [None], [""], [" "], [{}], [{"prompt": ""}],
        [{"prompt": 7}], [{"prompt": "x", "duration": "5"}], [{"prompt": "x", "duration": 5.0}],
        [{"prompt": "x", "duration": True}], [{"prompt": "x", "duration": None}],
    ],
)  # fmt: skip
def test_shots_that_are_mixed_or_empty_are_refused(shots):
    assert re.search(r"multi_prompt(\[1\])?=", refusal(PRO, prompt=None, multi_prompt=shots))


@pytest.mark.parametrize("model", ["kling-v3.0-std-t2v", "kling-v2.6-pro-i2v", "kling-o1-i2v"])
def test_an_input_that_a_model_does_not_have_is_refused_with_those_that_have_it(model):
    words = refusal(model, multi_prompt=["one"])
    assert "multi_prompt is not an input of this model (it is one of kling-v3.0-pro-i2v," in words
    assert "colour is not an input of this model." in refusal(model, colour="red")


def test_every_problem_is_named_at_once():
    words = refusal(PRO, image=None, duration=99, cfg_scale=2, colour="red")
    for part in ("image is required", "duration=99", "cfg_scale=2", "colour is not an input"):
        assert part in words
    assert words.count(";") == 3


def of(seconds, *more):
    return [{"prompt": "x", "duration": n} for n in (seconds, *more)]


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        (PRO, {"multi_prompt": ["x"] * 6}, []),
        (PRO, {"multi_prompt": ["x"] * 7}, ["has 7 shots"]),
        (PRO, {"multi_prompt": ["x" * 512]}, []),
        (PRO, {"multi_prompt": [{"prompt": "x" * 513}]}, ["longer than the 512 characters"]),
        (PRO, {"multi_prompt": of(1, 5), "duration": 6}, []),
        (PRO, {"multi_prompt": of(3, 3)}, ["last 6 s together, the video 5 s"]),
        (PRO, {"multi_prompt": [*of(3, 3), {"prompt": "x"}]}, []),
        (STD, {"multi_prompt": of(3, 3), "duration": "6"}, []),
        (STD, {"multi_prompt": ["x"]}, ["documents shots as objects"]),
        (STD, {"multi_prompt": ["x"] * 7}, ["documents shots as objects", "has 7 shots"]),
    ],
)
def test_inputs_that_only_the_service_can_check_are_sent_with_a_warning(model, inputs, words):
    least = {"prompt": None} if model == PRO else {}
    said = warnings(model, **least, **inputs)
    assert len(said) == len(words)
    assert all(word in warning for word, warning in zip(words, said, strict=True))


def test_a_shot_has_the_length_that_is_documented_for_the_model():
    for model, low, high in ((STD, 3, 15), ("kling-v3.0-4k-i2v", 3, 15), (PRO, 1, 99), (T2V, 1, 99)):
        least = {"prompt": None} if model in (PRO, T2V) else {}
        for seconds in (low, high):
            assert body(model, **least, multi_prompt=of(seconds))["multi_prompt"] == of(seconds)
        assert f"at least {low}" in refusal(model, **least, multi_prompt=of(low - 1))
    assert "multi_prompt[2]=" in refusal(STD, multi_prompt=of(5, 16))


def test_an_end_image_of_the_oldest_model_needs_the_professional_mode():
    words = refusal("kling-v1.6-i2v", end_image=END)
    assert "end_image needs mode='Professional'" in words
    assert "needs mode" in refusal("kling-v1.6-i2v", end_image=END, mode="Standard")
    assert body("kling-v1.6-i2v", end_image=END, mode="Professional")["end_image_url"] == END


def test_a_video_is_a_link():
    for model in ("kling-o1-ref2v", "kling-o1-video-edit", "kling-v3.0-motion-control"):
        assert body(model, video="HTTPS://v.example/a.mov")["video"] == "HTTPS://v.example/a.mov"
        for wrong in ("a.mp4", "file:///a.mp4", "data:video/mp4;base64,AAAA", 7):
            assert "video=" in refusal(model, video=wrong)


def test_further_keys_are_sent_and_documented_ones_are_checked():
    assert body(PRO, {"seed": 7, "duration": "5"})["seed"] == 7
    assert body(PRO, {"duration": "5"})["duration"] == 5
    assert "duration=99" in refusal(PRO, {"duration": 99})
    assert "duration is given twice" in refusal(PRO, {"duration": 5}, duration=5)
    assert body(PRO, {"duration": None, "seed": None}, duration=7) == {**IMAGE, "duration": 7, "seed": None}


def test_further_keys_are_an_object_also_as_json():
    assert body(PRO, '{"seed": 7}')["seed"] == 7
    for nothing in (None, "", "None", {}):
        assert body(PRO, nothing) == IMAGE
    for wrong in ([7], "seed", {7: 7}, 7):
        with pytest.raises(KlingInputError, match=r"extra_body=.*must be an object"):
            build_job(PRO, IMAGE, wrong)


def test_an_unknown_model_is_passed_on_with_a_warning():
    job, (warning,) = build_job("kling-v9-i2v", {"image": PIC, "prompt": None, "wings": 2}, {"seed": 7})
    assert (job.model, job.inputs) == ("kling-v9-i2v", {"image": PIC, "wings": 2, "seed": 7})
    assert "'kling-v9-i2v' is not in the catalogue" in warning


@pytest.mark.parametrize("model", ["", " ", "a/b/c", "a/", " kling-v9", "../x"])
def test_an_impossible_model_name_is_refused(model):
    with pytest.raises(KlingInputError, match="is not a model's name"):
        build_job(model, {})


@pytest.mark.parametrize("model", [PRO, "kling-v9-i2v"])
@pytest.mark.parametrize(
    "value", [object(), float("nan"), float("inf"), {1, 2}, b"bytes", {"deep": [object()]}, {(1, 2): 3}]
)
def test_a_value_that_is_not_json_is_refused(model, value):
    assert "note cannot be written as JSON" in refusal(model, {"note": value})


PRICES = [
    (PRO, {}, "0.56"),
    (PRO, {"sound": True}, "0.84"),
    (PRO, {"sound": False, "duration": 10}, "1.12"),
    (STD, {}, "0.42"),
    (STD, {"sound": True, "duration": 15}, "1.89"),
    (T2V, {}, "0.56"),
    ("kling-v3.0-std-t2v", {"duration": 3}, "0.252"),
    ("kling-o1-i2v", {"duration": 10}, "1.12"),
    ("kling-o1-t2v", {}, "0.56"),
    ("kling-o1-ref2v", {}, "0.84"),
]


@pytest.mark.parametrize(("model", "inputs", "price"), PRICES)
def test_a_published_price_gives_an_estimate(model, inputs, price):
    job, _ = build_job(model, MINIMAL[model] | inputs)
    assert estimate(job) == Decimal(price)


@pytest.mark.parametrize("model", sorted(MINIMAL.keys() - {model for model, *_ in PRICES}))
def test_no_published_price_gives_none(model):
    assert estimate(build_job(model, MINIMAL[model])[0]) is None
    assert describe_cost(None) == "an unknown price"


def test_prices_can_be_given_also_for_unknown_models():
    prices = {
        "kling-2.5-turbo-i2v": Decimal("0.07"),
        "kling-v2.6-pro-t2v": Decimal("0.1"),
        "new": Decimal(1),
        PRO: Decimal(2),
    }
    jobs = [
        (VideoJob("kling-2.5-turbo-i2v", {"duration": "10"}), "0.70"),
        (VideoJob("kling-v2.6-pro-t2v", {}), "0.75"),  # sound unless told otherwise
        (VideoJob("kling-v2.6-pro-t2v", {"sound": False}), "0.5"),
        (VideoJob(PRO, {}), "10"),
        (VideoJob("new", {"duration": 4}), "4"),
    ]
    for job, price in jobs:
        assert estimate(job, prices) == Decimal(price)
    assert estimate(VideoJob("new", {"duration": "long"}), prices) is None


@pytest.mark.parametrize(
    "model", ["new", "kling-o1-video-edit", "kling-v3.0-motion-control", "kling-v2.6-pro-motion-control"]
)
def test_an_unknown_length_has_no_estimate(model):
    assert estimate(VideoJob(model, MINIMAL.get(model, {})), {model: Decimal(1)}) is None


def test_an_estimate_is_described():
    assert describe_cost(Decimal("0.56")) == "an estimated 0.56 USD"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(sorted({f.name for m in MODELS.values() for f in m.fields})) | st.text()


@given(
    model=st.sampled_from(sorted(MODELS)) | st.text(),
    inputs=st.dictionaries(NAMES, ANYTHING, max_size=6),
    extra=st.none() | st.dictionaries(NAMES, ANYTHING, max_size=3),
)
def test_any_arguments_give_a_job_or_an_input_error(model, inputs, extra):
    try:
        job, warned = build_job(model, inputs, extra)
    except KlingInputError:
        return
    assert job.model == model
    assert all(isinstance(warning, str) for warning in warned)
    assert estimate(job, {model: Decimal(1)}) is None or estimate(job, {model: Decimal(1)}) > 0


BROKEN = [
    ({"prompt": "[object Object]"}, "turned an object into this text"),
    ({"prompt": " [object Object],[object Object] "}, "turned an object into this text"),
    ({"negative_prompt": "[object Array]"}, "turned an object into this text"),
    ({"prompt": "A video of [object Object]"}, "turned an object into this text"),
    *(({"prompt": text}, "has left this") for text in ("null", "undefined", " NaN", "[]", "{}", '["a cat"]')),
    ({"prompt": None, "multi_prompt": ["None"]}, "has left this"),
    ({"prompt": None, "multi_prompt": [{"prompt": "None", "duration": 5}]}, "has left this"),
    ({"prompt": None, "multi_prompt": ['{"prompt": "She runs.", "duration": 12}']}, "has left this"),
    ({"prompt": "\u2800 \u3164"}, "no visible character"),
    (
        {"prompt": None, "multi_prompt": ["a cat", "[object Object]"]},
        "multi_prompt=.* turned an object into this text",
    ),
    (
        {"prompt": None, "multi_prompt": [{"prompt": "[object Object]", "duration": 5}]},
        "turned an object into this text",
    ),
    ({"prompt": "a\0cat"}, r"prompt has the control character U\+0000"),
    ({"prompt": "a\x1b[31mcat"}, r"control character U\+001B"),
    ({"prompt": "a \ud800 cat"}, r"control character U\+D800"),
    ({"prompt": "\u200b\u2060"}, "no visible character"),
    ({"prompt": None, "multi_prompt": ["a cat", "\u200b"]}, "no visible character"),
]


@pytest.mark.parametrize("model", [PRO, "not-in-the-catalogue"])
@pytest.mark.parametrize(("inputs", "words"), BROKEN)
def test_a_prompt_that_a_form_has_broken_is_refused(model, inputs, words):
    with pytest.raises(KlingInputError, match=words):
        build_job(model, {**IMAGE, **inputs})


@pytest.mark.parametrize("extra", [{"style": "[object Object]"}, {"camera": {"moves": ["[object Object]"]}}])
def test_a_broken_text_in_further_keys_is_refused_too(extra):
    with pytest.raises(KlingInputError, match="turned an object into this text"):
        build_job(PRO, IMAGE, extra)


@pytest.mark.parametrize(
    "text",
    [
        '{"scene": "a cat"}',
        "none",
        "null and void",
        "a\tcat\r\nwaves",
        "ネコが 👋🏽 手を振る",
        "قطة",
        "[cat]",
    ],
)
def test_an_unusual_but_readable_prompt_is_sent_unchanged(text):
    assert build_job(PRO, {**IMAGE, "prompt": text})[0].inputs["prompt"] == text


@pytest.mark.parametrize("duration", [-5, "-5", 0, "0", True, [5], {}, "5s", "nan", float("inf"), 1e20, None])
@pytest.mark.parametrize("model", ["new", PRO])
def test_an_impossible_duration_has_no_price(model, duration):
    assert estimate(VideoJob(model, {"duration": duration}), {model: Decimal(1)}) is None


SHOTS_AND_SECONDS = [
    ([3, 4], 5, 7),
    ([3, 4], 15, 15),
    ([5, None], 5, 10),
    ([-9, 12], 5, None),
    (["long"], 5, None),
    ([[5]], 5, None),
]


@pytest.mark.parametrize("model", ["new", PRO])
@pytest.mark.parametrize(("shots", "duration", "seconds"), SHOTS_AND_SECONDS)
def test_shots_that_are_longer_than_the_video_set_the_price(model, shots, duration, seconds):
    inputs = [{"prompt": "x"} | ({} if length is None else {"duration": length}) for length in shots]
    job = VideoJob(model, {"multi_prompt": inputs, "duration": duration})
    assert estimate(job, {model: Decimal(1)}) == seconds


def test_shots_that_are_texts_have_the_default_length():
    assert estimate(VideoJob(PRO, {"multi_prompt": ["a", "b", "c"]}), {PRO: Decimal(1)}) == 15


def test_a_model_without_a_duration_has_no_price_where_one_is_passed_on():
    model = "kling-v2.6-pro-motion-control"
    assert estimate(VideoJob(model, {"duration": 3}), {model: Decimal(1)}) is None


@pytest.mark.parametrize("voices", [[""], [None], ["None"], ["undefined"], "[null]"])
def test_a_voice_is_not_empty(voices):
    assert "voice_list=" in refusal("kling-v2.6-pro-i2v", voice_list=voices)


@pytest.mark.parametrize(
    "link", ["https://", "https:///cat.png", "https://[", "https://p.example/my cat.png"]
)
def test_a_link_has_a_host_and_no_blank(link):
    assert "image=" in refusal(PRO, image=link)
    assert "images[0]=" in refusal("kling-o1-ref2v", images=[link])
    assert "video=" in refusal("kling-o1-ref2v", video=link)


@pytest.mark.parametrize("model", [PRO, "not-in-the-catalogue"])
@pytest.mark.parametrize("value", ["/data/cat.png", "[object Object]", "https://", ["nonsense"], 7])
def test_a_picture_in_extra_body_is_a_link_or_data(model, value):
    with pytest.raises(KlingInputError, match="end_image="):
        check_media(build_job(model, IMAGE, {"end_image": value})[0])
    for sent in ("https://p.example/a.png", "data:image/png;base64,iVBORw0KGgo="):
        check_media(build_job(model, IMAGE, {"end_image": sent})[0])


def test_shots_that_are_not_a_list_have_no_price():
    assert estimate(VideoJob("new", {"multi_prompt": "x", "duration": 5}), {"new": Decimal(1)}) is None
