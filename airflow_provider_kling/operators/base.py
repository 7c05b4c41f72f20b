"""The base of every operator here: a name in the grid, and a report of what ends a task."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from textwrap import wrap
from traceback import format_tb
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    redact,
)

from airflow_provider_kling.errors import (
    KlingError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.hooks import for_airflow, suppress_and_log
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

T = TypeVar("T")
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
        from airflow_provider_kling.operators.xcom import find_request, own_task_id

        if name := name_of(vars(self)):
            return name
        kling_task_id = getattr(self, "kling_task_id", "") or own_task_id(ti)
        with suppress_and_log(self.log, "The name of the request could not be read"):
            return str(find_request(self, ti, kling_task_id).get("name") or kling_task_id)
        return str(kling_task_id)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, and report what ends the task."""

        def resume() -> Any:
            return super(KlingBaseOperator, self).resume_execution(
                *self._resume_at(next_method, next_kwargs, context), context
            )

        return _reporting(self, context, resume)

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
        return _reporting(self, context, lambda: execute(self, context, *args, **kwargs))

    return reporting  # type: ignore[return-value]  # it takes and returns the same


def _reporting(operator: KlingBaseOperator, context: Context, run: Callable[[], T]) -> T:
    """Run, and report what ends it. If a job may have been started, that is always one of our errors.

    Our frames, and the causes of our errors, are cut off: below the report they would fill the log view.
    The frames are logged at level DEBUG.
    """
    try:
        return run()
    except KlingError as error:
        # A method that this one has called may have reported it.
        raise error if error.is_reported else _reported(operator, context, error, error) from None
    except _ON_PURPOSE:
        raise
    except Exception as error:  # noqa: BLE001 - each of them is reported
        frames = _frames_of_others(error.__traceback__)
        reported = _reported(operator, context, error, _about_job(operator, context, error))
        if isinstance(reported, AirflowException):
            raise reported.with_traceback(frames) from None
        raise error.with_traceback(frames)  # noqa: B904 - it is the same
    except AirflowTaskTimeout as error:  # no Exception; Airflow must get it as it is, to call on_kill
        if not getattr(error, "is_reported", False):
            meaning = getattr(error, "meaning", None) or _about_job(operator, context, error)
            _reported(operator, context, error, meaning)
        error.is_reported = True  # type: ignore[attr-defined] # Airflow's class
        raise error.with_traceback(_frames_of_others(error.__traceback__))  # noqa: B904 - it is the same


def _frames_of_others(tb: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of this package, and of its ``with`` blocks."""
    frames = []
    while tb:
        frames.append(tb)
        tb = tb.tb_next
    for one in reversed(frames):
        name = str(one.tb_frame.f_globals.get("__name__"))
        if name != "contextlib" and not name.startswith("airflow_provider_kling."):
            tb = TracebackType(tb, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return tb


def _reported(
    operator: KlingBaseOperator, context: Context, error: BaseException, failure: KlingError
) -> KlingError:
    """Report an exception, and return what it means without frames.

    :param failure: what it means; a plain :class:`KlingError` if it stays what it is.
    """
    from airflow_provider_kling import metrics

    operator.log.debug("The error comes from:\n%s", "".join(format_tb(error.__traceback__)))
    for text in (failure.what, failure.money, failure.advice):
        log_wrapped(operator.log, logging.ERROR, text)
    metrics.ERRORS.add(error=type(failure).__name__)
    if isinstance(failure, KlingSubmitUncertainError):
        metrics.UNCERTAIN.add()
    ends = error if type(failure) is KlingError else failure
    _push(operator, context["ti"], {**failure.to_dict(), "class": type(ends).__name__})
    reported = failure.replace()
    reported.is_reported = True
    return reported


def _push(operator: KlingBaseOperator, ti: Any, failure: dict[str, Any]) -> None:
    from airflow_provider_kling.operators.xcom import task_instance_key

    with suppress_and_log(operator.log, "Why the task failed could not be stored"):
        failure |= {"name": operator.request_name(ti), **task_instance_key(ti)}
        failure["kling_task_id"] = failure.get("kling_task_id") or getattr(operator, "kling_task_id", None)
        ti.xcom_push(key=ERROR_KEY, value=failure)


def _about_job(operator: KlingBaseOperator, context: Context, error: BaseException) -> KlingError:
    """Return an exception that is not ours as one that names the job and the money.

    Where no job can have been started, it is a plain :class:`KlingError`, which is not raised.
    """
    from airflow_provider_kling.operators.xcom import own_task_id
    from airflow_provider_kling.redaction import clean, shorten

    words = shorten(clean(str(redact(f"{type(error).__name__}: {error}".rstrip(": ")))), 300)
    kling_task_id = getattr(operator, "kling_task_id", None)
    advice = "A retry goes on with this job and does not pay again."
    if not kling_task_id:
        from airflow_provider_kling.submission.settle import may_have_bought
        from airflow_provider_kling.submission.state import submission_state

        state = submission_state(context)
        try:
            record = state.open_record()
        except Exception:  # noqa: BLE001 - whatever a state store raises
            what = f"The task ended unexpectedly ({words}), and whether a job was started cannot be read."
            advice = "A retry reads it again before it submits anything."
            return for_airflow(KlingUnavailableError(what, money=Money.MAYBE, advice=advice))
        if record is None:
            money = Money.UNAFFECTED if hasattr(operator, "kling_task_id") else Money.UNTOUCHED
            advice = "If no retry follows, correct the cause, then clear this task."
            return KlingError(f"The task ended unexpectedly ({words}).", money=money, advice=advice)
        kling_task_id = record.kling_task_id
        if not kling_task_id and (kling_task_id := own_task_id(context["ti"])):
            try:
                state.confirm_task_id(kling_task_id)
            except KlingUnavailableError:  # a retry will not know the job, unless its client id finds it
                advice = (
                    advice
                    if record.client_id
                    else "Fetch its video by the task id (example Dag kling_rescue)."
                )
        if not kling_task_id:
            what = f"The task ended unexpectedly ({words}) after it began to submit {record.unknown_job}."
            if record.client_id:
                return for_airflow(may_have_bought(what))
            retry = getattr(operator, "on_uncertain", "") == "submit_again"
            return for_airflow(KlingSubmitUncertainError(what), retry=retry)
    what = f"Job {kling_task_id}: the task ended unexpectedly ({words})."
    return for_airflow(
        KlingUnavailableError(what, money=Money.RUNNING, advice=advice, kling_task_id=str(kling_task_id))
    )
