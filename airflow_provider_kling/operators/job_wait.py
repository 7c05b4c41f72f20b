"""One task's wait for one job, on the worker and handed over to the triggerer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_kling import metrics, tracing
from airflow_provider_kling.errors import KlingError, KlingUnavailableError, KlingWaitTimeoutError, Money
from airflow_provider_kling.gateways.base import Task
from airflow_provider_kling.hooks import KlingHook, suppress_and_log
from airflow_provider_kling.links import KlingGalleryLink, KlingVideoLink
from airflow_provider_kling.operators.base import log_deferral
from airflow_provider_kling.operators.deferral import BACKSTOP, WaitingOperator
from airflow_provider_kling.operators.xcom import find_request, own_bill, show_bill
from airflow_provider_kling.polling.policy import FIRST_POLL_DELAY, PollPolicy, PollResult
from airflow_provider_kling.polling.schedule import Schedule, kind_of
from airflow_provider_kling.submission.state import submission_state
from airflow_provider_kling.triggers import KlingTaskTrigger
from airflow_provider_kling.values import is_web_url, read_number
from airflow_provider_kling.xcom_keys import PROGRESS_KEY, VIDEO_URL_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Seconds for which a job that should be finished is queried, and between two queries.
QUERY_TIMEOUT, QUERY_INTERVAL = 300.0, 5.0
#: A wait is deferred this many times at most. So it starts one worker more than that at most, also where the
#: worker never sees the end that the triggerer saw; the last worker stays.
MAX_DEFERRALS = 3
#: A worker that resumes a wait stays for polls within this number of seconds, before it defers again.
RESUMED_STAY = 15.0
#: Each deferral after the first one waits longer by this factor before its first poll.
DEFERRAL_BACKOFF = 4


class JobWait:
    """One task's wait for one job.

    :param request: from :func:`read_request`.
    :param started_at: when the wait began, in epoch seconds.
    :param deadline: when it ends, in epoch seconds.
    :param resumed_at: when a worker took the wait over from the triggerer, in epoch seconds.
    """

    def __init__(
        self,
        operator: WaitingOperator,
        context: Context,
        kling_task_id: str,
        request: Mapping[str, Any],
        started_at: float,
        deadline: float,
        *,
        resumed_at: float | None = None,
    ) -> None:
        self._operator, self._ti, self._kind = operator, context["ti"], ""
        self._options = options = operator.wait_options
        schedule = Schedule(
            key=kling_task_id,
            initial_delay=options.initial_delay,
            max_poll_interval=options.max_poll_interval,
        )
        self._policy = PollPolicy(kling_task_id, started_at, deadline, options.interval, schedule, resumed_at)
        with suppress_and_log(operator.log, "What kind of job it is could not be read"):
            self._kind = kind_of(request["model"], request["inputs"]) if request else ""

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
        if not result.task:
            delay = FIRST_POLL_DELAY * DEFERRAL_BACKOFF**deferrals
            self._defer(max(result.next_poll_at, time.time() + delay), deferrals + 1)
        return result.task

    def poll(self, stay: Callable[[PollResult], bool]) -> PollResult:
        """Poll as :func:`poll` does, and show the wait in Airflow."""
        with suppress_and_log(self._operator.log, "The link to the gallery could not be stored"):
            KlingGalleryLink().show(self._ti)
        hook = KlingHook(self._operator.kling_conn_id)
        return poll(hook, self._policy, self._operator.log, stay, lambda _, result: self._show(hook, result))

    def _show(self, hook: KlingHook, result: PollResult) -> None:
        with suppress_and_log(self._operator.log, "The progress could not be stored"):
            if result.progress:
                self._ti.xcom_push(key=PROGRESS_KEY, value=result.progress)
            video_url = result.task and result.task.videos[0].to_dict(with_link=True).get("video_url")
            if video_url and self._options.publish_link:
                if is_web_url(video_url):  # the UI makes a link of it too
                    self._ti.xcom_push(key=VIDEO_URL_KEY, value=video_url)
                KlingVideoLink().show(self._operator, self._ti, video_url)
        if ended := result.task or result.failed:
            show_bill(hook, self._ti, ended, self._operator.log)
        if result.task or result.error:
            self.count_end(hook, result)

    def count_end(self, hook: KlingHook, result: PollResult) -> None:
        """Count how the wait has ended, and trace it from the submit on."""
        error, ended = result.error, result.task or result.failed
        with suppress_and_log(self._operator.log, "The end of the wait could not be counted"):
            settings, model = hook.settings, (ended and ended.model) or self._kind.partition(" ")[0]
            tags = metrics.job_tags(settings.gateway.name, model)
            is_over = error is None or error.money is Money.ENDED
            # Of a job that has failed while it was polled in the triggerer, the trigger has pushed the bill.
            bill = ended.bill(settings.unit_price_usd) if ended else own_bill(self._ti) if is_over else None
            facts = {**tags, "job": self._policy.kling_task_id, "cost_usd": bill and bill.cost_usd}
            tracing.start("wait", self._ti, self._policy.started_at, **facts).end(error)
            if bill and bill.usd:
                metrics.BILLED_COST.add(bill.usd, **tags)
            if not is_over:
                return
            if error:
                metrics.FAILED.add(error=type(error).__name__, **tags)
            else:
                metrics.SUCCEEDED.add(**tags)
            waited = time.time() - self._policy.started_at
            metrics.WAIT.record(waited, outcome="failed" if error else "succeeded", **tags)

    def _defer(self, first_poll_at: float, deferrals: int) -> NoReturn:
        policy = self._policy
        until = datetime.fromtimestamp(policy.deadline, UTC).strftime("%Y-%m-%d %H:%M")
        what = f"The triggerer waits for the job, until {until} UTC at the latest."
        log_deferral(self._operator.log, what)
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


def poll(
    hook: KlingHook,
    policy: PollPolicy,
    log: Any,
    stay: Callable[[PollResult], bool] = lambda _: True,
    show: Callable[[Task | KlingError, PollResult], None] = lambda *_: None,
) -> PollResult:
    """Poll until the job is done, or until the worker need not stay for the next poll.

    This is the only loop that waits on a worker.

    :param stay: says whether the worker stays after a result.
    :param show: gets each answer, and what it means.
    :raises KlingError: that ends the wait.
    """
    result = PollResult(next_poll_at=policy.earliest)
    is_due = result.next_poll_at <= time.time()
    while is_due or (not result.task and stay(result)):
        if not is_due:
            time.sleep(max(0.0, result.next_poll_at - time.time()))
        is_due = False
        answer: Task | KlingError
        try:
            answer = hook.get_task(policy.kling_task_id)
        except KlingError as error:
            answer = error
        result = policy.update(answer, time.time())
        for message in result.messages:
            log.info(message)
        show(answer, result)
        if result.error:
            raise result.error
    return result


def finished_task(hook: KlingHook, kling_task_id: str, log: Any) -> Task:
    """Return a job that should be finished. Failed queries are repeated as in a wait.

    :raises KlingUnavailableError: no query succeeded, or the job was not finished in time.
    """
    now = time.time()
    policy = PollPolicy(kling_task_id, now, now + QUERY_TIMEOUT, QUERY_INTERVAL)
    answers: list[Task | KlingError] = []
    try:
        task = poll(hook, policy, log, show=lambda answer, _: answers.append(answer)).task
    except KlingWaitTimeoutError as error:  # a retry may help, and does not pay
        if isinstance(answers[-1], KlingError):
            raise answers[-1] from None
        raise KlingUnavailableError(error.what, money=Money.RUNNING, kling_task_id=kling_task_id) from None
    assert task
    return task


def read_request(operator: WaitingOperator, context: Context, kling_task_id: str) -> dict[str, Any]:
    """Return what is known of the request that made the job; empty where nothing is."""
    with suppress_and_log(operator.log, "The request of the job could not be read"):
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
    timeout = operator.wait_options.timeout
    submitted_at = read_number(request.get("submitted_at"))
    started_at = submitted_at if submitted_at and 0 < now - submitted_at < timeout else now
    deadline = started_at + timeout
    with suppress_and_log(operator.log, "When the wait began could not be stored for a retry"):
        state = submission_state(context)
        if recorded := state.recorded_wait(kling_task_id):
            started_at, deadline = recorded
        else:
            state.record_wait(kling_task_id, started_at, deadline)
    return JobWait(operator, context, kling_task_id, request, started_at, deadline)


def resume_wait(operator: WaitingOperator, context: Context, event: Mapping[str, Any]) -> JobWait:
    """Return the wait that the triggerer hands back to a worker by an event."""
    kling_task_id, resumed_at = event["kling_task_id"], time.time()
    request, times = read_request(operator, context, kling_task_id), (event["started_at"], event["deadline"])
    return JobWait(operator, context, kling_task_id, request, *times, resumed_at=resumed_at)
