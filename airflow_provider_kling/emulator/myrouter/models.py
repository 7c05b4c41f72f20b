"""The documented models as data: their inputs and limits."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_kling.emulator.fields import Field, required

ASPECT_RATIOS = ("16:9", "9:16", "1:1")


@dataclass(frozen=True, slots=True)
class Model:
    """One model: its inputs, and rules about more than one of them."""

    fields: dict[str, Field]
    excludes: tuple[tuple[str, str], ...] = ()
    exactly_one: tuple[str, ...] = ()  # exactly one of these is required
    needs: tuple[tuple[str, str, str], ...] = ()  # (input, other, value): input requires other=value
    sound: bool = False  # the default of `sound`


PICTURE = Field("picture")
TEXT = Field("text", maximum=2500)
SHORTER_TEXT = Field("text", maximum=2000)
FLAG = Field("boolean")
URL = Field("url")
SHARE = Field("number", minimum=0, maximum=1)
RATIO = Field("text", choices=ASPECT_RATIOS)
SHOTS = Field("shots", minimum=1)  # only the pages of std and 4k document the length of a shot
SHOTS_3_TO_15 = Field("shots", minimum=3, maximum=15)
SECONDS_3_TO_15 = Field("integer", minimum=3, maximum=15)
SECONDS_3_TO_10 = Field("integer", minimum=3, maximum=10)
FIVE_OR_TEN = Field("integer", choices=(5, 10))
FIVE_OR_TEN_AS_TEXT = Field("text", choices=("5", "10"))
ORIENTATION = Field("text", choices=("image", "video"))
QUALITY = Field("text", choices=("Standard", "Professional"))

_WORDS = {"prompt": required(TEXT), "negative_prompt": TEXT}
_V3 = {**_WORDS, "duration": SECONDS_3_TO_15, "cfg_scale": SHARE, "sound": FLAG}
_V3_PICTURES = {"image": required(PICTURE), "end_image": PICTURE}
_V26 = {**_WORDS, "duration": FIVE_OR_TEN, "cfg_scale": SHARE, "sound": FLAG, "aspect_ratio": RATIO}
_V25 = {
    **_WORDS,
    "duration": FIVE_OR_TEN_AS_TEXT,
    "cfg_scale": SHARE,
    "mode": Field("text", choices=("pro",)),
}
_V21 = {**_WORDS, "duration": FIVE_OR_TEN_AS_TEXT, "guidance_scale": SHARE}
_V16 = {
    "prompt": required(SHORTER_TEXT),
    "negative_prompt": SHORTER_TEXT,
    "duration": FIVE_OR_TEN,
    "guidance_scale": SHARE,
    "mode": QUALITY,
}
_MOTION = {
    "image": required(PICTURE),
    "video": required(URL),
    "character_orientation": required(ORIENTATION),
    "keep_original_sound": FLAG,
    "prompt": TEXT,
    "negative_prompt": TEXT,
}

_PRO_I2V = Model(
    {**_V3, **_V3_PICTURES, "prompt": TEXT, "multi_prompt": SHOTS},
    excludes=(("multi_prompt", "end_image"),),
    exactly_one=("prompt", "multi_prompt"),
)
_STD_I2V = Model(
    {**_V3, **_V3_PICTURES, "multi_prompt": SHOTS_3_TO_15}, excludes=(("multi_prompt", "end_image"),)
)
_PRO_T2V = Model(
    {**_V3, "prompt": TEXT, "aspect_ratio": RATIO, "multi_prompt": SHOTS},
    exactly_one=("prompt", "multi_prompt"),
)
_STD_T2V = Model({**_V3, "aspect_ratio": RATIO})

MODELS = {
    "kling-v3.0-pro-i2v": _PRO_I2V,
    "kling-v3.0-std-i2v": _STD_I2V,
    "kling-v3.0-4k-i2v": _STD_I2V,
    "kling-v3.0-pro-t2v": _PRO_T2V,
    "kling-v3.0-std-t2v": _STD_T2V,
    "kling-v3.0-4k-t2v": _STD_T2V,
    "kling-v3.0-motion-control": Model(
        {**_MOTION, "model_name": Field("text", choices=("kling-v3-0-std", "kling-v3-0-pro"))}
    ),
    "kling-v2.6-pro-i2v": Model(
        {**_V26, "image": required(PICTURE), "voice_list": Field("list", minimum=0, maximum=2)}, sound=True
    ),
    "kling-v2.6-pro-t2v": Model(_V26, sound=True),
    "kling-v2.6-pro-motion-control": Model(_MOTION),
    "kling-2.5-turbo-i2v": Model({**_V25, "image": required(PICTURE)}),
    "kling-2.5-turbo-t2v": Model({**_V25, "aspect_ratio": RATIO}),
    "kling-v2.1-i2v": Model({**_V21, "image": required(PICTURE), "mode": QUALITY}),
    "kling-v2.1-i2v-master": Model({**_V21, "image": required(PICTURE)}),
    "kling-v2.1-t2v-master": Model({**_V21, "aspect_ratio": RATIO}),
    "kling-v1.6-i2v": Model(
        {**_V16, "image_url": required(PICTURE), "end_image_url": PICTURE},
        needs=(("end_image_url", "mode", "Professional"),),
    ),
    "kling-v1.6-t2v": Model({**_V16, "mode": Field("text", choices=("Standard",))}),
    "kling-o1-i2v": Model(
        {
            "image": required(PICTURE),
            "last_image": PICTURE,
            "prompt": required(TEXT),
            "duration": FIVE_OR_TEN,
            "aspect_ratio": RATIO,
        }
    ),
    "kling-o1-t2v": Model({"prompt": required(TEXT), "duration": FIVE_OR_TEN, "aspect_ratio": RATIO}),
    "kling-o1-ref2v": Model(
        {
            "prompt": required(TEXT),
            "video": URL,
            "images": Field("pictures", minimum=0, maximum=7),
            "duration": SECONDS_3_TO_10,
            "keep_original_sound": FLAG,
            "aspect_ratio": RATIO,
        }
    ),
    "kling-o1-video-edit": Model(
        {
            "prompt": required(TEXT),
            "video": required(URL),
            "images": Field("pictures", minimum=0, maximum=4),
            "fast_mode": FLAG,
            "keep_original_sound": FLAG,
            "aspect_ratio": RATIO,
        }
    ),
}
