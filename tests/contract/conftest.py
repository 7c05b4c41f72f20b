"""Fixtures of this ring, made in ``airflow_fakes``."""

from airflow_fakes import attached, clock, gateway, logged  # noqa: F401 - fixtures
