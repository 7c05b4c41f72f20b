"""The properties of the video that a submit asks for."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_kling.emulator.jobs import prompt_of
from airflow_provider_kling.emulator.messages import Json
from airflow_provider_kling.emulator.myrouter.models import Model


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """The properties of a video."""

    first: bytes | None = None  # picture of the first frame
    last: bytes | None = None
    prompt: str = ""
    seconds: int = 5
    aspect_ratio: str = "16:9"
    sound: bool = False

    @classmethod
    def of(cls, model: Model, body: Json, pictures: list[bytes | None]) -> RenderRequest:
        """Read the request from a checked body."""
        frames = [*pictures, None, None]
        has_last = any(body.get(name) for name in ("end_image", "last_image", "end_image_url"))
        return cls(
            first=frames[0],
            last=frames[1] if has_last else None,
            prompt=prompt_of(body),
            seconds=int(body.get("duration") or 5),
            aspect_ratio=body.get("aspect_ratio") or "16:9",
            sound=bool(body.get("sound", model.sound)),
        )
