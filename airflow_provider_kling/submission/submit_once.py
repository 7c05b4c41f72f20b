"""One submission that is paid once: the order of its steps, and what a retry does about an earlier one.

The steps of a try: read the limits; read and check the pictures and the inputs; resume the job of an
earlier try; look into the library; check and reserve the cost; claim the target; record the intent; send
the request; log the task id; record the task id. Each step before the request costs nothing when it fails.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from airflow_provider_kling.errors import (
    KlingError,
    KlingJobFailedError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import LONGEST_RETRY_AFTER, NOT_FOUND_GRACE, Outcome, failed_task
from airflow_provider_kling.hooks import KlingHook, airflow_errors, for_airflow, suppress_and_log
from airflow_provider_kling.models.catalog import MODELS
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.prices import describe_cost, estimate
from airflow_provider_kling.models.validation import build_job, check_media
from airflow_provider_kling.submission.cost_limits import CostControl, Limits, RunReservations
from airflow_provider_kling.submission.fingerprint import fingerprint
from airflow_provider_kling.submission.media_inputs import MediaInputs, MediaOptions
from airflow_provider_kling.submission.options import Choice, Transport
from airflow_provider_kling.submission.reuse import LibraryEntry, find_video, library_entry
from airflow_provider_kling.submission.state import SubmissionRecord, SubmissionState

#: A submit that started nothing is repeated after these seconds, doubled each time, up to the longest.
SUBMIT_BACKOFF, LONGEST_SUBMIT_BACKOFF = 2.0, 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOptions:
    """What the operator's arguments ask for, rendered; see ``KlingSubmitOperator`` for each.

    :param inputs: the model's inputs under the operator's names.
    :param from_outside: names of the inputs that the Dag file does not have.
    """

    inputs: Mapping[str, Any] = field(repr=False)
    model: str | None = None
    extra_body: Any = field(default=None, repr=False)
    from_outside: Collection[str] = ()
    image_transport: Transport = "auto"
    check_url: bool = False
    allowed_paths: Sequence[str] = ()
    max_cost_usd: Any = None
    max_run_cost_usd: Any = None
    library: str | None = None
    on_uncertain: Choice = "fail"
    on_failed_job: Choice = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionResult:
    """The job that a task goes on with.

    :param pictures: what may be shown of each picture: source, hash, sides.
    :param submitted_at: when it was submitted, in epoch seconds; 0 where nothing was.
    :param cost: the estimated cost in US dollars, or None.
    :param library_entry: where its video is found again, with ``reuse``.
    :param reused: the earlier video that answers the request; then nothing was bought.
    """

    kling_task_id: str
    job: VideoJob
    pictures: Mapping[str, Any]
    submitted_at: float
    cost: Decimal | None
    library_entry: LibraryEntry | None = None
    reused: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data, without the data of pictures and the signatures of URLs."""
        cost = None if self.cost is None else float(self.cost)
        request = {"kling_task_id": self.kling_task_id, **self.job.to_dict(), "pictures": self.pictures}
        request |= {"submitted_at": self.submitted_at, "estimated_cost_usd": cost}
        if self.library_entry:
            request |= {"library_entry": self.library_entry.to_dict(), "reused": self.reused}
        return request


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked request of one task instance; make it with :func:`prepare`.

    :param first_picture: the bytes of the first picture that was read, for a preview.
    """

    options: SubmissionOptions
    hook: KlingHook
    state: SubmissionState
    costs: CostControl
    job: VideoJob
    pictures: Mapping[str, Any]
    first_picture: bytes | None = field(repr=False)
    library_entry: LibraryEntry | None
    log: Any

    @property
    def cost(self) -> Decimal | None:
        """The estimated cost in US dollars, or None."""
        return estimate(self.job, self.hook.settings.prices)

    def describe(self) -> str:
        """Return the request for a log line, without the pictures: they have lines of their own."""
        inputs = self.job.describe(without=self.pictures)
        return f"to {self.job.model}, {describe_cost(self.cost)}: {inputs}"

    def resume(self) -> SubmissionResult | None:
        """Return the job that an earlier try of this request bought; None: nothing stands in the way.

        :raises KlingSubmitUncertainError: an earlier try bought something else, or may have bought a job.
        :raises KlingJobFailedError: the earlier job has failed, and another one is not allowed.
        """
        record = self.state.last_record()
        if record is None:
            return None
        known, at = record.kling_task_id, _iso(record.noted_at)
        cleared = self.state.is_cleared_since(record) and not self._adopts_job(record)
        if cleared and (known or record.reported):
            job = known or "one of unknown id"
            self.log.warning("The task was cleared: it buys a new job. The job of %s was %s.", at, job)
            return None
        if not known:
            what = f"An earlier try of this task sent a request at {at} and ended before it noted the answer."
            self._stop_if_uncertain(f"{what} If the answer came, that try's log has a line 'Kling task id'.")
            return None
        if record.fingerprint != self._fingerprint():
            self._stop_if_uncertain(
                f"An earlier try submitted job {known} at {at}, for a request that has changed since.", known
            )
            return None
        if not self._is_usable(record):
            return None
        self.log.info("Resumed: job %s, submitted by an earlier try at %s.", known, at)
        return self._result(known, record.noted_at)

    def reuse(self) -> SubmissionResult | None:
        """Return the earlier job of the same content whose video stands in the library; None without one."""
        if self.library_entry is None:
            return None
        allowed = [self.options.allowed_paths, self.hook.settings.allowed_paths]
        found = find_video(self.library_entry, allowed, self.log)
        if found is None:
            return None
        result = self._result(found["kling_task_id"], 0.0)
        return replace(result, cost=Decimal(0), reused=found)

    def submit(self) -> SubmissionResult:
        """Send the request once: here the money is spent.

        :raises KlingInputError: it costs too much, or the cost is unknown; nothing was sent.
        :raises KlingUnavailableError: nothing was started; the request may be repeated.
        :raises KlingSubmitUncertainError: a job may have been started.
        """
        with airflow_errors():
            self.costs.check(self.cost)
            self.costs.reserve(self.cost)
            try:
                self.state.record_intent(self._fingerprint(), sent_at := time.time(), self.cost)
            except BaseException:
                self.costs.release()
                raise
        try:
            kling_task_id = self.hook.submit(self.job)
        except KlingSubmitUncertainError as error:
            raise self._uncertain(error) from error
        except KlingError:
            with suppress_and_log(self.log, "It could not be recorded that no job was started"):
                self.state.remove_intent()
            self.costs.release()
            raise
        except BaseException as error:
            what = f"The task was ended ({type(error).__name__}) between the request and its answer."
            self.log.warning("%s %s", what, Money.MAYBE)
            if self.state.is_persistent and not isinstance(error, Exception):
                raise  # a timeout or a signal: a retry finds the intent
            raise self._uncertain(KlingSubmitUncertainError(what)) from error
        self.log.info("Kling task id: %s", kling_task_id)
        self._record(kling_task_id)
        return self._result(kling_task_id, sent_at)

    def _record(self, kling_task_id: str) -> None:
        try:
            self.state.record_task_id(self._fingerprint(), time.time(), kling_task_id, self.cost)
        except Exception as error:  # noqa: BLE001 - the job is paid for, and its id goes on by XCom
            self.log.error(  # noqa: TRY400 - three lines that fit the log view, no traceback
                "The task id %s is not recorded: %s: %s\n%s\n%s",
                kling_task_id,
                type(error).__name__,
                getattr(error, "what", error),
                Money.RUNNING,
                "Keep the task id. If this task fails later, fetch its video by the id (Dag kling_rescue).",
            )

    def _fingerprint(self) -> str:
        return fingerprint(self.job, self.hook.settings.conn_id, self.hook.settings.base_url)

    def _result(self, kling_task_id: str, submitted_at: float) -> SubmissionResult:
        return SubmissionResult(
            kling_task_id=kling_task_id,
            job=self.job,
            pictures=self.pictures,
            submitted_at=submitted_at,
            cost=self.cost,
            library_entry=self.library_entry,
        )

    def _adopts_job(self, record: SubmissionRecord) -> bool:
        """Return whether a task that was cleared before it had ended well goes on with the job it bought."""
        known, same = record.kling_task_id, record.fingerprint == self._fingerprint()
        if not (known and same) or record.reported or record.finished:
            return False
        with suppress(KlingTaskNotFoundError):  # _is_usable handles it
            if self._failure_of(known):
                return False
        self.log.info("The task was cleared before it had ended well: it goes on with job %s.", known)
        self.state.adopt_job()
        return True

    def _is_usable(self, record: SubmissionRecord) -> bool:
        """Return whether the job may be waited for; a young one may not be visible to queries yet."""
        known = record.kling_task_id
        try:
            failure = self._failure_of(known)
        except KlingTaskNotFoundError:
            young = time.time() < record.noted_at + NOT_FOUND_GRACE
            if not young:
                self._stop_if_uncertain(
                    f"An earlier try submitted job {known}, which the gateway does not show.", known
                )
            return young
        if failure is None:
            return True
        if self.options.on_failed_job == "fail":
            raise for_airflow(failure)
        self.log.warning("%s A new job is bought, as on_failed_job='submit_again' says.", failure.what)
        return False

    def _failure_of(self, kling_task_id: str) -> KlingError | None:
        """Return why a job ended without a video; None where it did not, or its state cannot be read now."""
        try:
            task = self.hook.get_task(kling_task_id)
        except KlingUnavailableError as error:
            self.log.info("The state of the job could not be read: %s", error.what)
            return None
        except KlingJobFailedError as error:
            return error
        return failed_task(task) if task.outcome in (Outcome.FAILED, Outcome.CANCELLED) else None

    def _stop_if_uncertain(self, what: str, kling_task_id: str | None = None) -> None:
        """Stop at what may be bought already, unless the Dag's author allows to pay twice."""
        if self.options.on_uncertain == "fail":
            raise self._uncertain(KlingSubmitUncertainError(what, kling_task_id=kling_task_id))
        self.log.warning("%s A request is sent all the same, as on_uncertain='submit_again' says.", what)

    def _uncertain(self, error: KlingError) -> KlingError:
        again = self.options.on_uncertain == "submit_again"
        facts = {**error.facts(), "what": f"{error.what} It may have cost {describe_cost(self.cost)}."}
        if again:
            facts["advice"] = "Airflow's next try submits again, as on_uncertain='submit_again' says."
        else:
            with suppress_and_log(self.log, "It could not be recorded that this was reported"):
                self.state.record_reported()
        return for_airflow(KlingSubmitUncertainError(**facts), retry=again)


def prepare(
    options: SubmissionOptions, hook: KlingHook, state: SubmissionState, run: RunReservations, log: Any
) -> Submission:
    """Read and check all that can be known before anything is sent.

    :raises KlingInputError: naming each argument that is wrong.
    :raises KlingUnavailableError: something cannot be reached now; a retry may help.
    """
    with naming_earlier_job(state):
        settings = hook.settings
        limits = Limits.read(
            settings, max_cost_usd=options.max_cost_usd, max_run_cost_usd=options.max_run_cost_usd
        )
        job, media = _checked_job(options, hook, log)
        entry = None
        if options.library is not None:
            entry = library_entry(options.library, job, media.facts, hook, options.allowed_paths, log)
        costs = CostControl(limits, state, run, settings.conn_id, log)
    return Submission(options, hook, state, costs, job, media.facts, media.first_picture, entry, log)


def _checked_job(options: SubmissionOptions, hook: KlingHook, log: Any) -> tuple[VideoJob, MediaInputs]:
    """Return the job in the model's own words, and its pictures."""
    model = options.model or hook.settings.default_model
    form = options.image_transport
    if form == "auto":
        form = MODELS[model].picture_form if model in MODELS else "data_uri"
    media = MediaInputs(
        MediaOptions(
            hook.settings, form, options.check_url, list(options.allowed_paths), options.from_outside
        ),
        log,
    )
    job, warnings = build_job(model, media.prepare(options.inputs), options.extra_body)
    check_media(job)
    for warning in warnings:
        log.warning(warning)
    return replace(job, signed=media.signed), media


@contextmanager
def naming_earlier_job(state: SubmissionState) -> Iterator[None]:
    """Name the job of an earlier try where a retry fails before it, such as on a picture that is gone.

    The operators name it in errors that are not ours.
    """
    with airflow_errors():
        try:
            yield
        except KlingError as error:
            try:
                record = state.open_record()
            except KlingUnavailableError:  # an earlier try may have bought a job
                raise error.replace(money=Money.MAYBE) from error
            if record is None:
                raise
            known = record.kling_task_id
            rescue = "Before you clear the task: example Dag kling_rescue fetches that job's video."
            raise error.replace(
                what=f"{error.what} An earlier try has submitted {known or 'a job of unknown id'}.",
                advice=f"{error.advice} {rescue}",
                money=Money.MAYBE,
                kling_task_id=known or None,
            ) from error


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def submit_delay(attempt: int, retry_after: float | None, key: str) -> float:
    """Return the seconds to wait before a submit that started nothing is sent again.

    :param attempt: how often it was repeated already.
    :param retry_after: what the gateway asked for, in seconds, if it did.
    :param key: spreads tasks that were refused together; the same key gives the same delay.
    """
    backoff: float = min(SUBMIT_BACKOFF * 2 ** min(attempt, 20), LONGEST_SUBMIT_BACKOFF)
    spread = backoff * zlib.crc32(f"{key}/{attempt}".encode()) / 2**32
    asked: float = min(retry_after or 0.0, LONGEST_RETRY_AFTER)
    return max(backoff / 2, asked) + spread / 2
