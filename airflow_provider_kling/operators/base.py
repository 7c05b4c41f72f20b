"""What every operator here tells about itself: a name for the grid, and why it failed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator

from airflow_provider_kling.errors import KlingError
from airflow_provider_kling.hooks import harmless
from airflow_provider_kling.operators.run_report import name_of
from airflow_provider_kling.operators.xcom import ERROR_KEY, find_request, task_instance_key

if TYPE_CHECKING:
    from airflow.sdk import Context

_NAME = "{% if ti.map_index >= 0 %}{{ task.request_name(ti) }}{% endif %}"

M = TypeVar("M", bound=Callable[..., Any])


class KlingBaseOperator(BaseOperator):
    """A part of every operator: mapped, it shows its order's name in the grid; failed, it tells why.

    :param map_index_template: Airflow's own; by default the picture's file name.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("map_index_template", _NAME)
        super().__init__(**kwargs)

    def request_name(self, ti: Any) -> str:
        """Return a short name for the order; for templates, so it never fails."""
        kling_task_id = getattr(self, "kling_task_id", "")
        if name := name_of(vars(self)):
            return name
        with harmless(self.log, "The order's name could not be read"):
            return str(find_request(self, ti, kling_task_id).get("name") or kling_task_id)
        return str(kling_task_id)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, and tell what ends it."""
        with _report_error(self, context):
            return super().resume_execution(next_method, next_kwargs, context)


def reports_errors(execute: M) -> M:
    """Let an ``execute`` method tell what ends it."""

    @functools.wraps(execute)
    def telling(self: KlingBaseOperator, context: Context, *args: Any, **kwargs: Any) -> Any:
        with _report_error(self, context):
            return execute(self, context, *args, **kwargs)

    return telling  # type: ignore[return-value]  # it takes and returns the same


@contextmanager
def _report_error(operator: KlingBaseOperator, context: Context) -> Iterator[None]:
    """Push what leaves the block as ``kling_error``, for the summary; of others' errors the class alone."""
    try:
        yield
    except Exception as error:
        if isinstance(error, KlingError) or not isinstance(error, AirflowException):  # a skip is no failure
            _tell(operator, context["ti"], error)
        raise


def _tell(operator: KlingBaseOperator, ti: Any, error: Exception) -> None:
    told: dict[str, Any] = (
        error.to_dict() if isinstance(error, KlingError) else {"class": type(error).__name__}
    )
    with harmless(operator.log, "Why the task failed could not be stored"):
        told |= {"name": operator.request_name(ti), **task_instance_key(ti)}
        told["kling_task_id"] = told.get("kling_task_id") or getattr(operator, "kling_task_id", None)
        ti.xcom_push(key=ERROR_KEY, value=told)
