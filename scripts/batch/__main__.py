"""`make batch`: one mapped run over many pictures, some of them bad, in a real Airflow on PostgreSQL.

Each good picture must become a video, and each bad one an error that names it. Nothing may be paid for bad
ones, and the estimate must be right to the cent. The run's cost limit is exactly the cost of the good ones.

With `GATEWAY=kling SLOTS=20` the gateway is the stand-in of Kling's own API. It runs 20 jobs at a time, and
all other tasks must wait for a slot without failing.
"""

from __future__ import annotations

import os
import random
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
from batch.pictures import PRICES, VideoSpec, make_specs
from batch.slot_use import SlotUse, slot_use

PROJECT = Path(__file__).resolve().parents[2]
DAG_ID = "kling_batch"
SECONDS_PER_JOB, MIN_TIMEOUT = 20.0, 600.0
NUMBERS = {"JOBS": 300, "BAD": 0, "SLOTS": 0}
#: How long a job takes, in seconds. Where there are slots, the times differ as at Kling, by a log-normal
#: distribution with this median and sigma: else all jobs would end together, again and again.
RENDER_SECONDS, MEDIAN, SIGMA = 10.0, 60.0, 0.3
KLING_MODEL, USD_PER_UNIT = "image-to-video/kling-3.0", Decimal("0.14")
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "16",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "32",
}


def run(
    home: Path, specs: list[VideoSpec], name: str, slots: int | None
) -> tuple[dict[str, Any], Emulator, float]:
    """Run the batch on a gateway, and return the summary, the gateway with its log, and the seconds."""
    key = f"sk-batch-{secrets.token_hex(16)}"
    postgres = PrivatePostgres(home / "postgres.log")
    with Emulator(
        render=False,
        queue_seconds=1,
        render_seconds=RENDER_SECONDS,
        api_key=key,
        slots=slots,
        keep_requests=10**6,
    ) as gateway:
        if slots:
            times = random.Random(1)
            for spec in specs:
                seconds = MEDIAN * times.lognormvariate(0, SIGMA)
                gateway.add_fault(f"job:render={seconds:.1f},match={spec.prompt}")
        try:
            postgres.up()
            folder = PROJECT / "scripts" / "batch" / "dags"
            prices = {KLING_MODEL: float(PRICES["kling"])}
            paths = str(home)  # those of the pictures come from a mapping
            connection = gateway.connection_json(gateway=name, prices=prices, allowed_paths=paths)
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
    units = sum(job.units for job in gateway.jobs)  # of Kling alone, which sends a bill
    bill = units * USD_PER_UNIT or sum(price[prompt] * count for prompt, count in prompts.items())
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
        ("submits that reached the gateway", len(good),
         sum(r.method == "POST" and r.status != 429 for r in gateway.requests)),  # 429: no slot
        ("pictures paid for twice", 0, sum(count > 1 for count in prompts.values())),
        ("bad pictures paid for", 0, sum(not spec.good and spec.prompt in prompts for spec in specs)),
        ("the gateway's bill, USD", _cents(sum(spec.usd for spec in good)), _cents(bill)),
        ("the summary's estimate, USD", _cents(sum(spec.usd for spec in good)),
         _cents(Decimal(str(summary["estimated_cost_usd"])))),
        ("the summary's bill, USD", _cents(bill) if units else None,
         summary["cost_usd"] and _cents(Decimal(str(summary["cost_usd"])))),
    ]  # fmt: skip


def used_slots(gateway: Emulator, slots: int) -> SlotUse:
    """Return how well the slots were used."""
    jobs = sorted(gateway.jobs, key=lambda job: job.created_at)
    posts = [request for request in gateway.requests if request.method == "POST"]
    asked = {request.prompt: request.at for request in reversed(posts)}
    spans = [(job.created_at, job.created_at + job.queue_seconds + job.render_seconds) for job in jobs]
    refused = sum(request.status == 429 for request in posts)
    return slot_use(slots, spans, [asked[job.prompt] for job in jobs], refused)


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
    name = os.environ.get("GATEWAY") or "myrouter"
    try:
        jobs, bad, slots = (int(os.environ.get(key) or default) for key, default in NUMBERS.items())
    except ValueError as error:
        print(f"error: {', '.join(NUMBERS)} are whole numbers ({error})", file=sys.stderr)
        return 2
    bad = bad or max(1, jobs // 30)
    if not 2 <= jobs <= 1000 or bad >= jobs:
        print(f"error: JOBS={jobs}: must be 2 to 1000, and more than BAD={bad}", file=sys.stderr)
        return 2
    if name not in PRICES or slots < 0 or (slots and name != "kling"):
        print(f"error: GATEWAY={name} SLOTS={slots}: only GATEWAY=kling has slots", file=sys.stderr)
        return 2
    (PROJECT / ".airflow").mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="batch-", dir=PROJECT / ".airflow"))
    good = False
    exit_on_termination()
    try:
        specs = make_specs(home, jobs, bad, name)
        summary, gateway, seconds = run(home, specs, name, slots or None)
        good = show(judge(specs, summary, gateway))
        if slots:
            use = used_slots(gateway, slots)
            print(f"\nSlots in use while jobs waited for one, {use.seconds:.0f} s: {use.mean:.1%}; ", end="")
            print(f"all of them for {use.full:.1%} of it. A slot was free for {use.free:.1f} s on average.")
            print(f"{use.waited} jobs waited; {use.refused} submits were refused; ", end="")
            print(f"a job was overtaken by {use.overtaken} at most.")
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
