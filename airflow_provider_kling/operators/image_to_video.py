"""KlingImageToVideoOperator: submit, wait and download in one task."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.errors import (
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingSubmitUncertainError,
    Money,
)
from airflow_provider_kling.hooks import KlingHook, for_airflow, suppress_and_log
from airflow_provider_kling.links import KlingGalleryLink, KlingVideoLink
from airflow_provider_kling.operators.deferral import DEFAULT_TIMEOUT, WaitingOperator, WaitOptions
from airflow_provider_kling.operators.stored_video import StoringOperator
from airflow_provider_kling.operators.submit import CLAIM_MARGIN, KlingSubmitOperator, SubmitAttempt
from airflow_provider_kling.polling import MAX_POLL_INTERVAL
from airflow_provider_kling.storage.options import DEFAULT_MAX_BYTES, IfExists, checked_max_bytes
from airflow_provider_kling.values import one_of
from airflow_provider_kling.xcom_keys import TASK_ID_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_kling.gateways.base import Task
    from airflow_provider_kling.operators.video_download import VideoDownload
    from airflow_provider_kling.submission.state import SubmissionState


class KlingImageToVideoOperator(StoringOperator, WaitingOperator, KlingSubmitOperator):
    """Buys a video, waits for it and downloads it, in one task; returns where it is, a string.

    Does what :class:`KlingSubmitOperator`, :class:`~airflow_provider_kling.sensors.KlingTaskSensor` and
    :class:`KlingDownloadOperator` do one after the other, defers while it waits, and pushes the same XComs
    and ``kling_task_id``. The target is checked before the purchase.

    A retry does not pay again: it continues with the job that an earlier try bought. A task that is cleared
    before its video is stored does the same. A task that is cleared later, or with a changed request, or
    after its job has failed, buys a new video.

    Needs Airflow 3.3 or newer, where a task can record what it bought.

    :param target: where the video goes, as for ``KlingDownloadOperator``; with several workers a storage
        URL or a shared disk. (templated)
    :param if_exists: ``overwrite``, ``skip`` or ``fail``, as for ``KlingDownloadOperator``; a file that
        another job made is found before anything is bought.
    :param verify_media: as for ``KlingDownloadOperator``.
    :param max_bytes: bytes that a video may have.
    :param deferrable: wait in the triggerer; with False, on the worker.
    :param poke_interval: seconds between two polls, at least 1; with None a schedule decides.
    :param initial_delay: no poll before the job has this age, in seconds.
    :param max_poll_interval: the longest interval that the schedule takes, in seconds, at least 2.
    :param timeout: seconds by the wall clock after which to give up the wait, from the submit on. The job
        itself goes on; cleared, the task waits on for it.
    :param publish_link: put the video's link, which is signed and opens without a key, into XCom for people
        to click; with False it appears nowhere in Airflow.
    :param allowed_paths: folders or storage URLs that pictures and target must lie in; not templated.
    :param outlets: Airflow's own: each ``AssetAlias`` gets an event for the stored video.
    :param kwargs: all other arguments of ``KlingSubmitOperator``.
    :raises KlingError: one class for each way it can end, see :mod:`airflow_provider_kling.errors`.
    """

    template_fields: Sequence[str] = (*KlingSubmitOperator.template_fields, "target")
    ui_color = "#e3d9f2"
    operator_extra_links = (KlingVideoLink(), KlingGalleryLink())

    def __init__(
        self,
        *,
        target: str | XComArg,
        if_exists: IfExists = "overwrite",
        verify_media: bool = False,
        max_bytes: int = DEFAULT_MAX_BYTES,
        poke_interval: timedelta | float | None = None,
        initial_delay: timedelta | float = 0.0,
        max_poll_interval: timedelta | float = MAX_POLL_INTERVAL,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        publish_link: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.target: str = target  # type: ignore[assignment]  # rendered before it is read
        self.if_exists = one_of("if_exists", if_exists, IfExists)
        self.verify_media = verify_media
        self.max_bytes = checked_max_bytes(max_bytes)
        self.wait_options = WaitOptions.checked(
            timeout, poke_interval, initial_delay, max_poll_interval, publish_link=publish_link
        )
        self.kling_links: dict[str, str] = {}

    def _run(self, context: Context, attempt: SubmitAttempt) -> str:
        with self._claiming_target(context):
            kling_task_id = self._submit(context, attempt)
            return self._wait(context, kling_task_id)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; remove the claim on the target if no video will come."""
        with self._releasing_target(context):
            return super().resume_execution(next_method, next_kwargs, context)

    @contextmanager
    def _claiming_target(self, context: Context) -> Iterator[None]:
        """Check and claim the target before anything is bought; remove the claim if no video will come.

        :raises KlingInputError: the target cannot be used, or this Airflow has no task state store.
        """
        from airflow_provider_kling.submission.cost_limits import publish_costs
        from airflow_provider_kling.submission.state import submission_state
        from airflow_provider_kling.submission.submit_once import naming_earlier_job

        state = submission_state(context)
        with naming_earlier_job(state):
            publish_costs(self._reservations(context["ti"]), state, self.log)
            job = _job_of(state)
            with _nothing_bought():
                if not state.is_persistent:
                    raise KlingInputError(
                        "This Airflow has no task state store (it came with 3.3): a retry would pay again.",
                        advice="Use KlingSubmitOperator, KlingTaskSensor and KlingDownloadOperator.",
                    )
                expires_at = time.time() + self.busy_timeout + self.wait_options.timeout + CLAIM_MARGIN
                self._download(context).check_before_submit(job, expires_at)
        with self._releasing_target(context):
            yield

    @contextmanager
    def _releasing_target(self, context: Context) -> Iterator[None]:
        """Remove the claim on the target if the block fails, and no job of this task will give a video.

        A person decides about an uncertain submit, and a rescue needs the target.
        """
        from airflow_provider_kling.submission.state import submission_state

        try:
            yield
        except KlingError as error:
            if error.money is Money.ENDED:
                self._record_cost(context)
            is_uncertain = isinstance(error, KlingSubmitUncertainError)
            if is_uncertain or error.money in (Money.UNTOUCHED, Money.ENDED):
                with suppress_and_log(self.log, "The claim on the target could not be removed"):
                    self._download(context).release(_job_of(submission_state(context)))
            raise

    def _wait(self, context: Context, kling_task_id: str) -> str:
        from airflow_provider_kling.operators.job_wait import begin_wait, read_request

        with suppress_and_log(self.log, "The task id could not be stored"):
            context["ti"].xcom_push(key=TASK_ID_KEY, value=kling_task_id)
        request = read_request(self, context, kling_task_id)
        if request.get("reused"):
            return self._store(context, kling_task_id)
        wait = begin_wait(self, context, kling_task_id, request, time.time())
        with self._wait_errors():
            task = wait.or_defer() if self.deferrable else wait.until_end()
        return self._finish(context, task)

    def _job_to_wait_for(self, context: Context) -> str:
        from airflow_provider_kling.operators.xcom import own_task_id
        from airflow_provider_kling.submission.state import submission_state

        own = own_task_id(context["ti"])  # what this try has bought, also where the store is away
        try:
            record = submission_state(context).open_record()
        except KlingError:
            if own:
                return own
            raise
        return (record.kling_task_id if record else "") or own

    def _finish(self, context: Context, task: Task) -> str:
        return self._store(context, task.kling_task_id, task)

    def _store(self, context: Context, kling_task_id: str, task: Task | None = None) -> str:
        """Download the video, and return where it is."""
        from airflow_provider_kling.operators.xcom import find_request
        from airflow_provider_kling.submission.state import submission_state

        download, ti = self._download(context), context["ti"]
        request = find_request(self, ti, kling_task_id)
        if not request.get("reused"):
            with suppress_and_log(self.log, "The task id could not be recorded"):
                submission_state(context).confirm_task_id(kling_task_id)
        result = self._store_video(context, download, kling_task_id, request, task)
        if not result.reused:
            self._record_cost(context)
            with suppress_and_log(self.log, "That the video is stored could not be recorded"):
                submission_state(context).record_finished()
        download.release(kling_task_id)
        return result.path

    def _record_cost(self, context: Context) -> None:
        """Record what the job has cost by the gateway's bill: Airflow deletes the XCom before a retry."""
        from airflow_provider_kling.operators.xcom import own_bill
        from airflow_provider_kling.submission.state import submission_state

        with suppress_and_log(self.log, "What the job has cost could not be recorded"):
            if (bill := own_bill(context["ti"])) and bill.usd is not None:
                submission_state(context).record_cost(bill.kling_task_id, bill.usd)

    @contextmanager
    def _wait_errors(self) -> Iterator[None]:
        """Translate the errors that end the wait; let Airflow retry a failed job if a retry may buy again."""
        try:
            with super()._wait_errors():
                yield
        except KlingJobFailedError as error:
            if self.on_failed_job != "submit_again":
                raise
            advice = "Airflow's next try buys another, as on_failed_job='submit_again' says."
            failed = KlingJobFailedError(**{**error.facts(), "advice": advice})
            raise for_airflow(failed, retry=True) from error.__cause__

    def _download(self, context: Context) -> VideoDownload:
        from airflow_provider_kling.operators.target_words import fill_target
        from airflow_provider_kling.operators.video_download import DownloadOptions, VideoDownload

        self.target = fill_target(self.target, self, context)
        hook, options = KlingHook(self.kling_conn_id), DownloadOptions.of(vars(self))
        return VideoDownload(hook, options, context["ti"], self.log)


def _job_of(state: SubmissionState) -> str:
    """Return the job that this try may continue with, or an empty text."""
    record = state.open_record()
    return record.kling_task_id if record else ""


@contextmanager
def _nothing_bought() -> Iterator[None]:
    """Let the errors of a target, which mostly follow a purchase, say that nothing was bought."""
    try:
        yield
    except KlingError as error:
        raise error.replace(money=Money.UNTOUCHED) from error.__cause__
