"""The inputs of a request as an operator's arguments: rendered, kept private, made into a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.catalog import INPUTS, MODELS
from airflow_provider_kling.inputs import from_json
from airflow_provider_kling.jobs import VideoJob, told
from airflow_provider_kling.pictures import prepare_pictures
from airflow_provider_kling.settings import Settings
from airflow_provider_kling.validation import build_job

#: The arguments that may hold a picture's data or a signed URL.
_MEDIA = ("image", "end_image", "images", "video", "extra_body")


class RequestOperator(BaseOperator):
    """What an operator needs that asks for a video: all inputs of all models, and the job they make.

    A subclass has an attribute for each name in :data:`~airflow_provider_kling.catalog.INPUTS`, and
    ``model``, ``extra_body``, ``within`` and ``kling_conn_id``.
    """

    template_fields: Sequence[str] = (*INPUTS, "model", "extra_body", "kling_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("images", "multi_prompt", "voice_list", "extra_body"), "json"
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.within: list[str] = []
        self._private: dict[str, Any] = {}
        self._pictures: dict[str, dict[str, Any]] = {}

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """Render, then keep pictures' data and URLs' signatures out of Airflow's *Rendered Templates*.

        Airflow renders mapped and plain tasks through this method, and stores the attributes after it.
        """
        super()._do_render_template_fields(parent, *args, **kwargs)
        for name in _MEDIA if parent is self else ():
            value = from_json(getattr(self, name))
            if (shown := told(value)) != value:
                self._private[name] = value
                setattr(self, name, shown)

    def _job(self, settings: Settings) -> VideoJob:
        """Return the job that the arguments ask for; nothing is sent.

        :param settings: the connection's.
        :raises KlingInputError: naming each argument that is wrong.
        """
        model = getattr(self, "model", None) or settings.default_model
        given = {name: getattr(self, name) for name in (*INPUTS, "extra_body")} | self._private
        extra_body = given.pop("extra_body")
        bare = model in MODELS and MODELS[model].picture_form == "base64"
        limits = (self.within, settings.allowed_paths)
        self._pictures = prepare_pictures(given, limits, bare=bare, log=self.log)
        job, warnings = build_job(model, given, extra_body)
        for warning in warnings:
            self.log.warning(warning)
        return job
