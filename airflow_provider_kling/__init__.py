"""Apache Airflow provider for Kling: pictures become videos, paid once, never lost."""

__version__ = "0.1.0"
