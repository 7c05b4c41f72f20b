"""Spans of a submit, a wait and a download, on the tracer that Airflow has set up; off by default.

The setting ``[kling] traces`` turns them on, ``[kling] traces_content`` adds prompts, paths and the words of
errors. A span that cannot be made never fails a task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from decimal import Decimal
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred, conf
from opentelemetry import trace

_log = logging.getLogger(__name__)
#: What identifies a try of a task, by the names of Airflow's own spans.
_TASK = {
    "airflow.dag_id": "dag_id",
    "airflow.task_id": "task_id",
    "airflow.dag_run.run_id": "run_id",
    "airflow.task_instance.try_number": "try_number",
    "airflow.task_instance.map_index": "map_index",
}


class Span:
    """A span of OpenTelemetry; if spans are off, its invalid span, which ignores what is added to it."""

    def __init__(self, span: trace.Span = trace.INVALID_SPAN) -> None:
        self._span = span

    def add(self, **attributes: Any) -> None:
        """Add attributes, with the prefix ``kling.``. Those that are None or empty are left out."""
        for name, value in attributes.items():
            if value not in (None, ""):
                with suppress(Exception):
                    number = float(value) if isinstance(value, Decimal) else value
                    self._span.set_attribute(f"kling.{name}", number)

    def add_content(self, **attributes: Any) -> None:
        """Add attributes that may be confidential, as texts, if the admin allows them."""
        if _is_on("traces_content"):
            self.add(**{name: str(value) for name, value in attributes.items() if value})

    def is_current(self) -> AbstractContextManager[Any]:
        """Return a context in which other spans become children of this one."""
        if self._span is trace.INVALID_SPAN:  # it would hide the span of Airflow
            return nullcontext()
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def end(self, error: BaseException | None = None) -> None:
        """End the span.

        :param error: what has ended the step; the span gets its class.
        """
        if error:
            self.add(error=type(error).__name__)
            self.add_content(error_message=getattr(error, "what", error))
        with suppress(Exception):
            if error:
                self._span.set_status(trace.StatusCode.ERROR)
            self._span.end(_nanoseconds(time.time()))


def start(name: str, ti: Any, started_at: float | None = None, **attributes: Any) -> Span:
    """Start a span of a task's try.

    :param started_at: when the step began, in epoch seconds; now if None.
    """
    span = Span()
    try:
        if _is_on("traces"):
            task = {key: getattr(ti, attribute) for key, attribute in _TASK.items()}
            at = _nanoseconds(started_at or time.time())
            tracer = trace.get_tracer("airflow_provider_kling")
            span = Span(tracer.start_span(f"kling.{name}", attributes=task, start_time=at))
            span.add(**attributes)
    except Exception as error:  # noqa: BLE001 - whatever a tracer provider raises
        _log.warning("No span of the %s can be made: %s: %s", name, type(error).__name__, error)
    return span


@contextmanager
def step(name: str, ti: Any, **attributes: Any) -> Iterator[Span]:
    """Trace the block, whose spans become children. A deferral is no error."""
    span = start(name, ti, **attributes)
    try:
        with span.is_current():
            yield span
    except TaskDeferred:
        span.add(deferred=True)
        span.end()
        raise
    except BaseException as error:
        span.end(error)
        raise
    span.end()


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)


def _is_on(option: str) -> bool:
    """Return whether the admin has turned an option on. One that is no boolean is off: the work goes on."""
    try:
        return bool(conf.getboolean("kling", option, fallback=False))
    except Exception as error:  # noqa: BLE001 - the class depends on the version of Airflow
        _log.warning("The setting [kling] %s is ignored: %s", option, error)
        return False
