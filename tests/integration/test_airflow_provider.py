"""What Airflow finds of the provider: its hook, its connection form, its Dags."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from airflow_provider_kling import __version__, get_provider_info

if TYPE_CHECKING:
    from stage import Stage

AIRFLOW = Path(next(iter(find_spec("airflow").submodule_search_locations)))


def test_the_provider_info_is_valid_at_run_time() -> None:
    schema = json.loads((AIRFLOW / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_connection_form_is_valid_where_airflow_itself_never_looks() -> None:
    """Nothing validates ``conn-fields`` at run time; the schema of a provider's YAML file knows them."""
    schema = json.loads((AIRFLOW / "provider.yaml.schema.json").read_text())
    forms = schema["properties"]["connection-types"]
    info = get_provider_info()
    jsonschema.validate(info["connection-types"], _strict(forms))
    for name in ("integrations", "hooks", "operators", "sensors", "triggers", "extra-links"):
        jsonschema.validate(info[name], schema["properties"][name])


def test_a_wrong_connection_form_would_be_seen() -> None:
    schema = json.loads((AIRFLOW / "provider.yaml.schema.json").read_text())
    forms = _strict(schema["properties"]["connection-types"])
    wrong = json.loads(json.dumps(get_provider_info()["connection-types"]))
    wrong[0]["conn-fields"]["request_timeout"]["schema"]["minimum"] = "one"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, forms)
    wrong = json.loads(json.dumps(get_provider_info()["connection-types"]))
    wrong[0]["conn-fields"]["request_timeout"]["schema"]["maximun"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, forms)


def test_every_module_and_class_that_is_named_exists() -> None:
    code = f"""
import importlib, json
info = json.loads({json.dumps(json.dumps(get_provider_info()))})
for kind in ("hooks", "operators", "sensors", "triggers"):
    for entry in info[kind]:
        for module in entry["python-modules"]:
            importlib.import_module(module)
paths = info["extra-links"] + [c["hook-class-name"] for c in info["connection-types"]]
for path in paths:
    module, _, name = path.rpartition(".")
    getattr(importlib.import_module(module), name)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=_home(), timeout=60)


def test_airflow_lists_our_options(tmp_path: Path) -> None:
    command = ["config", "list", "--section", "kling", "--show-values", "--include-descriptions"]
    env = _home() | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__KLING__TRACES": "True"}
    python = [sys.executable, "-W", "ignore", "-m", "airflow"]
    listed = subprocess.run([*python, *command], check=True, env=env, capture_output=True, text=True).stdout
    assert "\ntraces = True\n" in listed
    for name, option in get_provider_info()["config"]["kling"]["options"].items():
        assert f"\n{name} = " in listed
        assert option["description"][:40] in listed


def test_airflow_lists_the_provider(stage: Stage) -> None:
    providers = stage.api.call("GET", "/providers", limit=100)["providers"]
    [ours] = [p for p in providers if p["package_name"] == "airflow-provider-kling"]
    assert ours["version"] == __version__


def test_the_connection_form_shows_our_fields(stage: Stage) -> None:
    [form] = [m for m in stage.ui("/ui/connections/hook_meta") if m["connection_type"] == "kling"]
    assert form["hook_name"] == "Kling"
    assert form["standard_fields"]["password"]["title"] == "API key"
    assert form["standard_fields"]["login"]["hidden"] is True
    fields = form["extra_fields"]
    assert set(fields) == set(get_provider_info()["connection-types"][0]["conn-fields"])
    assert fields["request_timeout"]["schema"]["maximum"] == 600
    for name, field in fields.items():
        assert "null" in field["schema"]["type"], f"{name}: an untouched field could not be saved"


def test_the_test_button_accepts_a_good_key(stage: Stage) -> None:
    answer = _press(stage, password=stage.gateway.api_key)
    assert answer == {
        "status": True,
        "message": f"The gateway at {stage.gateway.url} accepts the API key.",
    }


def test_the_test_button_refuses_a_bad_key(stage: Stage) -> None:
    answer = _press(stage, password="wrong-key-of-a-test")
    assert answer["status"] is False
    assert "INVALID_API_KEY" in answer["message"]
    assert "wrong-key-of-a-test" not in answer["message"]


def test_the_test_button_tells_an_unreachable_gateway(stage: Stage) -> None:
    answer = _press(stage, password="any", host="http://127.0.0.1:9")
    assert answer["status"] is False
    assert answer["message"].startswith("Unreachable: http://127.0.0.1:9.")


def test_the_test_button_costs_nothing(stage: Stage) -> None:
    before = len(stage.gateway.jobs)
    _press(stage, password=stage.gateway.api_key)
    assert len(stage.gateway.jobs) == before


def test_every_dag_is_read_without_an_error(stage: Stage) -> None:
    project = Path(__file__).resolve().parents[2]
    for file in (project / "dags").glob("*.py"):
        names = re.findall(r'(?:DAG|make_dag)\(\s*"(\w+)"', file.read_text())
        assert names, file.name
        for name in names:
            stage.until(f"the Dag {name} to be read", lambda name=name: stage.api.dag_exists(name))
    assert stage.api.import_errors() == {}


def _press(stage: Stage, **fields: Any) -> dict[str, Any]:
    body = {"connection_id": "tried_out", "conn_type": "kling", "host": stage.gateway.url, **fields}
    return dict(stage.api.call("POST", "/connections/test", body))


def _strict(schema: Any) -> Any:
    """Allow no words in a field's schema but those that Airflow's form understands."""
    strict = json.loads(json.dumps(schema))
    field = strict["items"]["properties"]["conn-fields"]["additionalProperties"]
    field["additionalProperties"] = False
    field["properties"]["schema"]["additionalProperties"] = False
    return strict


def _home() -> dict[str, str]:
    from private_airflow.components import inherited_environment

    return inherited_environment() | {"AIRFLOW_HOME": "/nonexistent/airflow"}
