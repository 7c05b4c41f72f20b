"""Real videos: a slow camera move over the caller's own picture."""

from __future__ import annotations

import io
import math
from array import array
from fractions import Fraction
from hashlib import sha256
from textwrap import fill
from typing import TYPE_CHECKING

import av
from PIL import Image, ImageDraw, ImageFont, ImageOps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

    from av.audio.stream import AudioStream
    from av.container import OutputContainer

    from airflow_provider_kling.emulator.render_request import RenderRequest

FPS = 24
LONGEST_SIDE = 960
ZOOM = 0.16  # share of the picture that is cut off at the end of the move
OVERSIZE = 1.2  # for speed, pictures are first scaled to this multiple of the frame
SOUND_RATE = 44_100
CHORD = (220, 277, 330, 440)  # hertz; whole numbers, so that one second can be repeated
BLOCK = 1024
FADE = 0.5  # seconds
END_SHARE = 0.35  # share of the video in which the last picture fades in


class StoppedError(Exception):
    """The render queue closes before the video is finished."""


def render(request: RenderRequest, path: Path, stop: Event) -> None:
    """Render a video into an mp4 file, under a temporary name until it is complete."""
    draft = path.with_suffix(".part")
    first = (
        open_picture(request.first) if request.first else draw_picture(request.prompt, request.aspect_ratio)
    )
    size = frame_size(first.size)
    last = ImageOps.fit(open_picture(request.last), size) if request.last else None
    with av.open(str(draft), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        video = file.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "21"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.thread_count = 1
        audio = _audio_stream(file) if request.sound else None
        for image in camera_move(first, last, size, request.seconds * FPS):
            if stop.is_set():
                raise StoppedError
            file.mux(video.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        file.mux(video.encode())
        if audio is not None:
            _write_sound(file, audio, request.seconds)
    draft.replace(path)


def open_picture(data: bytes) -> Image.Image:
    """Decode a picture and apply its Exif rotation."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("RGBA", "LA", "P"):
            upright = upright.convert("RGBA")
            ground = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(ground, upright)
        return upright.convert("RGB")


def frame_size(size: tuple[int, int]) -> tuple[int, int]:
    """Scale a size so that its longest side is that of a frame and both are even."""
    scale = LONGEST_SIDE / max(size)
    width, height = (max(2, 2 * round(side * scale / 2)) for side in size)
    return width, height


def camera_move(
    first: Image.Image, last: Image.Image | None, size: tuple[int, int], count: int
) -> Iterator[Image.Image]:
    """Yield the frames: the camera slowly moves closer and aside, and the last picture fades in."""
    source = first.resize((round(size[0] * OVERSIZE), round(size[1] * OVERSIZE)), Image.Resampling.LANCZOS)
    width, height = source.size
    for number in range(count):
        share = number / max(1, count - 1)
        eased = (1 - math.cos(math.pi * share)) / 2
        cut = ZOOM * eased
        left, top = width * cut * (0.5 + 0.4 * eased), height * cut * (0.5 - 0.2 * eased)
        box = (left, top, left + width * (1 - cut), top + height * (1 - cut))
        frame = source.resize(size, Image.Resampling.BICUBIC, box=box)
        fade = (share - 1 + END_SHARE) / END_SHARE
        yield Image.blend(frame, last, fade) if last is not None and fade > 0 else frame


def draw_picture(prompt: str, aspect_ratio: str) -> Image.Image:
    """Draw a picture for a prompt: its text on two colours that depend on the prompt."""
    across, _, down = aspect_ratio.partition(":")
    size = frame_size((int(across), int(down or across)))
    seed = sha256(prompt.encode()).digest()
    dark = Image.new("RGB", size, tuple(channel // 3 for channel in seed[:3]))
    light = Image.new("RGB", size, tuple(96 + channel // 2 for channel in seed[3:6]))
    picture = Image.composite(light, dark, Image.linear_gradient("L").resize(size))
    words = fill(" ".join(prompt.split())[:240] or "no picture was given", max(12, size[0] // 30))
    ImageDraw.Draw(picture).multiline_text(
        (size[0] / 2, size[1] / 2),
        words,
        fill="white",
        font=ImageFont.load_default(38),
        anchor="mm",
        align="center",
        stroke_width=2,
        stroke_fill="black",
    )
    return picture


def _audio_stream(file: OutputContainer) -> AudioStream:
    audio = file.add_stream("aac", rate=SOUND_RATE, layout="mono")
    audio.bit_rate = 96_000
    return audio


def _write_sound(file: OutputContainer, audio: AudioStream, seconds: int) -> None:
    second = [
        0.12 * sum(math.sin(math.tau * hertz * at / SOUND_RATE) for hertz in CHORD)
        for at in range(SOUND_RATE)
    ]
    total, edge = seconds * SOUND_RATE, FADE * SOUND_RATE
    for start in range(0, total, BLOCK):
        block = range(start, min(start + BLOCK, total))
        samples = array(
            "f", (second[at % SOUND_RATE] * min(1, at / edge, (total - at) / edge) for at in block)
        )
        frame = av.AudioFrame(format="fltp", layout="mono", samples=len(samples))
        frame.planes[0].update(samples.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        file.mux(audio.encode(frame))
    file.mux(audio.encode())
