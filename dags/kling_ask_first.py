"""A person sees the pictures and the estimated cost, and approves before anything is bought.

- `offer` estimates what the videos would cost.
- `ask` waits for a person: open the task, then *Required Actions*. Without an answer it fails after two days,
  and nothing is bought.
- `video` makes a video of each picture. **This is the task that costs money.** It never spends more than the
  approved sum. A retry never pays again. **If you clear it after the video is stored, it buys another one.**
- `summary` shows what was made, what failed, and the estimated cost.

The paths in the form must be in folders that the connection allows (*Allowed paths*).
"""

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param, task

from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.models.myrouter import MODELS
from airflow_provider_kling.operators import KlingImageToVideoOperator, KlingSummaryOperator
from airflow_provider_kling.request import VideoRequest

with DAG(
    "kling_ask_first",
    description="A person approves the estimated cost before anything is bought",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it in the Dag's time zone
    catchup=False,
    tags=["kling"],
    params={
        "pictures": Param(
            type="array",
            items={"type": "string", "minLength": 1},
            minItems=1,
            title="Pictures",
            description="One per line: public URLs, or paths on any storage. Local paths must be in a folder "
            "that the connection allows.",
        ),
        "prompt": Param(
            "It turns slowly.",
            type="string",
            minLength=1,
            maxLength=2500,
            format="multiline",
            title="Prompt",
            description="What happens in each video",
        ),
        "duration": Param(5, type="integer", minimum=3, maximum=15, title="Seconds of each video"),
        "sound": Param(default=False, type="boolean", title="Sound", description="Costs 50 % more"),
        "target": Param(
            "/tmp/kling/",  # noqa: S108 - an example
            type="string",
            pattern="/$",
            title="Folder for videos",
            description="Path or URL on any storage, with a slash at the end. With several workers, use a "
            "storage that all of them can access. If you clear the video "
            "task after the video is stored, it buys another one.",
        ),
    },
) as dag:

    @task
    def plan(**context: Any) -> list[dict[str, Any]]:
        """Return the video operator's arguments for each picture."""
        params = context["params"]
        same = {name: params[name] for name in ("prompt", "duration", "sound", "target")}
        same["model"] = model = KlingHook().settings.default_model
        if not same["sound"] and model in MODELS and not MODELS[model].field("sound"):
            del same["sound"]  # a model that never makes sound refuses this input
        return [{"image": picture, **same} for picture in params["pictures"]]

    @task
    def offer(requests: Any) -> dict[str, Any]:
        """Return the estimated cost: a text for the person, and the sum as the cost limit of the run."""
        prices = KlingHook().settings.prices
        lines: list[str] = []
        total = Decimal(0)
        for request in requests:
            usd = VideoRequest(**{k: v for k, v in request.items() if k != "target"}).estimate(prices)
            if usd is None:
                raise AirflowFailException(
                    f"model={request['model']!r}: no price is published, so nothing can be approved. Nothing "
                    "was bought. Enter a price for it in the connection (Prices)."
                )
            total += usd
            image = request["image"]
            name = PurePosixPath(image.split("?")[0]).name
            shown = f"![{name}]({image})" if image.startswith(("http://", "https://")) else name
            lines.append(f"| {shown} | {usd:.3f} USD |")
        head = f"{len(lines)} videos, estimated at **{total:.3f} USD**."
        table = ["| picture | estimated |", "|---|---|", *lines]
        return {"usd": float(total), "body": "\n".join([head, "", *table])}

    requests = plan()
    offered = offer(requests)
    ask = ApprovalOperator(
        task_id="ask",
        subject="Buy these videos?",
        body="{{ ti.xcom_pull('offer', key='body') }}",
        response_timeout=timedelta(days=2),  # without an answer it fails, and nothing is bought
    )
    videos = KlingImageToVideoOperator.partial(
        task_id="video",
        # Never more than what was approved.
        max_run_cost_usd="{{ ti.xcom_pull('offer', key='usd', map_indexes=-1) }}",
        retries=2,
        retry_delay=timedelta(minutes=1),
        doc_md="Costs money. If you clear this task after the video is stored, it buys another video.",
    ).expand_kwargs(requests)
    offered >> ask >> videos >> KlingSummaryOperator(task_id="summary")
