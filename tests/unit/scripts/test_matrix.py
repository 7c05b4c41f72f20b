"""The matrix: what it covers, and what its table says of a row that did not run."""

import re
import tomllib
from pathlib import Path

import pytest
from matrix.__main__ import Outcome, table
from matrix.rows import LOCKS, rows

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = {name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)}


@pytest.mark.parametrize("full", [False, True])
def test_each_promised_python_and_each_lock_has_a_row(full):
    found = rows(full=full)
    assert {row.python for row in found} >= PYTHONS
    assert {row.lock for row in found} == {None, *LOCKS}


def test_the_lowest_row_has_the_lowest_versions():
    locked = (ROOT / "requirements/matrix-lowest.txt").read_text()
    for need in PROJECT["dependencies"]:
        name, lowest = re.match(r"([\w-]+)>=([\d.]+)", need).groups()
        assert re.search(rf"^{name}=={re.escape(lowest)}(\.0)* ", locked, re.MULTILINE), need


def test_no_lock_names_an_address():
    for lock in LOCKS:
        assert "://" not in lock.file.read_text()


def test_a_row_without_its_python_is_skipped_and_not_passed():
    outcome = Outcome(rows(full=False)[-1])
    assert not outcome.is_good
    line = table([outcome]).splitlines()[1]
    assert f"SKIPPED: no Python {outcome.row.python} on this machine" in line


def test_a_row_whose_tests_did_not_end_is_not_good():
    outcome = Outcome(rows(full=False)[0], "3.1.0", passed=5)
    assert not outcome.is_good
    assert "DID NOT END" in table([outcome])
