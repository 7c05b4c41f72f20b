"""Warns of a local folder where tasks may run on several workers, each with a disk of its own."""

from __future__ import annotations

import os
import re
import socket
from typing import Any

from airflow_provider_kling.storage.allowed_paths import StoragePath

#: The executors that run all tasks on one machine.
_ONE_MACHINE = re.compile(r"(^|[.:])(Local|Sequential|Debug)Executor(:|$)")


def warn_of_local_disk(argument: str, path: StoragePath, log: Any) -> None:
    """Log a warning if *path* is local and tasks may run on several workers.

    Airflow's configuration names the executors. In the pods of a ``KubernetesExecutor`` it may name the
    ``LocalExecutor``, so there a variable of the environment counts.
    """
    from airflow.providers.common.compat.sdk import conf  # noqa: PLC0415 - only a running task needs it

    executors = [name.strip() for name in conf.get("core", "executor", fallback="").split(",")]
    several = [name for name in executors if name and not _ONE_MACHINE.search(name)]
    if not several and os.environ.get("AIRFLOW_IS_K8S_EXECUTOR_POD"):
        several = ["KubernetesExecutor"]
    if path.is_local and several:
        log.warning(
            "%s=%r is on the disk of worker %s. With %s another task may run on another worker: use a "
            "storage URL, or a disk that all workers share.",
            *(argument, path.text, socket.gethostname(), ", ".join(several)),
        )
