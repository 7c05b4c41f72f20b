"""What a real Airflow sends: metrics of its tasks and of its triggerer, and spans of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage import MODES, VIDEO

if TYPE_CHECKING:
    from conftest import Played
    from signals import SpanServer, StatsdServer
    from stage import Run

TAGS = {"gateway": "myrouter", "model": "kling-v3.0-pro-i2v"}


def test_each_step_of_the_three_chains_is_counted(
    played: Played, chains: Run, metrics_server: StatsdServer
) -> None:
    metrics_server.catch_up()
    for name in ("jobs.submitted", "jobs.succeeded"):
        assert metrics_server.sum(f"kling.{name}", **TAGS) >= len(MODES)
    assert metrics_server.sum("kling.cost.estimated_usd", **TAGS) >= 0.56 * len(MODES)
    assert metrics_server.sum("kling.download.bytes", **TAGS) >= len(VIDEO) * len(MODES)
    for name in ("kling.wait.duration", "kling.download.delay", "kling.download.duration"):
        assert (
            len([kind for kind, tags, _ in metrics_server.metrics[name] if tags.items() >= TAGS.items()]) >= 3
        )


def test_the_triggerer_reports_its_waits_and_polls(
    played: Played, chains: Run, metrics_server: StatsdServer
) -> None:
    played.stage.until(
        "the triggerer to report waits",
        lambda: any(value > 0 for _, _, value in list(metrics_server.metrics["kling.triggerer.waits"])),
    )
    assert metrics_server.sum("kling.triggerer.polls", gateway="myrouter") > 0
    assert metrics_server.sum("kling.triggerer.queries", gateway="myrouter") > 0
    assert all(set(tags) == {"hostname"} for _, tags, _ in metrics_server.metrics["kling.triggerer.lateness"])


def test_the_three_steps_of_each_chain_are_spans_below_airflows_own(
    chains: Run, span_server: SpanServer
) -> None:
    found = {}
    for name, told, has_parent in span_server.spans:
        if told["airflow.dag_run.run_id"] == chains.run_id and told["airflow.dag_id"] == chains.dag_id:
            found[told["airflow.task_id"]] = (name, told["airflow.task_instance.try_number"], has_parent)
    steps = {step: f"kling.{step}" for step in ("submit", "wait", "download")}
    for mode in MODES:
        for step, name in steps.items():
            assert found[f"{step}_{mode}"] == (name, 1, True)
