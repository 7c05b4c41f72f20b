"""What an import costs: the lower folders load neither Airflow nor an HTTP library.

Which folder may import which is held by ``lint-imports``, see ``pyproject.toml``.
"""

import json
import subprocess
import sys

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
    *("models", "models.input_names", "polling", "polling.schedule"),
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
    assert {name for name in loaded if name.startswith(PACKAGE)} == {f"{PACKAGE}.decorators"}
