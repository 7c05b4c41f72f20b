"""The state of the emulator: its jobs, faults, requests and clock."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from airflow_provider_kling.emulator.faults import Fault, FaultList
from airflow_provider_kling.emulator.jobs import Job, JobFault, JobStore, Phase, State, fingerprint
from airflow_provider_kling.emulator.kling.slots import Slots
from airflow_provider_kling.emulator.messages import Call
from airflow_provider_kling.emulator.pictures import digest
from airflow_provider_kling.emulator.render_queue import RenderQueue
from airflow_provider_kling.emulator.request_log import Request, RequestLog
from airflow_provider_kling.emulator.settings import Settings
from airflow_provider_kling.emulator.signed_links import Links
from airflow_provider_kling.emulator.views import View


@dataclass(slots=True)
class Exchange:
    """One call that is being answered, with its jobs and its fault."""

    host: str
    call: Call
    jobs: tuple[Job, ...] = ()
    prompt: str = ""
    fault: JobFault | None = None
    affected: Sequence[Job] = ()  # the jobs that it applies to


class GatewayState:
    """The state of one emulator. Tests change and read it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.storage_url = "http://storage.invalid"
        self.job_store = JobStore(settings.keep_jobs)
        self.log = RequestLog(settings.keep_requests, settings.on_request)
        self.faults = FaultList(settings.faults, settings.fail_rate, settings.seed)
        self.links = Links(settings.link_seconds)
        self.render_queue = RenderQueue(render=settings.render)
        self.slots = Slots(settings.slots)
        self.background: set[asyncio.Task[None]] = set()  # they send callbacks
        self.first_id = 10**17 * 8 + secrets.randbelow(10**17)  # of Kling's ids, which are digits
        self.random = Random(settings.seed)  # noqa: S311, nothing secret is drawn
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
        number = self.job_store.next_number if kind == "submit" else 0

        def wanted(fault: Fault) -> bool:
            hit = [job for job in exchange.jobs if fault.matches(kind, job, "", 0, late=late)]
            exchange.affected = [job for job in hit if self.shows(job, fault)]
            if exchange.jobs:
                return bool(exchange.affected)
            return fault.matches(kind, None, exchange.prompt, number, late=late) and fault.applies(0.0, None)

        fault = self.faults.take(wanted) or self.faults.draw(kind, late=late)
        exchange.fault = fault or exchange.fault
        return fault

    def shows(self, job: Job, fault: JobFault) -> bool:
        """Return whether a job shows a fault now."""
        return fault.applies(self.now() - job.created_at, self.state(job).phase)

    def view(self, job: Job) -> View:
        """Return what an answer shows of a job, with its faults."""
        state, reason = self.state(job), ""
        if state.phase == Phase.FAILED:
            reason = self.render_queue.failure(job.task_id)
        view = View(job, *state, reason=reason, has_video=state.phase == Phase.SUCCEED)
        for fault in self.faults.attach(job):
            if self.shows(job, fault):
                fault.change(view)
        return view

    def views(self, exchange: Exchange, jobs: Iterable[Job]) -> tuple[list[View], list[JobFault]]:
        """Return what a query shows of these jobs, and the faults that its answer has."""
        exchange.jobs = tuple(jobs)
        views = [self.view(job) for job in exchange.jobs]
        faults = [f for job in exchange.jobs for f in job.faults if self.shows(job, f)]
        passing = self.take_fault(exchange, "query")
        if passing is not None:
            for view in views:
                if view.job in exchange.affected:
                    passing.change(view)
            faults.append(passing)
        exchange.fault = faults[-1] if faults else None
        return [view for view in views if not view.hidden], faults

    def close(self) -> None:
        """Stop rendering and delete the videos."""
        self.render_queue.close()
