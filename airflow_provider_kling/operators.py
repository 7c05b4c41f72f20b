"""The operators: one starts a job, one brings its video home, one does it all; one sums up a run."""

from airflow_provider_kling.download import KlingDownloadOperator
from airflow_provider_kling.submit import KlingSubmitOperator
from airflow_provider_kling.summary import KlingSummaryOperator
from airflow_provider_kling.video import KlingImageToVideoOperator

__all__ = [
    "KlingDownloadOperator",
    "KlingImageToVideoOperator",
    "KlingSubmitOperator",
    "KlingSummaryOperator",
]
