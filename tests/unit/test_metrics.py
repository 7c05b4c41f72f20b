"""The page of metrics has each metric with its type, and no other; tests wait for each of them."""

import re
from pathlib import Path

from airflow_provider_kling import get_provider_info, metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/observability.md").read_text()
KINDS = (metrics.Counter, metrics.Timer, metrics.Gauge)
ALL = [value for value in vars(metrics).values() if isinstance(value, KINDS)]


def test_the_page_has_every_metric_and_no_other():
    rows = re.findall(r"^\| `(kling[\w.]+)` \| (\w+) \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted((metric.name, type(metric).__name__.lower()) for metric in ALL)


def test_a_test_waits_for_every_metric():
    tests = "".join(file.read_text() for file in (ROOT / "tests/contract").rglob("*.py"))
    assert {metric.name for metric in ALL} <= set(re.findall(r"\bkling\.[\w.]+", tests))


def test_the_page_has_every_option_of_the_section():
    options = get_provider_info()["config"]["kling"]["options"]
    assert re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE.partition("## The section")[2], re.MULTILINE) == [
        (name, option["default"] or "empty") for name, option in options.items()
    ]
