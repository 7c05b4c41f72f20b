"""The properties of the video that a submit asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """The properties of a video."""

    first: bytes | None = None  # picture of the first frame
    last: bytes | None = None
    has_last: bool = False  # the second picture is the last frame
    prompt: str = ""
    seconds: int = 5
    aspect_ratio: str = "16:9"
    sound: bool = False

    def of(self, pictures: list[bytes | None]) -> RenderRequest:
        """Return the same video of these pictures, the first frame first."""
        first, second, *_ = [*pictures, None, None]
        return replace(self, first=first, last=second if self.has_last else None)
