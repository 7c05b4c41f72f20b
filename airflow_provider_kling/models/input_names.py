"""The names of the inputs of all models, in Kling's own words: the operators' arguments."""

INPUTS = (
    "image",
    "prompt",
    "negative_prompt",
    "duration",
    "cfg_scale",
    "sound",
    "end_image",
    "multi_prompt",
    "aspect_ratio",
    "video",
    "character_orientation",
    "keep_original_sound",
    "model_name",
    "voice_list",
    "mode",
    "images",
    "fast_mode",
    "resolution",
    "refer_type",
    "element_list",
    "callback_url",
)
#: The inputs that hold pictures, a video, and free text.
PICTURE_INPUTS = ("image", "end_image", "images")
VIDEO_INPUT = "video"
MEDIA_INPUTS = (*PICTURE_INPUTS, VIDEO_INPUT)
TEXT_INPUTS = ("prompt", "negative_prompt", "multi_prompt")
