"""Tests on each version of Airflow, of Python and of the requirements that `pyproject.toml` promises."""
