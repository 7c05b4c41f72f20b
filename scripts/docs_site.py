"""Builds the site of the documents in build/docs, one folder for each version.

The version of this tree is always built. Each argument is a tag (such as v0.1.0) whose version is built too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
FORWARD = '<!doctype html><meta http-equiv="refresh" content="0; url={0}/index.html"><a href="{0}/">{0}</a>\n'


def version_of(tree: Path) -> str:
    """Return the version of the package in a tree."""
    line = next(
        line
        for line in (tree / "airflow_provider_kling" / "__init__.py").read_text().splitlines()
        if line.startswith("__version__")
    )
    return line.split('"')[1]


def build(trees: list[Path], site: Path) -> None:
    """Build the version of each tree, and a first page that leads to the first of them.

    :raises subprocess.CalledProcessError: a link or a reference leads nowhere.
    """
    versions = [version_of(tree) for tree in trees]
    for tree, version in zip(trees, versions, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"DOCS_VERSIONS": " ".join(versions), "AIRFLOW_HOME": folder}
            options = ["-q", "-E", "--fail-on-warning", "-d", f"{folder}/doctrees"]
            command = [sys.executable, "-m", "sphinx", *options, tree / "docs", site / version]
            shutil.rmtree(tree / "docs" / "_api", ignore_errors=True)  # classes that are gone
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
            done.check_returncode()
    (site / "index.html").write_text(FORWARD.format(versions[0]))


def main(tags: list[str]) -> int:
    """Build the site and print its first page."""
    site = PROJECT / "build" / "docs"
    with tempfile.TemporaryDirectory() as folder:
        trees = [PROJECT]
        for tag in tags:
            trees.append(Path(folder) / tag)
            subprocess.run(
                ["git", "worktree", "add", "-q", "--detach", trees[-1], tag], cwd=PROJECT, check=True
            )
        try:
            build(trees, site)
        except subprocess.CalledProcessError as error:
            return error.returncode
        finally:
            for tree in trees[1:]:
                subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=PROJECT, check=True)
    print(f"{site / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
