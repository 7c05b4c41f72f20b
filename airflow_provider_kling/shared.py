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

from airflow_provider_kling.budget import Budget
from airflow_provider_kling.errors import KlingAccessError, KlingUnavailableError
from airflow_provider_kling.hooks import KlingHook, no_connection
from airflow_provider_kling.lines import StaleError, UnreadableError
from airflow_provider_kling.replies import Reply
from airflow_provider_kling.settings import DEFAULT_QUERIES_PER_SECOND, Settings
from airflow_provider_kling.turns import Turn, Turns
from airflow_provider_kling.wire import Call

if TYPE_CHECKING:
    from airflow_provider_kling.client import AsyncKlingClient
    from airflow_provider_kling.lines import Line

T = TypeVar("T")

#: Queries that are out at a time, and so the sockets that one event loop has open for a connection.
MOST_AT_ONCE = 64
#: Values that waits may store in Airflow, each of which costs the triggerer's supervisor some 15 ms: so many
#: a second for long, and so many at once after a rest, so that a few waits show all they have to show.
SHOWN_PER_SECOND, SHOWN_AT_ONCE = 0.5, 20.0

_Begun: TypeAlias = "tuple[AsyncKlingClient, Line]"
_ClientsByLoop: TypeAlias = "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]]"


class SharedClient:
    """One client per event loop and connection, for any number of waits.

    Opened at the first call, closed when its last user leaves: one look-up of the connection, one TLS
    context, one pool of sockets and one budget of queries, however many triggers a triggerer runs.
    """

    _by_loop: ClassVar[_ClientsByLoop] = WeakKeyDictionary()

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self.users = 0
        self._opening = asyncio.Lock()
        self._budget = Budget(DEFAULT_QUERIES_PER_SECOND)
        self._turns = Turns(self._budget, MOST_AT_ONCE)
        self._shown = Budget(SHOWN_PER_SECOND, saved=SHOWN_AT_ONCE)
        self._client: AsyncKlingClient | None = None
        self._opened: list[AsyncKlingClient] = []

    @classmethod
    @asynccontextmanager
    async def use(cls, conn_id: str) -> AsyncIterator[SharedClient]:
        """Join the users of the running loop's client for this connection."""
        clients = cls._by_loop.setdefault(asyncio.get_running_loop(), {})
        shared = clients.setdefault(conn_id, cls(conn_id))
        shared.users += 1
        try:
            yield shared
        finally:
            shared.users -= 1
            if not shared.users:
                del clients[conn_id]
                await shared.close()

    async def look(self, call: Call[T], due: float) -> T:
        """Send one query when its turn has come.

        :param due: when, in epoch seconds; later where the budget is spent or the gateway asked
            to wait.
        :raises KlingError: as :meth:`send`.
        """
        turn: Turn[Reply | None, _Begun | None] = self._turns.enter(
            due, lambda waiter: self._begin(call, waiter)
        )
        try:
            return await self._end(call, turn)
        except KlingUnavailableError as error:
            if error.http_status == 429 or error.retry_after is not None:
                self._turns.pause(error.retry_after)
            raise
        finally:
            self._turns.leave(turn)

    def _begin(self, call: Call[T], waiter: asyncio.Future[Reply | None]) -> _Begun | None:
        """Send the query where nothing stands in the way; else it is for the one who waits to do so."""
        client = self._client
        line = client.send_at_once(call, waiter) if client else None
        if client and line:
            return client, line
        waiter.set_result(None)
        return None

    async def _end(self, call: Call[T], turn: Turn[Reply | None, _Begun | None]) -> T:
        refused = None
        try:
            reply = await turn.waiter
            if reply and turn.begun:
                return call.read(reply.without(turn.begun[0].settings.api_key))
        except asyncio.CancelledError:
            if turn.begun:
                turn.begun[1].close()
            raise
        except KlingAccessError:
            refused = turn.begun and turn.begun[0]
        except (StaleError, UnreadableError):
            pass
        except OSError as error:
            assert turn.begun
            raise turn.begun[0].lost(call, error) from None
        return await self.send(call, refused)

    def may_show(self) -> bool:
        """Whether a wait may store its progress in Airflow now; if not, with a later look."""
        now = self._turns.now()
        if self._shown.next_at(now) > now:
            return False
        self._shown.take(now)
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
            if self._client is None or self._client is instead_of:
                client = await self._open(self._client)
                if client is not self._client:
                    self._client = client
                    self._opened.append(client)
                    self._budget.change(client.settings.queries_per_second)
            return self._client

    async def _open(self, known: AsyncKlingClient | None) -> AsyncKlingClient:
        """Look the connection up; the known client will do where nothing has changed."""
        # Importing the HTTP libraries takes a second; the loop of all triggers must not stand still for it.
        client = await asyncio.to_thread(import_module, "airflow_provider_kling.client")
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
        self._turns.close()
        for client in self._opened:
            await client.__aexit__()
