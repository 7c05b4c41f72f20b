"""Callbacks: Kling calls an address at each change of a job's status, signed by Standard Webhooks."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp

from airflow_provider_kling.emulator.kling.tasks import describe, describe_legacy
from airflow_provider_kling.emulator.pictures import is_loopback

if TYPE_CHECKING:
    from airflow_provider_kling.emulator.jobs import Job
    from airflow_provider_kling.emulator.state import GatewayState
    from airflow_provider_kling.emulator.views import View

LOOK_EVERY = 0.05  # seconds: the clock of the emulator can be moved at any time
TIMEOUT = aiohttp.ClientTimeout(total=10)
PREFIX = "whsec_"


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a callback."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    text = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, text, "sha256")).decode()


def watch(gateway: GatewayState, job: Job) -> None:
    """Send callbacks for a job, if it asks for them. Only addresses of this machine are called."""
    if job.callback_url and is_loopback(job.callback_url):
        task = asyncio.create_task(_send_callbacks(gateway, job))
        gateway.background.add(task)
        task.add_done_callback(gateway.background.discard)


async def _send_callbacks(gateway: GatewayState, job: Job) -> None:
    said, view = "", gateway.view(job)
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        while True:
            if view.status != said:
                said = view.status
                await _send(gateway, session, view)
            if view.ended:
                return
            await asyncio.sleep(LOOK_EVERY)
            view = gateway.view(job)


async def _send(gateway: GatewayState, session: aiohttp.ClientSession, view: View) -> None:
    write = describe_legacy if view.job.dialect == "kling-legacy" else describe
    body = json.dumps(write(gateway, view)).encode()
    headers = {"Content-Type": "application/json", **_signature(gateway.settings.webhook_secret, body)}
    for _ in range(2 if gateway.settings.repeat_callbacks else 1):
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.post(
                view.job.callback_url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status < 500:
                    return


def _signature(secret: str, body: bytes) -> dict[str, str]:
    if not secret:
        return {}
    message_id, timestamp = str(uuid.uuid4().int)[:18], int(time.time())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, message_id, timestamp, body),
    }
