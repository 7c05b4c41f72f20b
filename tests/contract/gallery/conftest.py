"""Fixtures of this folder, made in ``tests/support``."""

from gallery_stage import gallery, gallery_app  # noqa: F401 - fixtures
