"""Slots: how many jobs of a model may run at a time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from airflow_provider_kling.emulator.messages import RefusedError

if TYPE_CHECKING:
    from airflow_provider_kling.emulator.jobs import Job
    from airflow_provider_kling.emulator.state import GatewayState


class Slots:
    """Counts the jobs of each model from their submit to their end."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._running: defaultdict[str, list[Job]] = defaultdict(list)

    def check(self, gateway: GatewayState, model: str) -> None:
        """Refuse a job where no slot is free."""
        if self._size is None:
            return
        name = model.rpartition("/")[2]
        self._running[name] = [job for job in self._running[name] if not gateway.view(job).ended]
        if len(self._running[name]) >= self._size:
            raise RefusedError("parallel task over resource pack limit", "1303")

    def take(self, job: Job) -> None:
        """Count a new job."""
        if self._size is not None:
            self._running[job.model.rpartition("/")[2]].append(job)
