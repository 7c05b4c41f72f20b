"""Polls of several jobs with one query: in order, none too late or too early, and no job spoils another's."""

import asyncio
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain, count
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow_fakes import Clock, poll, settings_of
from odd_servers import answering, serving

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingError,
    KlingInputError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import NOT_FOUND_GRACE, Outcome, Task
from airflow_provider_kling.polling.client_pool import ClientPool
from airflow_provider_kling.polling.policy import PollPolicy
from airflow_provider_kling.polling.poll_queue import PollQueue
from airflow_provider_kling.polling.poller import MAX_EARLY, Poller, Wait
from airflow_provider_kling.polling.rate_limit import RateLimiter

KLING = "https://api-singapore.klingai.com"
INTERVAL = 10.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that is also the queue's: two that drift apart round the polls of one batch to two times."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr(PollQueue, "now", lambda queue: max(queue._reached, clock.time()))
    return clock


class Recorded(PollPolicy):
    """A policy that records the answers that it is told, and when."""

    def __init__(self, job, *, timeout=1000.0, interval=INTERVAL):
        now = time.time()
        super().__init__(job, now, now + timeout, interval)
        self.answers = []

    __slots__ = ("answers",)

    def update(self, answer, now):
        self.answers.append((answer, now))
        return super().update(answer, now)


class Jobs:
    """Answers queries for some jobs at a time, and records them. Each job runs, unless a test says otherwise.

    :ivar unknown: the jobs that an answer leaves out.
    :ivar spoils: what a query for a job raises, whatever else it asks for.
    :ivar fails: what the next queries raise.
    """

    def __init__(self):
        self.start, self.queries, self.unknown, self.spoils, self.fails = time.time(), [], set(), {}, []

    async def __call__(self, waits):
        ids = [wait.policy.kling_task_id for wait in waits]
        self.queries.append((time.time() - self.start, ids))
        if self.fails:
            raise self.fails.pop(0)
        if error := next((self.spoils[id_] for id_ in ids if id_ in self.spoils), None):
            raise error
        if len(ids) == 1 and ids[0] in self.unknown:
            raise KlingTaskNotFoundError("Kling does not know it.", kling_task_id=ids[0])
        known = [id_ for id_ in ("foreign", *reversed(ids)) if id_ not in self.unknown]
        return {id_: Task(id_, "processing", Outcome.UNFINISHED) for id_ in known}

    def asked(self, begin=-1.0, end=1.0):
        """Return the ids of the queries in a span of seconds since the start; by default the first ones."""
        return [ids for at, ids in self.queries if begin <= at < end]


@asynccontextmanager
async def waiting(query, policies, first=-1.0, **extra):
    """Wait for some jobs, whose first polls are due this many seconds from now."""
    settings, now = settings_of(KLING, **{"queries_per_second": 1000, **extra}), time.time()
    poller = Poller(query, RateLimiter(1.0))
    poller.use(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(poller.close)
        for index, policy in enumerate(policies):
            at = first(index) if callable(first) else first
            await stack.enter_async_context(Wait(poller, policy, now + at))
        yield poller


async def until(done):
    """Let the polls go on until something is true."""
    for _ in range(10_000):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError


def names(number):
    return [f"job-{index:02}" for index in range(number)]


def answered(policies, times=1):
    return lambda: all(len(policy.answers) >= times for policy in policies)


def times(policy):
    """Return when a wait got its answers, in seconds since its start."""
    return [at - policy.started_at for _, at in policy.answers]


def sizes(queries):
    return [len(ids) for ids in queries]


async def test_polls_that_are_due_share_queries_in_the_order_of_being_due(clock):
    jobs, policies = Jobs(), [Recorded(name) for name in names(45)]
    async with waiting(jobs, policies, lambda index: -1 - index / 10):
        await until(answered(policies))
    assert [*chain(*jobs.asked())] == names(45)[::-1]
    assert sizes(jobs.asked()) == [20, 20, 5]


async def test_a_wait_takes_the_answer_for_its_job_wherever_it_stands(clock):
    jobs, policies = Jobs(), [Recorded(name) for name in names(20)]
    async with waiting(jobs, policies):
        await until(answered(policies))
    assert sizes(jobs.asked()) == [20]
    assert [policy.answers[0][0].kling_task_id for policy in policies] == names(20)


async def test_the_rate_limit_counts_queries(clock):
    jobs, policies = Jobs(), [Recorded(name, interval=1000.0) for name in names(60)]
    async with waiting(jobs, policies, queries_per_second=1):
        await until(answered(policies))
    assert [at for at, _ in jobs.queries[:3]] == pytest.approx([0, 1, 2], abs=0.05)


async def test_no_first_poll_comes_before_its_time(clock):
    """A job that ends just after its task was deferred can fail that task in Airflow."""
    jobs, policies = Jobs(), [Recorded(name) for name in names(2)]
    async with waiting(jobs, policies, lambda index: 10.0 + index / 2):
        await until(answered(policies))
    assert [times(policy)[0] for policy in policies] == pytest.approx([10.0, 10.5], abs=0.05)


async def test_a_later_poll_joins_a_query_a_little_early_and_stays_with_it(clock):
    jobs, policies = Jobs(), [Recorded(name) for name in names(3)]
    begins = [1.0, 1.0 + MAX_EARLY / 2, 1.0 + MAX_EARLY * 1.5]
    async with waiting(jobs, policies, begins.__getitem__):
        await until(answered(policies, 3))
    first, near, far = (times(policy)[:3] for policy in policies)
    assert near[1:] == first[1:] == pytest.approx([1 + INTERVAL, 1 + 2 * INTERVAL], abs=0.1)
    assert far == pytest.approx([2.5, 2.5 + INTERVAL, 2.5 + 2 * INTERVAL], abs=0.1)


async def test_a_poll_after_one_that_failed_is_not_early(clock):
    jobs, policies = Jobs(), [Recorded(name) for name in names(2)]
    jobs.spoils = {"job-01": KlingUnavailableError("No answer.")}
    async with waiting(jobs, policies, lambda index: 1 + index / 2):
        await until(answered(policies, 2))
    assert times(policies[1])[:2] == pytest.approx([1.5, 1.5 + INTERVAL], abs=0.1)


async def test_the_last_poll_of_each_wait_comes_at_its_own_deadline(clock):
    ends = [11.0 + index for index in range(8)]
    jobs, policies = Jobs(), [Recorded(name, timeout=at) for name, at in zip(names(8), ends, strict=True)]
    async with waiting(jobs, policies) as poller:
        await until(lambda: not any(wait.open for wait in poller._waits))
    assert [times(policy)[-1] for policy in policies] == pytest.approx(ends, abs=0.1)


async def test_a_pause_that_the_gateway_asks_for_delays_no_last_poll(clock):
    jobs, policies = Jobs(), [Recorded("job-00", timeout=30.0), Recorded("job-01")]
    jobs.fails = [KlingUnavailableError("Too many.", http_status=429, retry_after=300.0)]
    async with waiting(jobs, policies):
        await until(answered(policies, 2))
    assert times(policies[0])[:2] == pytest.approx([0, 30], abs=0.1)


async def test_a_job_that_an_answer_leaves_out_is_asked_for_alone_until_it_is_found(clock):
    jobs, policies = Jobs(), [Recorded(name) for name in names(20)]
    jobs.unknown, lost = {"job-07", "job-12"}, policies[7]
    async with waiting(jobs, policies):
        await until(answered(policies, 2))
        jobs.unknown = set()
        await until(answered(policies, 4))
    assert sizes(jobs.asked()) == [20, 1, 1]
    assert sorted(sizes(jobs.asked(9, 11))) == [1, 1, 18]
    assert sizes(jobs.asked(*(times(lost)[3] + at for at in (-1, 1)))) == [20]
    assert [type(answer) for answer, _ in lost.answers[:4]] == [KlingTaskNotFoundError] * 2 + [Task] * 2
    found = [policy for policy in policies if policy.kling_task_id not in ("job-07", "job-12")]
    assert all(isinstance(answer, Task) for policy in found for answer, _ in policy.answers)


async def test_a_job_that_stays_unknown_ends_its_own_wait_after_the_grace(clock):
    jobs, policies = Jobs(), [Recorded(name) for name in names(5)]
    jobs.unknown = {"job-03"}
    async with waiting(jobs, policies) as poller:
        await until(lambda: not all(wait.open for wait in poller._waits))
        assert [wait.policy.kling_task_id for wait in poller._waits if not wait.open] == ["job-03"]
    assert times(policies[3])[-1] == pytest.approx(NOT_FOUND_GRACE, abs=0.2)


REFUSED = [
    KlingInputError("Parameter error.", reason="1201", http_status=400),
    KlingAccessError("It belongs to another account.", reason="1103", http_status=403),
    KlingUnavailableError("The answer could not be read.", http_status=200),
    KlingTaskNotFoundError("There is none.", http_status=404),
]


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("bad", [0, 7, 19])
async def test_one_bad_id_of_twenty_spoils_no_other(clock, error, bad):
    jobs, policies = Jobs(), [Recorded(name) for name in names(20)]
    spoiler, good = policies[bad], [policy for index, policy in enumerate(policies) if index != bad]
    jobs.spoils = {spoiler.kling_task_id: error}
    async with waiting(jobs, policies):
        await until(answered(good, 3))
    assert len(jobs.asked()) <= 21
    assert all(at < 1 for policy in policies for at in times(policy)[:1])
    assert all(isinstance(answer, Task) for policy in good for answer, _ in policy.answers)
    assert type(spoiler.answers[0][0]) is type(error)
    assert [ids for ids in jobs.asked(1, 25) if spoiler.kling_task_id in ids and len(ids) > 1] == []
    assert 19 in sizes(jobs.asked(15, 25))


async def test_a_gateway_that_refuses_every_query_for_several_jobs_serves_all_alone(clock):
    jobs, policies, refused = Jobs(), [Recorded(name) for name in names(20)], []

    async def only_one(waits):
        if len(waits) == 1:
            return await jobs(waits)
        refused.append(time.time())
        raise REFUSED[0]

    async with waiting(only_one, policies):
        await until(answered(policies))
    assert sizes(jobs.asked()) == [1] * 20
    assert len([at for at in refused if at < jobs.start + 1]) < 20


OF_THE_CONNECTION = [
    KlingAccessError("Unknown key.", reason="1002", http_status=401),
    KlingAccessError("Refused by a proxy.", http_status=403),
    KlingBalanceError("Nothing left.", reason="1101", http_status=429),
    KlingUnavailableError("Too many.", reason="1302", http_status=429),
    KlingUnavailableError("Later.", http_status=503, retry_after=7.0),
    KlingUnavailableError("No answer."),
]


@pytest.mark.parametrize("error", OF_THE_CONNECTION, ids=lambda error: error.what)
async def test_an_error_of_the_connection_is_that_of_all_jobs_without_more_queries(clock, error):
    jobs, policies = Jobs(), [Recorded(name) for name in names(20)]
    jobs.fails = [error]
    async with waiting(jobs, policies) as poller:
        await until(answered(policies))
        if any(wait.open for wait in poller._waits):
            await until(answered(policies, 2))
    assert sizes(jobs.asked()) == [20]
    assert {*sizes(jobs.asked(1, 12))} <= {20}
    for policy in policies:
        told, _ = policy.answers[0]
        assert (type(told), told.money) == (type(error), Money.RUNNING)
        assert told.kling_task_id == policy.kling_task_id


BROKEN = [
    KlingUnavailableError("Broken.", http_status=502),
    KlingUnavailableError("Broken.", reason="5000", http_status=200),
    ZeroDivisionError(),
]


@pytest.mark.parametrize("error", BROKEN, ids=repr)
async def test_a_job_that_breaks_the_gateway_is_soon_alone_and_no_storm_follows(clock, error):
    jobs, policies = Jobs(), [Recorded(name, interval=5.0) for name in names(20)]
    spoiler, good = policies[7], [policy for policy in policies if policy is not policies[7]]
    jobs.spoils = {spoiler.kling_task_id: error}
    async with waiting(jobs, policies):
        await until(answered(policies))
        await until(lambda: all(isinstance(policy.answers[-1][0], Task) for policy in good))
    assert sizes(jobs.asked()) == [20]
    assert all(len(jobs.asked(at, at + 10)) < 10 for at in range(200))
    assert [spoiler.kling_task_id] in jobs.asked(0, 200)


async def test_a_wait_that_is_over_while_its_query_is_in_flight_costs_the_others_nothing(clock):
    answers, jobs, policies = asyncio.Event(), Jobs(), [Recorded(name) for name in names(3)]

    async def slow(waits):
        tasks = await jobs(waits)
        await answers.wait()
        return tasks

    async with waiting(slow, policies) as poller:
        await until(lambda: jobs.queries)
        (over,) = (wait for wait in poller._waits if wait.policy is policies[1])
        await over.__aexit__()
        answers.set()
        await until(answered([policies[0], policies[2]], 2))
    assert not policies[1].answers
    assert [ids for _, ids in jobs.queries[:2]] == [names(3), ["job-00", "job-02"]]


async def test_a_wait_that_is_over_when_its_batch_is_refused_is_not_asked_for_again(clock):
    jobs, policies = Jobs(), [Recorded(name) for name in names(4)]

    async def refusing(waits):
        if len(waits) < 4:
            return await jobs(waits)
        (over,) = (wait for wait in waits if wait.policy is policies[0])
        await over.__aexit__()
        raise REFUSED[0]

    async with waiting(refusing, policies):
        await until(answered(policies[1:]))
    assert {*chain(*jobs.asked())} == {*names(4)[1:]}


# --- with Kling's own queries, over a real connection


class Kling:
    """A server that answers Kling's queries for jobs that run, and records the ids of each.

    :ivar keys: the keys that it accepts; None, all of them.
    """

    def __init__(self):
        self.asked, self.keys, self._requests = [], None, count()

    def __call__(self, handler):
        ids = parse_qs(urlsplit(handler.path).query)["task_ids"][0].split(",")
        self.asked.append(sorted(ids))
        key = handler.headers["Authorization"].removeprefix("Bearer ")
        if self.keys is not None and key not in self.keys:
            return answering(b'{"code": 1002, "message": "api key not found"}', 401)(handler)
        if not all(id_.isdecimal() for id_ in ids):
            return answering(b'{"code": 1201, "message": "wrong id"}', 400)(handler)
        rows = [{"id": id_, "status": "processing"} for id_ in reversed(ids)]
        answer = {"code": 0, "message": "SUCCEED", "request_id": str(next(self._requests)), "data": rows}
        return answering(json.dumps(answer).encode())(handler)


@pytest.fixture
def kling(monkeypatch):
    """Kling, and the connection ``kling_default`` to it."""
    with serving(answer := Kling()) as server:
        answer.connect = lambda key: monkeypatch.setenv(
            "AIRFLOW_CONN_KLING_DEFAULT",
            json.dumps(
                {"conn_type": "kling", "host": server.url, "password": key, "extra": {"gateway": "kling"}}
            ),
        )
        answer.connect("key-1")
        yield answer


async def polled_together(client, ids):
    return await asyncio.gather(*(poll(client, id_) for id_ in ids), return_exceptions=True)


async def test_two_waits_for_one_job_share_its_answer(kling):
    async with ClientPool.client("kling_default") as client:
        await poll(client, "1")
        tasks = await polled_together(client, ["2", "2", "3"])
    assert [task.kling_task_id for task in tasks] == ["2", "2", "3"]
    assert kling.asked == [["1"], ["2", "3"]]


async def test_the_id_of_another_gateway_spoils_no_other(kling):
    bad = "1f0e7a52-9c3b-4d6e-8a01-5b7c9d2e4f60"
    async with ClientPool.client("kling_default") as client:
        await poll(client, "1")
        *tasks, error = await polled_together(client, ["2", "3", bad])
    assert [task.kling_task_id for task in tasks] == ["2", "3"]
    assert isinstance(error, KlingError)
    assert error.kling_task_id == bad


async def test_a_key_that_was_rotated_costs_a_batch_no_poll(kling):
    async with ClientPool.client("kling_default") as client:
        await poll(client, "1")
        kling.connect("key-2")
        kling.keys = {"key-2"}
        tasks = await polled_together(client, ["2", "3"])
    assert [task.kling_task_id for task in tasks] == ["2", "3"]
    assert kling.asked[1:] == [["2", "3"]] * 2
