"""Writes the addresses of the project into the package's metadata, where a release is built.

The workflow of a release sets ``REPOSITORY_URL``. A build without it has no addresses; a wheel that is built
from an sdist has those of the sdist.
"""

from __future__ import annotations

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ProjectUrls(MetadataHookInterface):  # type: ignore[misc] # hatchling has no types
    """Hatchling calls it; ``pyproject.toml`` names this file."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``project.urls``."""
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        files = f"{repository}/blob/v{metadata['version']}"
        urls = {
            "Source": repository,
            "Documentation": f"{files}/docs/index.md",
            "Changelog": f"{files}/CHANGELOG.md",
            "Issues": f"{repository}/issues",
        }
        metadata["urls"] = urls if repository else {}
