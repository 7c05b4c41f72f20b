"""The emulator as a process of its own, and its bill."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

from private_airflow.components import inherited_environment
from private_airflow.services import Service, ServiceError, stop

KEPT_REQUESTS = 1_000_000
REQUEST_TIMEOUT = 10


class Gateway:
    """Starts the emulator, asks it over HTTP. It is the one thing that nobody kills."""

    def __init__(
        self, home: Path, *, api_key: str, fail_rate: float, seed: int, render_seconds: float
    ) -> None:
        self._home, self.api_key = home, api_key
        self._options = (
            *("--fail-rate", str(fail_rate), "--seed", str(seed), "--api-key", api_key),
            *("--queue-seconds", "2", "--render-seconds", str(render_seconds)),
        )
        self._service: Service | None = None
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self.url = self.storage_url = ""

    def up(self) -> None:
        """Start it and wait until it listens."""
        ready, began = self._home / "gateway.json", time.monotonic()
        command = [
            *(sys.executable, "-m", "airflow_provider_kling.emulator", "--ready-file", str(ready)),
            *("--no-render", "--keep-requests", str(KEPT_REQUESTS), *self._options),
        ]
        log = self._home / "gateway.log"
        self._service = Service("gateway", command, env=inherited_environment(), log=log)
        while not ready.exists():
            self._service.check()
            if time.monotonic() > began + 60:
                raise ServiceError(f"the emulator does not get ready; see {log}")
            time.sleep(0.05)
        known = json.loads(ready.read_text())
        self.url, self.storage_url = known["url"], known["storage_url"]

    def check(self) -> None:
        """Raise if it has ended."""
        if self._service:
            self._service.check()

    def connection(self) -> dict[str, str]:
        """Give the connection to it, as Airflow's REST API takes it."""
        return {
            "connection_id": "kling_default",
            "conn_type": "kling",
            "host": self.url,
            "password": self.api_key,
            "extra": json.dumps(
                {"allow_private_hosts": True, "allowed_paths": "/", "request_timeout": REQUEST_TIMEOUT}
            ),
        }

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Use a control path."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_emulator/{path}", data, method=method)
        with self._open(request, timeout=30) as answer:
            return json.load(answer)

    def jobs(self) -> dict[str, list[str]]:
        """Give the bill: the task ids of all jobs that were paid for, by prompt."""
        bill: dict[str, list[str]] = defaultdict(list)
        for job in self.call("GET", "jobs?limit=1000000"):
            bill[job["prompt"]].append(job["task_id"])
        return bill

    def requests(self) -> list[dict[str, Any]]:
        """Give every request that came in."""
        return list(self.call("GET", f"requests?limit={KEPT_REQUESTS}"))

    def stop(self) -> None:
        """End it."""
        if self._service:
            stop([self._service], grace=5)
