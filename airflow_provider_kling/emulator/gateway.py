"""The emulator without sockets: one handler for both hosts."""

from __future__ import annotations

from airflow_provider_kling.emulator import control, storage
from airflow_provider_kling.emulator.myrouter import api
from airflow_provider_kling.emulator.jobs import Digest
from airflow_provider_kling.emulator.messages import Call, Reply
from airflow_provider_kling.emulator.request_log import Request
from airflow_provider_kling.emulator.state import Exchange, GatewayState


class Gateway(GatewayState):
    """A gateway that creates jobs, returns their state, and serves their videos."""

    async def handle(self, host: str, call: Call) -> Reply:
        """Answer a call to a host, "api" or "storage", and log it."""
        if host == "api" and call.path.startswith(control.PREFIX):
            return control.answer(self, call)
        exchange = Exchange(host, call)
        answer = storage.answer if host == "storage" else api.answer
        reply = await answer(self, exchange)
        self._log_request(exchange, reply)
        return reply

    def _log_request(self, exchange: Exchange, reply: Reply) -> None:
        call, job = exchange.call, exchange.job
        self.log.add(
            Request(
                at=self.now(),
                host=exchange.host,
                method=call.method,
                path=call.path,
                status=reply.status,
                authorization=bool(call.header("Authorization")),
                body=Digest.of(call.body),
                cut=reply.transfer.cut,
                task_id=job.task_id if job else call.query.get("task_id", ""),
                job=job.number if job else 0,
                prompt=job.prompt if job else exchange.prompt,
                fault=exchange.fault.text if exchange.fault else "",
            )
        )
