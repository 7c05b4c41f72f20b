"""Where videos are made, beside the requests: one at a time, in a thread of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.emulator.jobs import prompt_of

if TYPE_CHECKING:
    from airflow_provider_kling.emulator.messages import Json
    from airflow_provider_kling.emulator.models import Model

MISSING = (
    "Rendering real videos needs PyAV and Pillow: pip install 'airflow-provider-kling[emulator]', "
    "or do without real videos (--no-render, render=False)."
)


@dataclass(frozen=True, slots=True)
class Order:
    """What video is wanted."""

    first: bytes | None = None  # picture of the first frame
    last: bytes | None = None
    prompt: str = ""
    seconds: int = 5
    aspect_ratio: str = "16:9"
    sound: bool = False

    @classmethod
    def of(cls, model: Model, body: Json, pictures: list[bytes | None]) -> Order:
        """Read an order off a checked body."""
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


@cache
def tiny_video() -> bytes:
    """Give the one video that is served when none are rendered."""
    return (files(__package__) / "tiny.mp4").read_bytes()


class Studio:
    """Renders each order into a file of a folder that is gone with the studio."""

    def __init__(self, *, render: bool) -> None:
        if render and not (find_spec("av") and find_spec("PIL")):
            raise RuntimeError(MISSING)
        self._render = render
        self._stop = Event()
        self._works: dict[str, Future[Any]] = {}
        self._folder: TemporaryDirectory[str] | None = None
        self._pool: ThreadPoolExecutor | None = None
        tiny_video()

    def begin(self, task_id: str, order: Order) -> None:
        """Begin to render, when it is this order's turn."""
        if not self._render:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="emulator-render")
        self._works[task_id] = self._pool.submit(self._work, task_id, order)

    def is_done(self, task_id: str) -> bool:
        """Tell whether nothing more is to be rendered for this job."""
        work = self._works.get(task_id)
        return work is None or work.done()

    def failure(self, task_id: str) -> str:
        """Say why a finished render failed; empty when it did not."""
        work = self._works.get(task_id)
        error = None if work is None or work.cancelled() else work.exception()
        return "" if error is None else f"The video could not be rendered: {error}"

    async def video(self, task_id: str) -> bytes | None:
        """Give the bytes of a finished video."""
        if not self._render:
            return tiny_video()
        return await asyncio.to_thread(self._read, task_id)

    def close(self) -> None:
        """Stop rendering, and throw the videos away."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._folder is not None:
            self._folder.cleanup()

    def _work(self, task_id: str, order: Order) -> None:
        from airflow_provider_kling.emulator.rendering import render  # noqa: PLC0415, heavy and optional

        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="kling-emulator-")
        render(order, Path(self._folder.name, f"{task_id}.mp4"), self._stop)

    def _read(self, task_id: str) -> bytes | None:
        path = Path(self._folder.name, f"{task_id}.mp4") if self._folder else None
        return path.read_bytes() if path and path.exists() else None
