"""What would it cost? A person sees the pictures and the estimate, and approves before anything is bought."""

from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param, task

from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.operators import KlingImageToVideoOperator, KlingSummaryOperator
from airflow_provider_kling.request import VideoRequest

with DAG(
    "kling_ask_first",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it in the Dag's time zone
    catchup=False,
    tags=["kling"],
    params={
        "pictures": Param(
            type="array",
            items={"type": "string"},
            minItems=1,
            title="Pictures",
            description="URLs, or paths of any storage; local ones in folders that the connection allows",
        ),
        "prompt": Param("It turns slowly.", type="string", minLength=1, title="Prompt"),
        "duration": Param(5, type="integer", minimum=3, maximum=15, title="Seconds of each video"),
        "sound": Param(default=False, type="boolean", title="Sound", description="Costs 50 % more"),
        "target": Param(
            "/tmp/kling/",  # noqa: S108 - an example; with several workers, use a storage that all reach
            type="string",
            pattern="/$",
            title="Folder for videos",
            description="Path or URL of any storage, with a slash at its end",
        ),
    },
) as dag:

    @task
    def plan(params: dict[str, Any]) -> list[dict[str, Any]]:
        """Give one order for each picture."""
        same = {name: params[name] for name in ("prompt", "duration", "sound", "target")}
        same["model"] = KlingHook().settings.default_model
        return [{"image": picture, **same} for picture in params["pictures"]]

    @task
    def offer(orders: list[dict[str, Any]]) -> dict[str, Any]:
        """Say what it would cost: a text for the person, and the sum as the run's limit."""
        prices = KlingHook().settings.prices
        lines, total, known = [], 0, True
        for order in orders:
            request = {name: value for name, value in order.items() if name != "target"}
            usd = VideoRequest(**request).estimate(prices)
            total, known = total + (usd or 0), known and usd is not None
            image = order["image"]
            name = PurePosixPath(image.split("?")[0]).name
            public = image.startswith(("http://", "https://"))
            shown = f"![{name}]({image})" if public else name
            lines.append(f"| {shown} | {f'{usd:.3f} USD' if usd is not None else 'not published'} |")
        head = f"{len(orders)} videos, estimated at **{total:.3f} USD**."
        head += "" if known else " Some prices are not published, so no limit holds."
        table = ["| picture | estimated |", "|---|---|", *lines]
        return {"usd": float(total) if known else None, "body": "\n".join([head, "", *table])}

    orders = plan()
    offered = offer(orders)
    ask = ApprovalOperator(
        task_id="ask",
        subject="Buy these videos?",
        body="{{ ti.xcom_pull('offer', key='body') }}",
        response_timeout=timedelta(days=2),  # nobody answers: it fails, and nothing is bought
    )
    videos = KlingImageToVideoOperator.partial(
        task_id="video",
        # Never more than what was approved, where all prices are known.
        max_run_cost_usd="{{ ti.xcom_pull('offer', key='usd', map_indexes=-1) }}",
        retries=2,
        retry_delay=timedelta(minutes=1),
    ).expand_kwargs(orders)
    offered >> ask >> videos >> KlingSummaryOperator(task_id="summary")
