"""What came back from the gateway: its JSON, its odd numbers, and what an error in it means."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import Reply
from airflow_provider_kling.redaction import clean, shorten
from airflow_provider_kling.values import read_number


def refusal_of_submit(reply: Reply) -> KlingError:
    """Return what a reply without a task id means: final, safe to repeat, or uncertain.

    What is not a plain refusal may have started a job.
    """
    reason, said = _words(reply)
    kind = _BY_REASON.get(reason) or _BY_SUBMIT_STATUS.get(reply.status, KlingSubmitUncertainError)
    return _error(kind, f"The gateway answered {said}.", reply, reason, kind.default_money)


def refusal_of_query(reply: Reply, kling_task_id: str) -> KlingError:
    """Return what a reply without a task means.

    Only the gateway's own final words end a wait: proxies answer nonsense for a while, with any status.
    """
    reason, said = _words(reply)
    kind = _BY_REASON.get(reason) or _BY_QUERY_REASON.get(reason)
    kind = kind or (KlingAccessError if reply.status == 401 else KlingUnavailableError)
    money = Money.RUNNING if kind.default_money is Money.UNTOUCHED else kind.default_money
    what = f"The gateway answered for job {kling_task_id} {said}."
    return _error(kind, what, reply, reason, money, kling_task_id)


_BY_REASON: dict[str, type[KlingError]] = {
    "MISSING_API_KEY": KlingAccessError,
    "FAILED_TO_AUTH": KlingAccessError,
    "INVALID_API_KEY": KlingAccessError,
    "API_NOT_ALLOWED": KlingAccessError,
    "FEATURE_NOT_ALLOWED": KlingAccessError,
    "NEED_REAL_NAME_VERIFY": KlingAccessError,
    "ACCESS_DENY": KlingAccessError,
    "BILLING_AUTH_FAILED": KlingAccessError,
    "BILLING_BALANCE_NOT_ENOUGH": KlingBalanceError,
    "NOT_ENOUGH_BALANCE": KlingBalanceError,
    "ILLEGAL_PROMPT": KlingModerationError,
    "ILLEGAL_IMAGE_CONTENT": KlingModerationError,
    "INVALID_REQUEST_BODY": KlingInputError,
    "IMAGE_FILE_EXCEEDS_MAX_SIZE": KlingInputError,
    "INVALID_IMAGE_FORMAT": KlingInputError,
    "IMAGE_EXCEEDS_MAX_RESOLUTION": KlingInputError,
    "INVALID_IMAGE_SIZE": KlingInputError,
    "API_NOT_FOUND": KlingInputError,
    "RATE_LIMIT_EXCEEDED": KlingUnavailableError,
    "BILLING_FAILED": KlingUnavailableError,
    "CREATE_TASK_FAILED": KlingUnavailableError,
}
_BY_QUERY_REASON: dict[str, type[KlingError]] = {
    "TASK_FAILED": KlingJobFailedError,
    "TASK_NOT_FOUND": KlingTaskNotFoundError,
}
_BY_SUBMIT_STATUS: dict[int, type[KlingError]] = {
    401: KlingAccessError,
    402: KlingBalanceError,
    403: KlingAccessError,
    429: KlingUnavailableError,
    **dict.fromkeys((301, 302, 303, 307, 308), KlingAccessError),
    # Refusals of the request itself; other 4xx may come from a proxy that has passed the request on.
    **dict.fromkeys((400, 404, 405, 410, 411, 413, 414, 415, 422, 431), KlingInputError),
}


def _error(
    kind: type[KlingError],
    what: str,
    reply: Reply,
    reason: str,
    money: Money,
    kling_task_id: str | None = None,
) -> KlingError:
    return kind(
        what,
        money=money,
        kling_task_id=kling_task_id,
        reason=reason or None,
        http_status=reply.status,
        retry_after=_retry_after(reply),
    )


def _words(reply: Reply) -> tuple[str, str]:
    """Return the machine-readable reason and the whole answer as a phrase, the trace id in it."""
    data = reply.json()
    nested = data.get("error")
    if isinstance(nested, dict):
        data = {**data, **nested}
    reason = data.get("reason")
    reason = shorten(clean(reason), 80) if isinstance(reason, str) else ""
    message = data.get("message")
    if not isinstance(message, str) or not message.strip():
        body = f"an object of {', '.join(data)}" if data else reply.body.decode("utf-8", "replace")
        message = shorten(body) or "an empty answer"
    target = shorten(clean(reply.headers.get("location", "")), 200)
    points = f" pointing to {target}, where the key is not sent" if target else ""
    return reason, f"HTTP {reply.status}{points} {reason}".rstrip() + f": {clean(message[:2000]).rstrip('.')}"


def _retry_after(reply: Reply) -> float | None:
    value = reply.headers.get("retry-after", "").strip()
    seconds = read_number(value)
    if seconds is None and value:
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - reply.received_at
    return None if seconds is None else max(0.0, seconds)
