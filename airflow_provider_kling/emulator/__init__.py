"""An emulator of the gateway: the same protocol on your machine, without costs.

It shares no code with the provider. `python -m airflow_provider_kling.emulator` runs it as a server;
`with Emulator() as gateway:` runs it inside a test.
"""

from airflow_provider_kling.emulator.emulator import Emulator
from airflow_provider_kling.emulator.faults import Fault
from airflow_provider_kling.emulator.gateway import Gateway
from airflow_provider_kling.emulator.messages import Call, Reply
from airflow_provider_kling.emulator.settings import Settings

__all__ = ["Call", "Emulator", "Fault", "Gateway", "Reply", "Settings"]
