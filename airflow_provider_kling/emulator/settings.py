"""The settings of the emulator and their defaults."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_kling.emulator.faults import Fault
from airflow_provider_kling.emulator.request_log import Request


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one emulator."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port
    storage_port: int = 0
    api_key: str = "emulator-key"  # not a secret: only the emulator accepts it
    queue_seconds: float = 2.0
    render_seconds: float = 10.0
    render: bool = True  # render real videos; False serves one tiny video to all jobs
    link_seconds: float = 3600.0
    faults: tuple[str | Fault, ...] = ()
    fail_rate: float = 0.0  # share of all calls that get a random temporary fault
    seed: int | None = None
    models: tuple[str, ...] = ()  # further models to accept, with any inputs
    slots: int | None = None  # Kling: the jobs of one model that run at a time; None: any number
    strict: bool = False  # Kling: refuse settings that a model does not have; else they are noted
    cash: bool = False  # Kling: bill in USD; else in units
    webhook_secret: str = ""  # Kling: sign callbacks with this secret, `whsec_...`
    repeat_callbacks: bool = True  # Kling: repeat a callback once that was answered with 5xx, or not at all
    keep_jobs: int = 200_000
    keep_requests: int = 10_000
    clock: Callable[[], float] = time.time
    on_request: Callable[[Request], None] | None = None
