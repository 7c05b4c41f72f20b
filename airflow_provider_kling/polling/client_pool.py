"""The client pool: one client per event loop and connection, for all triggers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_connection

from airflow_provider_kling.errors import KlingAccessError, KlingError
from airflow_provider_kling.gateways.base import Call, Task, errors_about_job
from airflow_provider_kling.hooks import KlingHook, look_up_error
from airflow_provider_kling.polling.policy import PollPolicy
from airflow_provider_kling.polling.poller import Poller, Wait
from airflow_provider_kling.polling.rate_limit import RateLimiter
from airflow_provider_kling.polling.slots import SlotQueues
from airflow_provider_kling.polling.triggerer_metrics import QUERY_COUNTS, TriggererMetrics
from airflow_provider_kling.transport.settings import DEFAULT_QUERIES_PER_SECOND, Settings

if TYPE_CHECKING:
    from airflow_provider_kling.transport.async_client import AsyncKlingClient

T = TypeVar("T")

#: Seconds between two look-ups of the connection because of refusals without a reason.
LOOK_UP_INTERVAL = 30.0

_ClientsByLoop: TypeAlias = "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, PooledClient]]"


class PooledClient:
    """The client of one event loop and connection.

    It looks the connection up at its first call. All waits share that look-up, which takes the triggerer's
    supervisor 20 ms, one TLS context, one set of sockets and one rate limit.

    :ivar client: the client in use; None before the first call.
    :ivar slots: the tasks that wait for a free slot; for them nothing is called.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._opening = asyncio.Lock()
        self._opened: list[AsyncKlingClient] = []
        self._looked_up_at = float("-inf")
        self.users = 0
        self.client: AsyncKlingClient | None = None
        self.poller = Poller(self._query, RateLimiter(DEFAULT_QUERIES_PER_SECOND))
        self.slots = SlotQueues()

    def wait(self, policy: PollPolicy, first_poll_at: float) -> Wait:
        """Return the wait for one job; see :class:`Wait`."""
        return Wait(self.poller, policy, first_poll_at)

    async def send(self, call: Call[T]) -> T:
        """Send one call without blocking.

        A query that is refused is sent once more before the refusal counts: the key may have been rotated.

        :raises KlingError: not translated for Airflow, because it crosses to a worker first.
        """
        with errors_about_job(call.kling_task_id):
            client = await self._current()
            try:
                return await client.send(call)
            except KlingAccessError as error:
                if call.starts_job:
                    raise  # a submit is never sent twice
                refused = client if self._may_look_up_again(error) else None
            return await (await self._current(refused)).send(call)

    def _may_look_up_again(self, refusal: KlingAccessError) -> bool:
        """Return whether to look the connection up because its key was refused.

        A refusal without the gateway's own reason may come from a proxy, for minutes and for all waits.
        """
        now = time.monotonic()
        if refusal.reason is None and now < self._looked_up_at + LOOK_UP_INTERVAL:
            return False
        self._looked_up_at = now
        return True

    async def settings(self) -> Settings:
        """Return the connection's settings."""
        return (await self._current()).settings

    async def _query(self, waits: Sequence[Wait]) -> Mapping[str, Task]:
        gateway = (await self.settings()).gateway
        counts = QUERY_COUNTS[gateway.name]
        counts.polls += len(waits)
        counts.queries += 1
        ids = [wait.policy.kling_task_id for wait in waits]
        try:
            if len(ids) > 1 and gateway.query_jobs:
                return await self.send(gateway.query_jobs([*dict.fromkeys(ids)]))
            wait = waits[0]
            wait.call = wait.call or gateway.query(ids[0])
            return {ids[0]: await self.send(wait.call)}
        except KlingError:
            QUERY_COUNTS[gateway.name].failed += 1
            raise

    async def _current(self, refused: AsyncKlingClient | None = None) -> AsyncKlingClient:
        """Return the client, a new one where *refused* is in use and the connection has changed."""
        async with self._opening:
            if self.client is None or self.client is refused:
                settings = await self._look_up()
                if self.client is None or self.client.settings != settings:
                    self.client = await self._open(settings)
                    self.poller.use(settings)
            return self.client

    async def _look_up(self) -> Settings:
        try:
            return Settings.from_connection(await get_async_connection(self._conn_id, KlingHook))
        except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
            raise look_up_error(self._conn_id, error) from None

    async def _open(self, settings: Settings) -> AsyncKlingClient:
        # To import the HTTP libraries takes a second, for which the loop of all triggers would stand still.
        module = await asyncio.to_thread(import_module, "airflow_provider_kling.transport.async_client")
        client: AsyncKlingClient = await module.AsyncKlingClient(settings).__aenter__()
        self._opened.append(client)
        return client

    def gauges(self) -> tuple[int, int, float]:
        """Return the numbers of waits for a job and for a slot, and by how many seconds a poll is late."""
        return self.users - self.slots.waiting, self.slots.waiting, self.poller.lateness()

    async def close(self) -> None:
        """End the polls and close the sockets."""
        self.slots.close()
        await self.poller.close()
        for client in self._opened:
            await client.__aexit__()


class ClientPool:
    """The open clients of this process, by event loop and connection."""

    _by_loop: ClassVar[_ClientsByLoop] = WeakKeyDictionary()
    _metrics: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, TriggererMetrics]] = WeakKeyDictionary()

    @classmethod
    @asynccontextmanager
    async def client(cls, conn_id: str) -> AsyncIterator[PooledClient]:
        """Use the running loop's client for a connection. The last user closes it."""
        loop = asyncio.get_running_loop()
        clients = cls._by_loop.setdefault(loop, {})
        if loop not in cls._metrics:
            cls._metrics[loop] = TriggererMetrics(lambda: [one.gauges() for one in clients.values()])
        client = clients.get(conn_id) or clients.setdefault(conn_id, PooledClient(conn_id))
        client.users += 1
        try:
            yield client
        finally:
            client.users -= 1
            if not client.users:
                del clients[conn_id]
                await client.close()
                if not clients and (last := cls._metrics.pop(loop, None)):
                    last.close()
