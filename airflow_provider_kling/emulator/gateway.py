"""The emulator without sockets: one handler for both hosts."""

from __future__ import annotations

from airflow_provider_kling.emulator import control, storage
from airflow_provider_kling.emulator.jobs import Digest
from airflow_provider_kling.emulator.kling import api as kling
from airflow_provider_kling.emulator.messages import Call, Reply
from airflow_provider_kling.emulator.myrouter import api as myrouter
from airflow_provider_kling.emulator.request_log import Request
from airflow_provider_kling.emulator.state import Exchange, GatewayState


class Gateway(GatewayState):
    """A gateway that creates jobs, returns their state, and serves their videos."""

    async def handle(self, host: str, call: Call) -> Reply:
        """Answer a call to a host, "api" or "storage", and log it."""
        if host == "api" and call.path.startswith(control.PREFIX):
            return control.answer(self, call)
        exchange = Exchange(host, call)
        if host == "storage":
            reply = await storage.answer(self, exchange)
        else:
            dialect = kling if kling.has(call.path) else myrouter
            reply = await dialect.answer(self, exchange)
        self._log_request(exchange, reply)
        return reply

    def _log_request(self, exchange: Exchange, reply: Reply) -> None:
        call, jobs = exchange.call, exchange.jobs
        asked = call.query.get("task_id") or call.query.get("task_ids", "")
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
                task_id=",".join(job.task_id for job in jobs) or asked,
                job=jobs[0].number if jobs else 0,
                prompt=jobs[0].prompt if jobs else exchange.prompt,
                fault=exchange.fault.text if exchange.fault else "",
            )
        )
