"""What all benchmarks share: a table to read, the machine's name under it, and the data as JSON."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def report(name: str, rows: Sequence[Mapping[str, Any]], notes: Iterable[str] = (), **data: Any) -> None:
    """Print the rows as a table; with ``JSON=file`` in the environment, write them and *data* there.

    :param name: the benchmark's.
    :param rows: one line each, all with the same columns.
    :param notes: lines to stand under the table, such as a ratio that was to be reached.
    :param data: what a picture is drawn from, beyond the rows.
    """
    where = machine()
    print(f"\n{table(rows)}\n", *notes, ", ".join(f"{key} {value}" for key, value in where.items()), sep="\n")
    if file := os.environ.get("JSON"):
        told = {"benchmark": name, "machine": where, "rows": rows, "notes": list(notes), **data}
        Path(file).write_text(f"{json.dumps(told, indent=1)}\n")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as aligned text, numbers to the right."""
    lines = [[*rows[0]], *([_told(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [isinstance(value, int | float) for value in rows[0].values()]

    def line(cells: Sequence[str]) -> str:
        parts = zip(cells, widths, right, strict=True)
        return "  ".join(f"{c:>{w}}" if r else f"{c:<{w}}" for c, w, r in parts).rstrip()

    return "\n".join(map(line, lines))


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return the median of several runs, and their range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that *percent* of 100 of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpus = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in cpus.read_text().splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
    }


def _told(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
