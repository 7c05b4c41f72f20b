"""Fixtures of this ring, made in ``tests/support``."""

from airflow_fakes import attached, clock, decoders, gateway, logged, no_decoders, own_storages, running  # noqa: F401 - fixtures
from chains import picture, rendering  # noqa: F401 - fixtures
from fake_internet import inside, internet  # noqa: F401 - fixtures
from sensor_modes import mode  # noqa: F401 - fixtures
from targets import folder  # noqa: F401 - fixtures
