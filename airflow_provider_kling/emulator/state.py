"""The state of the emulator: its jobs, faults, requests and clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_kling.emulator.faults import Fault, FaultList
from airflow_provider_kling.emulator.jobs import Job, JobFault, JobStore, Phase, State, fingerprint
from airflow_provider_kling.emulator.messages import Call
from airflow_provider_kling.emulator.myrouter.models import MODELS, Model
from airflow_provider_kling.emulator.pictures import digest
from airflow_provider_kling.emulator.render_queue import RenderQueue
from airflow_provider_kling.emulator.request_log import Request, RequestLog
from airflow_provider_kling.emulator.settings import Settings
from airflow_provider_kling.emulator.signed_links import Links


@dataclass(slots=True)
class Exchange:
    """One call that is being answered, with its job and its fault."""

    host: str
    call: Call
    job: Job | None = None
    prompt: str = ""
    fault: JobFault | None = None


class GatewayState:
    """The state of one emulator. Tests change and read it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.storage_url = "http://storage.invalid"
        self.models: dict[str, Model] = MODELS | {slug: Model({}) for slug in settings.models}
        self.job_store = JobStore(settings.keep_jobs)
        self.log = RequestLog(settings.keep_requests, settings.on_request)
        self.faults = FaultList(settings.faults, settings.fail_rate, settings.seed)
        self.links = Links(settings.link_seconds)
        self.render_queue = RenderQueue(render=settings.render)
        self.queue_seconds = settings.queue_seconds
        self.render_seconds = settings.render_seconds
        self.pause: Callable[[float], Awaitable[object]] = asyncio.sleep
        self._advanced_by = 0.0

    def add_fault(self, *faults: str | Fault) -> None:
        """Add faults, such as `add_fault("submit:rate-limit=2,times=3")`."""
        self.faults.add(*faults)

    def clear_faults(self) -> None:
        """Remove all faults, except those that are attached to a job."""
        self.faults.clear()
        self.faults.fail_rate = 0.0

    def set_timing(self, *, queue_seconds: float | None = None, render_seconds: float | None = None) -> None:
        """Set how long the next jobs are queued and rendered."""
        self.queue_seconds = self.queue_seconds if queue_seconds is None else queue_seconds
        self.render_seconds = self.render_seconds if render_seconds is None else render_seconds

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._advanced_by += seconds

    @property
    def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        return list(self.job_store)

    @property
    def requests(self) -> list[Request]:
        """The newest requests, oldest first."""
        return list(self.log)

    @property
    def key_reached_storage(self) -> bool:
        """Whether any request to the storage host carried an Authorization header."""
        return self.log.key_reached_storage

    @property
    def double_payments(self) -> dict[str, int]:
        """Fingerprints of requests that created more than one job, with the number of jobs."""
        paid = Counter(job.fingerprint for job in self.job_store)
        return {name: times for name, times in paid.items() if times > 1}

    def times_paid(
        self,
        *,
        model: str | None = None,
        prompt: str | None = None,
        image: str | bytes | None = None,
        body: dict[str, Any] | None = None,
    ) -> int:
        """Count the jobs for a model, prompt, picture or whole body."""
        picture = None if image is None else digest(image)
        return sum(
            (model is None or job.model == model)
            and (prompt is None or job.prompt == prompt)
            and (picture is None or picture in job.pictures)
            and (body is None or job.fingerprint == fingerprint(job.model, body))
            for job in self.job_store
        )

    def state(self, job: Job) -> State:
        """Return the state of a job by its age. It succeeds only after its video is rendered."""
        state = job.state(self.now())
        if state.phase == Phase.SUCCEED and not self.render_queue.is_done(job.task_id):
            return State(Phase.PROCESSING, 99, 1)
        if state.phase == Phase.SUCCEED and self.render_queue.failure(job.task_id):
            return State(Phase.FAILED, 99, 0)
        return state

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return self.settings.clock() + self._advanced_by

    def take_fault(self, exchange: Exchange, kind: str, *, late: bool = False) -> Fault | None:
        """Return the fault for this call, or None."""
        job, prompt = exchange.job, exchange.prompt
        age, phase = (self.now() - job.created_at, self.state(job).phase) if job else (0.0, None)
        number = self.job_store.next_number if kind == "submit" else 0

        def wanted(fault: Fault) -> bool:
            return fault.matches(kind, job, prompt, number, late=late) and fault.applies(age, phase)

        fault = self.faults.take(wanted) or self.faults.draw(kind, late=late)
        exchange.fault = fault or exchange.fault
        return fault

    def close(self) -> None:
        """Stop rendering and delete the videos."""
        self.render_queue.close()
