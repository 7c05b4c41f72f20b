"""The pictures of `make batch`: good ones, all different, and bad ones of each kind that is checked."""

from __future__ import annotations

import struct
import zlib
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

#: The list prices of the default models. They are repeated here: the test must not use the catalogue.
PRICES, SOUND = {"myrouter": Decimal("0.112"), "kling": Decimal("0.084")}, Decimal("1.5")
BAD = ("missing", "text", "small", "narrow", "cut", "gif")


@dataclass(frozen=True)
class VideoSpec:
    """One requested video, and whether its picture is good."""

    image: str
    prompt: str
    duration: int
    sound: bool
    target: str
    good: bool
    price: Decimal

    @property
    def usd(self) -> Decimal:
        """The cost by the list price."""
        return self.price * self.duration * (SOUND if self.sound else 1)

    def arguments(self) -> dict[str, Any]:
        """Return the operator's arguments."""
        return {name: value for name, value in asdict(self).items() if name not in ("good", "price")}


def make_specs(home: Path, jobs: int, bad: int, gateway: str = "myrouter") -> list[VideoSpec]:
    """Write the pictures below *home*, with the bad ones between the good ones."""
    (home / "pictures").mkdir(parents=True)
    bad_ones = {round((n + 0.5) * jobs / bad): BAD[n % len(BAD)] for n in range(bad)}
    made = []
    for number in range(jobs):
        kind = bad_ones.get(number, "good")
        file = home / "pictures" / f"{number:03d}-{kind}.png"
        if (content := _content(kind, number)) is not None:
            file.write_bytes(content)
        seconds, sound = 3 + number % 13, number % 3 == 0
        prompt = f"picture {number:03d}"
        target = str(home / "videos" / f"{file.stem}.mp4")
        good, price = kind == "good", PRICES[gateway]
        made.append(VideoSpec(str(file), prompt, seconds, sound, target, good, price))
    return made


def _content(kind: str, number: int) -> bytes | None:
    if kind == "missing":
        return None
    if kind == "text":
        return b"this is no picture\n" * 100
    if kind == "gif":
        return b"GIF89a" + struct.pack("<HH", 400, 400) + bytes(200)
    sides = {"small": (200, 200), "narrow": (300, 900)}.get(kind, (320, 320))
    picture = _png(*sides, shade=number)
    return picture[: len(picture) // 2] if kind == "cut" else picture


def _png(width: int, height: int, *, shade: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = b"\0" + bytes((shade % 256, shade // 256, 99)) * width
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row * height)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
