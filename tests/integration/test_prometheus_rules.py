"""The alerts of docs/prometheus-rules.yml fire when they should, each alone, by Prometheus' own program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from private_airflow import debian

RULES = Path(__file__).parents[2] / "docs/prometheus-rules.yml"
HEARTBEAT, UNCERTAIN = "airflow_triggerer_heartbeat", "airflow_kling_jobs_uncertain"
CAPACITY = 'airflow_triggerer_capacity_left{hostname="%s"}'
LATENESS = 'airflow_kling_triggerer_lateness{hostname="%s"}'
FAILED = 'airflow_kling_triggerer_failed_queries{gateway="kling"}'
ERRORS = 'airflow_kling_errors{error="%s"}'
#: What Prometheus has each minute while all is well, or nearly not.
WELL = {
    HEARTBEAT: "0+60x60",
    CAPACITY % "a": "1x60",
    LATENESS % "a": "30x60",
    'airflow_kling_triggerer_queries{gateway="kling"}': "0+100x60",
    FAILED: "0+40x60",
    UNCERTAIN: "1x60",
    ERRORS % "KlingVideoError": "1x60",
    ERRORS % "KlingBalanceError": "1x60",
    ERRORS % "KlingDownloadError": "0+1x60",
}


@pytest.fixture(scope="session")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not shutil.which("promtool") and os.environ.get("CI") == "true" and debian.may_install():
        debian.install("prometheus", tmp_path_factory.mktemp("prometheus") / "install.log")
    if not (found := shutil.which("promtool")):
        pytest.skip("this test needs promtool; on Debian and Ubuntu: apt-get install prometheus")
    return found


@pytest.mark.parametrize(
    ("alert", "minute", "series"),
    [
        ("KlingSubmitUncertain", 21, {UNCERTAIN: "1x20 2x40"}),
        ("KlingAccount", 21, {ERRORS % "KlingBalanceError": "1x20 2x40"}),
        ("KlingAccount", 21, {ERRORS % "KlingAccessError": "0x20 1x40"}),
        ("KlingVideo", 21, {ERRORS % "KlingVideoError": "1x20 2x40"}),
        ("KlingWaitsStandStill", 30, {HEARTBEAT: "0+60x20 1200x40"}),
        ("KlingWaitsStandStill", 5, {HEARTBEAT: "_x60"}),
        ("KlingTriggererFull", 26, {CAPACITY % "b": "1x20 0x40"}),
        ("KlingPollsLate", 26, {LATENESS % "b": "30x20 31x40"}),
        ("KlingGatewayFails", 32, {FAILED: "0+40x20 900+100x40"}),
    ],
)
def test_an_alert_fires_in_its_minute_and_alone(
    promtool: str, tmp_path: Path, alert: str, minute: int, series: dict[str, str]
) -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    error = re.findall("Kling(?:Balance|Access)Error", str(series))

    def expected(rule: dict[str, str], at: int) -> dict[str, object]:
        told = {"summary": rule["annotations"]["summary"].replace("{{ $labels.error }}", "".join(error))}
        fired = {"exp_labels": {"error": error[0]} if error else {}, "exp_annotations": told}
        fires = (rule["alert"], at) == (alert, minute)
        return {"eval_time": f"{at}m", "alertname": rule["alert"], "exp_alerts": [fired] if fires else []}

    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in {**WELL, **series}.items()],
        "alert_rule_test": [expected(rule, at) for at in (minute - 1, minute) for rule in group["rules"]],
    }
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
