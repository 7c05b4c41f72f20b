"""The estimated cost of a job, and amounts of money as numbers and texts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_kling.models.catalog import MODELS
from airflow_provider_kling.models.fields import Field, Kind, Model
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.models.kling import UNIT_PRICE
from airflow_provider_kling.models.myrouter import DEFAULT_SHOT_SECONDS, SOUND_FACTOR
from airflow_provider_kling.values import is_unset, read_number


def read_limit(value: Any) -> Decimal | None:
    """Return a limit in US dollars. None means no limit.

    An empty text and a template's ``"None"`` are refused: a limit that renders to nothing must not mean "no
    limit".

    :raises ValueError: it is not a number of at least 0; the message says what is allowed.
    """
    if value is None:
        return None
    number = read_number(str(value) if isinstance(value, Decimal) else value)
    if number is None or number < 0:
        empty = "; it is empty" if is_unset(value) else ""
        raise ValueError(f"must be a number of US dollars, at least 0{empty}")
    return Decimal(str(number))


def lowest(*limits: Decimal | None) -> Decimal | None:
    """Return the lowest of the limits that are set."""
    return min((limit for limit in limits if limit is not None), default=None)


def read_prices(value: Any) -> dict[str, Decimal]:
    """Return US dollars per second without sound, by model.

    :raises ValueError: a price is not a number of at least 0; the message says what is allowed.
    """
    read = {m: read_number(price) for m, price in value.items()} if isinstance(value, Mapping) else {"": None}
    if any(price is None or price < 0 for price in read.values()):
        raise ValueError("is not an object of US dollars a second by model")
    return {model: Decimal(str(price)) for model, price in read.items()}


def format_usd(usd: Decimal) -> str:
    """Return an amount as text, with two to four decimal places."""
    text = f"{usd + 0:.4f}"  # plus 0: not "-0.00"
    return f"{text.removesuffix('0').removesuffix('0')} USD"


def usd_as_text(usd: Decimal | None) -> str | None:
    """Return an amount for JSON, without rounding; None stays None."""
    return None if usd is None else str(usd)


def estimate(
    job: VideoJob, prices: Mapping[str, Decimal] | None = None, unit_price: Decimal = UNIT_PRICE
) -> Decimal | None:
    """Return the estimated cost of the job in US dollars, or None if it is unknown.

    It is unknown if no price is published, or if the length of the video is not known before: an edited video
    is as long as its source. If duration and sound are not set, the model's documented defaults count.

    :param prices: US dollars per second without sound, by model; they replace the catalogue's.
    :param unit_price: US dollars for a unit of a pack, where the catalogue has units.
    """
    model = MODELS.get(job.model, Model(job.model, ()))
    own = (prices or {}).get(job.model, (prices or {}).get(job.model.rpartition("/")[2]))
    seconds = _seconds(job, model)
    if model.units and own is None:
        units = _units(job, model)
        return None if units is None or seconds is None else seconds * units * unit_price
    price = model.price if own is None else own
    if price is None or seconds is None:
        return None
    return seconds * price * (SOUND_FACTOR if _has_sound(job, model) else 1)


def _has_sound(job: VideoJob, model: Model) -> bool:
    sound = input_or_default(job, model, "sound")
    return bool(sound) and str(sound).strip().lower() not in ("false", "none", "0", "")


def _units(job: VideoJob, model: Model) -> Decimal | None:
    """Return the units a second, or None where the list has none for such a job."""
    inputs = job.inputs
    wanted = ["video"] if inputs.get("video") else []
    wanted += (["voice"] if inputs.get("voice_list") else ["sound"]) if _has_sound(job, model) else []
    variant = next((name for name in wanted if name in model.units), "silent")
    return model.units[variant].get(str(input_or_default(job, model, "resolution")))


def _seconds(job: VideoJob, model: Model) -> Decimal | None:
    """Return the longer of the duration and the sum of the shots, or None if one is not a positive number.

    A model of the catalogue without a duration does not say how a duration in ``extra_body`` changes it.
    """
    if job.model in MODELS and not model.field("duration"):
        return None
    if job.inputs.get("refer_type") == "base":  # as long as its source
        return None
    lengths = [_positive(input_or_default(job, model, "duration"))]
    shots = job.inputs.get("multi_prompt") or []
    if not isinstance(shots, (list, tuple)):
        return None
    timed = [
        _positive(
            shot.get("duration", DEFAULT_SHOT_SECONDS) if isinstance(shot, Mapping) else DEFAULT_SHOT_SECONDS
        )
        for shot in shots
    ]
    if timed:
        lengths.append(None if None in timed else sum((each for each in timed if each), Decimal(0)))
    return None if None in lengths else max(length for length in lengths if length)


def _positive(value: Any) -> Decimal | None:
    number = read_number(value)
    return Decimal(str(number)) if number is not None and number > 0 else None


def input_or_default(job: VideoJob, model: Model, name: str) -> Any:
    """Return an input of the job, or the model's documented default if it is not set."""
    field = model.field(name) or Field(name, Kind.NUMBER)
    return job.inputs.get(field.json_key, field.default)


def describe_cost(cost: Decimal | None) -> str:
    """Return an estimate as part of a sentence."""
    return "an unknown price" if cost is None else f"an estimated {cost:.2f} USD"
