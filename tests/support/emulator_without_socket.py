"""The emulator as a function: a POST goes in, the answer comes out."""

import asyncio
import json
from contextlib import contextmanager

from airflow_provider_kling.emulator.gateway import Gateway
from airflow_provider_kling.emulator.messages import Call
from airflow_provider_kling.emulator.settings import Settings


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
        key = {"authorization": f"Bearer {self._gateway.settings.api_key}"}
        call = Call("POST", path, {}, key, json.dumps(body).encode())
        return json.loads(self._loop.run_until_complete(self._gateway.handle("api", call)).body)

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
