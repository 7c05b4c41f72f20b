"""The wait for a job, on the worker and in the triggerer: for the sensor and the all-in-one operator."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason

from airflow_provider_kling.errors import KlingError, from_dict
from airflow_provider_kling.gateways.base import Task
from airflow_provider_kling.hooks import KlingHook, airflow_errors, harmless
from airflow_provider_kling.links import KlingProgressLink, KlingVideoLink, is_web_url
from airflow_provider_kling.operators.base import KlingBaseOperator
from airflow_provider_kling.operators.xcom import find_request
from airflow_provider_kling.polling.policy import FIRST_POLL_DELAY, PROGRESS_KEY, PollPolicy, PollResult
from airflow_provider_kling.polling.schedule import Schedule, kind_of
from airflow_provider_kling.submission.state import submission_state
from airflow_provider_kling.values import read_number

if TYPE_CHECKING:
    from airflow.sdk import Context

#: XCom key of the first video's link.
VIDEO_URL_KEY = "kling_video_url"
#: Seconds after our own deadline at which Airflow ends a deferral, should the triggerer be gone.
BACKSTOP = 900.0
#: A wait is deferred this many times at most. So it starts one worker more than that at most, also where the
#: worker never sees the end that the triggerer saw; the last worker stays.
MAX_DEFERRALS = 3
#: A worker that resumes a wait stays for polls within this number of seconds, before it defers again.
RESUMED_STAY = 15.0
#: Each deferral after the first one waits longer by this factor before its first poll.
DEFERRAL_BACKOFF = 4


@dataclass(frozen=True, slots=True)
class WaitOptions:
    """How to wait for a job; all spans are seconds.

    :param timeout: the longest wait.
    :param interval: between two polls; None lets the schedule decide.
    :param initial_delay: no poll before the job has this age.
    :param max_poll_interval: the longest interval that the schedule takes.
    :param publish_link: push the video's link to XCom.
    """

    timeout: float
    interval: float | None
    initial_delay: float
    max_poll_interval: float
    publish_link: bool

    @classmethod
    def checked(
        cls,
        timeout: timedelta | float,
        poke_interval: timedelta | float | None,
        initial_delay: timedelta | float,
        max_poll_interval: timedelta | float,
        *,
        publish_link: bool,
    ) -> WaitOptions:
        """Return the options that are in an operator's arguments of these names.

        :raises ValueError: naming an argument that is no time span, or a too short one.
        """
        return cls(
            _checked_seconds("timeout", timeout, 0),
            None if poke_interval is None else _checked_seconds("poke_interval", poke_interval, 1),
            _checked_seconds("initial_delay", initial_delay, 0),
            _checked_seconds("max_poll_interval", max_poll_interval, 2),
            publish_link,
        )


def _checked_seconds(argument: str, value: timedelta | float, least: float) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    usual = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not usual or seconds < least:
        raise ValueError(f"{argument}={value!r}: must be a number of seconds, at least {least:g}")
    return float(seconds)


class JobWait:
    """One task's wait for one job.

    :param operator: the task's operator.
    :param context: the task's context.
    :param options: how to wait.
    :param policy: decides what an answer means.
    :param kind: what the job's duration depends on, see :func:`kind_of`.
    """

    def __init__(
        self,
        operator: WaitingOperator,
        context: Context,
        options: WaitOptions,
        policy: PollPolicy,
        kind: str = "",
    ) -> None:
        self._operator, self._ti, self._options = operator, context["ti"], options
        self._policy, self._kind = policy, kind

    def until_end(self) -> Task:
        """Poll on the worker until the job is done, and return it.

        :raises KlingError: that ends the wait.
        """
        task = self.poll(stay=lambda _: True).task
        assert task
        return task

    def or_defer(self, deferrals: int = 0) -> Task:
        """Poll, and return the job if it is done; else let the triggerer wait on.

        The worker stays if the wait has been deferred too often, or if the deadline is too near. A worker
        that resumes stays a little: the job is done, so most of what goes wrong then passes soon.

        :param deferrals: how often this wait has been deferred.
        :raises KlingError: that ends the wait.
        """
        policy = self._policy

        def stay(result: PollResult) -> bool:
            if deferrals >= MAX_DEFERRALS or time.time() + FIRST_POLL_DELAY > policy.deadline:
                return True
            return policy.resumed_at is not None and result.next_poll_at < policy.resumed_at + RESUMED_STAY

        result = self.poll(stay)
        if result.task:
            return result.task
        delay = FIRST_POLL_DELAY * DEFERRAL_BACKOFF**deferrals
        self._defer(max(result.next_poll_at, time.time() + delay), deferrals + 1)
        raise AssertionError("defer() does not return")  # pragma: no cover

    def poll(self, stay: Callable[[PollResult], bool]) -> PollResult:
        """Poll until the job is done, or until the worker need not stay for the next poll.

        This is the only loop that waits on a worker.

        :param stay: says whether the worker stays after a result.
        :raises KlingError: that ends the wait.
        """
        with harmless(self._operator.log, "The progress link could not be stored"):
            KlingProgressLink().show(self._operator, self._ti, self._ti.log_url.split("?")[0] + "/xcom")
        result = PollResult(next_poll_at=self._policy.earliest)
        if result.next_poll_at <= time.time():
            result = self._poll_once()
        while not result.task and stay(result):
            time.sleep(max(0.0, result.next_poll_at - time.time()))
            result = self._poll_once()
        return result

    def _poll_once(self) -> PollResult:
        answer: Task | KlingError
        try:
            answer = KlingHook(self._operator.kling_conn_id).get_task(self._policy.kling_task_id)
        except KlingError as error:
            answer = error
        result = self._policy.update(answer, time.time())
        for message in result.messages:
            self._operator.log.info(message)
        with harmless(self._operator.log, "The progress could not be stored"):
            if result.progress:
                self._ti.xcom_push(key=PROGRESS_KEY, value=result.progress)
            video_url = result.task and result.task.videos[0].to_dict(with_link=True).get("video_url")
            if video_url and self._options.publish_link:
                if is_web_url(video_url):  # the UI makes a link of it too
                    self._ti.xcom_push(key=VIDEO_URL_KEY, value=video_url)
                KlingVideoLink().show(self._operator, self._ti, video_url)
        if result.error:
            raise result.error
        return result

    def _defer(self, first_poll_at: float, deferrals: int) -> None:
        from airflow_provider_kling.triggers import KlingTaskTrigger

        policy = self._policy
        self._operator.log.info(
            "The wait goes on in the triggerer, until %s UTC at the latest. If nothing follows here, look at "
            "Home, Health: is the triggerer healthy?",
            datetime.fromtimestamp(policy.deadline, UTC).strftime("%Y-%m-%d %H:%M"),
        )
        self._operator.defer(
            trigger=KlingTaskTrigger(
                kling_task_id=policy.kling_task_id,
                kling_conn_id=self._operator.kling_conn_id,
                started_at=policy.started_at,
                deadline=policy.deadline,
                interval=policy.interval,
                first_poll_at=first_poll_at,
                kind=self._kind,
                initial_delay=self._options.initial_delay,
                max_poll_interval=self._options.max_poll_interval,
                logged_status=policy.logged_status,
            ),
            method_name=WaitingOperator.execute_complete.__name__,
            kwargs={"deferrals": deferrals},
            timeout=timedelta(seconds=policy.deadline - time.time() + BACKSTOP),
        )


class WaitingOperator(KlingBaseOperator):
    """The base of operators that wait for a job.

    A subclass says for which job (:meth:`_job_to_wait_for`) and what follows (:meth:`_finish`). Airflow
    resumes a deferred task with the methods here. Their names are public: tasks stay deferred across
    upgrades.
    """

    kling_conn_id: str
    kling_links: dict[str, str]
    wait_options: WaitOptions

    def _job_to_wait_for(self, context: Context) -> str:
        """Return the job's task id, empty where there is none yet."""
        raise NotImplementedError

    def _finish(self, context: Context, task: Task) -> Any:
        """Do what follows on the finished job, and return what the task returns."""
        raise NotImplementedError

    @contextmanager
    def _wait_errors(self) -> Iterator[None]:
        """Translate the errors that end the wait for Airflow."""
        with airflow_errors():
            yield

    def execute_complete(self, context: Context, event: dict[str, Any], deferrals: int = 1) -> Any:
        """Take the wait over from the triggerer: raise its error, or ask for a fresh link to the video."""
        with self._wait_errors():
            if "error" in event:
                raise from_dict(event["error"])
            times = event["started_at"], event["deadline"]
            policy = _policy(event["kling_task_id"], *times, self.wait_options, resumed_at=time.time())
            task = JobWait(self, context, self.wait_options, policy).or_defer(deferrals)
        return self._finish(context, task)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; where Airflow's backstop ended the deferral, poll a last time before giving up."""
        failure = (next_kwargs or {}).get("error") if next_method == TRIGGER_FAIL_REPR else None
        if failure == TriggerFailureReason.TRIGGER_TIMEOUT.value and self._job_to_wait_for(context):
            next_method, next_kwargs = self.execute_at_deadline.__name__, None
        return super().resume_execution(next_method, next_kwargs, context)

    def execute_at_deadline(self, context: Context) -> Any:
        """Make the last poll, which no triggerer was left to make: the job may be done, and is paid for."""
        now, kling_task_id = time.time(), self._job_to_wait_for(context)
        times = now - self.wait_options.timeout, now
        with harmless(self.log, "When the wait began could not be read"):
            times = submission_state(context).recorded_wait(kling_task_id) or times
        with self._wait_errors():
            policy = _policy(kling_task_id, times[0], min(times[1], now), self.wait_options)
            task = JobWait(self, context, self.wait_options, policy).until_end()
        return self._finish(context, task)


def read_request(operator: WaitingOperator, context: Context, kling_task_id: str) -> dict[str, Any]:
    """Return what is known of the request that made the job; empty where nothing is."""
    with harmless(operator.log, "The request of the job could not be read"):
        return find_request(operator, context["ti"], kling_task_id)
    return {}


def begin_wait(
    operator: WaitingOperator,
    context: Context,
    kling_task_id: str,
    request: Mapping[str, Any],
    now: float,
) -> JobWait:
    """Return the wait for a job, or the one that an earlier try began.

    The timeout counts from our own note of the submit, or from *now* if there is none or if it is older than
    the timeout. The gateway's clock does not count.

    :param request: from :func:`read_request`.
    :param now: when this task began to wait, in epoch seconds.
    """
    options, kind = operator.wait_options, ""
    submitted_at = read_number(request.get("submitted_at"))
    started_at = submitted_at if submitted_at and 0 < now - submitted_at < options.timeout else now
    deadline = started_at + options.timeout
    with harmless(operator.log, "When the wait began could not be stored for a retry"):
        state = submission_state(context)
        if recorded := state.recorded_wait(kling_task_id):
            started_at, deadline = recorded
        else:
            state.record_wait(kling_task_id, started_at, deadline)
    with harmless(operator.log, "What kind of job it is could not be read"):
        kind = kind_of(request["model"], request["inputs"]) if request else ""
    return JobWait(operator, context, options, _policy(kling_task_id, started_at, deadline, options), kind)


def _policy(
    kling_task_id: str,
    started_at: float,
    deadline: float,
    options: WaitOptions,
    *,
    resumed_at: float | None = None,
) -> PollPolicy:
    schedule = Schedule(
        key=kling_task_id, initial_delay=options.initial_delay, max_poll_interval=options.max_poll_interval
    )
    return PollPolicy(kling_task_id, started_at, deadline, options.interval, schedule, resumed_at)
