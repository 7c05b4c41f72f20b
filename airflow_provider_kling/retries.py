"""A ready-made retry policy for Airflow 3.3 and newer: what may pass is retried, what cannot is not."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from airflow_provider_kling.errors import (
    KlingDownloadError,
    KlingError,
    KlingUnavailableError,
    KlingVideoError,
)
from airflow_provider_kling.gateways.base import LONGEST_RETRY_AFTER

if TYPE_CHECKING:
    from airflow.sdk import Context


class KlingRetryPolicy(RetryPolicy):
    """Decides by the class of the error, within the task's own number of ``retries``.

    Final errors fail at once. Where the gateway named a delay, that delay is kept (at most 15 minutes).
    Passing troubles are retried with a delay that doubles. Errors that are not ours are left to the
    task's own settings.

    :param initial_delay: seconds before the first retry.
    :param max_delay: seconds that no later delay exceeds.
    """

    def __init__(self, initial_delay: float = 10.0, max_delay: float = 600.0) -> None:
        self.initial_delay = initial_delay
        self.max_delay = max_delay

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,  # noqa: ARG002 - Airflow's signature
        context: Context | None = None,  # noqa: ARG002 - Airflow's signature
    ) -> RetryDecision:
        """Return what to do after *exception*; Airflow asks this on the worker."""
        if not isinstance(exception, KlingError):
            return RetryDecision.default()
        may_help = isinstance(exception, (KlingUnavailableError, KlingDownloadError))
        if not may_help or isinstance(exception, KlingVideoError):
            # An uncertain submit comes here as an AirflowException only where the Dag's author allowed it.
            allowed = isinstance(exception, AirflowException)
            why = f"{type(exception).__name__}: a retry cannot help and may cost"
            return RetryDecision.default() if allowed else RetryDecision.fail(why)
        if exception.retry_after is not None:
            delay = min(exception.retry_after, LONGEST_RETRY_AFTER)
            return RetryDecision.retry(timedelta(seconds=delay), "the gateway asked for this delay")
        delay = min(self.initial_delay * 2 ** min(max(try_number, 1) - 1, 30), self.max_delay)
        return RetryDecision.retry(timedelta(seconds=delay), f"{type(exception).__name__} may pass")
