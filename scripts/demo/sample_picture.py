"""Paints a sunset over the sea, the demo's default picture. It is the same on every machine."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT, HORIZON = 1280, 720, 430
SUN = (820, 380)
SKY = ((24, 28, 74), (112, 48, 112), (232, 98, 82), (255, 196, 110))
SEA = ((226, 120, 88), (60, 52, 98), (14, 20, 52))

Colour = tuple[int, int, int]


def paint(file: Path) -> None:
    """Paint the picture into a JPEG file."""
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(picture)
    _gradient(draw, 0, HORIZON, SKY)
    _gradient(draw, HORIZON, HEIGHT, SEA)
    _glow(picture)
    draw.ellipse(_around(SUN, 62), fill=(255, 238, 190))
    _gradient(draw, HORIZON, HEIGHT, SEA)
    _glitter(draw)
    for depth, colour in enumerate(((92, 44, 92), (58, 32, 74), (26, 20, 46))):
        draw.polygon(_ridge(depth), fill=colour)
    picture.save(file, quality=90)


def _gradient(draw: ImageDraw.ImageDraw, top: int, bottom: int, colours: tuple[Colour, ...]) -> None:
    for y in range(top, bottom):
        position = (y - top) / (bottom - top) * (len(colours) - 1)
        first, share = colours[int(position)], position % 1
        second = colours[int(position) + 1]
        mixed = tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
        draw.line(((0, y), (WIDTH, y)), fill=mixed)


def _glow(picture: Image.Image) -> None:
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse(_around(SUN, 170), fill=150)
    picture.paste((255, 214, 140), mask=mask.filter(ImageFilter.GaussianBlur(70)))


def _around(centre: tuple[int, int], radius: int) -> tuple[int, int, int, int]:
    x, y = centre
    return x - radius, y - radius, x + radius, y + radius


def _glitter(draw: ImageDraw.ImageDraw) -> None:
    rng = random.Random(7)
    for y in range(HORIZON + 4, HEIGHT, 5):
        spread = 50 + (y - HORIZON) * 0.5
        for _ in range(4):
            x, length = rng.gauss(SUN[0], spread / 2), rng.uniform(10, 40)
            draw.line(((x - length, y), (x + length, y)), fill=(255, rng.randint(170, 220), 130), width=2)


def _ridge(depth: int) -> list[tuple[float, float]]:
    """Return the outline of hills on the left; nearer ones are lower."""
    end, base = 760 - depth * 170, HORIZON + depth * 46
    line = [
        (
            x,
            base
            - (110 + depth * 14) * (1 - x / end)
            - 14 * math.sin(x / (58 + 13 * depth) + depth) * (1 - x / end),
        )
        for x in range(0, end + 1, 4)
    ]
    return [(0, base + 6), *line, (end, base + 6)]
