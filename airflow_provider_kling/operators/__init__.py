"""The operators: one starts a job, one brings its video home, one does it all; one sums up a run."""

from airflow_provider_kling.operators.download import KlingDownloadOperator
from airflow_provider_kling.operators.image_to_video import KlingImageToVideoOperator
from airflow_provider_kling.operators.submit import KlingSubmitOperator
from airflow_provider_kling.operators.summary import KlingSummaryOperator

__all__ = [
    "KlingDownloadOperator",
    "KlingImageToVideoOperator",
    "KlingSubmitOperator",
    "KlingSummaryOperator",
]
