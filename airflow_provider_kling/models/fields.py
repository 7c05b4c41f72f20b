"""The types of the catalogue: a model, its fields, and how well each fact is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from decimal import Decimal
from enum import Enum
from typing import Any, Literal


class Kind(Enum):
    """The type of a field's value; its text is what an error message says."""

    TEXT = "a text"
    INTEGER = "a whole number"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    PICTURE = "a picture (URL, data URI, base64 or a path)"
    PICTURES = "a list of pictures (URLs or base64)"
    URL = "a URL (http or https)"
    LIST = "a list"
    SHOTS = "a list of shots (all texts, or all objects with a prompt and a duration)"


class Confidence(Enum):
    """How well a fact of the catalogue is known."""

    DOCUMENTED = "documented"
    DISPUTED = "disputed"  # the documents differ
    SEEN = "seen in clients"
    INFERRED = "inferred"


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a model.

    :param name: the operator's argument; the same for all models.
    :param kind: the type of its value.
    :param gateway_name: the gateway's name for it with this model, if it differs.
    :param minimum: of a number its value, of a list its entries, of a shot its seconds.
    :param maximum: likewise; of a text its characters.
    :param advised: characters beyond which a text is warned of.
    :param choices: the allowed values, if they are few.
    :param as_text: the number is sent as a JSON string.
    :param default: the service's documented value if nothing is sent, or None.
    :param confidence: how well these facts are known.
    :param note: further facts, for people; nothing is validated by them.
    """

    name: str
    kind: Kind
    gateway_name: str = ""
    minimum: float | None = None
    maximum: float | None = None
    advised: int | None = None
    choices: tuple[str | int, ...] = ()
    as_text: bool = False
    default: str | float | None = None
    confidence: Confidence = Confidence.DOCUMENTED
    note: str = ""

    @property
    def json_key(self) -> str:
        """The key of this field in the request's JSON body."""
        return self.gateway_name or self.name


@dataclass(frozen=True, slots=True)
class Model:
    """One model of Kling.

    :param slug: its name in the gateway's URL path; on Kling's own API the whole path.
    :param fields: its inputs.
    :param required: names of the required fields.
    :param exactly_one: names of fields of which exactly one must be given.
    :param excludes: pairs of fields that must not be given together.
    :param needs: (field, other, value): a request with *field* must set *other* to *value*.
    :param check: yields what else is wrong with the inputs, by the operator's names.
    :param lacks: inputs of other gateways that it does not have, and what to do instead.
    :param price: US dollars per second without sound, or None if no price is published.
    :param units: units of a pack per second, in place of a price: by ``silent``, ``sound``, ``video`` (with a
        source video) or ``voice``, and by resolution.
    :param source: the pages that document it.
    :param picture_form: how a picture's data is sent: ``data_uri``, bare ``base64``, or ``url`` (a URL only).
    :param picture_form_confidence: how well that is known.
    :param max_picture_bytes: bytes that a picture may have.
    :param max_video_bytes: bytes that a source video may have.
    """

    slug: str
    fields: tuple[Field, ...]
    required: tuple[str, ...] = ()
    exactly_one: tuple[str, ...] = ()
    excludes: tuple[tuple[str, str], ...] = ()
    needs: tuple[tuple[str, str, str], ...] = ()
    check: Callable[[Mapping[str, Any]], Iterable[str]] | None = None
    lacks: Mapping[str, str] = dataclass_field(default_factory=dict)
    price: Decimal | None = None
    units: Mapping[str, Mapping[str, Decimal]] = dataclass_field(default_factory=dict)
    source: Literal["MyRouter", "sister hosts", "Kling"] = "MyRouter"
    picture_form: Literal["data_uri", "base64", "url"] = "data_uri"
    picture_form_confidence: Confidence = Confidence.INFERRED
    max_picture_bytes: int = 10 * 1024**2
    max_video_bytes: int = 10 * 1024**2

    @property
    def gateway(self) -> str:
        """The gateway that has it."""
        return "Kling" if self.source == "Kling" else "MyRouter"

    def field(self, name: str) -> Field | None:
        """Return the field that the operator or the model calls *name*, or None."""
        return next((f for f in self.fields if name in (f.name, f.json_key)), None)
