"""The emulator as a function: a request goes in, the answer comes out."""

import asyncio
import json
from contextlib import contextmanager

from airflow_provider_kling.emulator.gateway import Gateway
from airflow_provider_kling.emulator.messages import Call
from airflow_provider_kling.emulator.settings import Settings

KEY = {"Authorization": "Bearer emulator-key"}


async def call(gateway, method, path, body=None, headers=KEY, **query):
    """Call the gateway's API, and return the status and the JSON of its answer."""
    raw = b"" if body is None else json.dumps(body).encode()
    reply = await gateway.handle("api", Call(method, path, query, headers, raw))
    return reply.status, json.loads(reply.body)


class EmulatorWithoutSocket:
    """An emulator, called without a socket: thousands of requests take seconds."""

    def __init__(self, **settings):
        self._gateway, self._loop = Gateway(Settings(render=False, **settings)), asyncio.new_event_loop()

    @property
    def newest(self):
        """The newest job."""
        return self._gateway.jobs[-1]

    def post(self, path, body):
        """Return the answer to a submit, a JSON object."""
        return self._loop.run_until_complete(call(self._gateway, "POST", path, body))[1]

    @classmethod
    @contextmanager
    def running(cls, **settings):
        """Use one inside the block."""
        emulator = cls(**settings)
        try:
            yield emulator
        finally:
            emulator._gateway.close()
            emulator._loop.close()
