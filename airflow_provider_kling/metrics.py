"""All metrics of the provider, sent through Airflow's ``Stats``, so to StatsD, Datadog or OpenTelemetry.

``docs/observability.md`` describes each one. Tags have few values: never ids, never prompts. A metric that
cannot be sent never fails a task; the first failure of its kind is logged.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from functools import cache, lru_cache
from importlib import import_module
from typing import Any


class _Metric:
    def __init__(self, name: str) -> None:
        self.name = name

    def _send(self, method: str, value: Any, tags: dict[str, str]) -> None:
        try:
            getattr(_stats(), method)(self.name, value, tags=tags)
        except Exception as error:  # noqa: BLE001 - whatever a client of StatsD raises
            _log_once(f"{type(error).__name__}: {error}")


class Counter(_Metric):
    """A sum that only grows."""

    def add(self, amount: float | Decimal = 1, /, **tags: str) -> None:
        """Add to the sum."""
        self._send("incr", float(amount) if isinstance(amount, Decimal) else amount, tags)


class Timer(_Metric):
    """A distribution of durations."""

    def record(self, seconds: float, /, **tags: str) -> None:
        """Add a duration in seconds; one below 0, which two clocks that differ can give, counts as 0."""
        self._send("timing", timedelta(seconds=max(0.0, seconds)), tags)


class Gauge(_Metric):
    """The latest value."""

    def set(self, value: float, /, **tags: str) -> None:
        """Replace the value."""
        self._send("gauge", value, tags)


@cache
def _stats() -> Any:
    """Return Airflow's ``Stats``. To import it takes too long where a Dag file is read."""
    with suppress(ImportError):  # Airflow 3.1 has none
        import_module("airflow.sdk.serde")  # sets Stats up, which the triggerer of Airflow 3.2 does not
    return import_module("airflow.providers.common.compat.sdk").Stats


@lru_cache(maxsize=20)
def _log_once(what: str) -> None:
    logging.getLogger(__name__).warning("A metric could not be sent (%s). The work goes on.", what)


def job_tags(gateway: str, model: Any) -> dict[str, str]:
    """Return the tags of a job.

    Models that the catalogue does not know share one tag: a Dag cannot make a thousand series.

    :param gateway: the gateway's name.
    :param model: the model's name; None or empty where it is not known.
    """
    from airflow_provider_kling.models.catalog import MODELS  # noqa: PLC0415 - not needed to read a Dag file

    known = str(model) if str(model) in MODELS else "other"
    return {"gateway": gateway.lower(), "model": known if model else "unknown"}


#: Jobs that were bought; also one whose answer was lost and that was found later.
SUBMITTED = Counter("kling.jobs.submitted")
#: Jobs whose video a waiting task has seen.
SUCCEEDED = Counter("kling.jobs.succeeded")
#: Jobs that have ended without a video.
FAILED = Counter("kling.jobs.failed")
#: Submits of which a person has to find out whether a job was bought.
UNCERTAIN = Counter("kling.jobs.uncertain")
#: Tries of tasks that an error has ended, by its class.
ERRORS = Counter("kling.errors")
#: US dollars by the estimates of the jobs that were bought.
ESTIMATED_COST = Counter("kling.cost.estimated_usd")
#: US dollars by the bills of the jobs that have ended.
BILLED_COST = Counter("kling.cost.billed_usd")
#: From the submit until a task has seen the end of the job.
WAIT = Timer("kling.wait.duration")
#: From the end of the job, by the gateway's clock, until its video is stored.
DELIVERY = Timer("kling.download.delay")
#: How long the download itself took.
DOWNLOAD = Timer("kling.download.duration")
#: Bytes of the videos that were stored.
BYTES = Counter("kling.download.bytes")
#: Tasks that wait for a job in a triggerer.
WAITS = Gauge("kling.triggerer.waits")
#: Tasks that wait for a free slot in a triggerer.
SLOT_WAITS = Gauge("kling.triggerer.slot_waits")
#: Seconds by which the next poll of a triggerer is late.
LATENESS = Gauge("kling.triggerer.lateness")
#: Jobs that a triggerer has asked for.
POLLS = Counter("kling.triggerer.polls")
#: Requests that it has sent for them: one may ask for several jobs.
QUERIES = Counter("kling.triggerer.queries")
#: Those that have failed.
FAILED_QUERIES = Counter("kling.triggerer.failed_queries")
