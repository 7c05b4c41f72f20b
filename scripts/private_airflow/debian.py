"""Installs Debian packages, if this process may do that."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from private_airflow.services import ServiceError

#: Debian's maintainer scripts ask this program whether they may start a service; 101 is no.
POLICY = Path("/usr/sbin/policy-rc.d")


def may_install() -> bool:
    """Return whether this process can install packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(package: str, log: Path) -> None:
    """Install a package. Its services are not started."""
    print(f"  {package} is missing; installing Debian's package ...", flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(log, "apt-get", "--quiet", "update", env=env)
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        run(log, "apt-get", "--quiet", "install", "--yes", "--no-install-recommends", package, env=env)
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def run(log: Path, *command: str, env: dict[str, str] | None = None) -> None:
    """Run a command until it ends, with its output in a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        raise ServiceError(f"{Path(command[0]).name} failed with exit code {done.returncode}; see {log}")
