"""The first page of the gallery with ``VIDEOS=1000`` videos in Airflow's database, on SQLite and PostgreSQL.

Runs of ``PER_RUN=10`` mapped videos, three tasks each, with pictures of 18 kB. The other side asks Airflow's
own REST API for the same cards of one page, one XCom after the other, as a page without its own server would.
"""

import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import report, spread

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="kling-bench-")

from gallery_stage import GalleryStage, counted_statements, served, small_jpeg  # it needs the folder
from private_airflow.postgres import PrivatePostgres, obtainable

VIDEOS, ROUNDS, PAGE = int(os.environ.get("VIDEOS", "1000")), 10, 60
TARGET = 1.0
PER_RUN = int(os.environ.get("PER_RUN", "10"))
XCOMS = {
    "submit": ("kling_request", "kling_preview"),
    "wait": ("kling_progress",),
    "download": ("kling_video", "kling_preview"),
}


def fill(stage: GalleryStage) -> None:
    """Add the videos; the last run still waits."""
    noise = random.Random(7)
    with stage.one_transaction():
        for n in range(VIDEOS):
            where = {
                "dag_id": f"dag_{n // PER_RUN % 10}",
                "run_id": f"run_{n // PER_RUN}",
                "map_index": n % PER_RUN,
            }
            job, is_done = f"job-{n}", n < VIDEOS - PER_RUN
            inputs = {"prompt": "A long prompt. " * 20, "duration": 5, "sound": True, "aspect_ratio": "16:9"}
            picture = small_jpeg(data=noise.randbytes(6_700))
            request = {
                "kling_task_id": job,
                "model": "kling-v3.0-pro-i2v",
                "inputs": inputs,
                "name": f"{n}.png",
            }
            video = {"kling_task_id": job, "path": f"/videos/{n}.mp4", "size": 10_000_000, "sha256": "0" * 64}
            progress = {
                "kling_task_id": job,
                "status": "TASK_STATUS_PROCESSING",
                "progress_percent": 40,
                "seen_at": 1e9,
            }
            stage.add(
                "submit", **where, operator="KlingSubmitOperator", after=n,
                kling_request={**request, "estimated_cost_usd": 0.56, "pictures": {}},
                kling_preview={"kling_task_id": job, "source": picture, "poster": None},
            )  # fmt: skip
            stage.add(
                "wait", **where, operator="KlingTaskSensor", after=n, kling_progress=progress,
                state="success" if is_done else "deferred",
            )  # fmt: skip
            done: dict[str, Any] = {
                "kling_preview": {"kling_task_id": job, "source": None, "poster": picture},
                "kling_video": video,
            }
            stage.add(
                "download", **where, operator="KlingDownloadOperator", after=n,
                state="success" if is_done else None, **(done if is_done else {}),
            )  # fmt: skip


def measure(stage: GalleryStage, **parameters: Any) -> dict[str, Any]:
    """Return what one answer of the gallery costs."""
    times, headers = [], stage.login("ada")
    for n in range(ROUNDS + 1):
        with counted_statements() as statements:
            began = time.perf_counter()
            answer = stage.get("/kling/api/videos", user=None, headers=headers, params=parameters)
            if n:  # the first one also imports the app
                times.append(time.perf_counter() - began)
        assert answer.status_code == 200, answer.text
    data = answer.json()
    return {
        "cards": len(data["cards"]),
        "requests": 1,
        "seconds": spread(times, ".3f"),
        "statements": len(statements),
        "kB": len(answer.content) // 1000,
        "median": statistics.median(times),
        "keys": [card["key"] for card in data["cards"]],
    }


def one_by_one(stage: GalleryStage, keys: list[str]) -> dict[str, Any]:
    """Return what the same cards cost by Airflow's REST API."""
    size, count, headers, began = 0, 0, stage.login("ada"), time.perf_counter()
    with counted_statements() as statements:
        for key in keys:
            dag_id, run_id, _, map_index = key.split("/")
            for task_id, names in XCOMS.items():
                path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
                paths = [f"{path}/xcomEntries/{name}?map_index={map_index}" for name in names]
                for url in (f"{path}/{map_index}", *paths):
                    size += len(stage.get(url, user=None, headers=headers).content)
                    count += 1
    seconds = time.perf_counter() - began
    counts = {"cards": len(keys), "requests": count, "seconds": f"{seconds:.3f}"}
    return {**counts, "statements": len(statements), "kB": size // 1000}


def main() -> None:
    """Measure both sides on each database."""
    rows, medians = [], []
    with tempfile.TemporaryDirectory() as folder:
        postgres = PrivatePostgres(Path(folder) / "log") if obtainable() else None
        if postgres:
            postgres.up()
        for name, url in (("SQLite", None), *([("PostgreSQL", postgres.url)] if postgres else [])):
            with served(url) as stage:
                fill(stage)
                first = measure(stage, limit=PAGE)
                keys = first.pop("keys")
                polled = measure(stage, task=keys[:10], previews=0)
                for what, row in (("first page", first), ("poll of ten running", polled)):
                    medians.append(row.pop("median"))
                    row.pop("keys", None)
                    rows.append({"database": name, "what": what, **row})
                rows.append({"database": name, "what": "Airflow's REST API", **one_by_one(stage, keys)})
        if postgres:
            postgres.stop()
    met = "met" if max(medians) < TARGET else "missed"
    report("gallery", rows, [f"{VIDEOS} videos; target: the first page within {TARGET:g} s: {met}"])


if __name__ == "__main__":
    main()
