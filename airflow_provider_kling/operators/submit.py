"""KlingSubmitOperator submits a job, which costs money."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from airflow_provider_kling.errors import KlingNoSlotError, KlingUnavailableError
from airflow_provider_kling.hooks import KlingHook, airflow_errors, suppress_and_log
from airflow_provider_kling.links import KlingGalleryLink
from airflow_provider_kling.models.input_names import TEXT_INPUTS
from airflow_provider_kling.operators.base import KlingBaseOperator, log_deferral, reports_errors
from airflow_provider_kling.operators.request_arguments import RequestOperator
from airflow_provider_kling.submission.options import Choice, Transport, check_reuse
from airflow_provider_kling.values import NO_SLOT, checked_seconds, one_of
from airflow_provider_kling.xcom_keys import COST_KEY, PREVIEW_KEY, PROGRESS_KEY, REQUEST_KEY

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow.providers.common.compat.sdk import BaseOperatorLink
    from airflow.sdk import Context, XComArg

    from airflow_provider_kling.models.job import PathOrUrl, PictureSource
    from airflow_provider_kling.submission.cost_limits import RunReservations
    from airflow_provider_kling.submission.submit_once import Submission, SubmissionOptions, SubmissionResult

T = TypeVar("T")

#: The longest pause, in seconds, for which a submit that may be repeated keeps its worker.
_PATIENCE = 10.0
#: Seconds for which a task keeps its worker that has left the queue for a slot: a job may end soon.
_SLOT_PATIENCE = 20.0
#: The pauses meanwhile, in seconds; the last one is repeated.
_SLOT_PAUSES = (1.0, 2.0, 3.0)
#: Seconds between two attempts of a task that waits for a slot on its worker.
_SLOT_INTERVAL = 30.0
#: Seconds after which a deferral without a triggerer ends; nothing was started, so a retry may follow.
_NO_TRIGGERER = 120.0
#: Seconds that a claim on a target outlives the wait, for the download and for a late retry.
CLAIM_MARGIN = 3600.0


class SubmitAttempt(NamedTuple):
    """One attempt of a task to submit. Times are epoch seconds.

    :param give_up_at: when it is repeated no more.
    :param attempt: how often the submit was repeated because the gateway was busy.
    :param asked_at: when the task asked for a slot first; 0 if it has not waited for one.
    """

    give_up_at: float
    attempt: int = 0
    asked_at: float = 0.0


class KlingSubmitOperator(KlingBaseOperator, RequestOperator):
    """Submits one job, which costs money, and returns its task id, a string.

    The connection, the pictures and the inputs are checked before, by the model's rules. Inputs that are
    None or empty are not sent; the gateway's defaults apply.

    On Airflow 3.3 and newer the task records its submit. A retry returns the job of an earlier try and buys
    nothing. Clearing the finished task buys a new job. If the gateway certainly started nothing (it refused
    the connection, was too busy, could not create the task), the request is repeated, and the task defers
    while it waits. If the account runs as many jobs as it may, the task waits for a free slot, in the order
    of having asked.

    If the answer is lost, the task asks Kling's own API for the job. There each request has an id of ours,
    the client id, which buys one job at most; so a retry pays once on Airflow 3.1 and 3.2 too. MyRouter has
    no such ids: the request is not sent again, see ``on_uncertain``.

    Besides the task id it pushes ``estimated_cost_usd`` (a number, or None where no price is known) and
    ``kling_request`` (what was asked for; pictures by source and hash only).

    Which model takes which input, and within which limits, is in ``docs/models.md``; an input that a model
    does not have is refused, with the models that have it. Numbers, flags and lists may come as text, as
    templates give them. All inputs are templated.

    :param image: the first frame, or the character for motion control: a public URL, a data URI, base64,
        bytes, an asset, or a path or URL of any storage that Airflow knows (JPEG or PNG, at most 10 MiB,
        sides of at least 300 px).
    :param prompt: what happens, or what to edit; at most 2500 characters.
    :param model: the model's slug; the connection's default model if None. A model that the catalogue does
        not know is passed on unvalidated, with a warning.
    :param negative_prompt: what must not happen.
    :param duration: seconds; 3..15 for Kling 3.0, 5 or 10 for most others.
    :param cfg_scale: how closely to follow the prompt, 0..1 (``guidance_scale`` of the older models).
    :param sound: make sound with the picture; costs 50 % more.
    :param end_image: the last frame, in the forms of ``image``; not with ``multi_prompt``.
    :param multi_prompt: shots, all texts or all objects with ``prompt`` and ``duration``.
    :param aspect_ratio: ``16:9``, ``9:16`` or ``1:1``.
    :param mode: a quality: ``pro``, or ``Standard`` or ``Professional`` with the older models.
    :param images: pictures to refer to, a list of them in the forms of ``image``.
    :param video: the video to refer to, to edit, or to take the motion from: a public URL, or a path on a
        storage that can sign URLs (MP4 or MOV, at most 10 MiB).
    :param voice_list: ids of at most two voices.
    :param character_orientation: of motion control: as in the ``image`` or as in the ``video``.
    :param keep_original_sound: keep the sound of ``video``.
    :param fast_mode: of video editing: faster.
    :param model_name: of motion control 3.0: ``kling-v3-0-std`` or ``kling-v3-0-pro``.
    :param resolution: of Kling's own API: ``720p``, ``1080p`` or ``4k``.
    :param refer_type: of Kling's own API, what the ``video`` is: ``feature``, a model for style and motion,
        or ``base``, the video to edit.
    :param element_list: of Kling's own API: ids of elements, or objects with ``element_id`` and ``id``.
    :param callback_url: of Kling's own API: a URL that Kling calls at each change of status.
    :param extra_body: further JSON keys of the gateway, for what the catalogue does not know. (templated)
    :param on_uncertain: what to do on MyRouter when a job may have been started but its id is not known:
        ``fail`` (the task fails for good; a person looks) or ``submit_again`` (a retry submits, and may pay
        twice).
    :param on_failed_job: what a retry does when the job of an earlier try has failed: ``fail`` (the same
        request mostly fails again, and a failed job may be charged) or ``submit_again``.
    :param busy_timeout: seconds for which a request that certainly started nothing is repeated.
    :param slot_timeout: seconds for which the task waits for a free slot; they do not count for
        ``busy_timeout``.
    :param deferrable: wait in the triggerer for a slot, and during long pauses before a request is repeated;
        with False, on the worker.
    :param image_transport: how a picture that is no URL goes to the gateway: as ``data_uri``, as ``base64``,
        as a signed ``url`` of its storage, good for a day, or ``auto``: as the model takes it.
    :param check_url: check the picture behind a public URL before the submit.
    :param allowed_paths: folders or storage URLs that a picture's path must lie in; the connection's
        ``allowed_paths`` hold too. Not templated, so that a trigger form cannot change it.
    :param max_cost_usd: US dollars that this job may cost by its estimate. A job above it, or of unknown
        price, is refused before the submit. The connection's limit of that name holds too. (templated)
    :param max_run_cost_usd: US dollars that all jobs of the Dag run may cost together, also those that
        mapped tasks buy at the same moment. (templated)
    :param reuse: ``fingerprint``: if there is a verified video of the same model, inputs and pictures (by
        their bytes), return its job and buy nothing; the download copies the video. By default every
        submit buys.
    :param library: with ``reuse``, a folder or storage URL where the index of such videos is; with several
        workers a storage URL or a shared disk. (templated)
    :param preview: show a small picture of the source in Airflow. Needs Pillow. With False, no decoder reads
        the pictures.
    :param kling_conn_id: the Airflow connection's id. (templated)
    :raises KlingInputError: before anything is sent, naming each wrong argument.
    :raises KlingSubmitUncertainError: a job may have been started; not retried.
    """

    template_fields: Sequence[str] = (*RequestOperator.template_fields, "library")
    ui_color = "#fbe3d0"
    operator_extra_links: Sequence[BaseOperatorLink] = (KlingGalleryLink(),)

    def __init__(
        self,
        *,
        image: PictureSource | XComArg | None = None,
        prompt: str | XComArg | None = None,
        model: str | XComArg | None = None,
        negative_prompt: str | XComArg | None = None,
        duration: int | str | XComArg | None = None,
        cfg_scale: float | str | XComArg | None = None,
        sound: bool | str | XComArg | None = None,
        end_image: PictureSource | XComArg | None = None,
        multi_prompt: Sequence[str] | Sequence[Mapping[str, Any]] | str | XComArg | None = None,
        aspect_ratio: str | XComArg | None = None,
        mode: str | XComArg | None = None,
        images: Sequence[PictureSource] | str | XComArg | None = None,
        video: PathOrUrl | XComArg | None = None,
        voice_list: Sequence[Any] | str | XComArg | None = None,
        character_orientation: str | XComArg | None = None,
        keep_original_sound: bool | str | XComArg | None = None,
        fast_mode: bool | str | XComArg | None = None,
        model_name: str | XComArg | None = None,
        resolution: str | XComArg | None = None,
        refer_type: str | XComArg | None = None,
        element_list: Sequence[Any] | str | XComArg | None = None,
        callback_url: str | XComArg | None = None,
        extra_body: Mapping[str, Any] | str | XComArg | None = None,
        on_uncertain: Choice = "fail",
        on_failed_job: Choice = "fail",
        busy_timeout: float = 900.0,
        slot_timeout: float = 86400.0,
        deferrable: bool = True,
        image_transport: Transport = "auto",
        check_url: bool = False,
        allowed_paths: Sequence[str] = (),
        max_cost_usd: float | str | XComArg | None = None,
        max_run_cost_usd: float | str | XComArg | None = None,
        reuse: Literal["fingerprint"] | None = None,
        library: str | XComArg | None = None,
        preview: bool = True,
        kling_conn_id: str = KlingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image = image
        self.prompt = prompt
        self.model = model
        self.negative_prompt = negative_prompt
        self.duration = duration
        self.cfg_scale = cfg_scale
        self.sound = sound
        self.end_image = end_image
        self.multi_prompt = multi_prompt
        self.aspect_ratio = aspect_ratio
        self.mode = mode
        self.images = images
        self.video = video
        self.voice_list = voice_list
        self.character_orientation = character_orientation
        self.keep_original_sound = keep_original_sound
        self.fast_mode = fast_mode
        self.model_name = model_name
        self.resolution = resolution
        self.refer_type = refer_type
        self.element_list = element_list
        self.callback_url = callback_url
        self.extra_body = extra_body
        self.on_uncertain = one_of("on_uncertain", on_uncertain, Choice)
        self.on_failed_job = one_of("on_failed_job", on_failed_job, Choice)
        if self.multiple_outputs:
            raise ValueError("multiple_outputs=True: there is one output, a text; Airflow could not store it")
        self.busy_timeout = checked_seconds("busy_timeout", busy_timeout, 0)
        self.slot_timeout = checked_seconds("slot_timeout", slot_timeout, 0)
        self.deferrable = deferrable
        self.image_transport = one_of("image_transport", image_transport, Transport)
        self.check_url = check_url
        self.allowed_paths = [allowed_paths] if isinstance(allowed_paths, str) else list(allowed_paths)
        self.max_cost_usd = max_cost_usd
        self.max_run_cost_usd = max_run_cost_usd
        check_reuse(reuse, library)
        self.reuse = reuse
        self.library = library
        self.preview = preview
        self.kling_conn_id = kling_conn_id

    @reports_errors
    def execute(self, context: Context) -> str:
        """Check everything, submit once, return the task id."""
        return self._until_slot(context, self._first_attempt())

    def execute_again(
        self,
        context: Context,
        event: Any,  # noqa: ARG002 - Airflow gives it
        attempt: int,
        give_up_at: float,
        asked_at: float = 0.0,
    ) -> str:
        """Submit after the pause that the gateway asked for."""
        again = SubmitAttempt(attempt=attempt, give_up_at=give_up_at, asked_at=asked_at)
        return self._until_slot(context, again)

    def execute_for_slot(self, context: Context, event: Any, asked_at: float) -> str:  # noqa: ARG002 - as above
        """Submit because a slot may be free."""
        return self._until_slot(context, self._first_attempt(asked_at))

    def _first_attempt(self, asked_at: float = 0.0) -> SubmitAttempt:
        return SubmitAttempt(give_up_at=time.time() + self.busy_timeout, asked_at=asked_at)

    def _until_slot(self, context: Context, attempt: SubmitAttempt) -> str:
        """Do the task's work; while no slot is free, wait for one.

        A task that waits holds nothing. The cost that it had reserved and the target that it had claimed are
        given back before, and are checked and taken anew by the next attempt.
        """
        while True:
            try:
                return self._run(context, attempt)
            except KlingNoSlotError as error:
                refused = error
            asked_at = attempt.asked_at or time.time()
            self._wait_for_slot(context["ti"], refused, asked_at)
            attempt = self._first_attempt(asked_at)

    def _wait_for_slot(self, ti: Any, refused: KlingNoSlotError, asked_at: float) -> None:
        """Defer until a slot may be free, or wait on the worker.

        :raises KlingNoSlotError: ``slot_timeout`` is over.
        """
        from airflow_provider_kling.polling.policy import FIRST_POLL_DELAY
        from airflow_provider_kling.triggers import KlingSlotTrigger

        now, deadline = time.time(), asked_at + self.slot_timeout
        if now >= deadline:
            waited = f"Given up after slot_timeout={self.slot_timeout:g} seconds without a free slot."
            with airflow_errors():
                raise refused.replace(what=f"{waited} {refused.what}")
        since, until = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" for at in (asked_at, deadline))
        words = f"No free slot of {refused.model}: waits for one since {since} UTC, until {until} at most."
        with suppress_and_log(self.log, "That the task waits for a slot could not be stored"):
            progress = {"kling_task_id": "", "status": NO_SLOT, "progress_percent": None, "eta": None}
            ti.xcom_push(key=PROGRESS_KEY, value={**progress, "seen_at": round(now, 3)})
        if not self.deferrable:
            self.log.info(words)
            time.sleep(min(max(_SLOT_INTERVAL, refused.retry_after or 0), deadline - now))
            return
        log_deferral(self.log, words)
        self.defer(
            trigger=KlingSlotTrigger(
                kling_conn_id=self.kling_conn_id,
                model=refused.model,
                asked_at=asked_at,
                refused_at=now,
                not_before=now + max(FIRST_POLL_DELAY, refused.retry_after or 0),
                deadline=deadline,
            ),
            method_name=self.execute_for_slot.__name__,
            kwargs={"asked_at": asked_at},
            timeout=timedelta(seconds=deadline - now + _NO_TRIGGERER),
        )

    def _run(self, context: Context, attempt: SubmitAttempt) -> str:
        """Do the task's work, and return its result."""
        from airflow_provider_kling.submission.state import submission_state

        kling_task_id = self._submit(context, attempt)
        with suppress_and_log(self.log, "That the task has finished could not be recorded"):
            submission_state(context).record_finished()
        return kling_task_id

    def _submit(self, context: Context, attempt: SubmitAttempt) -> str:
        """Submit once, push what was asked for, and return the task id."""
        from airflow_provider_kling import tracing
        from airflow_provider_kling.operators.downstream_targets import claim_downstream_targets
        from airflow_provider_kling.submission.cost_limits import publish_costs
        from airflow_provider_kling.submission.state import submission_state
        from airflow_provider_kling.submission.submit_once import naming_earlier_job, prepare

        ti, state, hook = context["ti"], submission_state(context), KlingHook(self.kling_conn_id)
        run = self._reservations(ti)
        with naming_earlier_job(state):
            earlier_costs = publish_costs(run, state, self.log)
        submission = prepare(self._submission_options(), hook, state, run, self.log)
        remembers = state.is_persistent or hook.settings.gateway.find is not None
        if not remembers:
            self.log.warning(
                "This Airflow has no task state store (it came with 3.3): should this task die between the "
                "submit and its end, a retry may pay for a second job."
            )

        def patiently(step: Callable[[], T]) -> T:
            return self._patiently(step, submission, str(ti.id), attempt)

        with airflow_errors():
            result = patiently(lambda: submission.resume() or submission.reuse())
        if result:
            self._publish(ti, result, earlier_costs)
        else:
            with airflow_errors(), claim_downstream_targets(self, context):
                self.log.info("Submitting %s", submission.describe())
                facts = {**submission.tags(), "estimated_cost_usd": submission.cost}
                with tracing.step("submit", ti, **facts) as span:
                    inputs = submission.job.inputs
                    span.add_content(**{name: inputs[name] for name in TEXT_INPUTS if name in inputs})
                    result = patiently(submission.submit)
                    span.add(job=result.kling_task_id)
                self._publish(ti, result, earlier_costs)
            with suppress_and_log(self.log, "The task id could not be recorded"):
                state.confirm_task_id(result.kling_task_id)
        if remembers:  # else a task that dies while the picture is decoded would buy again
            self._show_picture(ti, result.kling_task_id, submission.first_picture)
        return result.kling_task_id

    def _reservations(self, ti: Any) -> RunReservations:
        from airflow_provider_kling.operators.xcom import is_ours, is_submit, task_ids_of_dag
        from airflow_provider_kling.submission.cost_limits import RunReservations

        return RunReservations(ti, task_ids_of_dag(self, is_submit), task_ids_of_dag(self, is_ours))

    def _patiently(
        self, step: Callable[[], T], submission: Submission, key: str, attempt: SubmitAttempt
    ) -> T:
        """Take a step of a submission; while it fails for a passing reason, repeat it.

        During a long pause the task defers.
        """
        from airflow_provider_kling.polling.slots import slots_of
        from airflow_provider_kling.submission.submit_once import submit_delay

        stays_until = time.time() + _SLOT_PATIENCE if attempt.asked_at else 0.0
        slot_pauses = itertools.chain(_SLOT_PAUSES, itertools.repeat(_SLOT_PAUSES[-1]))
        while True:
            try:
                return step()
            except KlingNoSlotError as error:
                delay = max(next(slot_pauses), error.retry_after or 0)
                if time.time() + delay > stays_until:
                    error.model = slots_of(submission.job.model)
                    raise
            except KlingUnavailableError as error:
                delay = submit_delay(attempt.attempt, error.retry_after, key)
                attempt = attempt._replace(attempt=attempt.attempt + 1)
                if time.time() + delay > attempt.give_up_at:
                    self.log.warning("Given up after busy_timeout=%s seconds.", self.busy_timeout)
                    raise
                self.log.info("%s Again in %.0f s. %s", error.money, delay, error.what)
                if self.deferrable and delay > _PATIENCE:
                    self._defer(delay, attempt)
            time.sleep(delay)

    def _submission_options(self) -> SubmissionOptions:
        from airflow_provider_kling.submission.submit_once import SubmissionOptions

        return SubmissionOptions(
            model=self.model,  # type: ignore[arg-type]  # rendered before it is read
            image_transport=self.image_transport,
            check_url=self.check_url,
            allowed_paths=self.allowed_paths,
            max_cost_usd=self.max_cost_usd,
            max_run_cost_usd=self.max_run_cost_usd,
            library=str(self.library) if self.reuse else None,
            on_uncertain=self.on_uncertain,
            on_failed_job=self.on_failed_job,
            **self._request_options(),
        )

    def _publish(
        self, ti: Any, result: SubmissionResult, earlier_costs: Mapping[str, Decimal | None] | None
    ) -> None:
        """Push what was asked for, for people and for the download's sidecar."""
        from airflow_provider_kling.operators.xcom import task_instance_key
        from airflow_provider_kling.submission.cost_limits import cost_without

        with suppress_and_log(self.log, "What was asked for could not be stored"):
            request = {**result.to_dict(), "name": self.request_name(ti), **task_instance_key(ti)}
            request["earlier_cost_usd"] = cost_without(result.kling_task_id, earlier_costs)
            ti.xcom_push(key=COST_KEY, value=request["estimated_cost_usd"])
            ti.xcom_push(key=REQUEST_KEY, value=request)

    def _show_picture(self, ti: Any, kling_task_id: str, data: bytes | None) -> None:
        """Push a small picture of the source."""
        from airflow_provider_kling.media.preview import decode_picture

        with suppress_and_log(self.log, "The preview of the picture could not be stored"):
            if self.preview and (picture := decode_picture(data).picture):
                preview = {"kling_task_id": kling_task_id, "source": picture, "poster": None}
                ti.xcom_push(key=PREVIEW_KEY, value=preview)

    def _defer(self, delay: float, attempt: SubmitAttempt) -> None:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        moment = datetime.fromtimestamp(time.time() + delay, UTC)
        log_deferral(
            self.log, f"The triggerer waits until {moment:%Y-%m-%d %H:%M:%S} UTC, then a worker submits."
        )
        self.defer(
            trigger=DateTimeTrigger(moment=moment),
            method_name=self.execute_again.__name__,
            kwargs=attempt._asdict(),
            timeout=timedelta(seconds=delay + _NO_TRIGGERER),
        )
