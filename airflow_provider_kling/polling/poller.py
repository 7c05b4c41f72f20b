"""Looks that go on by themselves, so that whoever waits wakes up for news alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from airflow_provider_kling.errors import KlingAccessError, KlingError, KlingUnavailableError
from airflow_provider_kling.gateways.base import Call, Task
from airflow_provider_kling.gateways.myrouter import query
from airflow_provider_kling.polling.policy import PollPolicy, PollResult
from airflow_provider_kling.transport.lines import StaleError, UnreadableError

if TYPE_CHECKING:
    from airflow_provider_kling.gateways.base import Reply
    from airflow_provider_kling.polling.client_pool import SharedClient
    from airflow_provider_kling.transport.client import AsyncKlingClient
    from airflow_provider_kling.transport.lines import Line

T = TypeVar("T")

#: A wait that may not tell its news keeps so many lines, the latest ones.
MOST_LINES = 20


class Look(Generic[T]):
    """One query that can be sent again and again, each time when its turn has come.

    It is a guest of the client's turns and hears a line's answer itself. So between two looks nothing of
    it is left but a pair of numbers, and no task is woken up for an answer without news.

    :param shared: the client that sends it.
    :param call: the query.
    :param hear: gets what each look brought: the answer, or why there is none. It must not wait.
    """

    __slots__ = ("_call", "_client", "_context", "_hear", "_line", "_number", "_out", "_sending", "_shared")

    def __init__(self, shared: SharedClient, call: Call[T], hear: Callable[[T | Exception], None]) -> None:
        self._shared, self._call, self._hear = shared, call, hear
        self._number, self._out = -1, False
        self._client: AsyncKlingClient | None = None
        self._line: Line | None = None
        self._sending: asyncio.Task[None] | None = None
        # Airflow tells by it whose log a line belongs to.
        self._context = copy_context()

    def at(self, due: float) -> None:
        """Look at *due*, in epoch seconds; later where the budget is spent or the gateway asked for it."""
        self._number = self._shared.turns.enter(due, self)

    async def close(self) -> None:
        """Neither send nor hear anything any more."""
        self._shared.turns.withdraw(self._number)
        line, sending = self._line, self._sending
        if self._out:
            self._over()
        if line:
            line.close()
        if sending:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def go(self) -> None:
        """Send the query at once where nothing stands in the way; else as one that takes its time."""
        self._out = True
        self._client = self._shared.client
        self._line = self._client.send_at_once(self._call, self) if self._client else None
        if self._line is None:
            self._send()

    def done(self) -> bool:
        """Whether nobody waits for a line's answer any more."""
        return self._line is None

    def set_result(self, reply: Reply) -> None:
        """Hear the answer that a line has brought."""
        assert self._client
        try:
            heard: T | Exception = self._call.read(reply.without(self._client.settings.api_key))
        except KlingAccessError:
            self._send(refused=self._client)
        except Exception as error:  # noqa: BLE001 - it is for the one who waits
            self._end(error)
        else:
            self._end(heard)

    def set_exception(self, error: Exception) -> None:
        """Hear why a line has brought no answer."""
        assert self._client
        if isinstance(error, (StaleError, UnreadableError)):
            self._send()
        else:
            self._end(self._client.lost(self._call, error))

    def _send(self, refused: AsyncKlingClient | None = None) -> None:
        self._line = None
        loop = asyncio.get_running_loop()
        self._sending = loop.create_task(self._sent(refused), context=self._context)

    async def _sent(self, refused: AsyncKlingClient | None) -> None:
        try:
            heard: T | Exception = await self._shared.send(self._call, refused)
        except Exception as error:  # noqa: BLE001 - it is for the one who waits
            heard = error
        self._end(heard)

    def _end(self, heard: T | Exception) -> None:
        down = heard if isinstance(heard, KlingUnavailableError) else None
        if down and (down.http_status == 429 or down.retry_after is not None):
            self._shared.turns.pause(down.retry_after)
        self._over()
        self._hear(heard)

    def _over(self) -> None:
        """Give the turn back."""
        self._client = self._line = self._sending = None
        self._out = False
        self._shared.turns.back()


class Wait:
    """One wait: looks as its watch says, and tells what is worth being told.

    :param shared: the client that looks.
    :param watch: says when to look again, and what an answer means.
    :param look_at: when to look first, in epoch seconds.
    """

    __slots__ = ("_lines", "_look", "_look_at", "_progress", "_reader", "_shared", "_told", "_watch")

    def __init__(self, shared: SharedClient, watch: PollPolicy, look_at: float) -> None:
        self._shared, self._watch, self._look_at = shared, watch, look_at
        self._look: Look[Task] = Look(shared, query(watch.kling_task_id), self._hear)
        self._lines: tuple[str, ...] = ()
        self._progress: dict[str, Any] | None = None
        self._told: list[PollResult | Exception] = []
        self._reader: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        self._look.at(self._look_at)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._look.close()

    async def news(self) -> PollResult:
        """Return the next verdict that has news or a progress to be shown now, or is the last."""
        while not self._told:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        told = self._told.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    def _hear(self, heard: Task | Exception) -> None:
        try:
            told: PollResult | Exception | None = self._judged(heard)
        except Exception as error:  # noqa: BLE001 - it is for the one who waits
            told = error
        if told is None:
            return
        self._told.append(told)
        if self._reader and not self._reader.done():
            self._reader.set_result(None)

    def _judged(self, heard: Task | Exception) -> PollResult | None:
        """Return what is to be told now, if anything; what may not be told yet is kept."""
        if not isinstance(heard, (Task, KlingError)):
            raise heard
        verdict = self._watch.update(heard, time.time())
        self._lines = (*self._lines, *verdict.messages)[-MOST_LINES:]
        if verdict.task or verdict.error:
            lines = self._lines if self._shared.may_tell() else (" | ".join(self._lines),)
            return replace(verdict, messages=lines if self._lines else ())
        self._look.at(verdict.next_poll_at)
        self._progress = verdict.progress or self._progress
        told = PollResult()
        if self._lines and self._shared.may_tell():
            told, self._lines = replace(told, messages=self._lines), ()
        if self._progress and self._shared.may_show():
            told, self._progress = replace(told, progress=self._progress), None
        return told if told.messages or told.progress else None
