"""The page of metrics and the dashboard have each metric and no other; tests wait for each of them."""

import json
import re
from pathlib import Path

import yaml

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


def test_the_dashboard_asks_for_every_metric_and_for_no_other():
    asked = set(re.findall(r"airflow_kling_\w+", (ROOT / "docs/grafana-dashboard.json").read_text()))
    names = {f"airflow.{metric.name}".replace(".", "_"): metric for metric in ALL}
    of_timers = r"_seconds_(bucket|sum|count)$"
    assert {re.sub(of_timers, "", name) for name in asked} == set(names)
    for name in asked:
        timer = isinstance(names[re.sub(of_timers, "", name)], metrics.Timer)
        assert bool(re.search(of_timers, name)) is timer, name


def test_statsd_exporter_gives_the_timers_the_names_of_the_dashboard():
    mappings = yaml.safe_load((ROOT / "docs/statsd-mapping.yml").read_text())["mappings"]
    kinds = {f"airflow.{metric.name}": type(metric) for metric in ALL}
    seconds = {metrics.Timer: "_seconds", metrics.Gauge: ""}
    assert {one["match"]: one["name"] for one in mappings} == {
        name: name.replace(".", "_") + seconds[kind] for name, kind in kinds.items() if kind in seconds
    }


def test_the_alerts_ask_for_metrics_that_exist():
    rules = yaml.safe_load((ROOT / "docs/prometheus-rules.yml").read_text())["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"airflow_kling_\w+", rule["expr"])}
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert len(asked) >= 5
    assert asked <= {f"airflow.{metric.name}".replace(".", "_") for metric in ALL}


def test_every_panel_has_a_place_and_a_query():
    board = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in board["panels"]]
    for panel in board["panels"]:
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"]), panel["title"]
    taken = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(taken) == len(set(taken)), "panels overlap"
    assert max(x for x, _ in taken) < 24
