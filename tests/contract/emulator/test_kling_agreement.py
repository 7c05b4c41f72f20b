"""Our validation for Kling's own API and the emulator's were written separately, and agree.

Each request that our side accepts is accepted by the emulator, as we send it, and costs what we estimate.
Each one that the emulator accepts is accepted by our side, but for rules about arguments that only we have.
"""

from decimal import Decimal
from itertools import combinations, product

import pytest
from emulator_without_socket import EmulatorWithoutSocket
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airflow_provider_kling.emulator.kling.models import MODELS as THEIRS
from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.gateways import kling
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.kling import MODELS as OURS
from airflow_provider_kling.models.prices import estimate
from airflow_provider_kling.models.validation import build_job

PICTURE, CLIP = "https://p.example/a.png", "https://p.example/a.mp4"
UNIT = Decimal("0.14")
REFERS = ("feature", "base")
VALUES = {
    "prompt": ["a cat", "ü" * 2500, "ü" * 2501, "ü" * 3072, "ü" * 3073],
    "duration": range(2, 17),
    "sound": [True, False],
    "keep_original_sound": [True, False],
    "resolution": ["720p", "1080p", "4k", "8k"],
    "aspect_ratio": ["16:9", "9:16", "1:1", "4:3"],
    "character_orientation": ["image", "video", "both"],
    "refer_type": REFERS,
    "image": [PICTURE],
    "end_image": [PICTURE],
    "images": [[PICTURE] * count for count in (1, 4, 5, 7, 8)],
    "video": [CLIP, "a.mp4"],
    "element_list": [[f"e{n}" for n in range(count)] for count in (1, 2, 3, 4, 7, 8)],
    "voice_list": [["v"], ["v", "w"], ["v", "w", "x"]],
    "multi_prompt": [
        [{"prompt": "one", "duration": 2}, {"prompt": "two", "duration": 3}],
        [{"prompt": "one", "duration": 5}] * 2,
        [{"prompt": "one", "duration": 1}] * 6,
        [{"prompt": "one", "duration": 1}] * 7,
        [{"prompt": "x" * 512, "duration": 5}],
        [{"prompt": "x" * 513, "duration": 5}],
    ],
    "callback_url": ["https://c.example/done", "done"],
}
HELPS = {
    ("image-to-video", "voice_list"): {"sound": True, "resolution": "1080p"},
    ("omni-video", "keep_original_sound"): {"video": CLIP, "refer_type": "base"},
}
LEAST = {
    "text-to-video": {"prompt": "a cat"},
    "image-to-video": {"prompt": "a cat", "image": PICTURE},
    "omni-video": {"prompt": "a cat"},
    "motion-control": {"image": PICTURE, "video": CLIP, "character_orientation": "video"},
}


@pytest.fixture(scope="module")
def service():
    """The emulator as Kling's own API."""
    with EmulatorWithoutSocket.running(strict=True) as emulator:
        yield emulator


def submit(service, job):
    """Return the job that the emulator creates, or None and why there is none."""
    answer = service.post(f"/{job.model}", kling.submit(job).body)
    return (service.newest, "") if answer["code"] == 0 else (None, answer["message"])


def is_ours_alone(path, inputs):
    """Return whether only our side has a rule about these inputs: in Kling's words they cannot be said."""
    refers, video = inputs.get("refer_type"), inputs.get("video")
    both_prompts = {"prompt", "multi_prompt"} <= inputs.keys()
    unsaid = not video and (refers or inputs.get("keep_original_sound") is not None)
    both_sounds = inputs.get("sound") and inputs.get("keep_original_sound")  # Kling has one field for them
    return (
        both_prompts
        or both_sounds
        or (path.startswith("omni-video") and (unsaid or (video and refers not in REFERS)))
    )


def agreed(service, path, inputs):
    """Hold both sides to each other, and return whether they accept the request."""
    try:
        checked, why_not = build_job(path, inputs)[0], ""
    except KlingInputError as refused:
        checked, why_not = None, refused.what
    bought, refusal = submit(service, checked or VideoJob(path, inputs))
    assert bool(checked) == bool(bought), (path, inputs, why_not, refusal)
    if bought:
        assert not bought.unknown_fields
        cost = estimate(checked, None, UNIT)
        follows_the_video = path.startswith("motion-control") or inputs.get("refer_type") == "base"
        assert cost == (None if follows_the_video else bought.units * UNIT), (path, inputs)
    return bool(bought)


def mixtures(path):
    """Yield inputs with each value of each input alone, and with each value of each two."""
    names, least = [field.name for field in OURS[path].fields], LEAST[path.partition("/")[0]]
    for one, other in combinations([*names, ""], 2):
        for first, second in product(VALUES[one], VALUES[other] if other else [None]):
            more = {other: second} if other else HELPS.get((path.partition("/")[0], one), {})
            inputs = least | {one: first} | more
            if "multi_prompt" in inputs and "prompt" not in (one, other):
                inputs.pop("prompt", None)
            if not is_ours_alone(path, inputs):
                yield inputs


def test_both_have_the_same_models():
    assert THEIRS.keys() == OURS.keys()
    assert VALUES.keys() == {field.name for model in OURS.values() for field in model.fields}


@pytest.mark.parametrize("path", sorted(THEIRS))
def test_they_agree_on_every_value_of_every_input_and_of_every_two(service, path):
    seen = {(name, agreed(service, path, inputs)) for inputs in mixtures(path) for name in inputs}
    assert seen >= {(field.name, True) for field in OURS[path].fields}


@st.composite
def materials(draw):
    """Draw inputs of the models that take all kinds of material."""
    path = draw(st.sampled_from(["omni-video/kling-3.0-omni", "omni-video/kling-o1"]))
    names = [field.name for field in OURS[path].fields if field.name != "callback_url"]
    names = draw(st.lists(st.sampled_from(names), max_size=7, unique=True))
    inputs = {name: draw(st.sampled_from(VALUES[name])) for name in names}
    return path, inputs if "multi_prompt" in inputs else {"prompt": "a cat"} | inputs


@settings(max_examples=1000)
@given(materials())
def test_they_agree_on_any_mixture_of_materials(service, drawn):
    assume(not is_ours_alone(*drawn))
    agreed(service, *drawn)
