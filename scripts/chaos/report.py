"""The output of `make chaos`: a line for each fault, and a table at the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

_PROGRESS_INTERVAL = 15.0  # seconds
_ROWS = {
    "jobs": "jobs (videos wanted)",
    "submits_at_the_gateway": "submits that reached the gateway",
    "submits_without_a_slot": "submits refused, no slot was free",
    "jobs_paid_for": "jobs paid for",
    "paid_for_twice": "jobs paid for twice",
    "videos_whole": "videos whole",
    "videos_lost": "videos lost",
    "bought_in_the_limited_run": "jobs bought in the run with a limit",
    "bought_over_the_limit": "jobs bought over the limit of their run",
    "tasks_stuck": "tasks stuck",
    "leftovers": "partial files left over",
    "unfinished_uploads": "multipart uploads that S3 keeps",
    "secrets_found": "secrets found",
    "decided_by_a_person": "decided by a person",
}


class Report:
    """Prints what happens, and measures the time."""

    def __init__(self) -> None:
        self._began = self._marked = time.monotonic()
        self._next = 0.0
        self.spans: dict[str, float] = {}

    def log(self, what: str) -> None:
        """Print one line with the time."""
        print(f"  {time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    def mark(self, name: str) -> None:
        """Record the time since the last mark under a name."""
        now = time.monotonic()
        self.spans[name], self._marked = round(now - self._marked, 1), now

    def progress(self, states: Counter[str]) -> None:
        """Print the number of tasks in each state, but not too often."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_INTERVAL
            self.log("tasks: " + ", ".join(f"{number} {state}" for state, number in sorted(states.items())))

    def print_table(self, data: dict[str, Any], file: str) -> None:
        """Print the table. Write the data to *file*, if there is one."""
        data["seconds"] = {**self.spans, "all": round(time.monotonic() - self._began, 1)}
        rows = [(words, data[name]) for name, words in _ROWS.items()]
        rows += [(f"- {what}", count) for what, count in data["decisions"].items()]
        rows.append(("stored triggers searched for secrets", data["triggers_searched"]))
        rows += [(kind, f"{n['done']} of {n['planned']}") for kind, n in data["faults"].items()]
        rows += [(f"died by itself: {name}", count) for name, count in data["restarted"].items()]
        rows += [(f"gateway: {fault}", count) for fault, count in sorted(data["gateway_faults"].items())]
        rows += data["fleet"].items()
        rows += [(f"seconds: {name}", seconds) for name, seconds in data["seconds"].items()]
        width = max(len(name) for name, _ in rows)
        print(f"\n  seed {data['seed']}, {data['gateway']} fails in {data['fail_rate']:.0%} of its answers")
        for name, value in rows:
            print(f"  {name:<{width}}  {value}")
        for error, count in data["decided_errors"].items():
            print(f"  asked a person: {error} ({count})")
        for remark in data["remarks"][:40]:
            print(f"  ! {remark}")
        if file:
            Path(file).write_text(json.dumps(data, indent=2) + "\n")
        print(f"\n  {'PASSED' if data['good'] else 'FAILED'}", flush=True)
