"""Wheel and sdist, as a user gets them: whole, the same bytes everywhere, at work without the source tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import dist
import pytest
from private_airflow.components import inherited_environment

PROJECT = tomllib.loads((dist.PROJECT / "pyproject.toml").read_text())["project"]
#: Imports every module in an environment without extras, and uses what Airflow finds.
AT_WORK = """
import importlib, json, os, pkgutil
import airflow_provider_kling
from airflow.providers_manager import ProvidersManager
modules, missing = 0, set()
for found in pkgutil.walk_packages(airflow_provider_kling.__path__, "airflow_provider_kling."):
    try:
        importlib.import_module(found.name)
        modules += 1
    except ModuleNotFoundError as error:
        missing.add(error.name)
from airflow_provider_kling.emulator import Emulator
from airflow_provider_kling.hooks import KlingHook
manager = ProvidersManager()
with Emulator(render=False) as gateway:
    os.environ["AIRFLOW_CONN_KLING_DEFAULT"] = gateway.connection_json()
    works = KlingHook().test_connection()
print(json.dumps({"file": airflow_provider_kling.__file__, "works": works,
    "modules": modules, "missing": sorted(missing),
    "hook": manager.hooks["kling"].hook_class_name,
    "version": manager.providers["airflow-provider-kling"].version}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dist.Dist:
    folder = tmp_path_factory.mktemp("dist")
    return dist.make(folder / "dist", folder / "environment")


@pytest.fixture
def wheel(made: dist.Dist) -> Distribution:
    [site] = (made.python.parents[1] / "lib").glob("python3.*/site-packages")
    [found] = [each for each in distributions(path=[str(site)]) if each.name == PROJECT["name"]]
    return found


@pytest.fixture
def elsewhere(made: dist.Dist, tmp_path: Path) -> Iterator[Path]:
    """Unpack the sdist in another folder, with other times and rights, and build as another user would."""
    umask = os.umask(0o077)
    source = dist.unpack(made.sdist, tmp_path / "some where else")
    for number, file in enumerate(sorted(source.rglob("*"))):
        file.chmod(0o600 | file.stat().st_mode & 0o100)
        os.utime(file, (1_000_000_000 + number, 1_000_000_000 + number))
    yield source
    os.umask(umask)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_the_same_source_gives_the_same_bytes(kind: str, made: dist.Dist, elsewhere: Path) -> None:
    again = dist.build(elsewhere, kind, elsewhere / "made")
    assert again.read_bytes() == getattr(made, kind).read_bytes()


def test_an_archive_has_the_time_that_its_maker_wants(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    with tarfile.open(dist.build(elsewhere, "sdist", elsewhere / "made")) as archive:
        assert {member.mtime for member in archive} == {1700000000}


@pytest.mark.skipif(not (dist.PROJECT / ".git").exists(), reason="the sdist itself is tested")
def test_the_sdist_has_all_files_of_the_repository_and_no_other(made: dist.Dist) -> None:
    with tarfile.open(made.sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=dist.PROJECT, capture_output=True, text=True, check=True)
    assert names == {*listed.stdout.splitlines(), "PKG-INFO"}, "see include in pyproject.toml"


def test_the_wheel_holds_the_package_and_no_tests(wheel: Distribution) -> None:
    files = {str(file): file for file in wheel.files or []}
    assert {name.split("/")[0] for name in files} == {
        "airflow_provider_kling",
        f"airflow_provider_kling-{wheel.version}.dist-info",
    }
    assert "airflow_provider_kling/py.typed" in files
    tiny = files["airflow_provider_kling/emulator/tiny.mp4"]
    assert Path(str(tiny.locate())).read_bytes()[4:8] == b"ftyp"
    assert not [name for name in files if Path(name).name.startswith(("test_", "conftest"))]


def test_the_wheel_names_its_provider_its_licence_and_its_needs(wheel: Distribution) -> None:
    [entry] = [point for point in wheel.entry_points if point.group == "apache_airflow_provider"]
    assert entry.value == "airflow_provider_kling:get_provider_info"
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    needs = {_name(need) for need in wheel.requires or [] if "extra ==" not in need}
    assert needs == {_name(need) for need in PROJECT["dependencies"]}
    assert not needs & {"av", "Pillow"}, "only the emulator needs these"
    assert {"media", "s3", "emulator"} <= set(wheel.metadata.get_all("Provides-Extra") or [])


def test_airflow_finds_the_provider_and_the_provider_finds_its_gateway(
    made: dist.Dist, wheel: Distribution, tmp_path: Path
) -> None:
    environment = inherited_environment() | {"AIRFLOW_HOME": str(tmp_path)}
    command = [made.python, "-I", "-W", "ignore", "-c", AT_WORK]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True, timeout=90
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert Path(told["file"]).is_relative_to(made.python.parents[1]), "the source tree was imported instead"
    assert told["modules"] > 50
    assert set(told["missing"]) <= {"PIL", "av", "pytest"}, (
        "a module needs what is neither in Airflow nor named"
    )
    assert told["hook"] == "airflow_provider_kling.hooks.KlingHook"
    assert told["version"] == wheel.version
    assert told["works"][0] is True, told["works"]


def test_the_sbom_names_the_wheel_and_all_it_needs(made: dist.Dist, wheel: Distribution) -> None:
    sbom = json.loads(made.sbom.read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    component = sbom["metadata"]["component"]
    assert component["purl"] == f"pkg:pypi/airflow-provider-kling@{wheel.version}"
    listed = {each["name"].lower() for each in sbom["components"]}
    assert {_name(need).lower() for need in PROJECT["dependencies"]} <= listed
    [root] = [each for each in sbom["dependencies"] if each["ref"] == component["bom-ref"]]
    assert len(root["dependsOn"]) == len(PROJECT["dependencies"])
    assert "file:" not in made.sbom.read_text(), "a path of this machine"


def _name(need: str) -> str:
    return re.split("[<>=!~;, \\[]", need)[0]
