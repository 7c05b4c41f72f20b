"""The catalogue's nouns: what a field is, what a model is, and how sure something may be."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Literal


class Kind(Enum):
    """What a field holds, in the words of an error message."""

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
    """How sure we are of what the catalogue says."""

    DOCUMENTED = "documented"
    DISPUTED = "disputed"  # the documents differ
    SEEN = "seen in clients"
    INFERRED = "inferred"


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a model.

    :param name: the operator's word for it; the same for all models.
    :param kind: what it holds.
    :param wire: this model's own word for it, where that differs.
    :param minimum: smallest number, fewest entries of a list, or fewest seconds of a shot.
    :param maximum: largest number, most characters of a text, most entries of a list, or most seconds of a
        shot.
    :param choices: the values allowed, where they are few.
    :param as_text: the model wants the number as a JSON string.
    :param default: what the service takes where nothing is sent; None: nothing, or it is not documented.
    :param confidence: how sure all this is.
    :param note: what else is known, in a few words; most of it only the service can judge.
    """

    name: str
    kind: Kind
    gateway_name: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str | int, ...] = ()
    as_text: bool = False
    default: str | float | None = None
    confidence: Confidence = Confidence.DOCUMENTED
    note: str = ""

    @property
    def json_key(self) -> str:
        """The JSON key of this field."""
        return self.gateway_name or self.name


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the family.

    :param slug: its name in the gateway's path.
    :param fields: its inputs.
    :param required: names of the fields it cannot do without.
    :param exactly_one: names of fields of which exactly one must be given.
    :param excludes: pairs of fields that must not be given together.
    :param needs: a field, another one, and the value that the other one must have with it.
    :param price: US dollars a second without sound, or None where no price is published.
    :param source: whose pages document it.
    :param picture_form: how a picture's data goes: ``data_uri``, ``base64`` (bare), or ``url`` (not at all).
    :param picture_form_confidence: how sure that is.
    """

    slug: str
    fields: tuple[Field, ...]
    required: tuple[str, ...] = ()
    exactly_one: tuple[str, ...] = ()
    excludes: tuple[tuple[str, str], ...] = ()
    needs: tuple[tuple[str, str, str], ...] = ()
    price: Decimal | None = None
    source: Literal["MyRouter", "sister hosts"] = "MyRouter"
    picture_form: Literal["data_uri", "base64", "url"] = "data_uri"
    picture_form_confidence: Confidence = Confidence.INFERRED

    def field(self, name: str) -> Field | None:
        """Return the field that the operator or the model calls *name*, or None."""
        return next((f for f in self.fields if name in (f.name, f.json_key)), None)
