"""Kling's models as data, and a job that was checked against them."""
