"""The operators: KlingSubmitOperator starts a job, KlingDownloadOperator brings its video home."""

from airflow_provider_kling.download import KlingDownloadOperator
from airflow_provider_kling.submit import KlingSubmitOperator

__all__ = ["KlingDownloadOperator", "KlingSubmitOperator"]
