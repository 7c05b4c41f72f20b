"""What an answer shows of a job. Faults change it, and each dialect writes it in its own words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_kling.emulator.jobs import CANCELED, Job, Phase

NUMBER_FORMS: dict[str, Callable[[Any], Any] | None] = {
    "float": float,
    "text": str,
    "blank": lambda _: "",
    "missing": None,
}


@dataclass(slots=True)
class View:
    """What an answer shows of a job."""

    job: Job
    status: str  # a `Phase`, or any word that a fault says
    progress: int
    eta: int
    reason: str = ""
    has_video: bool = False
    ttl: str = ""  # the lifetime of the link, if a fault says one
    number_form: str = ""
    hidden: bool = False

    @property
    def ended(self) -> bool:
        """Whether the job is shown as ended."""
        return self.status in (Phase.SUCCEED, Phase.FAILED, CANCELED)

    def numbers(self, **numbers: Any) -> dict[str, Any]:
        """Return the numbers in the form that a fault asks for."""
        if not self.number_form:
            return numbers
        form = NUMBER_FORMS[self.number_form]
        return {} if form is None else {name: form(number) for name, number in numbers.items()}
