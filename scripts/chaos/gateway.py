"""The emulator's process and its list of jobs, which is the bill."""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

from private_airflow.emulator import start_emulator
from private_airflow.services import Service, stop

from airflow_provider_kling.transport.settings import GATEWAYS

KEPT_REQUESTS = 1_000_000
REQUEST_TIMEOUT = 10
#: The price of the default model in the connection, in US dollars a second.
SECOND_USD = 0.1


class Gateway:
    """Starts the emulator and calls it over HTTP. It is the only process that is never killed."""

    def __init__(self, home: Path, *, name: str, api_key: str, **options: float) -> None:
        """Describe it.

        :param name: the gateway whose API Airflow uses, ``myrouter`` or ``kling``.
        :param options: of the emulator's command.
        """
        self._home, self.name, self.api_key = home, name, api_key
        self._options = ["--api-key", api_key, "--queue-seconds", "2"]
        for option, value in options.items():
            self._options += [f"--{option.replace('_', '-')}", str(value)]
        self._service: Service | None = None
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self.url = self.storage_url = ""

    def up(self) -> None:
        """Start it and wait until it listens."""
        options = ("--no-render", "--keep-requests", str(KEPT_REQUESTS), *self._options)
        self._service, started = start_emulator(self._home, self._home / "emulator.log", *options)
        self.url, self.storage_url = started["url"], started["storage_url"]

    def check(self) -> None:
        """Raise if the emulator has ended."""
        if self._service:
            self._service.check()

    @property
    def takes_client_ids(self) -> bool:
        """Whether a submit of unknown outcome settles itself, so that no person is asked."""
        return GATEWAYS[self.name].find is not None

    def connection(self, allowed_paths: str) -> dict[str, str]:
        """Return an Airflow connection to it, in the form of Airflow's REST API."""
        return {
            "connection_id": "kling_default",
            "conn_type": "kling",
            "host": self.url,
            "password": self.api_key,
            "extra": json.dumps(
                {
                    "gateway": self.name,
                    "allow_private_hosts": True,
                    "allowed_paths": allowed_paths,
                    "prices": {GATEWAYS[self.name].default_model: SECOND_USD},
                    "request_timeout": REQUEST_TIMEOUT,
                }
            ),
        }

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call a control path."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_emulator/{path}", data, method=method)
        with self._open(request, timeout=30) as answer:
            return json.load(answer)

    def jobs(self) -> dict[str, list[str]]:
        """Return the bill: the task ids of all jobs that were paid for, by prompt."""
        bill: dict[str, list[str]] = defaultdict(list)
        for job in self.call("GET", "jobs?limit=1000000"):
            bill[job["prompt"]].append(job["task_id"])
        return bill

    def requests(self) -> list[dict[str, Any]]:
        """Return all requests."""
        return list(self.call("GET", f"requests?limit={KEPT_REQUESTS}"))

    def submits(self) -> list[dict[str, Any]]:
        """Return the submits that reached the gateway, also those that it refused."""
        return [call for call in self.requests() if call["method"] == "POST" and call["path"] != "/tasks"]

    def stop(self) -> None:
        """Stop the emulator."""
        if self._service:
            stop([self._service], grace=5)
