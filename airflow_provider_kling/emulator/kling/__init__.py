"""Kling's own dialect: its new design, its legacy design and its callbacks."""
