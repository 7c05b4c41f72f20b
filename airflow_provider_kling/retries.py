"""A retry policy for Airflow 3.3 and newer: only temporary errors are retried."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_kling.errors import KlingError
from airflow_provider_kling.gateways.base import LONGEST_RETRY_AFTER

try:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
except ImportError as error:
    raise ImportError("KlingRetryPolicy needs Airflow 3.3 or newer, which has retry policies") from error

if TYPE_CHECKING:
    from airflow.sdk import Context


class KlingRetryPolicy(RetryPolicy):
    """Decides by the class of the error, within the task's ``retries``.

    A final error fails at once. A temporary error is retried after the gateway's ``Retry-After`` (at most 15
    minutes), or else after a delay that doubles. For errors of other classes the task's own settings apply.

    :param initial_delay: seconds before the first retry.
    :param max_delay: the longest delay, in seconds.
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
        """Return whether and when to retry after *exception*. Airflow calls this on the worker."""
        if not isinstance(exception, KlingError):
            return RetryDecision.default()
        if not exception.retry_may_help:
            # An uncertain submit is an AirflowException only if the Dag's author allowed its retry.
            allowed = isinstance(exception, AirflowException)
            reason = f"{type(exception).__name__}: a retry cannot help and may cost"
            return RetryDecision.default() if allowed else RetryDecision.fail(reason)
        if exception.retry_after is not None:
            delay = min(exception.retry_after, LONGEST_RETRY_AFTER)
            return RetryDecision.retry(timedelta(seconds=delay), "the gateway asked for this delay")
        delay = min(self.initial_delay * 2 ** min(max(try_number, 1) - 1, 30), self.max_delay)
        return RetryDecision.retry(timedelta(seconds=delay), f"{type(exception).__name__}: a retry may help")
