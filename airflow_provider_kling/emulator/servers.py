"""Two HTTP servers, for the API and the storage, that pass each request to the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from airflow_provider_kling.emulator.fault_effects import TO_STORAGE
from airflow_provider_kling.emulator.gateway import Gateway
from airflow_provider_kling.emulator.messages import Call, Reply

MAX_BODY_BYTES = 128 * 1024 * 1024
PIECES = 20  # a slow body is sent in this many pieces


class HostServer:
    """The HTTP server of one host."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        self._gateway = gateway
        self._name = name
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def open(self, host: str, port: int) -> str:
        """Listen, and return the URL."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(
            request.method,
            request.path,
            request.query,
            request.headers,
            await request.read(),
            disconnected=lambda: request.transport is None or request.transport.is_closing(),
        )
        reply = await self._gateway.handle(self._name, call)
        await self._gateway.pause(reply.transfer.delay)
        return await self._send(request, reply)

    async def _send(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        transfer, headers = reply.transfer, dict(reply.headers)
        if headers.get("Location") == TO_STORAGE:
            headers["Location"] = self._gateway.storage_url + request.path_qs
        if transfer.cut and not transfer.keep_bytes:
            _hang_up(request)
            return web.Response()
        if not (transfer.cut or transfer.extra_length or transfer.seconds) or request.method == "HEAD":
            return web.Response(status=reply.status, headers=headers, body=reply.body)
        response = web.StreamResponse(status=reply.status, headers=headers)
        response.content_length = len(reply.body) + transfer.extra_length
        await response.prepare(request)
        with suppress(ConnectionError):
            await self._trickle(response, reply)
        if transfer.cut or transfer.extra_length:
            _hang_up(request)
        return response

    async def _trickle(self, response: web.StreamResponse, reply: Reply) -> None:
        body = reply.body[: reply.transfer.keep_bytes] if reply.transfer.cut else reply.body
        size = max(1, -(-len(body) // PIECES)) if reply.transfer.seconds else max(1, len(body))
        for at in range(0, len(body), size):
            await response.write(body[at : at + size])
            await self._gateway.pause(reply.transfer.seconds / PIECES)


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


@asynccontextmanager
async def serve_both_hosts(gateway: Gateway) -> AsyncIterator[str]:
    """Listen on both hosts inside the block, and yield the URL of the API."""
    closing = asyncio.Event()

    async def pause(seconds: float) -> None:
        """Sleep, but at most until the servers close."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), seconds)

    gateway.pause = pause
    settings = gateway.settings
    api, storage = HostServer(gateway, "api"), HostServer(gateway, "storage")
    try:
        gateway.storage_url = await storage.open(settings.host, settings.storage_port)
        yield await api.open(settings.host, settings.port)
    finally:
        closing.set()
        for task in gateway.background:
            task.cancel()
        await asyncio.gather(api.close(), storage.close())
