"""Triggers to compare ours with, and a probe of the event loop that all triggers share."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.http.hooks.http import HttpAsyncHook
from airflow.triggers.base import BaseTrigger, TriggerEvent


class SessionPerPollTrigger(BaseTrigger):
    """A simple trigger: look up the connection once, and open a new session for each poll."""

    def __init__(self, kling_task_id: str, interval: float) -> None:
        super().__init__()
        self.kling_task_id, self.interval = kling_task_id, interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        arguments = {"kling_task_id": self.kling_task_id, "interval": self.interval}
        return "waits.triggers.SessionPerPollTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the job is done."""
        connection = await get_async_connection("kling_default", HttpAsyncHook)
        url = f"{connection.host}/v3/async/task-result"
        headers = {"Authorization": f"Bearer {connection.password}"}
        while True:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.get(url, params={"task_id": self.kling_task_id}) as response,
            ):
                task = (await response.json())["task"]
            if task["status"] == "TASK_STATUS_SUCCEED":
                yield TriggerEvent(self.kling_task_id)
                return
            await asyncio.sleep(self.interval)


class IdleTrigger(BaseTrigger):
    """Sends one request when it starts, and sleeps. It shows how fast Airflow starts triggers."""

    def __init__(self, url: str, kling_task_id: str) -> None:
        super().__init__()
        self.url, self.kling_task_id = url, kling_task_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return "waits.triggers.IdleTrigger", {"url": self.url, "kling_task_id": self.kling_task_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send one request, and sleep until the triggerer ends."""
        _, port = self.url.rsplit(":", 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(f"GET /sensor?id={self.kling_task_id} HTTP/1.1\r\n\r\n".encode())
        await reader.readline()
        writer.close()
        await asyncio.Event().wait()
        yield TriggerEvent(None)


class LagProbe(BaseTrigger):
    """Sleeps for short times, and records how much longer they took.

    :param file: the file for the results: each second one JSON list of seconds.
    """

    SPAN = 0.05

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return "waits.triggers.LagProbe", {"file": self.file}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Measure until the triggerer ends."""
        while True:
            late = []
            for _ in range(20):
                due = time.monotonic() + self.SPAN
                await asyncio.sleep(self.SPAN)
                late.append(time.monotonic() - due)
            await asyncio.to_thread(self._write, late)
        yield TriggerEvent(None)

    def _write(self, late: list[float]) -> None:
        with Path(self.file).open("a") as file:
            file.write(f"{json.dumps([time.time(), max(late), *late])}\n")
