"""Writes deferred tasks and their triggers directly into Airflow's database, with Airflow's own models.

``python -m waits.rows '{"kind": "kling", "waits": 1000, "interval": 5, "lag_file": "..."}'`` deletes the
previous waits, writes new ones in one transaction, and prints the time of its commit.
``python -m waits.rows '{"connections": "http://127.0.0.1:8000", "gateway": "kling", "queries_per_second":
5000}'`` writes the connections.
"""

import json
import sys
import time
import uuid
from typing import Any

from airflow.models.connection import Connection
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

KLING = "airflow_provider_kling.triggers.KlingTaskTrigger"
HTTP = "airflow.providers.http.triggers.http.HttpSensorTrigger"
PLAIN = "waits.triggers.SessionPerPollTrigger"
IDLE = "waits.triggers.IdleTrigger"
LAG = "waits.triggers.LagProbe"


def connections(url: str, gateway: str, queries_per_second: float) -> None:
    """Write the two connections into the database, which is the usual place."""
    ours = {"conn_type": "kling", "password": "sk-benchmark"}
    extra = json.dumps({"gateway": gateway, "queries_per_second": queries_per_second})
    with create_session() as session:
        session.execute(delete(Connection))
        session.add(Connection(conn_id="kling_default", host=url, extra=extra, **ours))
        session.add(Connection(conn_id="http_default", conn_type="http", host=url))


def waits(kind: str, number: int, options: dict[str, Any], lag_file: str) -> float:
    """Replace all waits by *number* new ones and a lag probe, and return the time of the commit."""
    with create_session() as session:
        session.execute(delete(TaskInstance))
        session.execute(delete(Trigger))
        session.execute(delete(DagRun))
        run = _run(session)
        now, probe = time.time(), Trigger(LAG, {"file": lag_file})  # created first, so it starts first
        triggers = [_trigger(kind, f"job-{index:05}", now, options) for index in range(number)]
        session.add_all([probe, *triggers])
        session.flush()
        session.execute(insert(TaskInstance), _deferred(session, run, [*triggers, probe]))
        session.commit()
        return time.time()


def _trigger(kind: str, name: str, now: float, options: dict[str, Any]) -> Trigger:
    times = {"started_at": now, "deadline": now + 3600}
    interval = options.get("interval")
    if kind == "http":
        return Trigger(HTTP, {"endpoint": f"sensor?id={name}", "method": "GET", "poke_interval": interval})
    if kind == "idle":
        return Trigger(IDLE, {"url": options["url"], "kling_task_id": name})
    if kind == "plain":
        return Trigger(PLAIN, {"kling_task_id": name, "interval": interval})
    return Trigger(KLING, {"kling_task_id": name, **times, **options})


def _run(session: Session) -> DagRun:
    run = DagRun(
        dag_id="waits",
        run_id=uuid.uuid4().hex,
        run_type=DagRunType.MANUAL,
        state=DagRunState.RUNNING,
        triggered_by=DagRunTriggeredByType.TEST,
    )
    version = DagVersion.get_latest_version("waits", session=session)
    assert version, "the Dag is not serialised"
    run.created_dag_version_id = version.id
    session.add(run)
    session.flush()
    return run


def _deferred(session: Session, run: DagRun, triggers: list[Trigger]) -> list[dict[str, Any]]:
    dag = SerializedDagModel.get_dag(run.dag_id, session=session)
    assert dag
    task = dag.get_task("wait")
    version = run.created_dag_version_id
    one = TaskInstance.insert_mapping(run.run_id, task, 0, dag_version_id=version, dag_run=run)
    state = {"state": TaskInstanceState.DEFERRED, "next_method": "resume", "next_kwargs": {}}
    return [
        {**one, **state, "map_index": index, "trigger_id": trigger.id, "try_number": 1}
        for index, trigger in enumerate(triggers)
    ]


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    if "connections" in spec:
        connections(spec["connections"], spec["gateway"], spec["queries_per_second"])
    else:
        print(json.dumps(waits(spec["kind"], spec["waits"], spec["options"], spec["lag_file"])))
