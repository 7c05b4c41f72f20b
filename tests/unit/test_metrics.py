"""The page of metrics and the dashboard have each metric and no other; tests wait for each of them."""

import json
import re
from pathlib import Path

import pytest
import yaml

from airflow_provider_kling import get_provider_info, metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/observability.md").read_text()
ROWS = re.findall(r"^\| `(kling[\w.]+)` \| (\w+) \|([\w, ]*)\|", PAGE, re.MULTILINE)
KINDS = (metrics.Counter, metrics.Timer, metrics.Gauge)
OF_TIMERS = re.compile(r"_seconds_(bucket|sum|count)$")
BOARD = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
TARGETS = [target for panel in BOARD["panels"] for target in panel.get("targets", [])]
VARIABLES = {variable["name"] for variable in BOARD["templating"]["list"]}
ALL = [value for value in vars(metrics).values() if isinstance(value, KINDS)]


def test_the_page_has_every_metric_and_no_other():
    rows = sorted((name, kind) for name, kind, _ in ROWS)
    assert rows == sorted((metric.name, type(metric).__name__.lower()) for metric in ALL)


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
    assert {OF_TIMERS.sub("", name) for name in asked} == set(names)
    for name in asked:
        timer = isinstance(names[OF_TIMERS.sub("", name)], metrics.Timer)
        assert bool(OF_TIMERS.search(name)) is timer, name


def test_statsd_exporter_makes_histograms_of_the_timers_and_forgets_the_gauges():
    mappings = yaml.safe_load((ROOT / "docs/statsd-mapping.yml").read_text())["mappings"]
    ways = {metrics.Timer: ("_seconds", "histogram", None), metrics.Gauge: ("", None, "2m")}
    assert [(one["match"], one["name"], one.get("observer_type"), one.get("ttl")) for one in mappings] == [
        (f"airflow.{metric.name}", f"airflow_{metric.name}".replace(".", "_") + suffix, observer, ttl)
        for kind, (suffix, observer, ttl) in ways.items()
        for metric in ALL
        if isinstance(metric, kind)
    ]
    for buckets in (one["histogram_options"]["buckets"] for one in mappings if "observer_type" in one):
        assert buckets == sorted(buckets)
        assert buckets[-1] <= 3600  # seconds


def test_the_alerts_ask_for_metrics_that_exist():
    rules = yaml.safe_load((ROOT / "docs/prometheus-rules.yml").read_text())["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"airflow_kling_\w+", rule["expr"])}
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert len(asked) >= 5
    assert asked <= {f"airflow.{metric.name}".replace(".", "_") for metric in ALL}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["expr"])
def test_the_dashboard_asks_by_tags_that_the_metric_has(target):
    expr, legend = target["expr"], target["legendFormat"]
    metric = OF_TIMERS.sub("", re.search(r"airflow_(kling_\w+)", expr)[1])
    [tags] = [re.findall(r"\w+", tags) for name, _, tags in ROWS if name.replace(".", "_") == metric]
    assert set(re.findall(r'(\w+)=~"\$(\w+)"', expr)) == {(tag, tag) for tag in VARIABLES if tag in tags}
    assert set(re.findall(r"by \((\w+)\)", expr) + re.findall(r"{{(\w+)}}", legend)) <= {*tags, "le"}
    assert ("histogram_quantile(0." in expr and "sum by (le)" in expr) is ("_bucket" in expr)


def test_every_panel_has_a_place_and_a_query():
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in BOARD["panels"]]
    for panel in BOARD["panels"]:
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"]), panel["title"]
    taken = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(taken) == len(set(taken)), "panels overlap"
    assert max(x for x, _ in taken) < 24
