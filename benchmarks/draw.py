"""Pictures for the documents, from the data that the benchmarks keep.

``python benchmarks/draw.py NAME data.json picture.svg``; the same data give the same bytes.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "kling", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)


def waits(data: dict[str, Any]) -> Figure:
    """Draw what a poll costs, and how late the latest are, over the number of waits."""
    names = {f"{name}, 5 s": name for name in ("ours", "a session per poll", "HttpSensorTrigger")}
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for told, name in names.items():
        rows = sorted((row for row in data["rows"] if row["trigger"] == told), key=lambda row: row["waits"])
        sizes = [row["waits"] for row in rows]
        left.plot(sizes, [row["cpu_ms_per_poll"] for row in rows], marker="o", label=name)
        right.plot(sizes, [row["late_p99_ms"] / 1000 for row in rows], marker="o", label=name)
    left.set(title="CPU for one poll, ms", xscale="log", yscale="log", xlabel="waits")
    right.set(title="lateness, p99, s", xscale="log", yscale="log", xlabel="waits")
    left.legend(frameon=False)
    return figure


def schedule(data: dict[str, Any]) -> Figure:
    """Draw looks a job over the mean delay, for each way to wait."""
    styles = {
        "schedule, no progress": {"color": "#c2410c", "marker": "o"},
        "schedule, progress right to 10 points": {"color": "#15803d", "marker": "o"},
        "fixed interval": {"color": "#1d4ed8", "marker": "s"},
        "backoff": {"color": "#6b7280", "marker": "D", "linestyle": "none"},
        "best possible, no progress": {"color": "#111827", "linestyle": "--"},
    }
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, points in data["curves"].items():
        looks, late = zip(*sorted(points, key=lambda point: point[1]), strict=True)
        axes.plot(late, looks, label=name, markersize=4, linewidth=1.3, **styles[name])
    axes.axvline(2.5, color="#9ca3af", linewidth=0.8)
    axes.annotate("as late as a fixed 5 s", (2.5, 2.2), xytext=(4, 0), textcoords="offset points")
    axes.set(xscale="log", yscale="log", ylim=(2, 150))
    axes.set(xlabel="end noticed after, mean seconds", ylabel="looks a job")
    late_ticks, look_ticks = (0.5, 1, 2.5, 5, 10, 30), (2, 5, 10, 20, 40, 100)
    axes.set_xticks(late_ticks, [f"{tick:g}" for tick in late_ticks])
    axes.set_yticks(look_ticks, [f"{tick:g}" for tick in look_ticks])
    axes.minorticks_off()
    axes.grid(visible=True, color="#e5e7eb", linewidth=0.6)
    axes.legend(frameon=False)
    return figure


DRAWN: dict[str, Callable[[dict[str, Any]], Figure]] = {"waits": waits, "schedule": schedule}


if __name__ == "__main__":
    name, source, target = sys.argv[1:]
    DRAWN[name](json.loads(Path(source).read_text())).savefig(target, format="svg", metadata={"Date": None})
