"""The report of a benchmark: a table, the machine, and the data as JSON."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def report(name: str, rows: Sequence[Mapping[str, Any]], notes: Iterable[str] = (), **data: Any) -> None:
    """Print the rows as a table. With ``JSON=file`` in the environment, also write rows and *data* there.

    :param name: the benchmark's name.
    :param rows: the rows, all with the same columns.
    :param notes: lines below the table, such as a target.
    :param data: further data for pictures.
    """
    here = machine()
    print(f"\n{table(rows)}\n", *notes, ", ".join(f"{key} {value}" for key, value in here.items()), sep="\n")
    if file := os.environ.get("JSON"):
        content = {"benchmark": name, "machine": here, "rows": rows, "notes": list(notes), **data}
        Path(file).write_text(f"{json.dumps(content, indent=1)}\n")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as aligned text, with numbers on the right."""
    lines = [[*rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [isinstance(value, int | float) for value in rows[0].values()]

    def line(cells: Sequence[str]) -> str:
        parts = zip(cells, widths, right, strict=True)
        return "  ".join(f"{c:>{w}}" if r else f"{c:<{w}}" for c, w, r in parts).rstrip()

    return "\n".join(map(line, lines))


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return the median and the range of several values."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile of the values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def machine() -> dict[str, Any]:
    """Return the properties of the machine that the figures depend on."""
    cpus = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in cpus.read_text().splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
    }


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
