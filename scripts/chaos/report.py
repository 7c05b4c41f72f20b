"""What `make chaos` prints: a line for each blow, and the table at the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

_EVERY = 15.0
_ROWS = {
    "jobs": "jobs (videos wanted)",
    "submits_at_the_gateway": "submits that reached the gateway",
    "jobs_paid_for": "jobs paid for",
    "paid_for_twice": "jobs paid for twice",
    "videos_whole": "videos whole",
    "videos_lost": "videos lost",
    "tasks_stuck": "tasks stuck",
    "leftovers": "partial files left over",
    "secrets_found": "secrets found",
}


class Report:
    """Tells what happens, and counts the seconds."""

    def __init__(self) -> None:
        self._began = self._marked = time.monotonic()
        self._next = 0.0
        self.spans: dict[str, float] = {}

    def say(self, what: str) -> None:
        """Print one line with the time."""
        print(f"  {time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    def mark(self, name: str) -> None:
        """End a part of the run."""
        now = time.monotonic()
        self.spans[name], self._marked = round(now - self._marked, 1), now

    def progress(self, states: Counter[str]) -> None:
        """Print now and then how far the tasks are."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            self.say("tasks: " + ", ".join(f"{number} {state}" for state, number in sorted(states.items())))

    def tell(self, data: dict[str, Any], file: str) -> None:
        """Print the table and, if wanted, write the data."""
        data["seconds"] = {**self.spans, "all": round(time.monotonic() - self._began, 1)}
        rows = [(words, data[name]) for name, words in _ROWS.items()]
        rows += [(f"decided by a person, {what}", count) for what, count in data["decisions"].items()]
        rows.append(("rows of waits searched for secrets", data["trigger_rows_searched"]))
        rows += [(kind, f"{told['done']} of {told['planned']}") for kind, told in data["broken"].items()]
        rows += [(f"died by itself: {name}", count) for name, count in data["revived"].items()]
        rows += [(f"gateway: {fault}", count) for fault, count in sorted(data["gateway_faults"].items())]
        rows += [(f"seconds: {name}", seconds) for name, seconds in data["seconds"].items()]
        width = max(len(name) for name, _ in rows)
        print(f"\n  seed {data['seed']}, the gateway fails in {data['fail_rate']:.0%} of its answers")
        for name, value in rows:
            print(f"  {name:<{width}}  {value}")
        for error, count in data["decided_errors"].items():
            print(f"  asked a person: {error} ({count})")
        for remark in data["remarks"][:40]:
            print(f"  ! {remark}")
        if file:
            Path(file).write_text(json.dumps(data, indent=2) + "\n")
        print(f"\n  {'It holds.' if data['good'] else 'IT DOES NOT HOLD.'}", flush=True)
