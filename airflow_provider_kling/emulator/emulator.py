"""The emulator as a server in a thread, for tests and notebooks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from types import TracebackType
from typing import Any, Self

from airflow_provider_kling.emulator.gateway import Gateway
from airflow_provider_kling.emulator.servers import serve_both_hosts
from airflow_provider_kling.emulator.settings import Settings


class Emulator(Gateway):
    """A gateway that listens inside a `with` block. Its arguments are the fields of `Settings`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Settings(**settings))
        self.api_key = self.settings.api_key
        self.url = ""
        self._ready: Future[None] = Future()
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Listen in a thread. An instance can start only once."""
        self._thread = Thread(target=self._run, name="kling-emulator", daemon=True)
        self._thread.start()
        self._ready.result()
        return self

    def stop(self) -> None:
        """Stop listening, close all connections and drop answers that are not sent yet."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None
        self.close()

    async def serve(self, stopping: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Listen in the running event loop until `stopping` is set."""
        async with serve_both_hosts(self) as self.url:
            on_ready()
            await stopping.wait()

    def connection_json(self, **extra: Any) -> str:
        """Describe an Airflow connection to this gateway, for `AIRFLOW_CONN_KLING_DEFAULT`.

        :param extra: further keys of the connection's extra, such as `allowed_paths`.
        """
        known = {"conn_type": "kling", "host": self.url, "password": self.api_key}
        return json.dumps({**known, "extra": {"allow_private_hosts": True, **extra}})

    def wait_until(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait until a condition is true, such as `lambda: gateway.jobs`."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the condition was not true within {timeout} s")
            time.sleep(0.005)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # start() raises it
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.serve(self._stopping, lambda: self._ready.set_result(None))
