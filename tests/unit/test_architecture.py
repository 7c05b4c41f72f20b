"""The house stands: imports go down, the lower floors are light, and nothing is too large."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_kling

PACKAGE = "airflow_provider_kling"
HOME = Path(airflow_provider_kling.__file__).parent
MODULES = sorted(HOME.rglob("*.py"))

#: Within a floor, the digit after the point says who may use whom.
FLOORS = {
    0: ["errors", "jobs", "fields"],
    0.1: ["catalog"],
    1: [
        "replies",
        "formats",
        "mp4",
        "places",
        "addresses",
        "ledger",
        "schedule",
        "budget",
        "http1",
        "extras",
    ],
    1.05: ["spending"],
    1.1: ["images", "wire", "inputs", "settings", "media"],
    1.2: ["polling", "validation", "tls", "tally"],
    1.3: ["request"],
    2: ["lines", "sessions"],
    2.1: ["client"],
    2.2: ["fetch"],
    2.3: ["remote"],
    3: ["hooks", "links", "parts", "retries", "turns"],
    3.05: ["storage"],
    3.1: ["shared", "pictures"],
    3.2: ["looks"],
    4: ["triggers", "purchase", "arguments"],
    4.05: ["purse", "orders", "library"],
    4.07: ["telling"],
    4.1: ["submit", "summary"],
    4.2: ["delivery", "starting", "waiting"],
    4.3: ["download", "video"],
    4.4: ["operators", "decorators"],
    5: ["sensors", "plugin"],
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}
PURE = [name for name, floor in FLOOR.items() if floor < 2]
HTTP = {"requests", "aiohttp", "urllib3", "httpx"}
PICTURES = {"PIL", "av"}


def imports_of(path):
    """Yield the names of this package's modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from {n.split(".")[1] for n in names if n.startswith(f"{PACKAGE}.")}


def loaded_by(*steps):
    """Return what a fresh interpreter loads anew at each step, a list of modules to import."""
    code = "import json, sys\n" + "".join(
        f"import {', '.join(s)}; print(json.dumps([*sys.modules]))\n" for s in steps
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen = [set(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
    return [after - before for before, after in zip([set(), *seen], seen, strict=False)]


def test_every_module_has_its_floor():
    known = {*FLOOR, "__init__"}
    assert {path.stem for path in HOME.glob("*.py")} <= known


@pytest.mark.parametrize("name", [name for name in FLOOR if (HOME / f"{name}.py").exists()])
def test_imports_go_down_never_up_or_sideways(name):
    below = {other for other in FLOOR if FLOOR[other] < FLOOR[name]}
    beyond = set(imports_of(HOME / f"{name}.py")) & FLOOR.keys() - below - {name}
    assert not beyond, f"{name} imports {sorted(beyond)}"


def test_the_stand_in_shares_nothing_with_the_rest():
    for path in MODULES:
        inside = path.parent.name == "emulator"
        assert all((other == "emulator") == inside for other in imports_of(path)), path


def test_the_lower_floors_load_neither_airflow_nor_http_nor_picture_libraries():
    pure = [f"{PACKAGE}.{name}" for name in PURE]
    pure.remove(f"{PACKAGE}.tls")  # the one that may load asyncio
    first, then = loaded_by(pure, [f"{PACKAGE}.tls"])
    assert not first & {"airflow", "asyncio", *HTTP, *PICTURES}
    assert not then & {"airflow", *HTTP, *PICTURES}


def test_a_dag_file_pays_for_no_http_library_when_it_is_parsed():
    airflow = ["airflow.sdk", "airflow.sdk.bases.sensor"]
    _, ours = loaded_by(airflow, [f"{PACKAGE}.operators", f"{PACKAGE}.sensors"])
    later = {f"{PACKAGE}.{name}" for name in ("delivery", "media", "triggers", "shared")}
    assert not ours & {*HTTP, *PICTURES, *later}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOME)))
def test_nothing_is_too_large(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    most = {ast.ClassDef: 150, ast.FunctionDef: 30, ast.AsyncFunctionDef: 30}
    for node in ast.walk(ast.parse(text)):
        if type(node) in most and node.name != "__init__":  # which has a line for each argument
            told = len((ast.get_docstring(node) or "").splitlines())
            assert node.end_lineno - node.lineno < most[type(node)] + told, f"{node.name} in {path.name}"
