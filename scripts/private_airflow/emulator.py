"""Starts the emulator as a process of its own."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from private_airflow.components import inherited_environment
from private_airflow.services import Service, ServiceError

if TYPE_CHECKING:
    from pathlib import Path


def start_emulator(home: Path, log: Path, *options: str) -> tuple[Service, dict[str, Any]]:
    """Start the emulator, and return its process and its `url`, `storage_url` and `api_key`."""
    ready, deadline = home / "emulator.json", time.monotonic() + 60
    command = [sys.executable, "-m", "airflow_provider_kling.emulator", "--ready-file", str(ready), *options]
    service = Service("emulator", command, env=inherited_environment(), log=log)
    while not ready.exists():
        service.check()
        if time.monotonic() > deadline:
            raise ServiceError(f"the emulator does not listen after 60 s; see {log}")
        time.sleep(0.05)
    return service, json.loads(ready.read_text())
