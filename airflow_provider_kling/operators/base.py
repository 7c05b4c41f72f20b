"""The base of every operator here: a name in the grid, and a report of what ends a task."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import wrap
from traceback import format_tb
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
)

from airflow_provider_kling.errors import (
    KlingError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.hooks import for_airflow, suppress_and_log
from airflow_provider_kling.operators.xcom import find_request, own_task_id, task_instance_key
from airflow_provider_kling.xcom_keys import ERROR_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

#: The name of a mapped task in the grid, a template.
REQUEST_NAME = "{% if ti.map_index >= 0 %}{{ task.request_name(ti) }}{% endif %}"
#: Characters of a line that the log view shows without scrolling in a window of 1280 pixels.
LOG_WIDTH = 86
#: Airflow's own exceptions that end a task or a try on purpose.
_ON_PURPOSE = (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

M = TypeVar("M", bound=Callable[..., Any])


class KlingBaseOperator(BaseOperator):
    """The base of every operator here.

    A mapped task shows its request's name in the grid. A task that fails logs what happened, where the
    money is and what to do next, and pushes the same as ``kling_error``.

    :param map_index_template: Airflow's own; by default the picture's file name.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("map_index_template", REQUEST_NAME)
        super().__init__(**kwargs)

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Return the operator with its arguments that are not mapped.

        Airflow reads ``map_index_template`` before it calls ``__init__`` of a mapped operator.
        """
        partial = super().partial(**kwargs)
        partial.kwargs["map_index_template"] = partial.kwargs.get("map_index_template") or REQUEST_NAME
        return partial

    def request_name(self, ti: Any) -> str:
        """Return a short name for the request. Templates call it, so it never fails."""
        from airflow_provider_kling.operators.run_report import name_of

        kling_task_id = getattr(self, "kling_task_id", "")
        if name := name_of(vars(self)):
            return name
        with suppress_and_log(self.log, "The name of the request could not be read"):
            return str(find_request(self, ti, kling_task_id).get("name") or kling_task_id)
        return str(kling_task_id)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, and report what ends the task."""
        with _reporting(self, context):
            next_method, next_kwargs = self._resume_at(next_method, next_kwargs, context)
            return super().resume_execution(next_method, next_kwargs, context)

    def _resume_at(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> tuple[str, dict[str, Any] | None]:
        """Return the method to resume with, and its arguments."""
        del context  # for subclasses
        return next_method, next_kwargs


def log_wrapped(log: Any, level: int, text: str) -> None:
    """Log a text in lines that the log view shows without scrolling."""
    for line in wrap(text, LOG_WIDTH, break_long_words=False, break_on_hyphens=False):
        log.log(level, "%s", line)


def log_deferral(log: Any, what: str) -> None:
    """Log for what and until when the triggerer waits, and what to look at if it does not.

    Two lines: the log view shows about a hundred characters of each.
    """
    log.info(what)
    log.info("If no line follows, look at Home, Health: is the triggerer healthy?")


def reports_errors(execute: M) -> M:
    """Let an ``execute`` method report what ends it."""

    @functools.wraps(execute)
    def reporting(self: KlingBaseOperator, context: Context, *args: Any, **kwargs: Any) -> Any:
        with _reporting(self, context):
            return execute(self, context, *args, **kwargs)

    return reporting  # type: ignore[return-value]  # it takes and returns the same


@contextmanager
def _reporting(operator: KlingBaseOperator, context: Context) -> Iterator[None]:
    """Report what leaves the block. After a submit it is always one of our errors.

    An error of ours leaves it without its frames and causes: below the report they would fill the log view.
    The frames are logged at level DEBUG.
    """
    try:
        yield
    except KlingError as error:
        raise _reported(operator, context["ti"], error) from None
    except Exception as error:
        if isinstance(error, _ON_PURPOSE):
            raise
        if ours := _about_job(operator, context, error):
            raise _reported(operator, context["ti"], ours) from error
        _push(operator, context["ti"], {"class": type(error).__name__})
        raise
    except AirflowTaskTimeout as error:  # no Exception; Airflow must get it as it is, to call on_kill
        if not getattr(error, "is_reported", False) and (ours := _about_job(operator, context, error)):
            _reported(operator, context["ti"], ours)
        error.is_reported = True  # type: ignore[attr-defined] # Airflow's class
        raise


def _reported(operator: KlingBaseOperator, ti: Any, error: KlingError) -> KlingError:
    """Report an error once, and return it without its frames."""
    if error.is_reported:  # by a method that this one has called
        return error
    operator.log.debug("The error comes from:\n%s", "".join(format_tb(error.__traceback__)))
    for text in (error.what, error.money, error.advice):
        log_wrapped(operator.log, logging.ERROR, text)
    _push(operator, ti, error.to_dict())
    reported = error.replace()
    reported.is_reported = True
    return reported


def _push(operator: KlingBaseOperator, ti: Any, failure: dict[str, Any]) -> None:
    with suppress_and_log(operator.log, "Why the task failed could not be stored"):
        failure |= {"name": operator.request_name(ti), **task_instance_key(ti)}
        failure["kling_task_id"] = failure.get("kling_task_id") or getattr(operator, "kling_task_id", None)
        ti.xcom_push(key=ERROR_KEY, value=failure)


def _about_job(operator: KlingBaseOperator, context: Context, error: BaseException) -> KlingError | None:
    """Return an exception that is not ours as one that names the job and the money.

    None where no job can have been started: then nothing is at risk.
    """
    from airflow_provider_kling.redaction import clean, shorten

    words = shorten(clean(f"{type(error).__name__}: {error}"), 300)
    kling_task_id, may_submit_again = getattr(operator, "kling_task_id", None), False
    advice = "A retry goes on with this job and does not pay again."
    if not kling_task_id:
        from airflow_provider_kling.submission.state import submission_state

        state = submission_state(context)
        try:
            record = state.open_record()
        except Exception:  # noqa: BLE001 - whatever a state store raises
            what = f"The task ended unexpectedly ({words}), and whether a job was started cannot be read."
            advice = "A retry reads it again before it submits anything."
            return for_airflow(KlingUnavailableError(what, money=Money.MAYBE, advice=advice))
        if record is None:
            return None
        kling_task_id = record.kling_task_id
        may_submit_again = getattr(operator, "on_uncertain", "") == "submit_again"
        if not kling_task_id and (kling_task_id := own_task_id(context["ti"])):
            try:
                state.confirm_task_id(kling_task_id)
            except KlingUnavailableError:  # a retry will not know the job
                advice = "Fetch its video by the task id (example Dag kling_rescue)."
    if not kling_task_id:
        what = f"The task ended unexpectedly ({words}) after it began to submit a job."
        return for_airflow(KlingSubmitUncertainError(what), retry=may_submit_again)
    what = f"Job {kling_task_id}: the task ended unexpectedly ({words})."
    return for_airflow(
        KlingUnavailableError(what, money=Money.RUNNING, advice=advice, kling_task_id=str(kling_task_id))
    )
