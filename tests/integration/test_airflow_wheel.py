"""The wheel, as a user gets it: whole, without the tests, and found by Airflow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from private_airflow.components import inherited_environment

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True, timeout=60)
    [wheel] = (folder / "dist").glob("*.whl")
    target = folder / "site"
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
    subprocess.run(
        [*install, "--target", str(target), str(wheel)], check=True, capture_output=True, timeout=60
    )
    return target


def test_the_wheel_holds_the_package_and_no_tests(installed: Path) -> None:
    package = installed / "airflow_provider_kling"
    assert (package / "py.typed").is_file()
    assert (package / "emulator" / "tiny.mp4").read_bytes()[4:8] == b"ftyp"
    source = {path.relative_to(PROJECT) for path in (PROJECT / "airflow_provider_kling").rglob("*.py")}
    assert source <= {path.relative_to(installed) for path in package.rglob("*.py")}
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top - {"bin", ".lock"} == {"airflow_provider_kling"}
    assert not [path for path in installed.rglob("*") if path.name.startswith(("test_", "conftest"))]


def test_the_wheel_names_its_provider_its_licence_and_its_needs(installed: Path) -> None:
    [wheel] = distributions(path=[str(installed)])
    [entry] = [point for point in wheel.entry_points if point.group == "apache_airflow_provider"]
    assert entry.value == "airflow_provider_kling:get_provider_info"
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    needs = {_name(need) for need in wheel.requires or [] if "extra ==" not in need}
    assert needs == {_name(need) for need in project["dependencies"]}
    assert not needs & {"av", "Pillow"}, "only the emulator needs these"


def test_airflow_finds_the_provider_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = """
import json
import re
import airflow_provider_kling
from airflow.providers_manager import ProvidersManager
from airflow_provider_kling.emulator import Emulator
manager = ProvidersManager()
hook = manager.hooks["kling"]
from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor
with Emulator(render=False) as gateway:
    pass
print(json.dumps({"file": airflow_provider_kling.__file__, "hook": hook.hook_class_name,
    "version": manager.providers["airflow-provider-kling"].version}))
"""
    environment = inherited_environment() | {"PYTHONPATH": str(installed), "AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=90)
    told = json.loads(done.stdout.decode().strip().splitlines()[-1])
    assert Path(told["file"]).is_relative_to(installed), "the source tree was imported instead"
    assert told["hook"] == "airflow_provider_kling.hooks.KlingHook"
    [wheel] = distributions(path=[str(installed)])
    assert told["version"] == wheel.version


def _name(need: str) -> str:
    return re.split("[<>=!~;, ]", need)[0]
