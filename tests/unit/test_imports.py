"""What an import costs: the lower folders load neither Airflow nor an HTTP library.

Which folder may import which is held by ``lint-imports``, see ``pyproject.toml``.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_kling"
HTTP = {"requests", "aiohttp", "urllib3", "httpx"}
PICTURES = {"PIL", "av"}
PURE = [
    "errors",
    "values",
    "redaction",
    "models.validation",
    "gateways.myrouter",
    "media.pictures",
    "media.mp4",
]
#: The folders that only a running task needs, and what of them an operator's arguments are checked with.
RUNNING_TASK_ONLY = ("transport", "gateways", "submission", "polling", "storage", "media", "models")
DESCRIBES_TASKS = {
    *("models", "models.input_names", "polling"),
    *("storage", "storage.options", "submission", "submission.options"),
}


def loaded_by(*steps):
    """Return what a fresh interpreter loads anew at each step, a list of modules to import."""
    code = "import json, sys\n" + "".join(
        f"import {', '.join(s)}; print(json.dumps([*sys.modules]))\n" for s in steps
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen = [set(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
    return [after - before for before, after in zip([set(), *seen], seen, strict=False)]


def test_models_gateways_and_media_load_neither_airflow_nor_http_nor_picture_libraries():
    (loaded,) = loaded_by([f"{PACKAGE}.{name}" for name in PURE])
    assert not loaded & {"airflow", "asyncio", *HTTP, *PICTURES}


def test_a_dag_file_that_is_parsed_loads_only_what_describes_its_tasks():
    airflow = ["airflow.sdk", "airflow.sdk.bases.sensor"]
    doors = ("operators", "sensors", "decorators", "operators.decorated")
    _, loaded = loaded_by(airflow, [f"{PACKAGE}.{door}" for door in doors])
    assert not loaded & {*HTTP, *PICTURES, "difflib", "ipaddress"}
    ours = {name.removeprefix(f"{PACKAGE}.") for name in loaded if name.startswith(f"{PACKAGE}.")}
    assert "operators.image_to_video" in ours
    folders = {name for name in ours if name.startswith(RUNNING_TASK_ONLY)}
    assert folders <= DESCRIBES_TASKS


def test_the_decorator_itself_loads_no_operator():
    _, loaded = loaded_by(["airflow.sdk"], [f"{PACKAGE}.decorators"])
    ours = {name for name in loaded if name.startswith(PACKAGE)}
    assert ours - {PACKAGE} == {f"{PACKAGE}.decorators"}


def test_the_plugin_which_each_component_of_airflow_imports_loads_nothing_of_a_server():
    _, loaded = loaded_by(["airflow.plugins_manager"], [f"{PACKAGE}.plugin"])
    assert loaded - {PACKAGE} == {f"{PACKAGE}.plugin"}


def test_an_airflow_without_retry_policies_is_told_which_version_has_them(monkeypatch):
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.retries", raising=False)
    monkeypatch.setitem(sys.modules, "airflow.sdk.definitions.retry_policy", None)
    with pytest.raises(ImportError, match=r"KlingRetryPolicy needs Airflow 3\.3 or newer"):
        import_module(f"{PACKAGE}.retries")


def test_every_library_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needs = [*project["dependencies"], *extras["callbacks"], *extras["emulator"]]
    declared = {re.match(r"[\w-]+", need)[0] for need in needs}
    names = {"apache-airflow": "airflow", "opentelemetry-api": "opentelemetry", "Pillow": "PIL"}
    ours = {*sys.stdlib_module_names, PACKAGE, "pytest"}  # pytest itself loads the module with our fixture
    assert _imported(ROOT / PACKAGE) - ours == {
        names.get(name, name) for name in declared if "providers" not in name
    }


def _imported(folder):
    """Return the libraries that the modules of a folder import, wherever they do."""
    names = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
    return {name.partition(".")[0] for name in names}
