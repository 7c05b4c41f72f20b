"""`make batch`: one mapped run over many pictures, bad ones among them, in a real Airflow on PostgreSQL.

Each good picture must become a video and each bad one a clear error, nothing may be paid for the bad
ones, and the estimate must be right to the cent. The run's limit is just what the good ones cost.
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
from batch.pictures import Order, orders

PROJECT = Path(__file__).resolve().parents[2]
DAG_ID = "kling_batch"
SECONDS_PER_JOB, LEAST_SECONDS = 20.0, 300.0
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "32",
}


def play(home: Path, wanted: list[Order]) -> tuple[dict[str, Any], Emulator, float]:
    """Run the batch; give the summary, the gateway with its log, and the seconds that it took."""
    key = f"sk-batch-{secrets.token_hex(16)}"
    postgres = PrivatePostgres(home / "postgres.log")
    with Emulator(
        render=False, queue_seconds=1, render_seconds=10, api_key=key, keep_requests=10**6
    ) as gateway:
        try:
            postgres.up()
            folder = PROJECT / "scripts" / "batch" / "dags"
            connection = gateway.connection_json(allowed_paths=str(home))  # for what a mapping names
            env = {**SETTINGS, "AIRFLOW_CONN_KLING_DEFAULT": connection}
            with PrivateAirflow(home / "airflow", folder, env=env, database=postgres.url) as airflow:
                budget = sum(order.usd for order in wanted if order.good)
                conf = {"orders": [order.arguments() for order in wanted], "budget": float(budget)}
                began = time.monotonic()
                run_id = airflow.trigger(DAG_ID, conf)
                limit = max(LEAST_SECONDS, SECONDS_PER_JOB * len(wanted))
                airflow.wait_until(
                    "the run to be summed up",
                    lambda: airflow.api.xcom(DAG_ID, run_id, "summary"),
                    timeout=limit,
                    pause=2,
                )
                seconds = time.monotonic() - began
                told = airflow.api.xcom(DAG_ID, run_id, "summary")
                print(airflow.api.xcom(DAG_ID, run_id, "summary", "kling_summary").splitlines()[0])
        finally:
            postgres.stop()
    return dict(told), gateway, seconds


def judge(wanted: list[Order], told: dict[str, Any], gateway: Emulator) -> list[tuple[str, Any, Any]]:
    """Give what was wanted and what came, line by line."""
    good = [order for order in wanted if order.good]
    bad = {Path(order.image).name for order in wanted if not order.good}
    price = {order.prompt: order.usd for order in wanted}
    prompts = Counter(job.prompt for job in gateway.jobs)
    clear = {
        order["name"]
        for order in told["failed"]
        if order["error"] == "KlingInputError" and order["why"].startswith("image=")
    }
    whole = [o for o in told["made"] if Path(o["path"]).is_file() and Path(f"{o['path']}.json").is_file()]
    return [
        ("pictures", len(wanted), sum(len(told[kind]) for kind in ("made", "failed"))),
        ("videos in their places", len(good), len(whole)),
        ("clear errors, by name", sorted(bad), sorted(clear)),
        ("submits that reached the gateway", len(good), sum(r.method == "POST" for r in gateway.requests)),
        ("pictures paid for twice", 0, sum(count > 1 for count in prompts.values())),
        ("bad pictures paid for", 0, sum(not o.good and o.prompt in prompts for o in wanted)),
        ("the gateway's bill, USD", _cents(sum(order.usd for order in good)),
         _cents(sum(price[prompt] * count for prompt, count in prompts.items()))),
        ("the summary's estimate, USD", _cents(sum(order.usd for order in good)),
         _cents(Decimal(str(told["estimated_cost_usd"])))),
    ]  # fmt: skip


def _cents(usd: Decimal | int) -> str:
    return f"{usd:.3f}"


def show(lines: list[tuple[str, Any, Any]]) -> bool:
    """Print the table; give whether all is as it was wanted."""
    good = True
    print(f"\n{'':34}{'wanted':>10}{'came':>10}")
    for name, wanted, came in lines:
        counts = [len(value) if isinstance(value, list) else value for value in (wanted, came)]
        print(f"{name:34}{counts[0]:>10}{counts[1]:>10}{'' if wanted == came else '   WRONG'}")
        good = good and wanted == came
    return good


def main() -> int:
    """Run it; the exit code says whether it holds."""
    try:
        jobs, bad = int(os.environ.get("JOBS") or 300), int(os.environ.get("BAD") or 0)
    except ValueError as error:
        print(f"error: JOBS and BAD are whole numbers ({error})", file=sys.stderr)
        return 2
    bad = bad or max(1, jobs // 30)
    if not 2 <= jobs <= 1000 or bad >= jobs:
        print(f"error: JOBS={jobs}: 2 to 1000, and more than the BAD={bad} ones", file=sys.stderr)
        return 2
    (PROJECT / ".airflow").mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="batch-", dir=PROJECT / ".airflow"))
    good = False
    exit_on_termination()
    try:
        wanted = orders(home, jobs, bad)
        told, gateway, seconds = play(home, wanted)
        good = show(judge(wanted, told, gateway))
        print(f"\n{seconds:.0f} s, {seconds / jobs:.2f} s a picture")
    except (ServiceError, ApiError, OSError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
    if good:
        shutil.rmtree(home, ignore_errors=True)
    else:
        print(f"The logs are in {home}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
