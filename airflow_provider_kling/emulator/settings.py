"""Everything that can be set on the emulator, with its defaults."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kling.emulator.faults import Fault
    from airflow_provider_kling.emulator.request_log import Request


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one emulator."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one
    storage_port: int = 0
    api_key: str = "emulator-key"  # not a secret: it opens nothing but the emulator
    queue_seconds: float = 2.0
    render_seconds: float = 10.0
    render: bool = True  # make real videos; False serves one tiny video to all
    link_seconds: float = 3600.0
    faults: tuple[str | Fault, ...] = ()
    fail_rate: float = 0.0  # share of all calls that get a random passing fault
    seed: int | None = None
    models: tuple[str, ...] = ()  # more models to take, whatever their inputs
    keep_jobs: int = 200_000
    keep_requests: int = 10_000
    clock: Callable[[], float] = time.time
    on_request: Callable[[Request], None] | None = None
