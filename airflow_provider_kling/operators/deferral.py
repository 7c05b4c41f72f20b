"""The wait that the sensor and the all-in-one operator share: look, defer, resume."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason

from airflow_provider_kling.errors import KlingError, from_dict
from airflow_provider_kling.gateways.base import Task
from airflow_provider_kling.hooks import KlingHook, for_airflow, harmless
from airflow_provider_kling.links import KlingProgressLink, KlingVideoLink
from airflow_provider_kling.operators.base import KlingBaseOperator
from airflow_provider_kling.operators.xcom import find_request
from airflow_provider_kling.polling.policy import FIRST_LOOK_DELAY, PROGRESS_KEY, PollPolicy, PollResult
from airflow_provider_kling.polling.schedule import MAX_POLL_INTERVAL, SHORTEST_INTERVAL, Schedule, kind_of
from airflow_provider_kling.submission.submit_once import submission_state

if TYPE_CHECKING:
    from airflow.sdk import Context

#: XCom key of the first video's link.
VIDEO_URL_KEY = "kling_video_url"
_TRIGGER_TIMEOUT = TriggerFailureReason.TRIGGER_TIMEOUT.value
#: Seconds after our own deadline at which Airflow's ends a deferral, should the triggerer be gone.
BACKSTOP = 900.0
#: Seconds that a resumed task may go on asking for the video of a job that the triggerer saw end.
RESUME_GRACE = 600.0


def checked_seconds(argument: str, value: timedelta | float, least: float) -> float:
    """Return a span in seconds, given as a number or a timedelta.

    :raises ValueError: naming the argument, where it is none or less than *least*.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= least:
        raise ValueError(f"{argument}={value!r}: must be a number of seconds, at least {least:g}")
    return float(seconds)


def checked_pace(
    poke_interval: timedelta | float | None,
    initial_delay: timedelta | float,
    max_poll_interval: timedelta | float,
) -> tuple[float | None, float, float]:
    """Return the arguments of that name in seconds.

    :raises ValueError: naming the argument, where it is no span or too short.
    """
    return (
        None if poke_interval is None else checked_seconds("poke_interval", poke_interval, 1),
        checked_seconds("initial_delay", initial_delay, 0),
        checked_seconds("max_poll_interval", max_poll_interval, SHORTEST_INTERVAL),
    )


class Waiting(KlingBaseOperator):
    """A part of an operator: waits for one job, on the worker or in the triggerer.

    The operator says for which job (:meth:`_waited_for`) and what follows (:meth:`_arrived`). Where it
    defers, the methods that Airflow resumes it with are here; their names are public, as tasks stay
    deferred across upgrades.
    """

    kling_conn_id: str
    timeout: float
    publish_link: bool
    kling_links: dict[str, str]
    #: Seconds between two looks; None lets the schedule decide.
    interval: float | None = None
    #: No look before the job has this age, in seconds, and the schedule's longest pause.
    initial_delay: float = 0.0
    max_poll_interval: float = MAX_POLL_INTERVAL
    _kind = ""
    _watch: PollPolicy

    def _waited_for(self, context: Context) -> str:
        """Return the job's task id, empty where there is none yet."""
        raise NotImplementedError

    def _arrived(self, context: Context, task: Task) -> Any:
        """Go on with the job that is done, and return what the task returns."""
        raise NotImplementedError

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the wait over from the triggerer: raise its error, or look for a fresh link."""
        if "error" in event:
            self._end(from_dict(event["error"]))
        # The job is over, so a look that fails now is no reason to give up, however late it is.
        deadline = max(event["deadline"], time.time() + RESUME_GRACE)
        self._watch = self._new_watch(event["kling_task_id"], event["started_at"], deadline)
        return self._look_or_defer(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; where Airflow's backstop ended the deferral, look a last time before giving up."""
        late = next_method == TRIGGER_FAIL_REPR and (next_kwargs or {}).get("error") == _TRIGGER_TIMEOUT
        if late and self._waited_for(context):
            next_method, next_kwargs = self.execute_at_deadline.__name__, None
        return super().resume_execution(next_method, next_kwargs, context)

    def execute_at_deadline(self, context: Context) -> Any:
        """Take the last look that no triggerer was left to take: the job may be done, and is paid for."""
        now = time.time()
        self._watch = self._new_watch(self._waited_for(context), now - self.timeout, now)
        last = self._settled_look(context)
        if not last.task:
            raise for_airflow(self._watch.timed_out("its state could not be read"))
        return self._arrived(context, last.task)

    def _is_reused(self, context: Context, kling_task_id: str) -> bool:
        """Return whether the submit has found the video in its library: then there is nothing to wait for."""
        with harmless(self.log, "Whether the video is there already could not be read"):
            if find_request(self, context["ti"], kling_task_id).get("reused"):
                self.log.info("The video is there already: nothing was bought, and nothing is waited for.")
                return True
        return False

    def _begin(self, context: Context, kling_task_id: str, started_at: float) -> None:
        """Begin the wait at *started_at*, in epoch seconds, or when the submit was, if that is known."""
        self._watch = self._new_watch(kling_task_id, started_at, started_at + self.timeout)
        with harmless(self.log, "When the job was submitted could not be read"):
            asked = find_request(self, context["ti"], kling_task_id)
            self._watch.count_from(asked.get("submitted_at", started_at))
            if asked:
                self._kind = kind_of(asked["model"], asked["inputs"])
        with harmless(self.log, "When the wait began could not be noted for a retry"):
            state = submission_state(context)
            if begun := state.recorded_wait(kling_task_id):
                self._watch = self._new_watch(kling_task_id, *begun)
            else:
                state.record_wait(kling_task_id, self._watch.started_at, self._watch.deadline)

    def _new_watch(self, kling_task_id: str, started_at: float, deadline: float) -> PollPolicy:
        schedule = Schedule(
            key=kling_task_id, initial_delay=self.initial_delay, longest=self.max_poll_interval
        )
        return PollPolicy(kling_task_id, started_at, deadline, self.interval, schedule)

    def _look_or_defer(self, context: Context) -> Any:
        verdict = PollResult() if time.time() < self._watch.earliest else self._look(context)
        if verdict.task:
            return self._arrived(context, verdict.task)
        from airflow_provider_kling.triggers import KlingTaskTrigger

        now, watch = time.time(), self._watch
        self.defer(
            trigger=KlingTaskTrigger(
                kling_task_id=watch.kling_task_id,
                kling_conn_id=self.kling_conn_id,
                started_at=watch.started_at,
                deadline=watch.deadline,
                interval=watch.interval,
                first_poll_at=max(verdict.next_poll_at, now + FIRST_LOOK_DELAY),
                kind=self._kind,
                initial_delay=self.initial_delay,
                max_poll_interval=self.max_poll_interval,
            ),
            method_name=self.execute_complete.__name__,
            timeout=timedelta(seconds=max(0.0, watch.deadline - now) + BACKSTOP),
        )
        raise AssertionError("defer() does not return")  # pragma: no cover

    def _settled_look(self, context: Context) -> PollResult:
        """Look once; a job that is done but does not name its video yet is worth staying for."""
        verdict = self._look(context)
        while verdict.settling:
            time.sleep(max(0.0, verdict.next_poll_at - time.time()))
            verdict = self._look(context)
        return verdict

    def _look(self, context: Context) -> PollResult:
        """Ask once, log and push what changed, and raise if the wait is over without a video."""
        ti = context["ti"]
        with harmless(self.log, "The progress link could not be stored"):
            KlingProgressLink().show(self, ti, ti.log_url.split("?")[0] + "/xcom")
        heard: Task | KlingError
        try:
            heard = KlingHook(self.kling_conn_id).get_task(self._watch.kling_task_id)
        except KlingError as error:
            heard = error
        verdict = self._watch.update(heard, time.time())
        for line in verdict.messages:
            self.log.info(line)
        with harmless(self.log, "The progress could not be stored"):
            if verdict.progress:
                ti.xcom_push(key=PROGRESS_KEY, value=verdict.progress)
            if verdict.task and self.publish_link:
                video_url = verdict.task.videos[0].video_url
                ti.xcom_push(key=VIDEO_URL_KEY, value=video_url)
                KlingVideoLink().show(self, ti, video_url)
        if verdict.error:
            self._end(verdict.error)
        return verdict

    def _end(self, error: KlingError) -> NoReturn:
        """Raise the error that ends the wait."""
        raise for_airflow(error)
