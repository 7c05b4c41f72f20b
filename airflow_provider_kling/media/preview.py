"""Small pictures of a source and of a video, and the video's properties, read with Pillow and PyAV.

Decoders have bugs, and the files are foreign. So this file is also a script: it decodes in a process of its
own, which has no secrets, a few seconds, and little memory. A hostile file ends that process and not the
task. The script imports nothing of this package.
"""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

if TYPE_CHECKING:
    from PIL import Image

#: Characters of one picture as a data URI: two of them and their JSON are less than 20 kB.
MAX_CHARACTERS = 9800
#: What the script may use: seconds, bytes of memory, pixels to decode.
_SECONDS, _MEMORY, _MAX_PIXELS = 30, 1024**3, 40_000_000
#: Bytes of a remote video that are copied for the script.
_MAX_COPY = 64 * 1024**2
_JPEG = "data:image/jpeg;base64,"
#: What is tried until a picture is small enough: the longer side in pixels, and JPEG's quality.
_SIZES = [(side, quality) for side in (320, 240, 160, 80) for quality in (80, 60, 40)]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was decoded.

    :param picture: a small JPEG as a data URI, or None.
    :param media: of a video: ``duration`` in seconds, ``width``, ``height``, ``frames_per_second``,
        ``audio``.
    :param error: why nothing was decoded; empty otherwise.
    """

    picture: str | None = None
    media: Mapping[str, Any] | None = None
    error: str = ""


def checked_preview(value: Any) -> str | None:
    """Return a picture that an XCom or a sidecar holds, or None if it is not one of ours."""
    ours = isinstance(value, str) and value.startswith(_JPEG) and len(value) <= MAX_CHARACTERS
    return value if ours else None


def decode_picture(data: bytes | None) -> Decoded:
    """Decode a picture, if there is one and Pillow is installed."""
    return _run("picture", input=data) if data and find_spec("PIL") else Decoded()


def decode_video(file: BinaryIO) -> Decoded:
    """Decode a frame of a video, if PyAV is installed; its JPEG needs Pillow, too."""
    if not find_spec("av"):
        return Decoded(error="PyAV is not installed")
    if isinstance(getattr(file, "raw", None), io.FileIO):  # on this machine
        return _run("video", stdin=file)
    with tempfile.TemporaryFile() as copy:
        while copy.tell() < _MAX_COPY and (chunk := file.read(1024**2)):
            copy.write(chunk)
        copy.flush()
        return _run("video", stdin=copy)


def _run(kind: Literal["picture", "video"], **stdin: Any) -> Decoded:
    """Run the script. It ends itself in time; if it cannot, it is killed."""
    env = {name: value for name, value in os.environ.items() if name.endswith("LIBRARY_PATH")}
    script = [sys.executable, "-I", "-S", __file__, kind, str(_SECONDS), *sys.path]
    options = {**stdin, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": env}
    with suppress(OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        done = subprocess.run(script, **options, check=False, timeout=_SECONDS + 5)  # noqa: S603 - our own script
        return Decoded(**json.loads(done.stdout))
    return Decoded(error="the decoder ended early")


def _main(kind: str, seconds: int) -> None:
    """Decode what stands in the standard input, and print a :class:`Decoded` as JSON."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    limits = {"CPU": seconds, "AS": _MEMORY, "FSIZE": 0, "CORE": 0}
    for name, value in limits.items():
        with suppress(OSError, ValueError):  # not on each system
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    try:
        found = _video() if kind == "video" else {"picture": _as_jpeg(_picture())}
    except BaseException as error:  # noqa: BLE001 - of whatever library
        found = {"error": type(error).__name__}
    sys.stdout.write(json.dumps(found))


def _picture() -> Image.Image:
    """Return the picture, upright. A large JPEG is decoded in a smaller size."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - an extra

    picture = Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=("JPEG", "PNG"))
    picture.draft("RGB", _SIZES[0][:1] * 2)
    _check_pixels(picture.width, picture.height)
    return ImageOps.exif_transpose(picture)


def _video() -> dict[str, Any]:
    """Return the properties of the video, and a picture of its middle."""
    import av  # noqa: PLC0415 - an extra

    sys.stdin.buffer.seek(0)
    with av.open(sys.stdin.buffer, "r", format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        _check_pixels(stream.width, stream.height)
        seconds = (container.duration or 0) / av.time_base
        media = {
            "duration": round(seconds, 3),
            "width": stream.width,
            "height": stream.height,
            "frames_per_second": round(float(stream.average_rate or 0), 3) or None,
            "audio": bool(container.streams.audio),
        }
        frame = None
        for at in (seconds / 2, 0):
            with suppress(av.FFmpegError, StopIteration):
                container.seek(int(at * av.time_base))
                frame = frame or next(container.decode(stream))
        if frame is None:
            raise ValueError
        picture = _as_jpeg(frame.to_image()) if find_spec("PIL") else None  # type: ignore[no-untyped-call]
        return {"media": media, "picture": picture}


def _check_pixels(width: int, height: int) -> None:
    if not 0 < width * height <= _MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels")


def _as_jpeg(picture: Image.Image) -> str | None:
    """Return a picture as a small JPEG in a data URI, without its metadata."""
    from PIL import Image  # noqa: PLC0415 - an extra

    if picture.mode not in ("RGB", "L", "CMYK"):
        picture = picture.convert("RGBA")
    for side, quality in _SIZES:
        picture.thumbnail((side, side))
        ground = picture.convert("RGB")
        if picture.mode == "RGBA":
            ground = Image.new("RGB", picture.size, "white")
            ground.paste(picture, mask=picture)
        data = io.BytesIO()
        ground.save(data, "JPEG", quality=quality, optimize=True)
        if len(text := _JPEG + base64.b64encode(data.getvalue()).decode()) <= MAX_CHARACTERS:
            return text
    return None


if __name__ == "__main__":
    sys.path = sys.argv[3:]
    _main(sys.argv[1], int(sys.argv[2]))
