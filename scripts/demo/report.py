"""The output of the demo: one line for each change, then the times."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from private_airflow.rest_api import AirflowApi

WORDS = {"succeed": "done", "succeeded": "done", "deferred": "waiting in the triggerer, without a worker"}


class Report:
    """Prints lines with the time since `make demo`, which is in DEMO_BEGAN."""

    def __init__(self) -> None:
        now = time.time()
        self.began = min(now, float(os.environ.get("DEMO_BEGAN") or now))
        self.spans: dict[str, float] = {"environment": now - self.began}
        self._printed: set[tuple[str, str]] = set()

    def log(self, source: str, what: str) -> None:
        """Print one line, unless it was printed before."""
        if (source, what) not in self._printed:
            self._printed.add((source, what))
            print(f"{time.time() - self.began:7.1f} s  {source:<9} {what}", flush=True)

    def print_times(self) -> None:
        """Print the time of each part; the rest is Airflow's scheduling."""
        total = time.time() - self.began
        self.spans["scheduling"] = max(0.0, total - sum(self.spans.values()))
        print("\n  Times")
        for name, seconds in (*self.spans.items(), ("total", total)):
            print(f"{seconds:7.1f} s  {name}")
        print(flush=True)


class RunStatus:
    """One run of the demo's Dag, read with the REST API."""

    def __init__(self, api: AirflowApi, dag_id: str, run_id: str, price: str) -> None:
        self.api, self.dag_id, self.run_id, self.price = api, dag_id, run_id, price
        self.tasks: dict[str, dict[str, Any]] = {}

    def read(self) -> Iterator[tuple[str, str]]:
        """Read the states of the tasks once, and yield lines about them."""
        self.tasks = {task["task_id"]: task for task in self.api.task_instances(self.dag_id, self.run_id)}
        if self._state("submit") == "success":
            yield "submit", f"task {self._xcom('submit')}, {self.price}"
        if self._state("submit") == "deferred":  # the gateway is busy
            yield "submit", self._last_message("submit")
        if self._state("wait") == "deferred":
            yield "wait", WORDS["deferred"]
        if self._state("wait") and (progress := self._xcom("wait", "kling_progress")):
            yield "wait", _describe(progress)
        if self._state("download") == "success":
            size = self._xcom("download", "size") or 0
            yield "download", f"{size / 1e6:.1f} MB"
            if cost := (self._xcom("download", "kling_video") or {}).get("cost_usd"):
                yield "bill", f"{cost:.2f} USD, as the gateway says"

    def has_ended(self) -> bool:
        """Return whether the run has ended."""
        return self.api.run_state(self.dag_id, self.run_id) in ("success", "failed")

    def failed_task(self) -> dict[str, Any] | None:
        """Return the task that failed first, or None."""
        failed = [task for task in self.tasks.values() if task["state"] == "failed"]
        return min(failed, key=lambda task: task["end_date"] or "", default=None)

    def path(self) -> str:
        """Return the path of the video."""
        return str(self._xcom("download"))

    def spans(self) -> dict[str, float]:
        """Return the seconds of the submit, the job at the gateway, and the download."""
        timings = (self._xcom("wait") or {}).get("timings") or {}
        job = (timings.get("complete_time_ms", 0) - timings.get("submit_time_ms", 0)) / 1000
        return {
            "submit, with the first worker's start": self._seconds("submit"),
            "the job at the gateway": job if job > 0 else self._seconds("wait"),
            "download": self._seconds("download"),
        }

    def _seconds(self, task_id: str) -> float:
        task = self.tasks[task_id]
        began, ended = (datetime.fromisoformat(task[key]) for key in ("start_date", "end_date"))
        return (ended - began).total_seconds()

    def _last_message(self, task_id: str) -> str:
        """Return the last line of the provider in a task's log."""
        log = self.api.log(self.dag_id, self.run_id, task_id, self.tasks[task_id]["try_number"])
        messages = (
            line["event"] for line in reversed(log) if "airflow_provider_kling" in line.get("logger", "")
        )
        return str(next(messages, "waits"))

    def _state(self, task_id: str) -> str | None:
        return self.tasks.get(task_id, {}).get("state")

    def _xcom(self, task_id: str, key: str = "return_value") -> Any:
        return self.api.xcom(self.dag_id, self.run_id, task_id, key)


def _describe(progress: dict[str, Any]) -> str:
    word = str(progress.get("status", "")).removeprefix("TASK_STATUS_").lower()
    percent = progress.get("progress_percent")
    return WORDS.get(word) or (f"{word}, {percent:g} %" if percent else word)
