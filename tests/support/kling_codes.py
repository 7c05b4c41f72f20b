"""What each error code of Kling's own API means to a submit and to a query."""

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingInputError,
    KlingModerationError,
    KlingNoSlotError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
)

# code, HTTP status, what it means to a submit, what it means to a query
CODES = [
    *((code, 401, KlingAccessError, KlingAccessError) for code in (1000, 1001, 1002, 1003, 1004)),
    (1100, 429, KlingAccessError, KlingAccessError),
    (1101, 429, KlingBalanceError, KlingBalanceError),
    (1102, 429, KlingBalanceError, KlingBalanceError),
    (1103, 403, KlingAccessError, KlingAccessError),
    (1200, 400, KlingInputError, KlingInputError),
    (1201, 400, KlingInputError, KlingInputError),
    (1202, 404, KlingInputError, KlingInputError),
    (1203, 404, KlingInputError, KlingInputError),
    (1300, 400, KlingModerationError, KlingModerationError),
    (1301, 400, KlingModerationError, KlingModerationError),
    (1302, 429, KlingUnavailableError, KlingUnavailableError),
    (1303, 429, KlingNoSlotError, KlingUnavailableError),
    (1304, 429, KlingAccessError, KlingAccessError),
    (5000, 500, KlingSubmitUncertainError, KlingUnavailableError),
    (5001, 503, KlingSubmitUncertainError, KlingUnavailableError),
    (5002, 504, KlingSubmitUncertainError, KlingUnavailableError),
    (1305, 429, KlingAccessError, KlingUnavailableError),
    (429, 429, KlingAccessError, KlingUnavailableError),
    *(
        (1305, status, KlingSubmitUncertainError, KlingUnavailableError)
        for status in (200, 400, 404, 500, 503)
    ),
    (1005, 401, KlingSubmitUncertainError, KlingAccessError),
]
DOCUMENTED = CODES[:21]
