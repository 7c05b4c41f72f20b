"""Draws the documents' pictures from the benchmarks' data.

``python benchmarks/draw.py NAME data.json picture.svg``. The same data give the same bytes.
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


#: A triggerer that does at most this percentage of its polls has stopped working.
STOPPED = 5


def waits(data: dict[str, Any]) -> Figure:
    """Draw the CPU time of a poll and the lateness (p99), over the number of waits."""
    names = {f"{name}, 5 s": name for name in ("ours", "a session per poll", "HttpSensorTrigger")}
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for trigger, name in names.items():
        working = [row for row in data["rows"] if row["trigger"] == trigger and row["done_%"] > STOPPED]
        rows = sorted(working, key=lambda row: row["waits"])
        sizes = [row["waits"] for row in rows]
        left.plot(sizes, [row["cpu_ms_per_poll"] for row in rows], marker="o", label=name)
        right.plot(sizes, [row["late_p99_ms"] / 1000 for row in rows], marker="o", label=name)
    left.set(title="CPU for one poll, ms", xscale="log", yscale="log", xlabel="waits")
    right.set(title="lateness, p99, s", xscale="log", yscale="log", xlabel="waits")
    left.legend(frameon=False)
    return figure


def schedule(data: dict[str, Any]) -> Figure:
    """Draw polls per job over the mean delay, for each way to wait."""
    styles = {
        "schedule, no progress": {"color": "#c2410c", "marker": "o"},
        "schedule, progress right to 10 points": {"color": "#15803d", "marker": "o"},
        "fixed interval": {"color": "#1d4ed8", "marker": "s"},
        "backoff": {"color": "#6b7280", "marker": "D", "linestyle": "none"},
        "best possible, no progress": {"color": "#111827", "linestyle": "--"},
    }
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, points in data["curves"].items():
        polls, late = zip(*sorted(points, key=lambda point: point[1]), strict=True)
        axes.plot(late, polls, label=name, markersize=4, linewidth=1.3, **styles[name])
    axes.axvline(2.5, color="#9ca3af", linewidth=0.8)
    axes.annotate("as late as a fixed 5 s", (2.5, 2.2), xytext=(4, 0), textcoords="offset points")
    axes.set(xscale="log", yscale="log", ylim=(2, 150))
    axes.set(xlabel="end noticed after, mean seconds", ylabel="polls a job")
    late_ticks, poll_ticks = (0.5, 1, 2.5, 5, 10, 30), (2, 5, 10, 20, 40, 100)
    axes.set_xticks(late_ticks, [f"{tick:g}" for tick in late_ticks])
    axes.set_yticks(poll_ticks, [f"{tick:g}" for tick in poll_ticks])
    axes.minorticks_off()
    axes.grid(visible=True, color="#e5e7eb", linewidth=0.6)
    axes.legend(frameon=False)
    return figure


def parse(data: dict[str, Any]) -> Figure:
    """Draw the CPU time for parsing each Dag file, each run a dot."""
    figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
    files = {name: runs for name, runs in data["runs"].items() if not name.endswith(" alone")}  # no imports
    for row, (name, runs) in enumerate(files.items()):
        axes.plot([1000 * run["parse"] for run in runs], [row] * len(runs), "o", alpha=0.6, label=name)
    axes.set_yticks(range(len(files)), list(files))
    axes.set(xlabel="CPU of the parsing, ms", xlim=(0, None))
    axes.invert_yaxis()
    return figure


def download(data: dict[str, Any]) -> Figure:
    """Draw megabytes per second over the size, each run a dot."""
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    for who, color in {"ours": "#c2410c", "curl": "#1d4ed8"}.items():
        runs = [run for run in data["runs"] if run["who"] == who]
        speeds = [run["size"] / run["seconds"] for run in runs]
        axes.plot([run["size"] for run in runs], speeds, "o", alpha=0.6, color=color, label=who)
    axes.set(xscale="log", xlabel="size of the video, MB", ylabel="MB a second", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def end_to_end(data: dict[str, Any]) -> Figure:
    """Draw the share of videos that are stored, over the seconds after their jobs' end."""
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    for way, late in data["late"].items():
        share = [100 * (n + 1) / len(late) for n in range(len(late))]
        axes.step(sorted(late), share, where="post", label=way)
    axes.set(xlabel="seconds after the job's end", ylabel="% of the videos in place", xlim=(0, None))
    axes.legend(frameon=False)
    return figure


DRAWN: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "waits": waits,
    "schedule": schedule,
    "parse": parse,
    "download": download,
    "end_to_end": end_to_end,
}


if __name__ == "__main__":
    name, source, target = sys.argv[1:]
    DRAWN[name](json.loads(Path(source).read_text())).savefig(target, format="svg", metadata={"Date": None})
