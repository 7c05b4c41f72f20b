"""What a job costs: an estimate, and how amounts are read and shown."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_kling.models.catalog import MODELS, SOUND_FACTOR
from airflow_provider_kling.models.fields import Field, Kind, Model
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.values import read_number


def read_limit(value: Any) -> Decimal | None:
    """Return a limit in US dollars; None where none is set.

    :param value: a number of at least 0, also as text; None, an empty text or ``"None"`` mean no limit.
    :raises ValueError: for anything else, saying what is allowed.
    """
    if value is None or (isinstance(value, str) and value.strip() in ("", "None")):
        return None
    number = read_number(value)
    if number is None or number < 0:
        raise ValueError("must be a number of US dollars, at least 0")
    return Decimal(str(number))


def lower(*limits: Decimal | None) -> Decimal | None:
    """Return the lowest of the limits that are set."""
    return min((limit for limit in limits if limit is not None), default=None)


def read_prices(value: Any) -> dict[str, Decimal]:
    """Return US dollars a second without sound by model.

    :raises ValueError: saying what is allowed.
    """
    read = {m: read_number(price) for m, price in value.items()} if isinstance(value, Mapping) else {"": None}
    if any(price is None or price < 0 for price in read.values()):
        raise ValueError("is not an object of US dollars a second by model")
    return {model: Decimal(str(price)) for model, price in read.items()}


def dollars(usd: Decimal) -> str:
    """Return an amount as text: two digits after the point, more where it has more, up to four."""
    text = f"{usd:.4f}"
    return f"{text.removesuffix('0').removesuffix('0')} USD"


def estimate(job: VideoJob, prices: Mapping[str, Decimal] | None = None) -> Decimal | None:
    """Return the estimated cost of the job in US dollars, or None where it cannot be known.

    It cannot where no price is published, and where the video's length is not asked for but follows from
    another video. Without a word on duration and sound, the model's documented defaults count.

    :param prices: dollars a second without sound by model, in place of the catalogue's.
    """
    model = MODELS.get(job.model, Model(job.model, ()))
    price = (prices or {}).get(job.model, model.price)
    length, sound = (_said(job, model, name) for name in ("duration", "sound"))
    seconds = read_number(length)
    if price is None or seconds is None:
        return None
    silent = not sound or str(sound).strip().lower() in ("false", "none", "0", "")
    return Decimal(str(seconds)) * price * (1 if silent else SOUND_FACTOR)


def _said(job: VideoJob, model: Model, name: str) -> Any:
    field = model.field(name) or Field(name, Kind.NUMBER)
    return job.inputs.get(field.wire_name, field.default)


def cost_words(cost: Decimal | None) -> str:
    """Say an estimate in a sentence; an unknown price is said, not guessed."""
    return "an unknown price" if cost is None else f"an estimated {cost:.2f} USD"
