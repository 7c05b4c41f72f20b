"""KlingTaskSensor: waits for a job, without a worker slot unless told otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
)
from airflow.sdk import PokeReturnValue
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason

from airflow_provider_kling.errors import KlingError, from_dict
from airflow_provider_kling.hooks import KlingHook, airflow_errors, for_airflow, harmless
from airflow_provider_kling.jobs import Task
from airflow_provider_kling.links import KlingProgressLink, KlingVideoLink
from airflow_provider_kling.polling import FIRST_LOOK_DELAY, Verdict, Watch
from airflow_provider_kling.submit import asked_for
from airflow_provider_kling.triggers import PROGRESS_KEY, KlingTaskTrigger
from airflow_provider_kling.wire import checked_task_id, query

if TYPE_CHECKING:
    from airflow.sdk import Context

#: XCom key of the first video's link.
VIDEO_URL_KEY = "kling_video_url"
_TRIGGER_TIMEOUT = TriggerFailureReason.TRIGGER_TIMEOUT.value
#: Seconds after our own deadline at which Airflow's ends a deferral, should the triggerer be gone.
BACKSTOP = 900.0
#: Seconds that a resumed task may go on asking for the video of a job that the triggerer saw end.
RESUME_GRACE = 600.0


class KlingTaskSensor(BaseSensorOperator):
    """Waits until a Kling job is done and returns what the gateway says of it.

    Deferrable by default: the wait then costs no worker slot. With ``deferrable=False`` Airflow's
    ``mode`` decides (``poke`` or ``reschedule``); results and exceptions are the same in all three.

    The result is a dict: ``kling_task_id``, ``status``, ``videos`` (each with ``video_url``,
    ``video_url_ttl``, ``video_type``) and ``timings`` (epoch milliseconds). The first video's URL is
    pushed as ``kling_video_url`` too. It dies after about an hour: fetch it with
    :class:`~airflow_provider_kling.operators.KlingDownloadOperator`, which asks for a fresh one.

    :param kling_task_id: the job, as ``KlingSubmitOperator`` returned it. (templated)
    :param kling_conn_id: the Airflow connection's id. (templated)
    :param deferrable: wait in the triggerer.
    :param poke_interval: seconds between two looks, at least 1.
    :param timeout: seconds after which to give up, by the wall clock, from the submit on: by the note of
        the submit upstream or by the gateway's word; without either, from the first look. Restarts and
        retries do not extend it. Only who waits for a job older than that waits anew. The job itself goes on.
    :param publish_link: put the video's link, which is signed and opens without a key, into the result
        and into XCom for people to click; with False it appears nowhere in Airflow.
    :raises KlingError: one class for each way a wait can end, see :mod:`airflow_provider_kling.errors`.
    """

    template_fields: Sequence[str] = ("kling_task_id", "kling_conn_id")
    ui_color = "#fdf1d6"
    operator_extra_links = (KlingVideoLink(), KlingProgressLink())

    def __init__(
        self,
        *,
        kling_task_id: str,
        kling_conn_id: str = KlingHook.default_conn_name,
        deferrable: bool = True,
        poke_interval: timedelta | float = 10.0,
        timeout: timedelta | float = 3600.0,
        publish_link: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        if self.poke_interval < 1:
            raise ValueError(f"poke_interval={poke_interval!r}: must be at least 1 second")
        self.kling_task_id = kling_task_id
        self.kling_conn_id = kling_conn_id
        self.deferrable = deferrable
        self.publish_link = publish_link
        self.kling_links: dict[str, str] = {}

    def execute(self, context: Context) -> Any:
        """Look at the job; wait for it if it is not done."""
        with airflow_errors():
            kling_task_id = checked_task_id(self.kling_task_id)
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        if first is None:
            _check_connection(self.kling_conn_id, kling_task_id)
        started_at = first.timestamp() if first else time.time()
        self._watch = self._new_watch(kling_task_id, started_at, started_at + self.timeout)
        with harmless(self.log, "When the job was submitted could not be read"):
            asked = asked_for(self, context["ti"], kling_task_id)
            self._watch.count_from(asked.get("submitted_at", started_at))
        with self._own_timeout(), _soft(skips=self.soft_fail or self.never_fail):
            return self._look_or_defer(context) if self.deferrable else super().execute(context)

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
        if next_method == TRIGGER_FAIL_REPR and (next_kwargs or {}).get("error") == _TRIGGER_TIMEOUT:
            next_method, next_kwargs = self.execute_at_deadline.__name__, None
        return super().resume_execution(next_method, next_kwargs, context)

    def execute_at_deadline(self, context: Context) -> Any:
        """Take the last look that no triggerer was left to take: the job may be done, and is paid for."""
        now = time.time()
        self._watch = self._new_watch(checked_task_id(self.kling_task_id), now - self.timeout, now)
        last = self.poke(context)
        if not last:
            raise for_airflow(self._watch.timed_out("its state could not be read"))
        return last.xcom_value

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; a job that is done but does not name its video yet is worth staying for."""
        verdict = self._look(context)
        while verdict.settling:
            time.sleep(max(0.0, verdict.look_again_at - time.time()))
            verdict = self._look(context)
        return PokeReturnValue(verdict.task is not None, verdict.task and self._result(verdict.task))

    def _look_or_defer(self, context: Context) -> dict[str, Any]:
        verdict = self._look(context)
        if verdict.task:
            return self._result(verdict.task)
        now, watch = time.time(), self._watch
        self.defer(
            trigger=KlingTaskTrigger(
                kling_task_id=watch.kling_task_id,
                kling_conn_id=self.kling_conn_id,
                started_at=watch.started_at,
                deadline=watch.deadline,
                interval=watch.interval,
                first_look_at=max(verdict.look_again_at, now + FIRST_LOOK_DELAY),
            ),
            method_name=self.execute_complete.__name__,
            timeout=timedelta(seconds=max(0.0, watch.deadline - now) + BACKSTOP),
        )
        raise AssertionError("defer() does not return")  # pragma: no cover

    def _look(self, context: Context) -> Verdict:
        """Ask once, log and push what changed, and raise if the wait is over without a video."""
        ti = context["ti"]
        with harmless(self.log, "The progress link could not be stored"):
            KlingProgressLink().show(self, ti, ti.log_url.split("?")[0] + "/xcom")
        heard: Task | KlingError
        try:
            heard = KlingHook(self.kling_conn_id).get_task(self._watch.kling_task_id)
        except KlingError as error:
            heard = error
        verdict = self._watch.hear(heard, time.time())
        for line in verdict.news:
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
        """Raise the error; a soft failure says its reason here, Airflow's own words for it do not."""
        if self.soft_fail or self.never_fail:
            self.log.warning("%s", error)
        raise for_airflow(error)

    def _result(self, task: Task) -> dict[str, Any]:
        return task.to_dict(with_links=self.publish_link)

    def _new_watch(self, kling_task_id: str, started_at: float, deadline: float) -> Watch:
        return Watch(kling_task_id, started_at, deadline, self.poke_interval)

    @contextmanager
    def _own_timeout(self) -> Iterator[None]:
        """Say Airflow's own timeout, which in poke mode may come a moment before ours, in our words."""
        try:
            yield
        except AirflowSensorTimeout as error:
            if isinstance(error, KlingError):
                raise
            now = time.time()
            watch = self._new_watch(self.kling_task_id, now - self.timeout, now)
            raise for_airflow(watch.timed_out("Airflow's own clock ended the wait")) from error


def _check_connection(kling_conn_id: str, kling_task_id: str) -> None:
    """Tell a wrong connection at once, not after a whole wait for it to become right."""
    try:
        _ = KlingHook(kling_conn_id).settings
    except KlingError as error:
        raise query(kling_task_id).about(error) from error.__cause__


@contextmanager
def _soft(*, skips: bool) -> Iterator[None]:
    """Honour ``soft_fail`` in the first look before a deferral as Airflow does after one."""
    try:
        yield
    except KlingError as error:
        if skips:
            raise AirflowSkipException(f"Skipped instead of failed: {error}") from error
        raise
