"""The person who looks after failed tasks, as the README says: look at the bill, then rescue or clear."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from private_airflow.rest_api import ApiError

from chaos.gateway import REQUEST_TIMEOUT
from chaos.stage import DAG_ID, FINAL, RESCUE_ID, Order, Stage, TaskInstance

#: Who looks at the bill too soon may look before a request that is still out has made its job.
PATIENCE = REQUEST_TIMEOUT + 5.0
RESCUED, SUBMITTED_ANEW = "in the bill: rescued", "not in the bill: submit cleared"
CLEARED = "wait or download cleared"
_CHAIN = ("submit", "wait", "download")


class Person:
    """Decides what no program may decide."""

    def __init__(self, stage: Stage, orders: dict[tuple[str, int], Order]) -> None:
        self._stage, self._orders = stage, orders
        self._decided: set[str] = set()
        self.decisions: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.rescues = 0

    def tick(self) -> list[str]:
        """Decide about whatever failed a while ago; gives what was decided."""
        tasks = self._stage.task_instances(DAG_ID, RESCUE_ID) or []
        late = time.time() - PATIENCE
        failed = [task for task in tasks if task.state == "failed" and task.id not in self._decided]
        told = []
        for task in [task for task in failed if task.end < late]:
            try:
                told.append(self._decide(task))
            except (OSError, ApiError):  # the API server or the database is away: later
                break
            self._decided.add(task.id)
            self.decisions[told[-1]] += 1
        return told

    def satisfied(self, tasks: list[TaskInstance]) -> bool:
        """Whether nothing runs and nothing is left to decide."""
        over = all(task.state in FINAL for task in tasks)
        rescues = sum(task.dag_id == RESCUE_ID and task.name == "download" for task in tasks)
        decided = all(task.id in self._decided for task in tasks if task.state == "failed")
        return over and decided and rescues == self.rescues

    def _decide(self, task: TaskInstance) -> str:
        error = self._error(task)
        order = self._orders.get((task.run_id, task.map_index))
        if task.dag_id == RESCUE_ID or task.name != "submit" or order is None:
            self._clear(task)
            decision = CLEARED
        elif jobs := self._stage.gateway.jobs().get(order.prompt):
            conf = {"kling_task_id": jobs[0], "target": order.target}
            self._stage.api.trigger(RESCUE_ID, conf)
            self.rescues += 1
            decision = RESCUED
        else:
            self._clear(task)
            decision = SUBMITTED_ANEW
        self.errors[f"{task.name}: {error}"] += 1
        return decision

    def _error(self, task: TaskInstance) -> str:
        """Give the class of the error that the task's log ends with."""
        log = self._stage.api.log(*task.place[:3], try_number=task.try_number, map_index=task.map_index)
        details: list[Any] = [line["error_detail"] for line in log if line.get("error_detail")]
        return str(details[-1][0]["exc_type"]) if details else "no error told"

    def _clear(self, task: TaskInstance) -> None:
        """Clear a task and what hangs on it, for this picture only."""
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
