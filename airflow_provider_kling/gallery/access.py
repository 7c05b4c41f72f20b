"""What a user may see and do, as Airflow's auth manager says it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.configuration import conf
from airflow.models.dag import DagModel

#: A card shows of a Dag its XComs, its task instances, and the configuration of its runs.
_SHOWN = (DagAccessEntity.XCOM, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.RUN)


def readable(user: Any, dag_ids: Collection[str]) -> set[str]:
    """Return the Dags whose cards the user may see."""
    for entity in _SHOWN:
        dag_ids = _allowed(user, "GET", entity, dag_ids)
    return set(dag_ids)


def editable(user: Any, dag_ids: Collection[str]) -> set[str]:
    """Return the Dags whose task instances the user may clear."""
    return _allowed(user, "PUT", DagAccessEntity.TASK_INSTANCE, dag_ids)


def triggerable(user: Any, dag_ids: Collection[str]) -> set[str]:
    """Return the Dags that the user may trigger."""
    return _allowed(user, "POST", DagAccessEntity.RUN, dag_ids)


def _allowed(user: Any, method: Any, entity: DagAccessEntity, dag_ids: Collection[str]) -> set[str]:
    """Ask for all Dags at once, and for each one only if not all are allowed."""
    if not dag_ids:
        return set()
    teams: dict[str, Any] = {}
    if conf.getboolean("core", "multi_team", fallback=False):
        teams = DagModel.get_dag_id_to_team_name_mapping(list(dag_ids))
    manager = get_auth_manager()
    questions: dict[str, Any] = {}
    for dag_id in dag_ids:
        team = {"team_name": teams[dag_id]} if teams.get(dag_id) else {}
        details = DagDetails(id=dag_id, **team)
        questions[dag_id] = {"method": method, "access_entity": entity, "details": details}
    if manager.batch_is_authorized_dag(list(questions.values()), user=user):
        return set(dag_ids)
    return {dag_id for dag_id, asked in questions.items() if manager.is_authorized_dag(**asked, user=user)}
