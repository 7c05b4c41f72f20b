"""A job as a value: the model and its inputs, checked and ready to be sent."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from airflow_provider_kling.models.catalog import MODELS
from airflow_provider_kling.redaction import redacted


@runtime_checkable
class StoragePath(Protocol):
    """The part of Airflow's ``ObjectStoragePath`` that is used here. ``str()`` includes the connection."""

    @property
    def protocol(self) -> str:
        """The URL scheme of the storage."""

    @property
    def conn_id(self) -> str | None:
        """The id of the Airflow connection."""


#: The types of a video input and of a picture input.
PathOrUrl = str | os.PathLike[str] | StoragePath
PictureSource = PathOrUrl | bytes


@dataclass(frozen=True, slots=True)
class VideoJob:
    """One request for one video: a model and its inputs, as they are sent.

    :param model: the model's slug, such as ``kling-v3.0-pro-i2v``.
    :param inputs: the JSON body. It holds only inputs that the user has set.
    :param signed: URLs that were signed for this request, each with a text that stays the same in every
        signature: the fingerprint uses it in place of the URL.
    """

    model: str
    inputs: Mapping[str, Any] = field(repr=False)
    signed: Mapping[str, str] = field(default_factory=dict, repr=False)

    def describe(self, without: Collection[str] = ()) -> str:
        """Return the inputs for a log line, without pictures' data and URLs' signatures.

        :param without: names of inputs that are left out.
        """
        shown = {name: redacted(value) for name, value in self.inputs.items() if name not in without}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def defaults(self) -> dict[str, Any]:
        """Return the model's documented defaults for the inputs that are not set.

        With shots or a source video, these decide about duration and sound.
        """
        fields = MODELS[self.model].fields if self.model in MODELS else ()
        decided = ("duration", "sound") if {"multi_prompt", "video"} & set(self.inputs) else ()
        return {
            f.json_key: str(f.default) if f.as_text else f.default
            for f in fields
            if f.default is not None and f.name not in decided and f.json_key not in self.inputs
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON-ready data for XComs and sidecars, without data and signatures.

        ``inputs`` holds the defaults too, and ``defaults`` the names of the inputs that have one.
        """
        defaults = self.defaults()
        inputs = redacted({**self.inputs, **defaults})
        return {"model": self.model, "inputs": inputs, "defaults": sorted(defaults)}
