"""The models of the new design as data: their settings, material and rules."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_provider_kling.emulator.fields import Field, required

RESOLUTION = Field("text", choices=("720p", "1080p"))
RESOLUTION_4K = Field("text", choices=("720p", "1080p", "4k"))
RATIO = Field("text", choices=("16:9", "9:16", "1:1"))
SECONDS_3_TO_15 = Field("integer", minimum=3, maximum=15)
SECONDS_3_TO_10 = Field("integer", minimum=3, maximum=10)
FIVE_OR_TEN = Field("integer", choices=(5, 10))
SOUND = Field("text", choices=("native", "off"))
ANY_SOUND = Field("text", choices=("native", "original", "off"))
ORIGINAL_SOUND = Field("text", choices=("original", "off"))
ORIENTATION = Field("text", choices=("image", "video"))
SHOTS = Field("boolean")


@dataclass(frozen=True, slots=True)
class Model:
    """One model of one operation. A model without settings and contents is not checked.

    `contents` holds the largest number of each type; None: `prompt` is a member of the body.
    """

    settings: dict[str, Field]
    contents: dict[str, int] | None
    needs: tuple[str, ...] = ()  # types of contents that are required
    prompt: int = 2500  # characters
    shots: bool = False  # the prompt may list shots
    sound: str = "off"  # the default of `audio`
    wants_1080p: tuple[str, ...] = ()  # `native` sound, or a type of contents, that needs 1080p


UNCHECKED = Model({}, {})
FRAMES = {"prompt": 1, "first_frame": 1, "last_frame": 1}
REFERENCES = {"refer_image": 7, "feature_video": 1, "base_video": 1, "element": 7}
MOTION = {"prompt": 1, "image": 1, "video": 1}

_V3 = {"resolution": RESOLUTION_4K, "duration": SECONDS_3_TO_15, "audio": SOUND, "multi_shot": SHOTS}
_TURBO = {"resolution": RESOLUTION, "duration": SECONDS_3_TO_15}
_V26 = {"resolution": RESOLUTION, "duration": FIVE_OR_TEN, "audio": SOUND}
_V25 = {"resolution": RESOLUTION, "duration": FIVE_OR_TEN}
_MOVES = {
    "resolution": RESOLUTION,
    "audio": ORIGINAL_SOUND,
    "character_orientation": required(ORIENTATION),
}

_MOTION = Model(_MOVES, MOTION, ("image", "video"), sound="original")
MODELS = {
    "text-to-video/kling-3.0-turbo": Model(
        {**_TURBO, "aspect_ratio": RATIO}, None, prompt=3072, shots=True, sound="native"
    ),
    "text-to-video/kling-3.0": Model({**_V3, "aspect_ratio": RATIO}, None, prompt=3072, shots=True),
    "text-to-video/kling-2.6": Model({**_V26, "aspect_ratio": RATIO}, None, wants_1080p=("native",)),
    "text-to-video/kling-2.5-turbo": Model({**_V25, "aspect_ratio": RATIO}, None),
    "image-to-video/kling-3.0-turbo": Model(
        _TURBO, {"prompt": 1, "first_frame": 1}, ("first_frame",), prompt=3072, shots=True, sound="native"
    ),
    "image-to-video/kling-3.0": Model(
        _V3, {**FRAMES, "element": 3}, ("first_frame",), prompt=3072, shots=True
    ),
    "image-to-video/kling-2.6": Model(
        _V26, {**FRAMES, "voice": 2}, ("first_frame",), wants_1080p=("native", "last_frame")
    ),
    "image-to-video/kling-2.5-turbo": Model(_V25, FRAMES, ("first_frame",), wants_1080p=("last_frame",)),
    "omni-video/kling-3.0-omni": Model(
        {**_V3, "aspect_ratio": RATIO, "audio": ANY_SOUND},
        FRAMES | REFERENCES,
        ("prompt",),
        prompt=3072,
        shots=True,
    ),
    "omni-video/kling-o1": Model(
        {
            "resolution": RESOLUTION,
            "duration": SECONDS_3_TO_10,
            "aspect_ratio": RATIO,
            "audio": ORIGINAL_SOUND,
        },
        FRAMES | REFERENCES,
        ("prompt",),
    ),
    "motion-control/kling-3.0": replace(_MOTION, contents={**MOTION, "element": 1}),
    "motion-control/kling-2.6": _MOTION,
}
