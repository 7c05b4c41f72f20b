"""`make matrix`: run the tests in each row's environment, and print a table. `--lock` writes the locks anew.

From the environment: FULL=1 runs everything in every combination, ROW=3.1-py3.11 only the rows of that name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from matrix.environments import environment, interpreter, version_of, write
from matrix.rows import LOCKS, PROJECT, REAL, Row, rows

HEAD = ("row", "Airflow", "Python", "tests", "passed", "failed", "skipped", "minutes")


@dataclass
class Outcome:
    """What a row of the table says."""

    row: Row
    airflow: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    minutes: float = 0.0
    ended: bool = False  # whether the tests have run to their end

    @property
    def is_good(self) -> bool:
        """Whether tests ran, and all of them passed or were skipped."""
        return self.ended and self.passed > 0 and not self.failed

    def cells(self) -> tuple[str, ...]:
        """The cells of the row."""
        row = (self.row.name, self.airflow, self.row.python, self.row.what)
        if not self.airflow:
            why = f"SKIPPED: no Python {self.row.python} on this machine"
            return (*row, why, "", "", "")
        failed = str(self.failed) if self.ended else "DID NOT END"
        return (*row, str(self.passed), failed, str(self.skipped), f"{self.minutes:.1f}")


def run(row: Row) -> Outcome:
    """Run the tests of a row."""
    outcome, began = Outcome(row), time.monotonic()
    if interpreter(row.python) is None:
        return outcome
    python = environment(row)
    outcome.airflow, ready = version_of(python, "apache-airflow-core"), time.monotonic() - began
    print(f"\n== {row.name}: Airflow {outcome.airflow}, {row.what}, ready after {ready:.0f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        workers = [] if row.tests == REAL else ["-n2"]
        options = (
            "-q",
            "--no-header",
            "-r",
            "fE",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:anyio",  # older versions of it do not load in the newest pytest
            "--timeout=300",  # an S3 client repeats a call without an answer after a minute
            f"--junit-xml={report}",
            *workers,
        )
        done = subprocess.run([python, "-m", "pytest", *options, *row.tests], cwd=PROJECT, check=False)
        if report.exists():
            suite = ET.parse(report).getroot()[0].attrib
            total, outcome.skipped = int(suite["tests"]), int(suite["skipped"])
            outcome.failed = int(suite["failures"]) + int(suite["errors"])
            outcome.passed = total - outcome.skipped - outcome.failed
            outcome.ended = done.returncode in (0, 1)
    outcome.minutes = (time.monotonic() - began) / 60
    return outcome


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as a table."""
    cells = [HEAD, *(outcome.cells() for outcome in outcomes)]
    widths = [max(len(line[n]) for line in cells if line[n][:7] != "SKIPPED") for n in range(len(HEAD))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def main() -> int:
    """Run all rows, also after one that failed."""
    if sys.argv[1:] == ["--lock"]:
        for lock in LOCKS:
            write(lock)
        return 0
    wanted = os.environ.get("ROW", "")
    chosen = [row for row in rows(full=bool(os.environ.get("FULL"))) if wanted in ("", row.name)]
    outcomes = [run(row) for row in chosen]
    print(f"\n{table(outcomes)}")
    ran = [outcome for outcome in outcomes if outcome.airflow]
    return 0 if ran and all(outcome.is_good for outcome in ran) else 1


if __name__ == "__main__":
    sys.exit(main())
