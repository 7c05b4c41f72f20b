"""MyRouter's models as data: inputs, limits, defaults and list prices, and how well each is known.

:mod:`airflow_provider_kling.models.validation` checks requests with this data. ``docs/models.md`` is
generated from it.

Sources: the public model pages of MyRouter; for models that MyRouter does not list, those of its sister hosts
Novita AI and PPIO. The prices are Novita's list prices, as of 2026. A default is what the service takes if an
input is not sent; the provider never sends a default.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from airflow_provider_kling.models.fields import Confidence, Field, Kind, Model

SOUND_FACTOR = Decimal("1.5")
#: Seconds of a shot without a duration.
DEFAULT_SHOT_SECONDS = 5
DEFAULT_MODEL = "kling-v3.0-pro-i2v"

_IMAGE = Field("image", Kind.PICTURE)
_IMAGE_OR_BASE64 = replace(_IMAGE, note="a URL or base64")
_END_IMAGE = Field("end_image", Kind.PICTURE)
_PROMPT = Field("prompt", Kind.TEXT, maximum=2500)
_PLAIN_PROMPT = replace(_PROMPT, confidence=Confidence.INFERRED, note="the page gives no limit")
_NEGATIVE = Field("negative_prompt", Kind.TEXT, maximum=2500)
_SECONDS = Field("duration", Kind.INTEGER, minimum=3, maximum=15, default=5)
_FIVE_OR_TEN = Field("duration", Kind.INTEGER, choices=(5, 10), default=5)
_FIVE_OR_TEN_TEXT = replace(_FIVE_OR_TEN, as_text=True)
_CFG = Field("cfg_scale", Kind.NUMBER, minimum=0, maximum=1, default=0.5)
_CFG_V3 = replace(_CFG, confidence=Confidence.DISPUTED, note="MyRouter prints no default")
_CFG_V26 = replace(_CFG, default=None)
_GUIDANCE = replace(_CFG, gateway_name="guidance_scale")
_SOUND = Field("sound", Kind.BOOLEAN, default=False, note="raises the price by half")
_SHOTS = Field(
    "multi_prompt",
    Kind.SHOTS,
    minimum=1,
    confidence=Confidence.DISPUTED,
    note="some pages show objects, others texts; Kling takes 1 to 6 shots of at most 512 characters, whose "
    "durations add up to the video's",
)
_SHOTS_3_TO_15 = replace(
    _SHOTS,
    minimum=3,
    maximum=15,
    confidence=Confidence.DOCUMENTED,
    note="documented as objects; a shot without a duration lasts 5 s",
)
_RATIO = Field("aspect_ratio", Kind.TEXT, choices=("16:9", "9:16", "1:1"), default="16:9")
_KEEP_SOUND = Field("keep_original_sound", Kind.BOOLEAN, default=True)
_MODE_PRO = Field("mode", Kind.TEXT, choices=("pro",), default="pro")
_MODE = Field("mode", Kind.TEXT, choices=("Standard", "Professional"), default="Standard")
_VOICES = Field("voice_list", Kind.LIST, maximum=2, note="ids of voices")
_SHORT_PROMPTS = (replace(_PROMPT, maximum=2000), replace(_NEGATIVE, maximum=2000))
_VIDEO = Field("video", Kind.URL)

_V3_TEXT = (_PROMPT, _NEGATIVE, _SECONDS, _CFG_V3, _SOUND)
_V3_IMAGE = (_IMAGE, *_V3_TEXT, _END_IMAGE, _SHOTS_3_TO_15)
_V3_PRO_IMAGE = (_IMAGE, *_V3_TEXT, replace(_END_IMAGE, note="documented as a URL"), _SHOTS)
_V26_TEXT = (_PROMPT, _NEGATIVE, _FIVE_OR_TEN, _CFG_V26, replace(_SOUND, default=True))
_MOTION = (
    _IMAGE_OR_BASE64,
    replace(_VIDEO, note=".mp4 or .mov, at most 10 MB, sides of at least 300 px, 3 to 30 s"),
    Field("character_orientation", Kind.TEXT, choices=("image", "video")),
    _KEEP_SOUND,
    _PROMPT,
    _NEGATIVE,
)
_MOTION_NEEDS = ("image", "video", "character_orientation")
_MODEL_NAME = Field(
    "model_name",
    Kind.TEXT,
    choices=("kling-v3-0-std", "kling-v3-0-pro"),
    default="kling-v3-0-std",
    confidence=Confidence.DISPUTED,
    note="the page calls it required, and gives a default",
)
_TURBO = (_PROMPT, _NEGATIVE, _FIVE_OR_TEN_TEXT, _CFG, _MODE_PRO)
_V21 = (_PROMPT, _NEGATIVE, _FIVE_OR_TEN_TEXT, _GUIDANCE)
_V16 = (*_SHORT_PROMPTS, _FIVE_OR_TEN, _GUIDANCE)
_V16_IMAGES = (replace(_IMAGE, gateway_name="image_url"), replace(_END_IMAGE, gateway_name="end_image_url"))
_REFERENCES = Field("images", Kind.PICTURES, maximum=7)

_STD, _PRO, _REF = Decimal("0.084"), Decimal("0.112"), Decimal("0.168")
_PROMPT_OR_SHOTS = ("prompt", "multi_prompt")
_SHOTS_OR_END = ("multi_prompt", "end_image")
_IMAGE_AND_PROMPT, _PROMPT_ONLY = ("image", "prompt"), ("prompt",)


def _by_slug(models: Iterable[Model]) -> dict[str, Model]:
    return {model.slug: model for model in models}


MODELS = _by_slug(
    [
        Model(
            "kling-v3.0-pro-i2v",
            _V3_PRO_IMAGE,
            required=("image",),
            exactly_one=_PROMPT_OR_SHOTS,
            excludes=(_SHOTS_OR_END,),
            price=_PRO,
            picture_form_confidence=Confidence.SEEN,
        ),
        Model(
            "kling-v3.0-std-i2v",
            _V3_IMAGE,
            required=_IMAGE_AND_PROMPT,
            excludes=(_SHOTS_OR_END,),
            price=_STD,
            picture_form_confidence=Confidence.SEEN,
        ),
        Model(
            "kling-v3.0-4k-i2v",
            _V3_IMAGE,
            required=_IMAGE_AND_PROMPT,
            excludes=(_SHOTS_OR_END,),
            source="sister hosts",
            picture_form="url",
            picture_form_confidence=Confidence.SEEN,
        ),
        Model("kling-v3.0-pro-t2v", (*_V3_TEXT, _RATIO, _SHOTS), exactly_one=_PROMPT_OR_SHOTS, price=_PRO),
        Model("kling-v3.0-std-t2v", (*_V3_TEXT, _RATIO), required=_PROMPT_ONLY, price=_STD),
        Model("kling-v3.0-4k-t2v", (*_V3_TEXT, _RATIO), required=_PROMPT_ONLY, source="sister hosts"),
        Model(
            "kling-v3.0-motion-control",
            (*_MOTION, _MODEL_NAME),
            required=_MOTION_NEEDS,
            source="sister hosts",
        ),
        Model("kling-v2.6-pro-i2v", (_IMAGE, *_V26_TEXT, _RATIO, _VOICES), required=_IMAGE_AND_PROMPT),
        Model(
            "kling-v2.6-pro-t2v",
            (*_V26_TEXT, replace(_RATIO, default="1:1")),
            required=_PROMPT_ONLY,
            source="sister hosts",
        ),
        Model("kling-v2.6-pro-motion-control", _MOTION, required=_MOTION_NEEDS),
        Model(
            "kling-2.5-turbo-i2v",
            (_IMAGE, *_TURBO),
            required=_IMAGE_AND_PROMPT,
            picture_form="base64",
            picture_form_confidence=Confidence.SEEN,
        ),
        Model("kling-2.5-turbo-t2v", (*_TURBO, _RATIO), required=_PROMPT_ONLY, source="sister hosts"),
        Model("kling-v2.1-i2v", (_IMAGE, *_V21, _MODE), required=_IMAGE_AND_PROMPT),
        Model("kling-v2.1-i2v-master", (_IMAGE, *_V21), required=_IMAGE_AND_PROMPT),
        Model("kling-v2.1-t2v-master", (*_V21, _RATIO), required=_PROMPT_ONLY),
        Model(
            "kling-v1.6-i2v",
            (*_V16_IMAGES, *_V16, _MODE),
            required=_IMAGE_AND_PROMPT,
            needs=(("end_image", "mode", "Professional"),),
            source="sister hosts",
        ),
        Model("kling-v1.6-t2v", (*_V16, replace(_MODE, choices=("Standard",))), required=_PROMPT_ONLY),
        Model(
            "kling-o1-i2v",
            (_IMAGE_OR_BASE64, replace(_END_IMAGE, gateway_name="last_image"), _PROMPT, _FIVE_OR_TEN, _RATIO),
            required=_IMAGE_AND_PROMPT,
            price=_PRO,
        ),
        Model("kling-o1-t2v", (_PROMPT, _FIVE_OR_TEN, _RATIO), required=_PROMPT_ONLY, price=_PRO),
        Model(
            "kling-o1-ref2v",
            (_PLAIN_PROMPT, _VIDEO, _REFERENCES, replace(_SECONDS, maximum=10), _RATIO, _KEEP_SOUND),
            required=_PROMPT_ONLY,
            price=_REF,
        ),
        Model(
            "kling-o1-video-edit",
            (
                _PLAIN_PROMPT,
                _VIDEO,
                replace(_REFERENCES, maximum=4),
                Field("fast_mode", Kind.BOOLEAN, default=False),
                replace(_RATIO, default=None),
                _KEEP_SOUND,
            ),
            required=("prompt", "video"),
        ),
    ]
)
