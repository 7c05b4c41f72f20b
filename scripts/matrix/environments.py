"""An environment for each row, with the versions of its lock."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from matrix.rows import PROJECT

if TYPE_CHECKING:
    from matrix.rows import Lock, Row

UV = (str(Path(sys.executable).with_name("uv")), "--quiet", "pip")
#: These may be newer than a lock's day: so a new patch of Airflow is noticed. moto refuses right signatures
#: up to 5.2.1. The last two are what pip
#: updates when it installs the provider into an old environment.
ALSO_NEWER = (
    *("apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk"),
    *("pytest", "pytest-asyncio", "moto", "apache-airflow-providers-common-compat", "standardwebhooks"),
)


@cache
def interpreter(version: str) -> Path | None:
    """Return a Python of that version on this machine: on the PATH, or one that pyenv has installed."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python{version}")]
    for candidate in filter(None, found):  # a shim of pyenv may be there and lead nowhere
        done = subprocess.run([candidate, "-c", "import venv, ensurepip"], capture_output=True, check=False)
        if done.returncode == 0:
            return Path(candidate)
    return None


def environment(row: Row) -> Path:
    """Make the environment of a row, unless there is one with the same versions; return its Python."""
    base = interpreter(row.python)
    assert base is not None
    folder = PROJECT / ".venv/matrix" / row.name
    python, stamp = folder / "bin/python", folder / "installed"
    state = hashlib.sha256(row.file.read_bytes() + (PROJECT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == state:
        return python
    subprocess.run([base, "-m", "venv", "--clear", folder], check=True)
    pip = (str(python), "-m", "pip", "--quiet", "--disable-pip-version-check")
    sync = (*UV, "sync", "--system-certs", f"--python={python}", "--require-hashes", str(row.file))
    if subprocess.run(sync, check=False).returncode:
        subprocess.run([*pip, "install", "--require-hashes", "--requirement", row.file], check=True)
    own = ("install", "--no-deps", "--no-build-isolation", "--editable", str(PROJECT))
    subprocess.run([*UV, *own[:1], f"--python={python}", *own[1:]], check=True)
    stamp.write_text(state)
    return python


def version_of(python: Path, package: str) -> str:
    """Return the version of a package in an environment."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def write(lock: Lock) -> None:
    """Resolve a lock anew. Of the lowest versions only those count that `pyproject.toml` names itself."""
    day = (
        f"--exclude-newer={lock.until}",
        *(f"--exclude-newer-package={name}=2100-01-01" for name in ALSO_NEWER),
    )
    needs = lock.needs
    if lock.lowest:
        extras = [f"--extra={name}" for name in ("callbacks", "emulator", "media", "s3")]
        found = _compile(needs, *day, "--resolution=lowest-direct", *extras, "pyproject.toml")
        needs += tuple(line for line in found.splitlines() if line.partition("==")[0] in _declared())
    layout = ("--generate-hashes", "--custom-compile-command=make lock", f"--output-file={lock.file}")
    _compile(needs, *day, *layout, "--upgrade", "--group=test", "requirements/matrix.in")


def _declared() -> set[str]:
    """Return the names of the requirements in `pyproject.toml`, with those of the extras."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    all_of_them = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    return {re.split(r"[\[<>=]", need)[0].lower() for need in all_of_them}


def _compile(needs: tuple[str, ...], *arguments: str) -> str:
    common = (
        "--universal",
        "--python-version=3.11",
        "--no-annotate",
        "--no-emit-package=airflow-provider-kling",
    )
    command = (*UV, "compile", *common, "--no-emit-index-url", "--no-emit-find-links", *arguments, "-")
    text = "\n".join(needs)
    return subprocess.run(
        command, input=text, text=True, stdout=subprocess.PIPE, check=True, cwd=PROJECT
    ).stdout
