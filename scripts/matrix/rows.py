"""Which versions are tested together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
REQUIREMENTS = PROJECT / "requirements"


@dataclass(frozen=True)
class Lock:
    """Requirements with exact versions, which `make lock` writes.

    Older versions of Airflow break with newer libraries. Airflow's constraints have what was newest when that
    version came out; so does this.

    :param needs: which versions of Airflow there are to choose from, and bounds of other packages.
    :param until: no package but Airflow itself may be newer than this day.
    :param lowest: choose the lowest versions that `pyproject.toml` allows.
    """

    name: str
    needs: tuple[str, ...]
    until: str
    lowest: bool = False

    @property
    def file(self) -> Path:
        """The file with the versions."""
        return REQUIREMENTS / f"matrix-{self.name}.txt"


LOWEST = Lock(
    "lowest",
    ("apache-airflow", "s3fs<2025", "sqlalchemy<2"),  # s3fs names the version of fsspec
    "2026-03-12",
    lowest=True,
)
AIRFLOW_3_1 = Lock("3.1", ("apache-airflow==3.1.*",), "2026-03-12")
AIRFLOW_3_2 = Lock("3.2", ("apache-airflow==3.2.*",), "2026-05-30")
LOCKS = (LOWEST, AIRFLOW_3_1, AIRFLOW_3_2)


@dataclass(frozen=True)
class Row:
    """A line of the table: an environment, and the tests that run in it.

    :param lock: None is `requirements/dev.txt`, in which `make test` runs.
    :param tests: what pytest runs.
    """

    lock: Lock | None
    python: str
    tests: tuple[str, ...]
    what: str = "unit, contract"

    @property
    def name(self) -> str:
        """The name of the environment."""
        return f"{self.lock.name if self.lock else '3.3'}-py{self.python}"

    @property
    def file(self) -> Path:
        """The file with the versions."""
        return self.lock.file if self.lock else REQUIREMENTS / "dev.txt"


#: No version of Airflow matters to the tests of the scripts, the documents' site and the emulator.
#: The tests of the gallery's server run on the newest Airflow only.
OWN_TOOLS = (
    *("tests/unit/scripts", "tests/unit/benchmarks"),
    *("tests/contract/emulator", "tests/contract/gallery"),
)
ALL = ("tests/unit", "tests/contract", *(f"--ignore={folder}" for folder in OWN_TOOLS))
#: What meets Airflow most, and is quick.
SOME = (
    *("tests/unit", *(f"--ignore={folder}" for folder in OWN_TOOLS[:2])),
    "tests/contract/dags",
    *(f"tests/contract/operators/test_{part}.py" for part in ("decorator", "orders", "summary", "xcoms")),
    *(f"tests/contract/polling/test_{part}.py" for part in ("client_pool", "sensor_modes", "trigger_run")),
    *(f"tests/contract/submission/test_{part}.py" for part in ("submit_limits", "submit_memory")),
    *(f"tests/contract/storage/test_{part}.py" for part in ("path_spellings", "s3_rights")),
    "tests/contract/transport/test_hook.py",
)
REAL = ("tests/smoke/smoke.py",)


def rows(*, full: bool) -> list[Row]:
    """Return the rows of the short or of the full table, quick ones first."""
    real = [
        Row(lock, python, REAL, "real Airflow")
        for lock, python in ((AIRFLOW_3_1, "3.11"), (AIRFLOW_3_2, "3.12"))
    ]
    if not full:
        short = ((LOWEST, "3.11"), (AIRFLOW_3_1, "3.11"), (AIRFLOW_3_2, "3.12"), (None, "3.13"))
        return [*(Row(lock, python, SOME) for lock, python in short), *real]
    newest = [(None, python) for python in ("3.11", "3.12", "3.13", "3.14")]
    older = [(lock, python) for lock in (AIRFLOW_3_1, AIRFLOW_3_2) for python in ("3.11", "3.12", "3.13")]
    return [*(Row(lock, python, ALL) for lock, python in ((LOWEST, "3.11"), *older, *newest)), *real]
