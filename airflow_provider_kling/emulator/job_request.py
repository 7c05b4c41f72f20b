"""What a submit asks for, whatever dialect it is written in."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_kling.emulator.messages import Json
from airflow_provider_kling.emulator.render_request import RenderRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a checked body asks for."""

    dialect: str
    model: str
    body: Json  # what is paid for, without the client's id: equal bodies are equal purchases
    pictures: tuple[str, ...]  # the first frame first
    render: RenderRequest
    unknown_fields: tuple[str, ...] = ()
    client_id: str = ""
    callback_url: str = ""
    units: Decimal = Decimal(0)  # what the job costs
