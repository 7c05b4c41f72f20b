"""What became of a request whose answer is unknown, where our own id of the job (client id) finds it. Pure.

The gateway accepts a client id once. So a request may be sent again with the same id: it buys nothing if the
one before has bought a job.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from airflow_provider_kling.errors import KlingError, KlingSubmitUncertainError, KlingUnavailableError, Money
from airflow_provider_kling.gateways.base import NOT_FOUND_GRACE, Task

#: Seconds by which the gateway's clock and ours may differ.
_CLOCK_TOLERANCE = 600.0
LOOKS_FIRST = (
    "Airflow's next try, or a clear of the task, looks for the job by its client id first, and does not pay "
    "again."
)


def client_id(*of: str | float) -> str:
    """Return a client id, a hash over what it stands for: the same facts give the same id."""
    return f"airflow-{hashlib.sha256(json.dumps(of).encode()).hexdigest()[:40]}"


def is_foreign(task: Task, since: float) -> bool:
    """Return whether a job that a client id has found cannot be ours: it is much too old.

    :param since: before that ours cannot have been created, in epoch seconds; 0 where that is not known.
    """
    return task.created_at is not None and task.created_at < since - _CLOCK_TOLERANCE


def is_over(sent_at: float, request_timeout: float, now: float) -> bool:
    """Return whether a request that was sent then, in epoch seconds, creates no job any more."""
    return now >= sent_at + request_timeout + NOT_FOUND_GRACE


def was_refused(error: KlingError) -> bool:
    """Return whether the gateway itself has refused a request, also as one whose client id is taken.

    Then that request creates no job. A proxy that refuses may have passed it on.
    """
    by_gateway = bool(error.reason) and 400 <= (error.http_status or 0) < 500
    return by_gateway or not isinstance(error, KlingSubmitUncertainError)


def may_have_bought(what: str, **facts: Any) -> KlingUnavailableError:
    """Return the error of a request that may have bought a job, which a retry finds by its client id."""
    return KlingUnavailableError(what, **{**facts, "money": Money.MAYBE, "advice": LOOKS_FIRST})


def unsettled(
    error: KlingError, client_id: str, *, sent_before: bool, contradicts: bool
) -> KlingError | None:
    """Return what a failed request means whose client id finds no job; None: certainly nothing was bought.

    :param sent_before: the client id was sent before, so recently that this request may still create a job.
    :param contradicts: the last request that may have created a job is so old that its job must be visible.
    """
    unknown = isinstance(error, KlingSubmitUncertainError)
    if not unknown and not sent_before:
        return None
    if unknown and was_refused(error) and contradicts:
        what = f"{error.what} But the gateway shows no job with client id {client_id}: it contradicts itself."
        return error.replace(what=what)
    what = f"{error.what} No job with client id {client_id} is found yet."
    return may_have_bought(**{**error.facts(), "what": what})
