"""Builds sdist and wheel in a folder, checks both, and writes what the wheel installs as an SBOM.

    python scripts/dist.py [--tag v0.2.0] [folder]

Files in the archives have a fixed time (2020-02-02, or ``SOURCE_DATE_EPOCH``), so the same source
gives the same bytes on every machine with the same ``REPOSITORY_URL``, hatchling and zlib.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[1]
LOCK = PROJECT / "requirements" / "dev.txt"
DATED = r"^## {} - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)"


class DistError(Exception):
    """Something is not fit for a release."""


class Dist(NamedTuple):
    """What was made."""

    sdist: Path
    wheel: Path
    sbom: Path
    python: Path
    """The Python of an environment with the wheel and its dependencies, as locked, and no more."""


def make(folder: Path, environment: Path) -> Dist:
    """Build and check everything.

    :param folder: where sdist, wheel and SBOM go.
    :param environment: where the environment with the installed wheel goes.
    :raises DistError: a check fails.
    """
    sdist = build(PROJECT, "sdist", folder)
    wheel = rebuild(sdist, folder)
    _run("-m", "twine", "check", "--strict", sdist, wheel)
    _run("-m", "check_wheel_contents", "--package", PROJECT / "airflow_provider_kling", wheel)
    python = install(wheel, environment)
    write_sbom(python, wheel, sbom := folder / "sbom.cdx.json")
    return Dist(sdist, wheel, sbom, python)


def build(source: Path, kind: str, folder: Path) -> Path:
    """Build one archive of a source tree: kind is ``sdist`` or ``wheel``."""
    folder.mkdir(parents=True, exist_ok=True)
    code = f"import sys, hatchling.build; print(hatchling.build.build_{kind}(sys.argv[1]))"
    return folder / _run("-c", code, folder.absolute(), cwd=source).strip()


def rebuild(sdist: Path, folder: Path) -> Path:
    """Build the wheel from the sdist, as a user does who does not trust the wheel."""
    with tempfile.TemporaryDirectory() as unpacked:
        return build(unpack(sdist, Path(unpacked)), "wheel", folder)


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack the sdist into an empty folder, and return the source tree."""
    safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python has it from 3.11.4 on
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **safe)  # type: ignore[arg-type] # of another argument
    [source] = folder.iterdir()
    return source


def install(wheel: Path, environment: Path) -> Path:
    """Install the wheel without extras into a new environment, and return the environment's Python."""
    _run("-m", "uv", "venv", "--quiet", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    name, version, *_ = wheel.name.split("-")
    what = (f"{name.replace('_', '-')}=={version}", "--find-links", wheel.parent, "--constraint", LOCK)
    command = ("-m", "uv", "pip", "install", "--quiet", "--system-certs", "--python", python, *what)
    try:
        _run(*command, "--offline")  # `make setup` has left everything in uv's cache
    except DistError:
        _run(*command)
    _run("-m", "uv", "pip", "check", "--quiet", "--python", python)
    return python


def write_sbom(python: Path, wheel: Path, sbom: Path) -> None:
    """List what is installed in an environment, as the dependencies of the wheel, in CycloneDX's format."""
    form = ("--mc-type", "library", "--output-format", "JSON", "--output-reproducible", "--output-file", sbom)
    _run("-m", "cyclonedx_py", "environment", "--pyproject", PROJECT / "pyproject.toml", *form, python)
    content = json.loads(sbom.read_text())
    component, version = content["metadata"]["component"], wheel.name.split("-")[1]
    component |= {"version": version, "purl": f"pkg:pypi/{component['name']}@{version}"}
    component["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    sbom.write_text(json.dumps(content, indent=2) + "\n")


def check_tag(tag: str) -> str:
    """Return the changes of the version that a tag names.

    :raises DistError: the tag is not the package's version, the changes have no date for it, or the address
        of the repository is unknown.
    """
    if not os.environ.get("REPOSITORY_URL"):
        raise DistError("REPOSITORY_URL is not set: the package would not say where its source is")
    code = (PROJECT / "airflow_provider_kling" / "__init__.py").read_text()
    version = re.search(r'^__version__ = "(.+)"$', code, re.MULTILINE)[1]  # type: ignore[index]
    if tag != f"v{version}":
        raise DistError(f"the tag is {tag}, the package's version is {version}")
    changes = (PROJECT / "CHANGELOG.md").read_text()
    section = re.search(DATED.format(re.escape(version)), changes, re.MULTILINE | re.DOTALL)
    if section is None:
        raise DistError(f"CHANGELOG.md has no section '## {version} - <date>'")
    return section[1].strip()


def _run(*command: str | Path, cwd: Path = PROJECT) -> str:
    done = subprocess.run((sys.executable, *command), cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DistError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main(arguments: list[str]) -> int:
    """Build, check, and print what was made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--tag", help="the tag of the release; it must be the version")
    parser.add_argument("folder", nargs="?", type=Path, default=PROJECT / "dist")
    options = parser.parse_args(arguments)
    try:
        if options.tag:
            changes = check_tag(options.tag)
        with tempfile.TemporaryDirectory() as environment:
            made = make(options.folder, Path(environment) / "venv")
        if options.tag:
            (options.folder / "changes.md").write_text(changes + "\n")
    except DistError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(*made[:3], sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
