"""MyRouter's errors."""

from __future__ import annotations

from airflow_provider_kling.emulator.messages import Reply, json_reply

# The service's documented reasons and their HTTP status.
STATUS_OF_REASON = {
    "MISSING_API_KEY": 400,
    "FAILED_TO_AUTH": 401,
    "INVALID_API_KEY": 403,
    "API_NOT_ALLOWED": 403,
    "FEATURE_NOT_ALLOWED": 403,
    "NEED_REAL_NAME_VERIFY": 403,
    "ACCESS_DENY": 403,
    "BILLING_AUTH_FAILED": 403,
    "BILLING_BALANCE_NOT_ENOUGH": 400,
    "NOT_ENOUGH_BALANCE": 403,
    "ILLEGAL_PROMPT": 400,
    "ILLEGAL_IMAGE_CONTENT": 400,
    "INVALID_REQUEST_BODY": 400,
    "IMAGE_FILE_EXCEEDS_MAX_SIZE": 400,
    "INVALID_IMAGE_FORMAT": 400,
    "IMAGE_EXCEEDS_MAX_RESOLUTION": 400,
    "INVALID_IMAGE_SIZE": 400,
    "API_NOT_FOUND": 404,
    "RATE_LIMIT_EXCEEDED": 429,
    "BILLING_FAILED": 500,
    "CREATE_TASK_FAILED": 500,
    "GET_RESULT_FAILED": 500,
    "TASK_FAILED": 500,
    "TASK_NOT_FOUND": 404,
}


def error_reply(reason: str, message: str = "", status: int | None = None) -> Reply:
    """Return an error in the form of the service, with a trace id."""
    code = status or STATUS_OF_REASON.get(reason, 500)
    words = message or f"{reason.replace('_', ' ').lower()} (from the emulator)"
    body = {"code": code, "reason": reason, "message": f"{words} trace_id: emulator", "metadata": {}}
    return json_reply(body, code)
