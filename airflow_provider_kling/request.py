"""A request as a value, with Kling's own names. It can be checked, priced and mapped without Airflow."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

from airflow_provider_kling.models.catalog import DEFAULT_MODEL
from airflow_provider_kling.models.input_names import INPUTS, MEDIA_INPUTS
from airflow_provider_kling.models.inputs import plain_value
from airflow_provider_kling.models.job import PathOrUrl, PictureSource, VideoJob
from airflow_provider_kling.models.names import anywhere
from airflow_provider_kling.models.prices import estimate
from airflow_provider_kling.models.validation import build_job
from airflow_provider_kling.redaction import redacted

_SIGNED = "https://storage.invalid/signed"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VideoRequest:
    """A request for one video. An input that is None is not sent: the service's default applies.

    :class:`~airflow_provider_kling.operators.KlingSubmitOperator` describes the inputs. ``docs/models.md``
    lists the inputs and limits of each model.

    :param model: the model's slug.
    :param extra_body: further JSON keys for the gateway that the catalogue does not know.
    """

    model: str = DEFAULT_MODEL
    image: PictureSource | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    duration: int | str | None = None
    cfg_scale: float | str | None = None
    sound: bool | str | None = None
    end_image: PictureSource | None = None
    multi_prompt: Sequence[str] | Sequence[Mapping[str, Any]] | str | None = None
    aspect_ratio: str | None = None
    mode: str | None = None
    images: Sequence[PictureSource] | str | None = None
    video: PathOrUrl | None = None
    voice_list: Sequence[Any] | str | None = None
    character_orientation: str | None = None
    keep_original_sound: bool | str | None = None
    fast_mode: bool | str | None = None
    model_name: str | None = None
    resolution: str | None = None
    refer_type: str | None = None
    element_list: Sequence[Any] | str | None = None
    callback_url: str | None = None
    extra_body: Mapping[str, Any] | str | None = None

    def __repr__(self) -> str:
        return f"VideoRequest({', '.join(f'{n}={redacted(v)!r}' for n, v in self.arguments().items())})"

    def arguments(self) -> dict[str, Any]:
        """Return the inputs that are set, as the operator's arguments: one item for ``.expand_kwargs``."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value is not None}

    def job(self) -> tuple[VideoJob, list[str]]:
        """Return the job by the gateway's names, and warnings about what only the service can check.

        Pictures' paths stay as they are; the operator reads the files. A video must be a URL here.

        :raises KlingInputError: it names every wrong input, its value and what is allowed.
        """
        inputs = {name: getattr(self, name) for name in INPUTS}
        media = {name: _sent(inputs[name]) for name in MEDIA_INPUTS}
        model, implied = anywhere(self.model, inputs)
        return build_job(model, implied | inputs | media, self.extra_body)

    def estimate(self, prices: Mapping[str, Decimal] | None = None) -> Decimal | None:
        """Return the estimated cost in US dollars, or None if the price or the length is unknown.

        A video on a storage counts as a URL, because the operator signs one for it.

        :param prices: US dollars per second without sound, by model; they replace the catalogue's.
        :raises KlingInputError: the request is wrong, see :meth:`job`.
        """
        stored = re.match(r"(?!https?:|file:)\w+://", str(plain_value(self.video)), re.IGNORECASE)
        job, _ = (replace(self, video=_SIGNED) if stored else self).job()
        return estimate(job, prices)


def _sent(value: Any) -> Any:
    """Return an input as JSON-ready data: bytes as base64, paths as texts."""
    value = [_sent(item) for item in value] if isinstance(value, (list, tuple)) else plain_value(value)
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
