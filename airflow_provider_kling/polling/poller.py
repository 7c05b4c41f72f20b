"""The poller: a fixed number of coroutines that poll for all waits of a connection."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from typing import Any, Self

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
)
from airflow_provider_kling.gateways.base import Call, Task, about_job, log_bug
from airflow_provider_kling.polling.policy import PollPolicy, PollResult
from airflow_provider_kling.polling.poll_queue import PollQueue
from airflow_provider_kling.polling.rate_limit import RateLimiter
from airflow_provider_kling.transport.settings import DEFAULT_TIMEOUT, Settings

#: Queries in flight at a time, for all waits of a connection.
MAX_CONCURRENT_POLLS = 32
#: A poll may join a query that is sent anyway this share of its pause early, and this number of seconds.
EARLY_SHARE, MAX_EARLY = 0.2, 1.0
#: Seconds between two looks for waits that are over without an answer.
CHECK_INTERVAL = 5.0
#: Progress values and log lines of all waits: the rate that lasts, and the burst after a rest. A few waits
#: show everything. Thousands must not: between two values or 4 KiB of log, the triggerer's supervisor asks
#: the database for all of its triggers. While it sends new triggers it reads no log, and a runner that cannot
#: write its log reads no triggers: with too many lines at once, both hang for ever.
PROGRESS_PER_SECOND, PROGRESS_BURST = 0.5, 20.0
LINES_PER_SECOND, LINES_BURST = 20.0, 20.0
#: Lines that are allowed together, because the supervisor reads about as many at once.
LINES_TOGETHER = 10
#: Beyond this number of waits the rates shrink: a line costs the supervisor more, the more triggers it has.
MANY_WAITS = 1000
#: Messages that a wait keeps, the latest ones, while it may not log them.
MAX_MESSAGES = 20
_LEFT_OUT = KlingTaskNotFoundError("The gateway's answer leaves the job out.")


class Poller:
    """Polls for any number of waits on one event loop.

    :param query: asks the gateway once for the states of some waits' jobs, and returns them by task id.
    :param limiter: how many queries may be sent in a second.
    :ivar request_timeout: seconds in which a query should be answered.
    """

    request_timeout = DEFAULT_TIMEOUT

    def __init__(
        self, query: Callable[[Sequence[Wait]], Awaitable[Mapping[str, Task]]], limiter: RateLimiter
    ) -> None:
        self._query, self._limiter = query, limiter
        self._queue: PollQueue[Wait] = PollQueue(limiter)
        self._pollers: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._waits: set[Wait] = set()
        self._progress = RateLimiter(PROGRESS_PER_SECOND, PROGRESS_BURST)
        self._lines = RateLimiter(LINES_PER_SECOND, LINES_BURST)
        self._lines_left = 0

    def start(self, wait: Wait, first_poll_at: float) -> None:
        """Begin to poll for a wait."""
        if not self._pollers:
            # Not in the context of the first wait: by it Airflow would take their log lines for that wait's.
            self._pollers = [
                asyncio.get_running_loop().create_task(self._poll_for_ever(), context=Context())
                for _ in range(MAX_CONCURRENT_POLLS)
            ]
            self._check()
        self._waits.add(wait)
        self._put(wait, first_poll_at)

    def stop(self, wait: Wait) -> None:
        """Poll no more for a wait. The answer to a query in flight is dropped."""
        self._waits.discard(wait)
        self._queue.remove(wait.number)

    async def close(self) -> None:
        """End all pollers."""
        self._queue.close()
        if self._timer:
            self._timer.cancel()
        for poller in self._pollers:
            poller.cancel()
        await asyncio.gather(*self._pollers, return_exceptions=True)

    def lateness(self) -> float:
        """Return by how many seconds the next poll is late."""
        return self._queue.lateness()

    def end_late(self, now: float) -> None:
        """End the waits whose last poll was not answered in time: it hangs, or waits for those that hang.

        :param now: the loop's time, in seconds.
        """
        # At the rate limit, the poll of one wait may have to wait for those of all others.
        before = now - self.request_timeout - self._limiter.seconds_for(len(self._waits))
        for wait in [wait for wait in self._waits if wait.open and wait.last_poll_at < before]:
            policy = wait.policy
            error = about_job(KlingUnavailableError("the gateway did not answer"), policy.kling_task_id)
            self._update(wait, error, max(time.time(), policy.give_up_at))

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(CHECK_INTERVAL, self._check, context=Context())
        self.end_late(self._queue.now())

    def use(self, settings: Settings) -> None:
        """Poll by the settings of a connection from now on."""
        self._limiter.change(settings.queries_per_second)
        self.request_timeout = settings.request_timeout
        self._queue.most = settings.gateway.jobs_per_query
        for wait in self._waits:
            wait.call = None  # of another gateway, perhaps

    async def _poll_for_ever(self) -> None:
        while True:
            await self._poll(await self._queue.get())

    async def _poll(self, waits: Sequence[Wait]) -> None:
        """Ask once for the jobs of some waits. Put those back that another one may have spoiled."""
        tasks: Mapping[str, Task] = {}
        error: KlingError = _LEFT_OUT
        of_connection = False
        try:
            tasks = await self._query(waits)
        except KlingError as failure:
            error, of_connection = failure, _concerns_connection(failure)
            self._pause_if_asked(error)
        except Exception as bug:  # noqa: BLE001 - no wait for a paid job ends because of it
            log_bug(bug)
            error = KlingUnavailableError(f"The query failed ({type(bug).__name__}).")
        now = time.time()
        for wait in waits:
            kling_task_id = wait.policy.kling_task_id
            if task := tasks.get(kling_task_id):
                wait.most = float("inf")
                self._update(wait, task, now)
                continue
            if not of_connection:
                wait.most = 1 if error is _LEFT_OUT else max(1, len(waits) // 2)
            if len(waits) == 1 or of_connection or _is_passing(error):
                self._update(wait, about_job(error, kling_task_id), now)
            else:
                self._put(wait, 0.0)  # before all that are due

    def _pause_if_asked(self, error: KlingError) -> None:
        """Stop the polls of all waits where the gateway says that there are too many."""
        if isinstance(error, KlingUnavailableError) and (
            error.http_status == 429 or error.retry_after is not None
        ):
            self._queue.pause(error.retry_after)

    def _put(self, wait: Wait, due: float, early: float = 0.0) -> None:
        """Put the next poll of a wait into the queue, if it still waits."""
        if not wait.open:
            return
        give_up_at = wait.policy.give_up_at
        wait.last_poll_at = self._queue.now() + max(due, give_up_at) - time.time()
        wait.number = self._queue.put(wait, due, give_up_at, early=early, most=wait.most)

    def _update(self, wait: Wait, answer: Task | KlingError, now: float) -> None:
        """Tell the policy what came, and put the next poll into the queue or end the wait."""
        if not wait.open:
            return
        try:
            result = wait.policy.update(answer, now)
        except Exception as error:  # noqa: BLE001 - the trigger raises it
            wait.end(error)
            return
        wait.messages = (*wait.messages, *result.messages)[-MAX_MESSAGES:]
        if result.task or result.error:
            lines = wait.messages if self.may_log() else (" | ".join(wait.messages),)
            # The worker that resumes the task stores the last progress.
            wait.end(result._replace(messages=lines if wait.messages else (), progress=None))
            return
        pause = result.next_poll_at - now
        # After an error, the pause is the shortest that the policy or the gateway allows.
        early = min(pause * EARLY_SHARE, MAX_EARLY) if isinstance(answer, Task) else 0.0
        self._put(wait, result.next_poll_at, early)
        wait.progress = result.progress or wait.progress
        messages = wait.messages if wait.messages and self.may_log() else ()
        progress = wait.progress if wait.progress and self.may_push() else None
        if messages or progress:
            wait.show(PollResult(messages=messages, progress=progress))

    def may_push(self) -> bool:
        """Return whether a wait may store its progress in Airflow now. If not, a later poll tries again."""
        return self._may(self._progress, 1)

    def may_log(self) -> bool:
        """Return whether a wait may log its messages now. If not, it keeps them for a later poll."""
        if not self._lines_left and self._may(self._lines, LINES_TOGETHER):
            self._lines_left = LINES_TOGETHER
        allowed = self._lines_left > 0
        self._lines_left -= allowed
        return allowed

    def _may(self, limiter: RateLimiter, events: int) -> bool:
        now = self._queue.now()
        if limiter.next_at(now) > now:
            return False
        limiter.take(now, events * max(1.0, len(self._waits) / MANY_WAITS))
        return True


def _concerns_connection(error: KlingError) -> bool:
    """Return whether a query would have failed whatever it asked for."""
    if isinstance(error, KlingUnavailableError):
        return error.http_status in (None, 429) or error.retry_after is not None
    forbidden = error.http_status == 403 and error.reason  # the key may be right, and a job another account's
    return isinstance(error, (KlingAccessError, KlingBalanceError)) and not forbidden


def _is_passing(error: KlingError) -> bool:
    """Return whether to ask again at once would not help: the gateway or we are broken."""
    if not isinstance(error, KlingUnavailableError):
        return False
    return bool(error.reason) or error.http_status is None or error.http_status >= 500


class Wait:
    """One trigger's wait for one job: yields a result for each change, the last one with a task or an error.

    Use it as an async context manager and iterate over it. Polls go on while the trigger is busy.

    :param poller: polls for it.
    :param policy: says when to poll, and what an answer means.
    :param first_poll_at: when to poll first, in epoch seconds.
    :ivar call: the query for this job alone, which is sent again and again; None before it is made.
    :ivar most: the number of jobs that a query may ask for with this one.
    :ivar last_poll_at: when its last poll is due, by the loop's clock, which is never set.
    """

    __slots__ = (
        *("call", "last_poll_at", "messages", "most", "number", "open", "policy", "progress"),
        *("_changed", "_first_poll_at", "_poller", "_results"),
    )

    def __init__(self, poller: Poller, policy: PollPolicy, first_poll_at: float) -> None:
        self.policy = policy
        self.call: Call[Task] | None = None
        self.messages: tuple[str, ...] = ()
        self.progress: dict[str, Any] | None = None
        self.number, self.last_poll_at, self.open = -1, float("inf"), True
        self.most = float("inf")
        self._poller, self._first_poll_at = poller, first_poll_at
        self._results: deque[PollResult | Exception] = deque()
        self._changed: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        self._poller.start(self, self._first_poll_at)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.open = False
        self._poller.stop(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PollResult:
        while not self._results:
            if not self.open:
                raise StopAsyncIteration
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed
        result = self._results.popleft()
        if isinstance(result, Exception):
            raise result
        return result

    def show(self, result: PollResult) -> None:
        """Hand the trigger what it may log and store now."""
        self.messages = () if result.messages else self.messages
        self.progress = None if result.progress else self.progress
        self._add(result)

    def end(self, result: PollResult | Exception) -> None:
        """Hand the trigger the last result, or an error of our own code."""
        self.open = False
        self._add(result)

    def _add(self, result: PollResult | Exception) -> None:
        self._results.append(result)
        if self._changed and not self._changed.done():
            self._changed.set_result(None)
