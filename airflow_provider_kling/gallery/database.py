"""Reads the runs with our tasks from Airflow's database, many at once.

The number of statements does not depend on the number of videos. Each one works on SQLite, PostgreSQL and
MySQL. The values of XComs are read as text, and not at all where they are very large: any task can push one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import Text, and_, case, cast, false, func, or_, select, tuple_, union, union_all

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

from airflow_provider_kling.gallery.cards import ACTIVE, BUYS, OPERATORS, Instance, Run
from airflow_provider_kling.gallery.values import parsed
from airflow_provider_kling.xcom_keys import (
    BILL_KEY,
    ERROR_KEY,
    PROGRESS_KEY,
    REQUEST_KEY,
    RESERVATION_KEY,
    TASK_ID_KEY,
    VIDEO_KEY,
)

#: A task instance with one of these gets a card, or is part of one.
_CARD_KEYS = (REQUEST_KEY, VIDEO_KEY, ERROR_KEY)
_KEYS = (*_CARD_KEYS, PROGRESS_KEY, RESERVATION_KEY, TASK_ID_KEY, BILL_KEY)
#: XComs and runs that one answer is made of, the latest ones. More would take seconds.
_MAX_XCOMS, _MAX_RUNS = 15_000, 3_000
#: Characters of an XCom that is read, of all that are read at once, and of a run's conf. JSON may write a
#: Chinese character with six.
_MAX_VALUE, _MAX_TOTAL, _MAX_CONF = 50_000, 50_000_000, 20_000
#: XComs that the database sends at once.
_AT_ONCE = 500

#: A task instance: Dag, run, task, map index.
Key = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read.

    :param runs: the latest runs.
    :param horizon: when something last happened in the runs that were left out, in epoch seconds: there may
        be more cards that began before. None if all were read.
    """

    runs: list[Run]
    horizon: float | None = None


def dags_with_videos(session: Session) -> set[str]:
    """Return the ids of all Dags with videos, made, failed or begun."""
    pushed = select(XComModel.dag_id).where(XComModel.key.in_(_CARD_KEYS))
    active = select(TaskInstance.dag_id).where(_is_active())
    return set(session.scalars(union(pushed, active)))


def read_runs(
    session: Session,
    dag_ids: Collection[str],
    *,
    run_id: str | None = None,
    runs: Collection[tuple[str, str]] | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Reading:
    """Return the latest runs with our tasks.

    :param dag_ids: Dags that the user may read.
    :param run_id: this run only.
    :param runs: these runs only, as pairs of Dag and run.
    :param since: runs with something later, in epoch seconds.
    :param until: runs with something earlier, in epoch seconds.
    """

    def wanted(table: Any) -> Any:
        conditions = [table.dag_id.in_(dag_ids)]
        if run_id is not None:
            conditions.append(table.run_id == run_id)
        if runs is not None:
            conditions.append(tuple_(table.dag_id, table.run_id).in_(runs) if runs else false())
        return and_(*conditions)

    pushed = select(XComModel.dag_run_id.label("id"), XComModel.timestamp.label("at")).where(
        XComModel.key.in_(_CARD_KEYS), wanted(XComModel)
    )
    begun = TaskInstance.operator.in_(OPERATORS) if run_id or runs is not None else _is_active()
    at = func.coalesce(TaskInstance.start_date, TaskInstance.queued_dttm, DagRun.run_after)
    in_run = and_(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)
    active = select(DagRun.id, at).join(TaskInstance, in_run).where(begun, wanted(TaskInstance))
    both = union_all(pushed, active).subquery()
    first, last = func.min(both.c.at), func.max(both.c.at)
    found = select(both.c.id, func.count().label("rows"), last.label("last")).group_by(both.c.id)
    if since is not None:
        found = found.having(last >= datetime.fromtimestamp(since, UTC))
    if until is not None:
        found = found.having(first <= datetime.fromtimestamp(until, UTC))
    found_runs = found.order_by(last.desc()).limit(_MAX_RUNS + 1).subquery()
    columns = (DagRun.id, DagRun.dag_id, DagRun.run_id, _short(DagRun.conf, _MAX_CONF))
    joined = select(found_runs.c.rows, found_runs.c.last, *columns).join(DagRun, DagRun.id == found_runs.c.id)
    kept: dict[int, Any] = {}
    total = 0
    for rows, last_at, *run in session.execute(joined.order_by(found_runs.c.last.desc())):
        if (kept and total + rows > _MAX_XCOMS) or len(kept) == _MAX_RUNS:
            return Reading(_with_instances(session, kept), last_at.timestamp())
        kept[run[0]], total = run, total + rows
    return Reading(_with_instances(session, kept))


def _is_active() -> Any:
    """Return the condition for task instances that buy, and have pushed nothing yet or never will."""
    return and_(TaskInstance.operator.in_(BUYS), TaskInstance.state.in_((*ACTIVE, "failed")))


def _with_instances(session: Session, runs: dict[int, Any]) -> list[Run]:
    if not runs:
        return []
    x, ti = XComModel, TaskInstance
    xcoms = session.execute(
        select(x.dag_id, x.run_id, x.task_id, x.map_index, x.key, x.timestamp, _short(x.value))
        .where(x.dag_run_id.in_(runs), x.key.in_(_KEYS))
        .limit(4 * _MAX_XCOMS)
        .execution_options(yield_per=_AT_ONCE)
    )
    pushed: dict[Key, list[Any]] = defaultdict(list)
    left = _MAX_TOTAL
    for *instance, key, pushed_at, value in xcoms:
        left -= len(value or "")
        pushed[tuple(instance)].append((key, value if left >= 0 else None, pushed_at))
    names = {task_id for _, _, task_id, _ in pushed}
    columns = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.state, ti.operator, ti.try_number)
    instances = session.execute(
        select(*columns, func.coalesce(ti.start_date, ti.queued_dttm))
        .join(DagRun, and_(ti.dag_id == DagRun.dag_id, ti.run_id == DagRun.run_id))
        .where(DagRun.id.in_(runs), or_(ti.operator.in_(OPERATORS), ti.task_id.in_(names)))
        .limit(4 * _MAX_XCOMS)
    )
    by_run: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    for dag_id, run_id, task_id, map_index, state, operator, try_number, started_at in instances:
        found = pushed.get((dag_id, run_id, task_id, map_index), ())
        by_run[dag_id, run_id].append(
            Instance(
                task_id,
                map_index,
                state or "",
                operator or "",
                try_number or 0,
                _epoch(started_at),
                {key: parsed(value) for key, value, _ in found},
                {key: pushed_at.timestamp() for key, _, pushed_at in found},
            )
        )
    return [
        Run(dag_id, run_id, by_run[dag_id, run_id], parsed(conf)) for _, dag_id, run_id, conf in runs.values()
    ]


def read_xcoms(session: Session, keys: Collection[Key], key: str) -> dict[Key, Any]:
    """Return one XCom of many task instances."""
    if not keys:
        return {}
    x = XComModel
    rows = session.execute(
        select(x.dag_id, x.run_id, x.task_id, x.map_index, _short(x.value)).where(
            x.key == key,
            tuple_(x.dag_id, x.run_id, x.task_id, x.map_index).in_(keys),
        )
    )
    return {
        (dag_id, run_id, task_id, map_index): parsed(value)
        for dag_id, run_id, task_id, map_index, value in rows
    }


def instances_with_video(session: Session, dag_ids: Collection[str]) -> set[Key]:
    """Return the task instances that have stored a video, the latest ones."""
    x = XComModel
    rows = session.execute(
        select(x.dag_id, x.run_id, x.task_id, x.map_index)
        .where(x.key == VIDEO_KEY, x.dag_id.in_(dag_ids))
        .order_by(x.timestamp.desc())
        .limit(10 * _MAX_XCOMS)
    )
    return {(dag_id, run_id, task_id, map_index) for dag_id, run_id, task_id, map_index in rows}


def read_key(key: str) -> Key:
    """Return the task instance that the key of a card names; one that cannot be for any other text."""
    dag_id, _, rest = key.partition("/")
    run_id, task_id, map_index = ["", "", "", *rest.rsplit("/", 2)][-3:]
    is_number = map_index.removeprefix("-").isdecimal() and len(map_index) < 10
    return dag_id, run_id, task_id, int(map_index) if is_number else -2


def _short(column: Any, limit: int = _MAX_VALUE) -> Any:
    """Return a JSON column as text; null where it is very long."""
    value = cast(column, Text)
    return case((func.length(value) <= limit, value), else_=None)


def _epoch(at: datetime | None) -> float | None:
    return at.timestamp() if at else None
