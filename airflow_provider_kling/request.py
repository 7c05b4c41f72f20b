"""A request as a value, in Kling's own words: it can be checked, priced and mapped before anybody pays."""

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
from airflow_provider_kling.models.prices import estimate
from airflow_provider_kling.models.validation import build_job
from airflow_provider_kling.redaction import redacted

_SIGNED = "https://storage.invalid/signed"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VideoRequest:
    """What is asked for, whatever the model calls it. None is not sent, the service's default applies.

    The inputs are those of :class:`~airflow_provider_kling.operators.KlingSubmitOperator`, which describes
    each; ``docs/models.md`` says which model takes which, and within which limits.

    :param model: the model's slug.
    :param extra_body: further JSON keys of the gateway, for what the catalogue does not know.
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
    extra_body: Mapping[str, Any] | str | None = None

    def __repr__(self) -> str:
        return f"VideoRequest({', '.join(f'{n}={redacted(v)!r}' for n, v in self.arguments().items())})"

    def arguments(self) -> dict[str, Any]:
        """Return what was set, as the operator's arguments: one entry for ``.expand_kwargs``."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value is not None}

    def job(self) -> tuple[VideoJob, list[str]]:
        """Return the job in the model's own words, and warnings for what only the service can judge.

        Paths of pictures stay as they are; the operator reads them. A video has to be a URL here.

        :raises KlingInputError: naming every input that is wrong, what was given and what is allowed.
        """
        inputs = {name: getattr(self, name) for name in INPUTS}
        media = {name: _sent(inputs[name]) for name in MEDIA_INPUTS}
        return build_job(self.model, inputs | media, self.extra_body)

    def estimate(self, prices: Mapping[str, Decimal] | None = None) -> Decimal | None:
        """Return the estimated cost in US dollars, or None where no price or no length is known.

        A video on a storage counts as the signed URL that the operator will make of it.

        :param prices: dollars a second without sound by model, in place of the catalogue's.
        :raises KlingInputError: as :meth:`job`; what would be refused has no price.
        """
        stored = re.match(r"(?!https?:|file:)\w+://", str(plain_value(self.video)), re.IGNORECASE)
        job, _ = (replace(self, video=_SIGNED) if stored else self).job()
        return estimate(job, prices)


def _sent(value: Any) -> Any:
    """Return an input as a text could say it: pictures' bytes in base64, paths by their names."""
    value = [_sent(item) for item in value] if isinstance(value, (list, tuple)) else plain_value(value)
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
