"""Renders videos one after another in a thread of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

from airflow_provider_kling.emulator.render_request import RenderRequest

MISSING = (
    "Rendering real videos needs PyAV and Pillow: pip install 'airflow-provider-kling[emulator]', "
    "or do without real videos (--no-render, render=False)."
)


@cache
def tiny_video() -> bytes:
    """Return the video that is served when rendering is off."""
    return (files(__package__) / "tiny.mp4").read_bytes()


class RenderQueue:
    """Renders one video after another, into a temporary folder."""

    def __init__(self, *, render: bool) -> None:
        if render and not (find_spec("av") and find_spec("PIL")):
            raise RuntimeError(MISSING)
        self._render = render
        self._stop = Event()
        self._renderings: dict[str, Future[Any]] = {}
        self._folder: TemporaryDirectory[str] | None = None
        self._pool: ThreadPoolExecutor | None = None
        tiny_video()

    def begin(self, task_id: str, request: RenderRequest) -> None:
        """Add a video to the queue."""
        if not self._render:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="emulator-render")
        self._renderings[task_id] = self._pool.submit(self._render_job, task_id, request)

    def is_done(self, task_id: str) -> bool:
        """Return whether rendering of this job has ended."""
        rendering = self._renderings.get(task_id)
        return rendering is None or rendering.done()

    def failure(self, task_id: str) -> str:
        """Return why rendering failed; empty if it did not."""
        rendering = self._renderings.get(task_id)
        error = None if rendering is None or rendering.cancelled() else rendering.exception()
        return "" if error is None else f"The video could not be rendered: {error}"

    async def video(self, task_id: str) -> bytes | None:
        """Return the bytes of a finished video."""
        if not self._render:
            return tiny_video()
        return await asyncio.to_thread(self._read, task_id)

    def close(self) -> None:
        """Stop rendering and delete the videos."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._folder is not None:
            self._folder.cleanup()

    def _render_job(self, task_id: str, request: RenderRequest) -> None:
        from airflow_provider_kling.emulator.rendering import render  # noqa: PLC0415, heavy and optional

        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="kling-emulator-")
        render(request, Path(self._folder.name, f"{task_id}.mp4"), self._stop)

    def _read(self, task_id: str) -> bytes | None:
        path = Path(self._folder.name, f"{task_id}.mp4") if self._folder else None
        return path.read_bytes() if path and path.exists() else None
