"""The operators: one that starts a job, one that brings its video home, and one that does it all."""

from airflow_provider_kling.download import KlingDownloadOperator
from airflow_provider_kling.submit import KlingSubmitOperator
from airflow_provider_kling.video import KlingImageToVideoOperator

__all__ = ["KlingDownloadOperator", "KlingImageToVideoOperator", "KlingSubmitOperator"]
