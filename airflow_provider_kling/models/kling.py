"""The models of Kling's own API as data, in its new design: the path names the operation and the model.

Source: Kling's API pages of September 2026. The prices are units of its price list of that time; the
connection's ``unit_price_usd`` says what a unit costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from airflow_provider_kling.models.fields import Confidence, Field, Kind, Model

#: US dollars for a unit of a video pack, as of September 2026.
UNIT_PRICE = Decimal("0.14")
#: Kling's limits of shots.
MAX_SHOTS, MAX_SHOT_CHARACTERS = 6, 512
RESOLUTIONS = ("720p", "1080p", "4k")

_IMAGE = Field("image", Kind.PICTURE, note="the first frame; the video gets its aspect ratio")
_END_IMAGE = Field("end_image", Kind.PICTURE, note="the last frame")
_END_IMAGE_1080P = replace(_END_IMAGE, note="only with resolution 1080p")
_PROMPT = Field("prompt", Kind.TEXT, maximum=2500)
_LONG_PROMPT = replace(_PROMPT, maximum=3072, note="2500 characters are advised")
_TURBO_PROMPT = replace(
    _PROMPT,
    maximum=3072,
    advised=2500,
    confidence=Confidence.DISPUTED,
    note="some pages say 2500, others 3072 characters",
)
_SECONDS = Field("duration", Kind.INTEGER, minimum=3, maximum=15, default=5)
_FIVE_OR_TEN = Field("duration", Kind.INTEGER, choices=(5, 10), default=5)
_RESOLUTION = Field("resolution", Kind.TEXT, choices=RESOLUTIONS[:2], default="720p")
_RESOLUTION_4K = replace(_RESOLUTION, choices=RESOLUTIONS)
_RATIO = Field("aspect_ratio", Kind.TEXT, choices=("16:9", "9:16", "1:1"), default="16:9")
_SOUND = Field("sound", Kind.BOOLEAN, default=False)
_SOUND_1080P = replace(_SOUND, note="only with resolution 1080p")
_KEEP_SOUND = Field("keep_original_sound", Kind.BOOLEAN, default=False, note="of the video")
_SHOTS = Field(
    "multi_prompt",
    Kind.SHOTS,
    minimum=1,
    maximum=15,
    note="1 to 6 objects with prompt (at most 512 characters) and duration; the durations add up to the "
    "video's. The provider writes them into the prompt",
)
_ELEMENTS = Field(
    "element_list", Kind.LIST, maximum=3, note="ids of elements, or objects with element_id and id"
)
_VOICES = Field(
    "voice_list", Kind.LIST, maximum=2, note="ids of voices, or objects with voice_id and id; needs sound"
)
_REFERENCES = Field(
    "images", Kind.PICTURES, maximum=7, note="the prompt names them @image_1, @image_2 and so on"
)
_REFERENCE_VIDEO = Field("video", Kind.URL, note="MP4 or MOV, at most 200 MB; the prompt names it @video_1")
_REFER_TYPE = Field(
    "refer_type",
    Kind.TEXT,
    choices=("feature", "base"),
    note="what the video is: a model for style and motion, or to edit",
)
_MOTION_VIDEO = Field(
    "video", Kind.URL, note="MP4 or MOV, at most 100 MB, sides of 340 to 3850 px, 3 to 30 s"
)
_ORIENTATION = Field("character_orientation", Kind.TEXT, choices=("image", "video"))
_CALLBACK = Field("callback_url", Kind.URL, note="Kling calls it at each change of status, see callbacks.md")

_IMAGE_NEEDED = ("image",)
_PROMPT_OR_SHOTS = ("prompt", "multi_prompt")
_MOTION_NEEDS = ("image", "video", "character_orientation")
#: What Kling's own API lacks, and what to do instead.
LACKS = {
    "negative_prompt": "Kling's own API has none: say in the prompt what must not happen",
    "cfg_scale": "Kling's own API has none: leave it out",
    "mode": "on Kling's own API resolution takes its place: 720p for std, 1080p for pro",
    "model_name": "on Kling's own API resolution takes its place: 720p for std, 1080p for pro",
    "fast_mode": "Kling's own API has none: leave it out",
}


def _units(**variants: str) -> dict[str, dict[str, Decimal]]:
    """Return units a second by variant and resolution; in the arguments, from 720p upwards."""
    return {
        variant: {r: Decimal(u) for r, u in zip(RESOLUTIONS, units.split(), strict=False) if u != "-"}
        for variant, units in variants.items()
    }


def shots_as_text(shots: Iterable[Mapping[str, Any]]) -> str:
    """Return shots as Kling reads them in a prompt."""
    return " ".join(f"shot {n}, {shot['duration']}, {shot['prompt']};" for n, shot in enumerate(shots, 1))


_TURBO_UNITS = _units(silent="0.8 1.0")  # sound is always made
_V3_UNITS = _units(silent="0.6 0.8 3.0", sound="0.9 1.2 3.0")
_OMNI_UNITS = _units(silent="0.6 0.8 3.0", sound="0.8 1.0 3.0", video="0.9 1.2 3.0")
_O1_UNITS = _units(silent="0.6 0.8", video="0.9 1.2")
_V26_UNITS = _units(silent="0.3 0.5", sound="- 1.0", voice="- 1.2")
_V25_UNITS = _units(silent="0.3 0.5")


def _given(body: Mapping[str, Any], *names: str) -> bool:
    return all(body.get(name) not in (None, False, "", []) for name in names)


def _check_v26(body: Mapping[str, Any]) -> Iterator[str]:
    if _given(body, "sound") and body.get("resolution") != "1080p":
        yield "sound needs resolution='1080p'"
    if _given(body, "voice_list") and not _given(body, "sound"):
        yield "voice_list needs sound=True"
    yield from _check_last_frame(body)


def _check_last_frame(body: Mapping[str, Any]) -> Iterator[str]:
    if _given(body, "end_image") and body.get("resolution") != "1080p":
        yield "end_image needs resolution='1080p'"


def _check_omni(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the materials of 3.0 Omni and O1."""
    references = len(body.get("images") or ()) + len(body.get("element_list") or ())
    if _given(body, "end_image") and not _given(body, "image"):
        yield "end_image needs image"
    if not _given(body, "video"):
        if _given(body, "refer_type") or _given(body, "keep_original_sound"):
            yield "refer_type and keep_original_sound need video"
        if references > 7:
            yield f"images and element_list have {references} entries; together at most 7 are allowed"
        return
    if references > 4:
        yield f"images and element_list have {references} entries; with video together at most 4 are allowed"
    yield from _check_reference_video(body)


def _check_reference_video(body: Mapping[str, Any]) -> Iterator[str]:
    if body.get("refer_type") == "feature" and _given(body, "keep_original_sound"):
        yield "refer_type='feature' excludes keep_original_sound"
    if not _given(body, "refer_type"):
        yield "video needs refer_type: 'feature' or 'base'"
    if _given(body, "sound"):
        yield "video and sound exclude each other"
    if body.get("refer_type") == "base":
        if _given(body, "image") or _given(body, "end_image"):
            yield "refer_type='base' excludes image and end_image"
        if _given(body, "multi_prompt"):
            yield "refer_type='base' excludes multi_prompt"


def _check_v3_omni(body: Mapping[str, Any]) -> Iterator[str]:
    yield from _check_omni(body)
    if _given(body, "image") and len(body.get("element_list") or ()) > 3:
        yield "with image, element_list takes at most 3 entries"


def _check_o1(body: Mapping[str, Any]) -> Iterator[str]:
    yield from _check_omni(body)
    if _given(body, "image", "end_image") and (_given(body, "images") or _given(body, "element_list")):
        yield "with image and end_image, neither images nor element_list are allowed"
    if _given(body, "video", "end_image") and body.get("refer_type") == "feature":
        yield "refer_type='feature' excludes end_image"
    alone = _given(body, "image") and not any(map(body.get, ("end_image", "images", "element_list", "video")))
    if alone and body.get("duration", 5) not in (5, 10):
        yield f"duration={body['duration']}: with image alone it must be 5 or 10"


def _model(operation: str, name: str, *fields: Field, **facts: Any) -> Model:
    lacks = LACKS
    if name == "kling-3.0-turbo":
        lacks = {**LACKS, "sound": "3.0 Turbo always makes sound: leave it out"}
    return Model(
        f"{operation}/{name}",
        (*fields, _CALLBACK),
        source="Kling",
        picture_form="base64",
        picture_form_confidence=Confidence.DOCUMENTED,
        max_picture_bytes=50 * 1000**2,
        max_video_bytes=(100 if operation == "motion-control" else 200) * 1000**2,
        lacks=lacks,
        **facts,
    )


_OMNI = (_IMAGE, _END_IMAGE, _REFERENCES, _REFERENCE_VIDEO, _REFER_TYPE, _KEEP_SOUND)
MODELS: dict[str, Model] = {
    model.slug: model
    for model in [
        _model(
            "image-to-video",
            "kling-3.0",
            *(_IMAGE, _LONG_PROMPT, _SECONDS, _RESOLUTION_4K, _SOUND, _END_IMAGE, _SHOTS, _ELEMENTS),
            required=_IMAGE_NEEDED,
            exactly_one=_PROMPT_OR_SHOTS,
            units=_V3_UNITS,
        ),
        _model(
            "text-to-video",
            "kling-3.0",
            *(_LONG_PROMPT, _SECONDS, _RESOLUTION_4K, _SOUND, _RATIO, _SHOTS),
            exactly_one=_PROMPT_OR_SHOTS,
            units=_V3_UNITS,
        ),
        _model(
            "image-to-video",
            "kling-3.0-turbo",
            *(_IMAGE, _TURBO_PROMPT, _SECONDS, _RESOLUTION, _SHOTS),
            required=_IMAGE_NEEDED,
            exactly_one=_PROMPT_OR_SHOTS,
            units=_TURBO_UNITS,
        ),
        _model(
            "text-to-video",
            "kling-3.0-turbo",
            *(_TURBO_PROMPT, _SECONDS, _RESOLUTION, _RATIO, _SHOTS),
            exactly_one=_PROMPT_OR_SHOTS,
            units=_TURBO_UNITS,
        ),
        _model(
            "omni-video",
            "kling-3.0-omni",
            *(_LONG_PROMPT, *_OMNI, _SECONDS, _RESOLUTION_4K, _RATIO, _SOUND, _SHOTS),
            replace(_ELEMENTS, maximum=7),
            exactly_one=_PROMPT_OR_SHOTS,
            check=_check_v3_omni,
            units=_OMNI_UNITS,
        ),
        _model(
            "omni-video",
            "kling-o1",
            *(_PROMPT, *_OMNI, replace(_SECONDS, maximum=10), _RESOLUTION, _RATIO),
            replace(_ELEMENTS, maximum=7),
            required=("prompt",),
            check=_check_o1,
            units=_O1_UNITS,
        ),
        _model(
            "motion-control",
            "kling-3.0",
            *(_IMAGE, _MOTION_VIDEO, _ORIENTATION, _PROMPT, _RESOLUTION),
            *(replace(_KEEP_SOUND, default=True), replace(_ELEMENTS, maximum=1)),
            required=_MOTION_NEEDS,
            units=_units(silent="0.9 1.2"),
        ),
        _model(
            "motion-control",
            "kling-2.6",
            *(_IMAGE, _MOTION_VIDEO, _ORIENTATION, _PROMPT, _RESOLUTION, replace(_KEEP_SOUND, default=True)),
            required=_MOTION_NEEDS,
            units=_units(silent="0.5 0.8"),
        ),
        _model(
            "image-to-video",
            "kling-2.6",
            *(_IMAGE, _PROMPT, _FIVE_OR_TEN, _RESOLUTION, _SOUND_1080P, _VOICES, _END_IMAGE_1080P),
            required=("image", "prompt"),
            check=_check_v26,
            units=_V26_UNITS,
        ),
        _model(
            "text-to-video",
            "kling-2.6",
            *(_PROMPT, _FIVE_OR_TEN, _RESOLUTION, _RATIO, _SOUND_1080P),
            required=("prompt",),
            check=_check_v26,
            units=_V26_UNITS,
        ),
        _model(
            "image-to-video",
            "kling-2.5-turbo",
            *(_IMAGE, _PROMPT, _FIVE_OR_TEN, _RESOLUTION, _END_IMAGE_1080P),
            required=("image", "prompt"),
            check=_check_last_frame,
            units=_V25_UNITS,
        ),
        _model(
            "text-to-video",
            "kling-2.5-turbo",
            *(_PROMPT, _FIVE_OR_TEN, _RESOLUTION, _RATIO),
            required=("prompt",),
            units=_V25_UNITS,
        ),
    ]
}
#: The models whose settings have `multi_shot`. Its default is true: a job of one shot says false.
HAS_MULTI_SHOT = ("image-to-video/kling-3.0", "text-to-video/kling-3.0", "omni-video/kling-3.0-omni")
