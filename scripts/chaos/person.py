"""Decides about failed tasks as a person does: look at the bill, then rescue the video or clear the task.

A one task whose log names its job is cleared: it continues with that job.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from typing import Any

from private_airflow.rest_api import ApiError

from airflow_provider_kling.errors import KlingInputError
from chaos.gateway import REQUEST_TIMEOUT
from chaos.stage import DAG_IDS, FINAL, RESCUE_ID, Stage, TaskInstance, VideoSpec

#: Seconds before a decision: until then a request that is in flight may still create its job.
PATIENCE = REQUEST_TIMEOUT + 5.0
RESCUED, SUBMITTED_AGAIN = "in the bill: rescued", "not in the bill: submit cleared"
CLEARED, REFUSED = "its job is known: cleared", "refused by the limit of its run: left so"
_CHAIN = ("submit", "wait", "download")


class Person:
    """Makes the decisions that a program must not make."""

    def __init__(
        self,
        stage: Stage,
        specs: dict[tuple[str, int], VideoSpec],
        limited: Collection[VideoSpec],
    ) -> None:
        """Begin.

        :param limited: the videos of a run whose limit has no room for all of them.
        """
        self._stage, self._specs, self._limited = stage, specs, limited
        self._decided: set[str] = set()
        self.decisions: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.rescues = 0

    def tick(self) -> list[str]:
        """Decide about tasks that failed some time ago, and return the decisions."""
        tasks = self._stage.task_instances(*DAG_IDS, RESCUE_ID) or []
        late = time.time() - PATIENCE
        failed = [task for task in tasks if task.state == "failed" and task.id not in self._decided]
        decisions = []
        for task in [task for task in failed if task.end < late]:
            try:
                decisions.append(self._decide(task))
            except (OSError, ApiError):  # the API server or the database does not run: later
                break
            self._decided.add(task.id)
            self.decisions[decisions[-1]] += 1
        return decisions

    def is_done(self, tasks: list[TaskInstance]) -> bool:
        """Return whether all tasks have ended and no decision is missing."""
        ended = all(task.state in FINAL for task in tasks)
        rescues = sum(task.dag_id == RESCUE_ID and task.name == "download" for task in tasks)
        decided = all(task.id in self._decided for task in tasks if task.state == "failed")
        return ended and decided and rescues == self.rescues

    def _decide(self, task: TaskInstance) -> str:
        log = self._stage.api.log(*task.key[:3], try_number=task.try_number, map_index=task.map_index)
        error = _error(log)
        spec = self._specs.get((task.run_id, task.map_index))
        if spec in self._limited and error == KlingInputError.__name__:
            return REFUSED
        jobs = self._stage.gateway.jobs().get(spec.prompt, []) if spec else []
        continues = task.name == "video" and any(job in str(log) for job in jobs)
        if task.name not in ("submit", "video") or continues:
            self._clear(task)
            decision = CLEARED
        elif jobs:
            conf = {"kling_task_id": jobs[0], "target": spec.target}
            self._stage.api.trigger(RESCUE_ID, conf)
            self.rescues += 1
            decision = RESCUED
        else:
            self._clear(task)
            decision = SUBMITTED_AGAIN
        self.errors[f"{task.name}: {error}"] += 1
        return decision

    def _clear(self, task: TaskInstance) -> None:
        """Clear a task and the tasks after it, for this picture only."""
        group = task.task_id.removesuffix(task.name)
        names = _CHAIN[_CHAIN.index(task.name) :] if task.name in _CHAIN else (task.name,)
        ids: list[Any] = [f"{group}{name}" for name in names]
        if task.map_index >= 0:
            ids = [[task_id, task.map_index] for task_id in ids]
        body = {
            "dry_run": False,
            "dag_run_id": task.run_id,
            "task_ids": ids,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self._stage.api.call("POST", f"/dags/{task.dag_id}/clearTaskInstances", body)


def _error(log: list[dict[str, Any]]) -> str:
    """Return the class of the last error in a task's log."""
    details: list[Any] = [line["error_detail"] for line in log if line.get("error_detail")]
    return str(details[-1][0]["exc_type"]) if details else "no error in the log"
