"""The nouns: what is asked for (a video job) and what comes back (a task and its videos)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from airflow_provider_kling.redaction import redacted


@runtime_checkable
class StoragePath(Protocol):
    """As much of Airflow's ``ObjectStoragePath`` as is known here; its text names the connection too."""

    @property
    def protocol(self) -> str:
        """The kind of storage."""

    @property
    def conn_id(self) -> str | None:
        """The Airflow connection."""


#: What may name a video, and what may name a picture or be it.
PathOrUrl = str | os.PathLike[str] | StoragePath
PictureSource = PathOrUrl | bytes


@dataclass(frozen=True, slots=True)
class VideoJob:
    """One order for one video: a model and its inputs, as they go over the wire.

    :param model: the model's slug, such as ``kling-v3.0-pro-i2v``; it names the path.
    :param inputs: the JSON body: only what the user set and what the model requires.
    :param signed: what each URL that was signed for this request stands for: the same words whenever it is
        signed anew.
    """

    model: str
    inputs: Mapping[str, Any] = field(repr=False)
    signed: Mapping[str, str] = field(default_factory=dict, repr=False)

    def describe(self) -> str:
        """Return the inputs for a log line, without a picture's data or a URL's signature."""
        return ", ".join(f"{name}={redacted(value)!r}" for name, value in self.inputs.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON-ready data to show and keep, likewise without data and signatures."""
        return {"model": self.model, "inputs": redacted(self.inputs)}
