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


DRAWN: dict[str, Callable[[dict[str, Any]], Figure]] = {"waits": waits}


if __name__ == "__main__":
    name, source, target = sys.argv[1:]
    DRAWN[name](json.loads(Path(source).read_text())).savefig(target, format="svg", metadata={"Date": None})
