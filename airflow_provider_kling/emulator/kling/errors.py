"""Kling's errors."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from airflow_provider_kling.emulator.messages import Reply, json_reply


class Meaning(NamedTuple):
    """What a code means."""

    status: int
    message: str


# The documented codes.
CODES = {
    "1000": Meaning(401, "Authentication failed"),
    "1001": Meaning(401, "Authorization header is empty"),
    "1002": Meaning(401, "api key not found"),
    "1003": Meaning(401, "Authorization is not valid yet"),
    "1004": Meaning(401, "Authorization has expired"),
    "1100": Meaning(429, "account exception"),
    "1101": Meaning(429, "account in arrears"),
    "1102": Meaning(429, "resource pack depleted or expired"),
    "1103": Meaning(403, "no permission for this API or model"),
    "1200": Meaning(400, "invalid request parameters"),
    "1201": Meaning(400, "invalid parameters"),
    "1202": Meaning(404, "invalid method"),
    "1203": Meaning(404, "the requested resource does not exist"),
    "1300": Meaning(400, "platform policy triggered"),
    "1301": Meaning(400, "content security policy triggered"),
    "1302": Meaning(429, "too many requests"),
    "1303": Meaning(429, "parallel task over resource pack limit"),
    "1304": Meaning(429, "the address is not on the white list"),
    "5000": Meaning(500, "internal server error"),
    "5001": Meaning(503, "server is under maintenance"),
    "5002": Meaning(504, "internal timeout, backlog"),
}
UNDOCUMENTED = "5999"
# The code for each reason that faults and refusals name in MyRouter's words.
CODE_OF_REASON = {
    "MISSING_API_KEY": "1001",
    "FAILED_TO_AUTH": "1000",
    "INVALID_API_KEY": "1002",
    "API_NOT_ALLOWED": "1103",
    "FEATURE_NOT_ALLOWED": "1103",
    "NEED_REAL_NAME_VERIFY": "1100",
    "ACCESS_DENY": "1103",
    "BILLING_AUTH_FAILED": "1100",
    "BILLING_BALANCE_NOT_ENOUGH": "1102",
    "NOT_ENOUGH_BALANCE": "1101",
    "ILLEGAL_PROMPT": "1301",
    "ILLEGAL_IMAGE_CONTENT": "1301",
    "INVALID_REQUEST_BODY": "1201",
    "IMAGE_FILE_EXCEEDS_MAX_SIZE": "1201",
    "INVALID_IMAGE_FORMAT": "1201",
    "IMAGE_EXCEEDS_MAX_RESOLUTION": "1201",
    "INVALID_IMAGE_SIZE": "1201",
    "API_NOT_FOUND": "1203",
    "TASK_NOT_FOUND": "1201",
    "RATE_LIMIT_EXCEEDED": "1302",
    "BILLING_FAILED": "5000",
    "CREATE_TASK_FAILED": "5000",
    "GET_RESULT_FAILED": "5000",
    "TASK_FAILED": "5000",
}


def error_reply(reason: str, message: str = "", status: int | None = None) -> Reply:
    """Return an error in Kling's form; *reason* is a code or a reason of MyRouter."""
    code = reason if reason.isdecimal() else CODE_OF_REASON.get(reason, UNDOCUMENTED)
    known = CODES.get(code, Meaning(500, "undocumented"))
    body = {"code": int(code), "message": message or known.message, "request_id": str(uuid.uuid4())}
    return json_reply(body, status or known.status)


def success(data: object) -> Reply:
    """Return data in Kling's envelope."""
    return json_reply({"code": 0, "message": "SUCCEED", "request_id": str(uuid.uuid4()), "data": data})
