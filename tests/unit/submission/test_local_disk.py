"""A local folder is warned of where tasks may run on several workers."""

import logging
import socket

import pytest

from airflow_provider_kling.storage.allowed_paths import StoragePath
from airflow_provider_kling.submission.local_disk import warn_of_local_disk

LOCAL, REMOTE = StoragePath("/data/videos", "/data/videos"), StoragePath("s3://b/v", "b/v", "s3")


@pytest.mark.parametrize(
    ("executor", "path", "warned"),
    [
        ("LocalExecutor", LOCAL, False),
        ("SequentialExecutor", LOCAL, False),
        ("airflow.executors.local_executor.LocalExecutor:near", LOCAL, False),
        ("team1:LocalExecutor", LOCAL, False),
        ("LocalExecutor, SequentialExecutor", LOCAL, False),
        ("", LOCAL, False),
        ("our.NonLocalExecutor", LOCAL, True),
        ("our.LocalExecutorWithPods", LOCAL, True),
        ("CeleryExecutor", LOCAL, True),
        ("LocalExecutor, KubernetesExecutor", LOCAL, True),
        ("LocalKubernetesExecutor", LOCAL, True),
        ("airflow.providers.celery.executors.celery_executor.CeleryExecutor:far", LOCAL, True),
        ("CeleryExecutor", REMOTE, False),
    ],
)
def test_a_local_folder_is_warned_of_where_there_may_be_several_workers(
    monkeypatch, caplog, executor, path, warned
):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    warn_of_local_disk("library", path, logging.getLogger("airflow.task"))
    assert bool(caplog.records) == warned
    assert (
        not warned
        or f"library='/data/videos' is on the disk of worker {socket.gethostname()}." in caplog.text
    )


def test_a_pod_of_the_kubernetes_executor_has_a_disk_of_its_own(monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")
    warn_of_local_disk("target", LOCAL, logging.getLogger("airflow.task"))
    assert "With KubernetesExecutor another task may run on another worker" in caplog.text
