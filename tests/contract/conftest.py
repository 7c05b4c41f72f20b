"""Fixtures of this ring, made in ``tests/support``."""

from airflow_fakes import (  # noqa: F401 - fixtures
    attached,
    clock,
    decoders,
    gateway,
    kling,
    logged,
    no_decoders,
    own_storages,
    running,
)
from chains import picture, rendering  # noqa: F401 - fixtures
from fake_internet import inside, internet  # noqa: F401 - fixtures
from sensor_modes import mode  # noqa: F401 - fixtures
from targets import folder  # noqa: F401 - fixtures
