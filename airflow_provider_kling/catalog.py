"""Kling's models as data: their fields, limits and list prices.

The rules that read this data live in :mod:`airflow_provider_kling.validation`.

Source of all figures: the gateway's public model pages (MyRouter, and its sister hosts Novita AI and
PPIO for the models that only those list) and Novita's public price list, as of 2026.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Literal


class Kind(Enum):
    """What a field holds, in the words of an error message."""

    TEXT = "a text"
    WHOLE = "a whole number"
    NUMBER = "a number"
    FLAG = "true or false"
    PICTURE = "a picture (URL, data URI, base64 or a path)"
    PICTURES = "a list of pictures"
    LINK = "a URL"
    LIST = "a list"
    SHOTS = "a list of shots (all texts, or all objects with a prompt and a duration)"


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a model.

    :param name: the operator's word for it; the same for all models.
    :param kind: what it holds.
    :param wire: this model's own word for it, where that differs.
    :param minimum: smallest number, or fewest entries of a list.
    :param maximum: largest number, most characters of a text, or most entries of a list.
    :param choices: the values allowed, where they are few.
    :param as_text: the model wants the number as a JSON string.
    """

    name: str
    kind: Kind
    wire: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str | int, ...] = ()
    as_text: bool = False

    @property
    def wire_name(self) -> str:
        """The JSON key of this field."""
        return self.wire or self.name


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the family.

    :param slug: its name in the gateway's path.
    :param fields: its inputs.
    :param required: names of the fields it cannot do without.
    :param exactly_one: names of fields of which exactly one must be given.
    :param excludes: pairs of fields that must not be given together.
    :param price: US dollars a second without sound, or None where no price is published.
    :param sound_by_default: the model adds sound unless told otherwise.
    :param picture_form: how a picture's data goes: ``data_uri``, ``base64`` (bare), or ``url`` (not at all).
    """

    slug: str
    fields: tuple[Field, ...]
    required: tuple[str, ...] = ()
    exactly_one: tuple[str, ...] = ()
    excludes: tuple[tuple[str, str], ...] = ()
    price: Decimal | None = None
    sound_by_default: bool = False
    picture_form: Literal["data_uri", "base64", "url"] = "data_uri"

    def field(self, name: str) -> Field | None:
        """Return the field that the operator or the model calls *name*, or None."""
        return next((f for f in self.fields if name in (f.name, f.wire_name)), None)


SOUND_FACTOR = Decimal("1.5")
DEFAULT_DURATION = 5
DEFAULT_MODEL = "kling-v3.0-pro-i2v"

_IMAGE = Field("image", Kind.PICTURE)
_END_IMAGE = Field("end_image", Kind.PICTURE)
_VIDEO = Field("video", Kind.LINK)
_PROMPT = Field("prompt", Kind.TEXT, maximum=2500)
_NEGATIVE = Field("negative_prompt", Kind.TEXT, maximum=2500)
_SECONDS = Field("duration", Kind.WHOLE, minimum=3, maximum=15)
_FIVE_OR_TEN = Field("duration", Kind.WHOLE, choices=(5, 10))
_FIVE_OR_TEN_TEXT = replace(_FIVE_OR_TEN, as_text=True)
_CFG = Field("cfg_scale", Kind.NUMBER, minimum=0, maximum=1)
_GUIDANCE = replace(_CFG, wire="guidance_scale")
_SOUND = Field("sound", Kind.FLAG)
_SHOTS = Field("multi_prompt", Kind.SHOTS, minimum=1)
_RATIO = Field("aspect_ratio", Kind.TEXT, choices=("16:9", "9:16", "1:1"))
_KEEP_SOUND = Field("keep_original_sound", Kind.FLAG)
_ORIENTATION = Field("character_orientation", Kind.TEXT, choices=("image", "video"))
_MODE_PRO = Field("mode", Kind.TEXT, choices=("pro",))
_MODE = Field("mode", Kind.TEXT, choices=("Standard", "Professional"))
_SHORT_PROMPTS = (replace(_PROMPT, maximum=2000), replace(_NEGATIVE, maximum=2000))

_V3_TEXT = (_PROMPT, _NEGATIVE, _SECONDS, _CFG, _SOUND)
_V3_IMAGE = (_IMAGE, *_V3_TEXT, _END_IMAGE, _SHOTS)
_V26_TEXT = (_PROMPT, _NEGATIVE, _FIVE_OR_TEN, _CFG, _SOUND, _RATIO)
_VOICES = Field("voice_list", Kind.LIST, maximum=2)
_MOTION = (_IMAGE, _VIDEO, _ORIENTATION, _KEEP_SOUND, _PROMPT, _NEGATIVE)
_MOTION_NEEDS = ("image", "video", "character_orientation")
_NAME_V3 = Field("model_name", Kind.TEXT, choices=("kling-v3-0-std", "kling-v3-0-pro"))
_TURBO = (_PROMPT, _NEGATIVE, _FIVE_OR_TEN_TEXT, _CFG, _MODE_PRO)
_V21 = (_PROMPT, _NEGATIVE, _FIVE_OR_TEN_TEXT, _GUIDANCE)
_V16 = (*_SHORT_PROMPTS, _FIVE_OR_TEN, _GUIDANCE, _MODE)
_V16_IMAGES = (replace(_IMAGE, wire="image_url"), replace(_END_IMAGE, wire="end_image_url"))

_STD, _PRO, _REF = Decimal("0.084"), Decimal("0.112"), Decimal("0.168")
_PROMPT_OR_SHOTS = ("prompt", "multi_prompt")
_SHOTS_OR_END = ("multi_prompt", "end_image")
_BOTH = ("image", "prompt")


def _by_slug(models: Iterable[Model]) -> dict[str, Model]:
    return {model.slug: model for model in models}


MODELS = _by_slug(
    [
        Model(
            "kling-v3.0-pro-i2v",
            _V3_IMAGE,
            required=("image",),
            exactly_one=_PROMPT_OR_SHOTS,
            excludes=(_SHOTS_OR_END,),
            price=_PRO,
        ),
        Model("kling-v3.0-std-i2v", _V3_IMAGE, required=_BOTH, excludes=(_SHOTS_OR_END,), price=_STD),
        Model("kling-v3.0-4k-i2v", _V3_IMAGE, required=_BOTH, excludes=(_SHOTS_OR_END,)),
        Model("kling-v3.0-pro-t2v", (*_V3_TEXT, _RATIO, _SHOTS), exactly_one=_PROMPT_OR_SHOTS, price=_PRO),
        Model("kling-v3.0-std-t2v", (*_V3_TEXT, _RATIO), required=("prompt",), price=_STD),
        Model("kling-v3.0-4k-t2v", (*_V3_TEXT, _RATIO), required=("prompt",)),
        Model("kling-v3.0-motion-control", (*_MOTION, _NAME_V3), required=_MOTION_NEEDS),
        Model(
            "kling-v2.6-pro-i2v",
            (_IMAGE, _END_IMAGE, *_V26_TEXT, _VOICES),
            required=_BOTH,
            sound_by_default=True,
        ),
        Model("kling-v2.6-pro-t2v", _V26_TEXT, required=("prompt",), sound_by_default=True),
        Model("kling-v2.6-pro-motion-control", _MOTION, required=_MOTION_NEEDS),
        Model("kling-2.5-turbo-i2v", (_IMAGE, _END_IMAGE, *_TURBO), required=_BOTH, picture_form="base64"),
        Model("kling-2.5-turbo-t2v", (*_TURBO, _RATIO), required=("prompt",)),
        Model("kling-v2.1-i2v", (_IMAGE, _END_IMAGE, *_V21, _MODE), required=_BOTH),
        Model("kling-v2.1-i2v-master", (_IMAGE, *_V21), required=_BOTH),
        Model("kling-v2.1-t2v-master", (*_V21, _RATIO), required=("prompt",)),
        Model("kling-v1.6-i2v", (*_V16_IMAGES, *_V16), required=_BOTH),
        Model("kling-v1.6-t2v", (*_V16, _RATIO), required=("prompt",)),
        Model(
            "kling-o1-i2v",
            (_IMAGE, replace(_END_IMAGE, wire="last_image"), _PROMPT, _FIVE_OR_TEN, _RATIO),
            required=_BOTH,
            price=_PRO,
        ),
        Model("kling-o1-t2v", (_PROMPT, _FIVE_OR_TEN, _RATIO), required=("prompt",), price=_PRO),
        Model(
            "kling-o1-ref2v",
            (
                _PROMPT,
                _VIDEO,
                Field("images", Kind.PICTURES, maximum=7),
                replace(_SECONDS, maximum=10),
                _RATIO,
                _KEEP_SOUND,
            ),
            required=("prompt",),
            price=_REF,
        ),
        Model(
            "kling-o1-video-edit",
            (
                _PROMPT,
                _VIDEO,
                Field("images", Kind.PICTURES, maximum=4),
                Field("fast_mode", Kind.FLAG),
                _RATIO,
                _KEEP_SOUND,
            ),
            required=("prompt", "video"),
        ),
    ]
)

#: The inputs of all models in Kling's own words: the operators' arguments.
INPUTS = tuple(dict.fromkeys(field.name for model in MODELS.values() for field in model.fields))
