"""The inputs of a request as an operator's arguments: rendered, kept private, made into a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.models.catalog import INPUTS, MODELS
from airflow_provider_kling.models.inputs import plain
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.validation import build_job
from airflow_provider_kling.redaction import redacted
from airflow_provider_kling.submission.media_inputs import MediaInputs, MediaOptions, Transport
from airflow_provider_kling.transport.settings import Settings

#: The arguments that may hold a picture's data or a signed URL.
_MEDIA = ("image", "end_image", "images", "video", "extra_body")


class RequestOperator(BaseOperator):
    """What an operator needs that asks for a video: all inputs of all models, and the job they make.

    A subclass has an attribute for each name in :data:`~airflow_provider_kling.models.catalog.INPUTS`, and
    ``model``, ``extra_body``, ``image_transport``, ``check_url``, ``allowed_paths`` and ``kling_conn_id``.
    """

    template_fields: Sequence[str] = (*INPUTS, "model", "extra_body", "kling_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("images", "multi_prompt", "voice_list", "extra_body"), "json"
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allowed_paths: list[str] = []
        self.image_transport: Transport = "auto"
        self.check_url = False
        self._private: dict[str, Any] = {}
        self._outside: set[str] = set()
        self._pictures: dict[str, Any] = {}

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """Render, then keep pictures' data and URLs' signatures out of Airflow's *Rendered Templates*.

        Airflow renders mapped and plain tasks through this method, and stores the attributes after it.
        """
        written = {name: getattr(self, name) for name in _MEDIA}
        super()._do_render_template_fields(parent, *args, **kwargs)
        for name in _MEDIA if parent is self else ():
            rendered = getattr(self, name)
            if rendered != written[name] or not self._in_dag_file(name, written[name]):
                self._outside.add(name)
            value = plain(rendered)
            if (shown := redacted(value)) != value:
                self._private[name] = value
            if shown != rendered:
                setattr(self, name, shown)

    def _in_dag_file(self, name: str, value: Any) -> bool:
        """Return whether an argument stands in the Dag file as it is, rather than coming from a mapping."""
        task = self.dag.task_dict.get(self.task_id) if self.has_dag() else None  # type: ignore[no-untyped-call]
        partial = getattr(task, "partial_kwargs", None)
        if partial is None:  # not mapped
            return True
        mapping = task.expand_input.value  # type: ignore[union-attr]  # a mapped operator has it
        if isinstance(mapping, dict):
            listed = mapping.get(name)
        else:
            items = mapping if isinstance(mapping, (list, tuple)) else ()
            listed = [item.get(name) for item in items if isinstance(item, dict)]
        values = [partial.get(name), *(listed if isinstance(listed, (list, tuple)) else ())]
        return any(value is item for item in values)  # else another task's output

    def _job(self, settings: Settings) -> VideoJob:
        """Return the job that the arguments ask for; nothing is sent.

        :param settings: the connection's.
        :raises KlingInputError: naming each argument that is wrong.
        """
        model = getattr(self, "model", None) or settings.default_model
        given = {name: getattr(self, name) for name in (*INPUTS, "extra_body")} | self._private
        extra_body = given.pop("extra_body")
        form = self.image_transport
        if form == "auto":
            form = MODELS[model].picture_form if model in MODELS else "data_uri"
        handling = MediaOptions(settings, form, self.check_url, self.allowed_paths, frozenset(self._outside))
        pictures = MediaInputs(handling, self.log)
        job, warnings = build_job(model, pictures.prepare(given), extra_body)
        self._pictures = pictures.facts
        for warning in warnings:
            self.log.warning(warning)
        return replace(job, signed=pictures.signed)
