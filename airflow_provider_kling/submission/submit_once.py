"""One submission that is paid once: the order of its steps, and what a retry does about an earlier one.

The steps of a try: read the limits; read and check the pictures and the inputs; resume the job of an
earlier try; look into the library; check and reserve the cost; claim the target; record the intent; send
the request; log the task id; record the task id. Each step before the request costs nothing when it fails.

Where the gateway takes client ids, no request stays uncertain: its client id is recorded and sent with it,
and finds its job. Without a job the request is sent again with the same client id, which buys one at most.
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

from airflow_provider_kling import metrics
from airflow_provider_kling.errors import (
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import (
    LONGEST_RETRY_AFTER,
    NOT_FOUND_GRACE,
    Outcome,
    Task,
    failed_task,
)
from airflow_provider_kling.hooks import KlingHook, airflow_errors, for_airflow, suppress_and_log
from airflow_provider_kling.models.catalog import MODELS
from airflow_provider_kling.models.fields import Model
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.prices import describe_cost, estimate, usd_as_text
from airflow_provider_kling.models.validation import build_job, check_media
from airflow_provider_kling.submission.cost_limits import CostControl, Limits, RunReservations
from airflow_provider_kling.submission.fingerprint import fingerprint
from airflow_provider_kling.submission.media_inputs import MediaInputs, MediaOptions
from airflow_provider_kling.submission.options import Choice, Transport
from airflow_provider_kling.submission.reuse import LibraryEntry, find_video, library_entry
from airflow_provider_kling.submission.settle import (
    LOOKS_FIRST,
    is_foreign,
    is_over,
    may_have_bought,
    unsettled,
    was_refused,
)
from airflow_provider_kling.submission.state import SubmissionRecord, SubmissionState
from airflow_provider_kling.values import is_unset

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
    :param client_id: our own id of the job, where the gateway takes one.
    """

    kling_task_id: str
    job: VideoJob
    pictures: Mapping[str, Any]
    submitted_at: float
    cost: Decimal | None
    library_entry: LibraryEntry | None = None
    reused: Mapping[str, Any] | None = None
    client_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data, without the data of pictures and the signatures of URLs."""
        cost = None if self.cost is None else float(self.cost)
        request = {"kling_task_id": self.kling_task_id, **self.job.to_dict(), "pictures": self.pictures}
        request |= {"submitted_at": self.submitted_at, "estimated_cost_usd": cost}
        request["client_id"] = self.client_id or None
        if self.library_entry:
            request |= {"library_entry": self.library_entry.to_dict(), "reused": self.reused}
        return request


@dataclass(slots=True)
class Submission:
    """A checked request of one task instance; make it with :func:`prepare`.

    :param first_picture: the bytes of the first picture that was read, for a preview.
    :ivar intent: what :meth:`submit` sends next; it may have been sent before.
    :ivar must_look: its client id was sent, and it is not known whether that has bought a job.
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
    intent: SubmissionRecord | None = None
    must_look: bool = False

    @property
    def cost(self) -> Decimal | None:
        """The estimated cost in US dollars, or None."""
        settings = self.hook.settings
        return estimate(self.job, settings.prices, settings.unit_price_usd)

    def tags(self) -> dict[str, str]:
        """Return the tags of its metrics."""
        return metrics.job_tags(self.hook.settings.gateway.name, self.job.model)

    def describe(self) -> str:
        """Return the request for a log line, without the pictures: they have lines of their own."""
        inputs = self.job.describe(without=self.pictures)
        return f"to {self.job.model}, {describe_cost(self.cost)}: {inputs}"

    def resume(self) -> SubmissionResult | None:
        """Return the job that an earlier try of this request bought; None: nothing stands in the way.

        :raises KlingSubmitUncertainError: an earlier try bought something else, or may have bought a job.
        :raises KlingInputError: an earlier try bought something else, where the gateway takes client ids.
        :raises KlingJobFailedError: the earlier job has failed, and another one is not allowed.
        :raises KlingUnavailableError: what an earlier try bought cannot be known now.
        """
        record = self.state.last_record()
        if record and not self._is_open(record):
            self.intent = self._new_intent(record.job)
            return self._go_on_with(record)
        self.intent = record or self._new_intent()
        is_retry = self.state.current.try_number > 1
        if record or (is_retry and not self.state.is_persistent):  # without a store, the gateway remembers
            return self._settle()
        return None

    def reuse(self) -> SubmissionResult | None:
        """Return the earlier job of the same content whose video stands in the library; None without one."""
        if self.library_entry is None:
            return None
        allowed = [self.options.allowed_paths, self.hook.settings.allowed_paths]
        found = find_video(self.library_entry, allowed, self.log)
        if found is None:
            return None
        video = SubmissionRecord(self.state.current, "", 0.0, found["kling_task_id"])
        return replace(self._result(video), cost=Decimal(0), reused=found)

    def submit(self) -> SubmissionResult:
        """Send the request once: here the money is spent.

        :raises KlingInputError: it costs too much, or the cost is unknown; nothing was sent.
        :raises KlingUnavailableError: the request may be repeated by another call. Where a job may have been
            started, that call looks for it first.
        :raises KlingSubmitUncertainError: a job may have been started.
        """
        if self.must_look and (found := self._settle()):
            return found
        # Prometheus sees no increase to a first value that is not 0. And Stats is set up before the request.
        metrics.UNCERTAIN.add(0)
        earlier = self.intent or self._new_intent()
        intent = self._note(earlier)
        try:
            kling_task_id = self.hook.submit(self.job, intent.client_id)
        except KlingError as error:
            return self._after_error(error, intent, earlier)
        except BaseException as error:
            what = f"The task was ended ({type(error).__name__}) between the request and its answer."
            self.log.warning("%s %s", what, Money.MAYBE)
            meaning = may_have_bought(what) if intent.client_id else None
            if not isinstance(error, Exception) and (self.state.is_persistent or meaning):
                # Airflow must get its own exception; without a store only this says what it means.
                error.meaning = meaning  # type: ignore[attr-defined]
                raise  # a timeout or a signal: a retry finds the intent, or the job
            if meaning:
                raise for_airflow(meaning) from error
            raise self._uncertain(KlingSubmitUncertainError(what)) from error
        self.log.info("Kling task id: %s", kling_task_id)
        self._record(replace(intent, kling_task_id=kling_task_id, noted_at=time.time()))
        return self._result(replace(intent, kling_task_id=kling_task_id, noted_at=intent.sent_at))

    def _note(self, intent: SubmissionRecord) -> SubmissionRecord:
        """Note the intent before it is sent; reserve its cost, unless it was sent before."""
        now = time.time()
        noted = replace(intent, recorded_by=self.state.current, noted_at=intent.noted_at or now, sent_at=now)
        with airflow_errors():
            if intent.noted_at:
                try:
                    self.state.record(noted)
                except KlingError as error:
                    raise error.replace(money=Money.MAYBE, advice=LOOKS_FIRST) from error.__cause__
            else:
                self.costs.check(self.cost)
                self.costs.reserve(self.cost, noted.client_id)
                try:
                    self.state.record_intent(noted)
                except BaseException:
                    self.costs.release()
                    raise
        if noted.client_id:
            self.log.info("Client id: %s", noted.client_id)
        return noted

    def _after_error(
        self, error: KlingError, intent: SubmissionRecord, earlier: SubmissionRecord
    ) -> SubmissionResult:
        """Return the job that a failed request has bought all the same, or raise what the failure means.

        :param intent: what was sent.
        :param earlier: the same as it was noted before; ``noted_at`` is 0 where it was not sent before.
        """
        if intent.client_id and isinstance(error, (KlingSubmitUncertainError, KlingInputError)):
            self.intent, self.must_look = intent, True
            if found := self._settle():
                return found
            if self.intent is not intent:  # its client id belongs to a job that is not wanted
                return self.submit()
        failure: KlingError | None = error
        if intent.client_id or not isinstance(error, KlingSubmitUncertainError):
            failure = unsettled(
                error,
                intent.client_id,
                sent_before=bool(earlier.noted_at) and not self._is_over(earlier.sent_at),
                contradicts=self._is_over(earlier.sent_at or intent.sent_at),
            )
        if failure is None:
            with suppress_and_log(self.log, "It could not be recorded that no job was started"):
                self.state.remove_intent()
            self.costs.release()
            self.intent, self.must_look = replace(intent, noted_at=0.0), False
            raise error
        if isinstance(failure, KlingSubmitUncertainError):
            raise self._uncertain(failure) from error
        # What was refused creates no job: the request before it is still the last that may have.
        self.intent, self.must_look = earlier if earlier.noted_at and was_refused(error) else intent, True
        raise for_airflow(failure) from error

    def _record(self, record: SubmissionRecord) -> None:
        try:
            self.state.record(record)
        except Exception as error:  # noqa: BLE001 - the job is paid for, and its id goes on by XCom
            self.log.error(  # noqa: TRY400 - three lines that fit the log view, no traceback
                "The task id %s is not recorded: %s: %s\n%s\n%s",
                record.kling_task_id,
                type(error).__name__,
                getattr(error, "what", error),
                Money.RUNNING,
                "Keep the task id. If this task fails later, fetch its video by the id (Dag kling_rescue).",
            )
        if record.sent_at:  # else an earlier try has sent it, and this Airflow does not remember that
            with suppress_and_log(self.log, "The purchase could not be counted"):
                metrics.SUBMITTED.add(**self.tags())
                metrics.ESTIMATED_COST.add(self.cost or 0, **self.tags())

    # --- what an earlier request has bought

    def _new_intent(self, after: str = "") -> SubmissionRecord:
        """Return the intent to buy a job. It is not noted yet: ``noted_at`` is 0.

        :param after: the job that this task instance bought before.
        """
        takes_client_ids = self.hook.settings.gateway.find is not None
        return SubmissionRecord(
            self.state.current,
            self._fingerprint(),
            0.0,
            cost=usd_as_text(self.cost),
            client_id=self.state.new_client_id(after) if takes_client_ids else "",
            sent_to=self._connection,
        )

    def _is_open(self, record: SubmissionRecord) -> bool:
        """Return whether a record is an intent whose job can be found by its client id."""
        is_here = record.sent_to == self._connection and self.hook.settings.gateway.find is not None
        return bool(record.client_id) and not record.kling_task_id and is_here

    def _settle(self) -> SubmissionResult | None:
        """Return the job that the intent has bought. None: the intent may be sent, also if it was before.

        :raises KlingUnavailableError: that cannot be known now.
        """
        while (intent := self.intent) and (task := self._find(intent)):
            self.intent = self._new_intent(task.kling_task_id)
            noted = (self.state.instance.run_started_at, intent.noted_at)
            if is_foreign(task, min(filter(None, noted), default=0.0)):
                what = "Job %s has our client id %s, but it is older than this request."
                self.log.warning(what, task.kling_task_id, intent.client_id)
                self.state.remove_intent()
                continue
            at = intent.noted_at or task.created_at or time.time()
            self.log.info("Kling task id: %s (found by its client id)", task.kling_task_id)
            record = replace(intent, kling_task_id=task.kling_task_id, noted_at=at, reported=False)
            self._record(record)
            if result := self._go_on_with(record):
                return result
        if intent and intent.fingerprint != self._fingerprint():
            self._drop_if_over(intent)
        elif intent and intent.reported and self.state.is_cleared_since(intent):
            self.intent = self._new_intent(intent.job)
        self.must_look = False
        return None

    def _find(self, intent: SubmissionRecord) -> Task | None:
        if not intent.client_id:
            return None
        try:
            return self.hook.find_task(intent.client_id)
        except KlingError as error:
            earlier = f"An earlier request may have bought the job of client id {intent.client_id}."
            what = f"{earlier} {error.what}"
            raise error.replace(what=what, money=Money.MAYBE, advice=LOOKS_FIRST) from error.__cause__

    def _drop_if_over(self, intent: SubmissionRecord) -> None:
        """Forget an intent for a request that has changed since, once it has certainly bought nothing."""
        if not self._is_over(intent.sent_at):
            what = "An earlier try sent a request that has changed since, and that may still create a job"
            raise for_airflow(may_have_bought(f"{what}, with client id {intent.client_id}."))
        self.state.remove_intent()
        self.intent = self._new_intent()

    def _is_over(self, sent_at: float) -> bool:
        return is_over(sent_at, self.hook.settings.request_timeout, time.time())

    def _go_on_with(self, record: SubmissionRecord) -> SubmissionResult | None:
        """Return the job of a record as the result; None: another one may be bought."""
        known = record.kling_task_id
        at = datetime.fromtimestamp(record.noted_at, UTC).isoformat(timespec="seconds")
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
            self._stop_if_changed(known, at)
            return None
        if not self._is_usable(record):
            return None
        self.log.info("Resumed: job %s, submitted by an earlier try at %s.", known, at)
        return self._result(record)

    @property
    def _connection(self) -> str:
        return f"{self.hook.settings.conn_id} {self.hook.settings.base_url}"

    def _fingerprint(self) -> str:
        return fingerprint(self.job, self.hook.settings.conn_id, self.hook.settings.base_url)

    def _result(self, record: SubmissionRecord) -> SubmissionResult:
        return SubmissionResult(
            kling_task_id=record.kling_task_id,
            job=self.job,
            pictures=self.pictures,
            submitted_at=record.noted_at,
            cost=self.cost,
            library_entry=self.library_entry,
            client_id=record.client_id,
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

    def _stop_if_changed(self, kling_task_id: str, at: str) -> None:
        """Stop at the job of another request: a clear buys this one."""
        what = f"An earlier try submitted job {kling_task_id} at {at}, for a request that has changed since."
        if self.hook.settings.gateway.find is not None and self.options.on_uncertain == "fail":
            rescue = "The example Dag kling_rescue fetches that job's video."
            advice = f"Clear the task to buy the changed request. {rescue}"
            error = KlingInputError(what, money=Money.RUNNING, advice=advice, kling_task_id=kling_task_id)
            raise for_airflow(error)
        self._stop_if_uncertain(what, kling_task_id)

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
    gateway, given = hook.settings.gateway, options.inputs
    model, implied = gateway.resolve_model(options.model or hook.settings.default_model, given)
    inputs = {**given, **{name: value for name, value in implied.items() if is_unset(given.get(name))}}
    known = MODELS.get(model) or Model(model, (), picture_form=gateway.picture_form)
    form = known.picture_form if options.image_transport == "auto" else options.image_transport
    media = MediaInputs(
        MediaOptions(
            hook.settings,
            form,
            options.check_url,
            list(options.allowed_paths),
            options.from_outside,
            known.max_picture_bytes,
            known.max_video_bytes,
        ),
        log,
    )
    job, warnings = build_job(model, media.prepare(inputs), options.extra_body)
    check_media(job)
    gateway.submit(job)  # raises where the request cannot be written
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
                what=f"{error.what} An earlier try has submitted {known or record.unknown_job}.",
                advice=f"{error.advice} {rescue}",
                money=Money.MAYBE,
                kling_task_id=known or None,
            ) from error


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
