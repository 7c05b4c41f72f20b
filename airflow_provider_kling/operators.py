"""KlingSubmitOperator starts a job, KlingDownloadOperator brings its video home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.catalog import MODELS
from airflow_provider_kling.errors import (
    KlingDownloadError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.hooks import KlingHook, airflow_errors
from airflow_provider_kling.jobs import Outcome, VideoJob
from airflow_provider_kling.storage import Stored, load_picture, store_video, video_path
from airflow_provider_kling.validation import build_job, estimate
from airflow_provider_kling.wire import failed_task

if TYPE_CHECKING:
    from airflow.sdk import Context

_DEAD_LINK = (403, 404, 410)
_PICTURES = ("image", "end_image")


class KlingSubmitOperator(BaseOperator):
    """Submits one job and returns its task id, a string. This is the moment that costs money.

    Everything is checked before: the connection, the pictures, and the inputs by the model's own rules.
    Inputs that are None or empty are not sent. The POST is sent once; Airflow retries the task only
    where that cannot start a second job.

    Besides the task id it pushes ``estimated_cost_usd`` (a number, or None where no price is known).

    :param image: the first frame: a public URL, a data URI, base64, or a path or URL of any storage that
        Airflow knows (JPEG or PNG, at most 10 MiB, sides of at least 300 px). (templated)
    :param prompt: what happens, at most 2500 characters. (templated)
    :param model: the model's slug; the connection's default model if None. (templated)
    :param negative_prompt: what must not happen. (templated)
    :param duration: seconds, 3..15 for Kling 3.0. (templated)
    :param cfg_scale: how closely to follow the prompt, 0..1. (templated)
    :param sound: make sound with the picture; costs half as much again. (templated)
    :param end_image: the last frame; not with ``multi_prompt``. (templated)
    :param multi_prompt: shots, all texts or all objects with ``prompt`` and ``duration``. (templated)
    :param extra_body: further JSON keys of the gateway, passed on. (templated)
    :param kling_conn_id: the Airflow connection's id. (templated)
    :raises KlingInputError: before anything is sent, naming each wrong argument.
    :raises KlingSubmitUncertainError: a job may have been started; not retried.
    """

    template_fields: Sequence[str] = (
        *("image", "prompt", "model", "negative_prompt", "duration", "cfg_scale", "sound"),
        *("end_image", "multi_prompt", "extra_body", "kling_conn_id"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"multi_prompt": "json", "extra_body": "json"}
    ui_color = "#fbe3d0"

    def __init__(
        self,
        *,
        image: str | None = None,
        prompt: str | None = None,
        model: str | None = None,
        negative_prompt: str | None = None,
        duration: int | str | None = None,
        cfg_scale: float | str | None = None,
        sound: bool | str | None = None,
        end_image: str | None = None,
        multi_prompt: Sequence[str] | Sequence[Mapping[str, Any]] | str | None = None,
        extra_body: Mapping[str, Any] | None = None,
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
        self.extra_body = extra_body
        self.kling_conn_id = kling_conn_id

    def execute(self, context: Context) -> str:
        """Check everything, submit once, return the task id."""
        hook = KlingHook(self.kling_conn_id)
        with airflow_errors():
            job = self._job(self.model or hook.settings.default_model)
        cost = estimate(job)
        price = "no published price" if cost is None else f"an estimated {cost:.2f} USD"
        self.log.info("Submitting to %s for %s: %s", job.model, price, self._asked_for(job))
        kling_task_id = hook.submit(job)
        self.log.info("Kling task id: %s", kling_task_id)
        context["ti"].xcom_push(key="estimated_cost_usd", value=None if cost is None else float(cost))
        return kling_task_id

    def _job(self, model: str) -> VideoJob:
        names = (
            name for name in self.template_fields if name not in ("model", "extra_body", "kling_conn_id")
        )
        inputs = {name: getattr(self, name) for name in names}
        bare = model in MODELS and MODELS[model].bare_base64
        for name in _PICTURES:
            if isinstance(value := inputs[name], str) and value.strip():
                picture = load_picture(value.strip(), name)
                if picture and not value.startswith("data:"):
                    inputs[name] = picture.as_base64(bare=bare)
                self.log.info(
                    "%s: %s", name, picture.describe() if picture else "a URL, fetched by the gateway"
                )
        job, warnings = build_job(model, inputs, self.extra_body)
        for warning in warnings:
            self.log.warning(warning)
        return job

    @staticmethod
    def _asked_for(job: VideoJob) -> str:
        def show(value: Any) -> str:
            text = repr(value)
            return text if len(text) <= 200 else f"{text[:20]}… ({len(text)} characters)"

        return ", ".join(f"{name}={show(value)}" for name, value in job.inputs.items())


class KlingDownloadOperator(BaseOperator):
    """Fetches the video of a finished job and returns where it is, a string.

    Asks the gateway for a fresh link, streams it under a temporary name, checks that it is a whole mp4,
    and only then gives it its name. Costs nothing, so it may be retried at will. Pushes ``size`` (bytes),
    ``sha256`` and ``content_type`` too.

    :param kling_task_id: the job. (templated)
    :param target: where the video goes: a path or URL of any storage that Airflow knows; with a slash at
        the end a folder, in which it becomes ``<kling_task_id>.mp4``. (templated)
    :param overwrite: replace a file that stands there. The default makes retries harmless.
    :param kling_conn_id: the Airflow connection's id. (templated)
    :raises KlingDownloadError: the video was not fetched whole; a retry may help and does not pay.
    """

    template_fields: Sequence[str] = ("kling_task_id", "target", "kling_conn_id")
    ui_color = "#dcefe0"

    def __init__(
        self,
        *,
        kling_task_id: str,
        target: str,
        overwrite: bool = True,
        kling_conn_id: str = KlingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kling_task_id = kling_task_id
        self.target = target
        self.overwrite = overwrite
        self.kling_conn_id = kling_conn_id

    def execute(self, context: Context) -> str:
        """Fetch, check, store; return the path."""
        hook = KlingHook(self.kling_conn_id)
        with airflow_errors():
            path = video_path(self.target, self.kling_task_id)
            try:
                stored, content_type = self._fetch(hook, path)
            except KlingDownloadError as error:
                if error.http_status not in _DEAD_LINK:
                    raise
                self.log.info("The link was dead (HTTP %s); asking for a fresh one.", error.http_status)
                stored, content_type = self._fetch(hook, path)
        self.log.info("%s: %d bytes, %s, sha256 %s", stored.path, stored.size, content_type, stored.sha256)
        for key, value in {
            "size": stored.size,
            "sha256": stored.sha256,
            "content_type": content_type,
        }.items():
            context["ti"].xcom_push(key=key, value=value)
        return stored.path

    def _fetch(self, hook: KlingHook, path: str) -> tuple[Stored, str]:
        with hook.open_video(self._fresh_link(hook)) as stream:
            stored = store_video(stream.chunks, stream.length, path, overwrite=self.overwrite)
        return stored, stream.content_type

    def _fresh_link(self, hook: KlingHook) -> str:
        task = hook.get_task(self.kling_task_id)
        if task.outcome is Outcome.UNFINISHED:
            what = f"Job {self.kling_task_id} is not finished yet ({task.describe()})."
            raise KlingUnavailableError(what, money=Money.RUNNING, kling_task_id=self.kling_task_id)
        if task.outcome is not Outcome.SUCCEEDED:
            raise failed_task(task)
        if not task.videos:
            what = f"Job {self.kling_task_id} is done but does not name its video yet."
            raise KlingDownloadError(what, kling_task_id=self.kling_task_id)
        return task.videos[0].video_url
