"""One poller per event loop and connection, however many triggers wait on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_provider_kling.errors import KlingAccessError, KlingUnavailableError
from airflow_provider_kling.gateways.base import Call
from airflow_provider_kling.hooks import KlingHook, no_connection
from airflow_provider_kling.polling.queue import Turns
from airflow_provider_kling.polling.rate_limit import Budget
from airflow_provider_kling.transport.settings import DEFAULT_QUERIES_PER_SECOND, Settings

if TYPE_CHECKING:
    from airflow_provider_kling.transport.client import AsyncKlingClient

T = TypeVar("T")

#: Queries that are out at a time, and so the sockets that one event loop has open for a connection.
MOST_AT_ONCE = 64
#: Values that waits may store in Airflow, and lines that they may log: so many a second for long, and so many
#: at once after a rest. A few waits show all that they have to show, and thousands do not hold up the
#: triggerer: its supervisor asks the database for all of its triggers between two values or 4 KiB of lines.
#: While it sends the next triggers it reads no lines, and both hang for ever if there are too many of them.
VALUES_PER_SECOND, VALUES_AT_ONCE = 0.5, 20.0
LINES_PER_SECOND, LINES_AT_ONCE = 20.0, 20.0
#: Lines that are told together, as the supervisor reads about so many at once.
LINES_TOGETHER = 10
#: As that takes the longer the more there are, it is less often beyond so many waits.
MANY = 1000

_ClientsByLoop: TypeAlias = "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]]"


class SharedClient:
    """One client per event loop and connection, for any number of waits.

    Opened at the first call, closed when its last user leaves: one look-up of the connection, one TLS
    context, one pool of sockets and one budget of queries, however many triggers a triggerer runs.

    :ivar turns: who may look next.
    :ivar client: the client that is used now; None before the first call.
    """

    _by_loop: ClassVar[_ClientsByLoop] = WeakKeyDictionary()

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self.users = 0
        self._opening = asyncio.Lock()
        self._budget = Budget(DEFAULT_QUERIES_PER_SECOND)
        self.turns = Turns(self._budget, MOST_AT_ONCE)
        self._values = Budget(VALUES_PER_SECOND, saved=VALUES_AT_ONCE)
        self._lines = Budget(LINES_PER_SECOND, saved=LINES_AT_ONCE)
        self._lines_left = 0
        self.client: AsyncKlingClient | None = None
        self._opened: list[AsyncKlingClient] = []

    @classmethod
    @asynccontextmanager
    async def use(cls, conn_id: str) -> AsyncIterator[SharedClient]:
        """Join the users of the running loop's client for this connection."""
        clients = cls._by_loop.setdefault(asyncio.get_running_loop(), {})
        if not (shared := clients.get(conn_id)):
            shared = clients[conn_id] = cls(conn_id)
        shared.users += 1
        try:
            yield shared
        finally:
            shared.users -= 1
            if not shared.users:
                del clients[conn_id]
                await shared.close()

    def may_show(self) -> bool:
        """Whether a wait may store its progress in Airflow now; if not, with a later look."""
        return self._may(self._values, 1)

    def may_tell(self) -> bool:
        """Whether a wait may log its news now; if not, with a later look, or in one line at its end."""
        if not self._lines_left and self._may(self._lines, LINES_TOGETHER):
            self._lines_left = LINES_TOGETHER
        told = self._lines_left > 0
        self._lines_left -= told
        return told

    def _may(self, budget: Budget, times: int) -> bool:
        now = self.turns.now()
        if budget.next_at(now) > now:
            return False
        budget.take(now, times * max(1.0, self.users / MANY))
        return True

    async def send(self, call: Call[T], refused: AsyncKlingClient | None = None) -> T:
        """Send one call without blocking.

        A refused key is looked up anew once before it counts: it may have been rotated.

        :param refused: the client whose key was refused for this call just now, if one was.
        :raises KlingError: untranslated, it has yet to cross to a worker.
        """
        try:
            if refused is None:
                client = await self._current()
                try:
                    return await client.send(call)
                except KlingAccessError:
                    if call.kling_task_id is None:
                        raise  # never a paid request twice
                    refused = client
            return await (await self._current(instead_of=refused)).send(call)
        except (KlingAccessError, KlingUnavailableError) as error:
            raise call.about(error) from error.__cause__

    async def _current(self, instead_of: AsyncKlingClient | None = None) -> AsyncKlingClient:
        """Return the one client, a new one where the caller's was refused and nobody has made one yet."""
        async with self._opening:
            if self.client is None or self.client is instead_of:
                client = await self._open(self.client)
                if client is not self.client:
                    self.client = client
                    self._opened.append(client)
                    self._budget.change(client.settings.queries_per_second)
            return self.client

    async def _open(self, known: AsyncKlingClient | None) -> AsyncKlingClient:
        """Look the connection up; the known client will do where nothing has changed."""
        # Importing the HTTP libraries takes a second; the loop of all triggers must not stand still for it.
        client = await asyncio.to_thread(import_module, "airflow_provider_kling.transport.client")
        try:
            connection = await get_async_connection(self._conn_id, KlingHook)
        except AirflowNotFoundException as error:
            raise no_connection(self._conn_id) from error
        except AirflowRuntimeError as error:
            what = f"Airflow could not look up the connection {self._conn_id!r} ({error})."
            raise KlingUnavailableError(what) from error
        settings = Settings.from_connection(connection)
        if known and known.settings == settings:
            return known
        opened: AsyncKlingClient = await client.AsyncKlingClient(settings).__aenter__()
        return opened

    async def close(self) -> None:
        """Close the sockets."""
        self.turns.close()
        for client in self._opened:
            await client.__aexit__()
