"""The options of the demo (`make demo IMAGE=... PROMPT=...`), checked before anything starts."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.media.pictures import check_picture
from airflow_provider_kling.models.catalog import DEFAULT_MODEL
from airflow_provider_kling.models.prices import estimate
from airflow_provider_kling.models.validation import build_job
from airflow_provider_kling.transport.settings import GATEWAYS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

DEFAULT_PROMPT = "The sun sinks into the sea, the waves glitter, the camera slowly moves closer."
TRUE, FALSE = ("1", "true", "yes", "y", "on"), ("0", "false", "no", "n", "off")


class BadOptionError(ValueError):
    """A variable has a value that cannot work."""


@dataclass(frozen=True)
class Options:
    """The options; `image` is a path, a URL, or empty for the sample picture."""

    image: str
    prompt: str
    duration: int
    model: str
    sound: bool | None
    target: str
    keep: bool
    gateway: str
    live_host: str
    live_key: str
    cost: Decimal | None

    @property
    def live(self) -> bool:
        """Whether the real gateway is used, which costs money."""
        return bool(self.live_key)

    @property
    def price(self) -> str:
        """The estimated cost in words."""
        return "no published price" if self.cost is None else f"estimated cost {self.cost:.2f} USD"

    def conf(self, image: str) -> dict[str, Any]:
        """Return the parameters of the Dag run."""
        names = ("prompt", "duration", "model", "sound", "target")
        return {"image": image} | {name: getattr(self, name) for name in names}

    @classmethod
    def read(cls, variables: Mapping[str, str], project: Path) -> Self:
        """Read and check the environment variables. An empty one counts as not set."""
        given = {name: value.strip() for name, value in variables.items() if value.strip()}
        image, prompt = _image(given.get("IMAGE", "")), given.get("PROMPT", DEFAULT_PROMPT)
        duration, model = _seconds(given.get("DURATION", "5")), given.get("MODEL", DEFAULT_MODEL)
        sound = _flag("SOUND", given["SOUND"]) if "SOUND" in given else None
        inputs = {"image": image or "sample.jpg", "prompt": prompt, "duration": duration, "sound": sound}
        try:
            job, _ = build_job(model, inputs)
        except KlingInputError as error:
            raise BadOptionError(error.what) from error
        gateway = given.get("GATEWAY", "myrouter")
        if gateway not in GATEWAYS:
            raise BadOptionError(f"GATEWAY={gateway!r}: must be one of {', '.join(GATEWAYS)}")
        live = _flag("LIVE", given.get("LIVE", "0"))
        if live and not given.get("KLING_API_KEY"):
            raise BadOptionError("LIVE=1 needs the gateway's key in the environment variable KLING_API_KEY")
        return cls(
            image=image,
            prompt=prompt,
            duration=duration,
            model=model,
            sound=sound,
            target=_target(given.get("OUT", ""), project),
            keep=_flag("KEEP", given.get("KEEP", "0")),
            gateway=gateway,
            live_host=given.get("KLING_HOST", next(iter(GATEWAYS[gateway].hosts.values()))),
            live_key=given["KLING_API_KEY"] if live else "",
            cost=estimate(job),
        )


def confirm_spending(options: Options, variables: Mapping[str, str]) -> None:
    """Ask before money is spent, and raise unless the answer is yes."""
    print(f"  This buys {options.duration} s of {options.model} from {options.live_host}: {options.price}.")
    print("  This is an ESTIMATE from a public price list. The gateway may charge another price.")
    if _flag("YES", variables.get("YES", "").strip() or "0"):
        return
    if not sys.stdin.isatty():
        raise BadOptionError("there is no terminal to confirm the costs; YES=1 confirms them")
    if input("  Buy it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise BadOptionError("not confirmed, nothing was started")


def _flag(name: str, text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise BadOptionError(f"{name}={text!r}: must be 1 or 0")
    return text.lower() in TRUE


def _seconds(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadOptionError(f"DURATION={text!r}: must be a whole number of seconds") from None


def _target(text: str, project: Path) -> str:
    """Return the target: a file if OUT ends in .mp4, else a folder."""
    target = Path(text).expanduser().absolute() if text else project / ".airflow" / "videos"
    to_file = target.suffix.lower() == ".mp4"
    try:
        (target.parent if to_file else target).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOptionError(f"OUT={text!r}: {error.strerror}") from error
    return str(target) if to_file else f"{target}/"


def _image(text: str) -> str:
    if not text or text.startswith(("https://", "http://")):
        return text
    file = Path(text).expanduser().absolute()
    if not file.is_file():
        raise BadOptionError(f"IMAGE={text!r}: there is no such file")
    try:
        check_picture(file.read_bytes(), "IMAGE", text)
    except OSError as error:
        raise BadOptionError(f"IMAGE={text!r}: {error.strerror}") from error
    except KlingInputError as error:
        raise BadOptionError(error.what) from error
    return str(file)
