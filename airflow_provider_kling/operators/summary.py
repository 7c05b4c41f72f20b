"""KlingSummaryOperator reports what a run has made, what failed and why, and the estimated cost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_kling.hooks import suppress_and_log
from airflow_provider_kling.links import KlingRunGalleryLink
from airflow_provider_kling.operators.base import log_wrapped
from airflow_provider_kling.xcom_keys import (
    BILL_KEY,
    ERROR_KEY,
    REQUEST_KEY,
    RESERVATION_KEY,
    SUMMARY_KEY,
    VIDEO_KEY,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink
    from airflow.sdk import Context


class KlingSummaryOperator(BaseOperator):
    """Reports, at the end of a run, what became of each request of the Kling tasks upstream.

    Returns a dict: ``made``, ``reused``, ``failed``, ``skipped`` and ``unfinished`` are lists of requests
    (``name``, ``path``, ``kling_task_id``, ``estimated_cost_usd``; ``error``, ``why`` and ``money`` where
    one failed; ``cost_usd`` and ``billed``, for people, where the gateway has sent a bill).
    ``estimated_cost_usd`` is their sum, with what retries and clears bought, and ``cost_usd`` that of the
    bills.
    ``unknown_price`` is the number of requests that the sum cannot include, and
    ``maybe_charged_without_a_video`` has the names of those to look for in the bill. The log has a
    sentence for each, and the XCom ``kling_summary`` the same as a table in Markdown. The button *Kling
    gallery* opens the gallery of the run.

    Runs when all tasks upstream are done, however they ended (``trigger_rule="all_done"``). As the last
    task it decides the state of the run, so it fails if a request has failed.

    :param fail_on_error: fail, for good, if a request has failed; its result is pushed all the same. With
        False it warns in its log, and the run is green.
    """

    ui_color = "#e6e6e6"
    operator_extra_links: Sequence[BaseOperatorLink] = (KlingRunGalleryLink(),)

    def __init__(self, *, fail_on_error: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault("trigger_rule", "all_done")
        super().__init__(**kwargs)
        self.fail_on_error = fail_on_error

    def execute(self, context: Context) -> dict[str, Any]:
        """Collect, log and return the report."""
        from airflow_provider_kling.operators.run_report import RunReport
        from airflow_provider_kling.operators.xcom import is_ours, is_submit

        ti = context["ti"]
        tasks = [task for task in self.get_flat_relatives(upstream=True) if is_ours(task)]
        task_ids = sorted(task.task_id for task in tasks)
        submits = sorted(task.task_id for task in tasks if is_submit(task))
        report = RunReport(self._states(ti, submits))
        report.add(
            requests=_pulled(ti, submits, REQUEST_KEY),
            reservations=_pulled(ti, submits, RESERVATION_KEY),
            errors=_pulled(ti, task_ids, ERROR_KEY),
            videos=_pulled(ti, task_ids, VIDEO_KEY),
            bills=_pulled(ti, task_ids, BILL_KEY),
        )
        lines, summary = report.lines(), report.to_dict()
        log_wrapped(self.log, logging.WARNING if summary["failed"] else logging.INFO, lines[0])
        for outcome, sentence in report.sentences():
            log_wrapped(self.log, logging.ERROR if outcome == "failed" else logging.INFO, sentence)
        ti.xcom_push(key=SUMMARY_KEY, value="\n".join(lines))
        if self.fail_on_error and summary["failed"]:
            ti.xcom_push(key="return_value", value=summary)
            raise AirflowFailException(f"{lines[0]} See the log of this task, or its XCom {SUMMARY_KEY!r}.")
        return summary

    def _states(self, ti: Any, task_ids: list[str]) -> dict[tuple[str, int], str]:
        """Return the state of each task instance, also of those that pushed nothing."""
        states: dict[tuple[str, int], str] = {}
        with suppress_and_log(self.log, "The states of the tasks could not be read"):
            for task_id in task_ids:
                found = ti.get_task_states(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
                for name, state in found.get(ti.run_id, {}).items():
                    index = name.removeprefix(task_id).removeprefix("_")
                    states[task_id, int(index or -1)] = str(state)
        return states


def _pulled(ti: Any, task_ids: list[str], key: str) -> list[Any]:
    """Return what all instances of the tasks have pushed."""
    return list(ti.xcom_pull(task_ids=task_ids, key=key) or []) if task_ids else []
