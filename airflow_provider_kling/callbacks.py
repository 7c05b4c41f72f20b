"""Callbacks of Kling's own API: checks who has sent one, and for which job.

Kling calls the ``callback_url`` of a job at each change of its status. A callback is a hint: it says when to
ask for a job, never what has become of it. See ``docs/callbacks.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_kling.gateways.base import read_task_id
from airflow_provider_kling.redaction import shorten
from airflow_provider_kling.values import as_object

_NOT_INSTALLED = "Callbacks need standardwebhooks: pip install 'airflow-provider-kling[callbacks]'"
_LONGEST_WORD = 100


class InvalidCallbackError(ValueError):
    """The request is no callback of Kling's: answer it with HTTP 400, and do nothing."""


@dataclass(frozen=True, slots=True)
class Callback:
    """What a callback says: ask for this job now.

    :param kling_task_id: the job.
    :param status: Kling's word, for logs; empty where there is none. Do not decide by it.
    :param client_id: our own id of the job, or empty.
    """

    kling_task_id: str
    status: str = ""
    client_id: str = ""


def verify_callback(headers: Mapping[str, str], body: bytes | str, secret: str) -> Callback:
    """Return the job that a callback names, if Kling has signed it. Nothing is asked or changed.

    The signature is that of Standard Webhooks: it covers the time, which may be five minutes off, and every
    byte of the body. A callback that is sent again is accepted again. Both bodies are read, that of Kling's
    new design and that of the legacy one.

    :param headers: of the request; the case of their names does not matter.
    :param body: of the request, as it came: not parsed and written again.
    :param secret: the *Webhook Secret* of Kling's console, ``whsec_...``.
    :raises InvalidCallbackError: no good signature, or the body names no job.
    :raises ValueError: the secret is empty or damaged.
    :raises ImportError: the extra ``callbacks`` is not installed.
    """
    try:
        from standardwebhooks import Webhook, WebhookVerificationError  # noqa: PLC0415 - of an extra
    except ImportError:
        raise ImportError(_NOT_INSTALLED) from None
    try:
        webhook = Webhook(secret)
    except Exception:  # noqa: BLE001 - each is about the secret, which the words may repeat
        raise ValueError("The webhook secret is empty or damaged; Kling's console shows it.") from None
    try:
        webhook.verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError as error:
        raise InvalidCallbackError(f"The callback is not from Kling: {error}.") from None
    except Exception:  # noqa: BLE001 - the library parses headers and body before it trusts them
        raise InvalidCallbackError(
            "The callback is not from Kling: its headers or body are damaged."
        ) from None
    data: dict[str, Any] = {}
    with suppress(ValueError, RecursionError):
        data = as_object(json.loads(body))
    named = [data[name] for name in ("id", "task_id") if data.get(name) not in (None, "")]
    ids = {read_task_id(value) for value in named}
    kling_task_id = ids.pop() if len(ids) == 1 else None
    if kling_task_id is None:
        raise InvalidCallbackError("The callback names no job, or two.")
    legacy = as_object(data.get("task_info"))
    return Callback(
        kling_task_id,
        _word(data.get("status") or data.get("task_status")),
        _word(data.get("external_id") or legacy.get("external_task_id")),
    )


def _word(value: Any) -> str:
    return shorten(value, _LONGEST_WORD) if isinstance(value, str) else ""
