"""`make batch`: one mapped run over many pictures, some of them bad, in a real Airflow on PostgreSQL.

Each good picture must become a video, and each bad one an error that names it. Nothing may be paid for bad
ones, and the estimate must be right to the cent. The run's cost limit is exactly the cost of the good ones.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from private_airflow.components import PrivateAirflow
from private_airflow.postgres import PrivatePostgres
from private_airflow.rest_api import ApiError
from private_airflow.services import ServiceError, exit_on_termination

from airflow_provider_kling.emulator import Emulator
from batch.pictures import VideoSpec, make_specs

PROJECT = Path(__file__).resolve().parents[2]
DAG_ID = "kling_batch"
SECONDS_PER_JOB, MIN_TIMEOUT = 20.0, 300.0
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "32",
}


def run(home: Path, specs: list[VideoSpec]) -> tuple[dict[str, Any], Emulator, float]:
    """Run the batch, and return the summary, the gateway with its log, and the seconds."""
    key = f"sk-batch-{secrets.token_hex(16)}"
    postgres = PrivatePostgres(home / "postgres.log")
    with Emulator(
        render=False, queue_seconds=1, render_seconds=10, api_key=key, keep_requests=10**6
    ) as gateway:
        try:
            postgres.up()
            folder = PROJECT / "scripts" / "batch" / "dags"
            connection = gateway.connection_json(allowed_paths=str(home))  # for paths from the mapping
            env = {**SETTINGS, "AIRFLOW_CONN_KLING_DEFAULT": connection}
            with PrivateAirflow(home / "airflow", folder, env=env, database=postgres.url) as airflow:
                budget = sum(spec.usd for spec in specs if spec.good)
                conf = {"specs": [spec.arguments() for spec in specs], "budget": float(budget)}
                began = time.monotonic()
                run_id = airflow.trigger(DAG_ID, conf)
                limit = max(MIN_TIMEOUT, SECONDS_PER_JOB * len(specs))
                airflow.wait_until(
                    "the summary of the run",
                    lambda: airflow.api.xcom(DAG_ID, run_id, "summary"),
                    timeout=limit,
                    pause=2,
                )
                seconds = time.monotonic() - began
                summary = airflow.api.xcom(DAG_ID, run_id, "summary")
                print(airflow.api.xcom(DAG_ID, run_id, "summary", "kling_summary").splitlines()[0])
        finally:
            postgres.stop()
    return dict(summary), gateway, seconds


def judge(specs: list[VideoSpec], summary: dict[str, Any], gateway: Emulator) -> list[tuple[str, Any, Any]]:
    """Return the lines of the table: name, expected and measured value."""
    good = [spec for spec in specs if spec.good]
    bad = {Path(spec.image).name for spec in specs if not spec.good}
    price = {spec.prompt: spec.usd for spec in specs}
    prompts = Counter(job.prompt for job in gateway.jobs)
    errors = {
        item["name"]
        for item in summary["failed"]
        if item["error"] in ("KlingInputError", "KlingUnavailableError") and item["why"].startswith("image=")
    }
    paths = [item["path"] for item in summary["made"]]
    stored = [path for path in paths if Path(path).is_file() and Path(f"{path}.json").is_file()]
    return [
        ("pictures", len(specs), sum(len(summary[kind]) for kind in ("made", "failed"))),
        ("videos stored", len(good), len(stored)),
        ("errors, by picture", sorted(bad), sorted(errors)),
        ("submits that reached the gateway", len(good), sum(r.method == "POST" for r in gateway.requests)),
        ("pictures paid for twice", 0, sum(count > 1 for count in prompts.values())),
        ("bad pictures paid for", 0, sum(not spec.good and spec.prompt in prompts for spec in specs)),
        ("the gateway's bill, USD", _cents(sum(spec.usd for spec in good)),
         _cents(sum(price[prompt] * count for prompt, count in prompts.items()))),
        ("the summary's estimate, USD", _cents(sum(spec.usd for spec in good)),
         _cents(Decimal(str(summary["estimated_cost_usd"])))),
    ]  # fmt: skip


def _cents(usd: Decimal | int) -> str:
    return f"{usd:.3f}"


def show(lines: list[tuple[str, Any, Any]]) -> bool:
    """Print the table, and return whether all values are as expected."""
    good = True
    print(f"\n{'':34}{'expected':>10}{'measured':>10}")
    for name, expected, measured in lines:
        counts = [len(value) if isinstance(value, list) else value for value in (expected, measured)]
        print(f"{name:34}{counts[0]:>10}{counts[1]:>10}{'' if expected == measured else '   WRONG'}")
        good = good and expected == measured
    return good


def main() -> int:
    """Run the batch; the exit code says whether all values are as expected."""
    try:
        jobs, bad = int(os.environ.get("JOBS") or 300), int(os.environ.get("BAD") or 0)
    except ValueError as error:
        print(f"error: JOBS and BAD are whole numbers ({error})", file=sys.stderr)
        return 2
    bad = bad or max(1, jobs // 30)
    if not 2 <= jobs <= 1000 or bad >= jobs:
        print(f"error: JOBS={jobs}: must be 2 to 1000, and more than BAD={bad}", file=sys.stderr)
        return 2
    (PROJECT / ".airflow").mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="batch-", dir=PROJECT / ".airflow"))
    good = False
    exit_on_termination()
    try:
        specs = make_specs(home, jobs, bad)
        summary, gateway, seconds = run(home, specs)
        good = show(judge(specs, summary, gateway))
        print(f"\n{seconds:.0f} s, {seconds / jobs:.2f} s per picture")
    except (ServiceError, ApiError, OSError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
    if good:
        shutil.rmtree(home, ignore_errors=True)
    else:
        print(f"The logs are in {home}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
