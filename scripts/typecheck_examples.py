"""Checks the types of the example Dags and of the code in the documents, strictly, with mypy and pyright."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mypy import api

PROJECT = Path(__file__).resolve().parents[1]
#: What pyright reports of each Dag: `a >> b`, and what Airflow leaves untyped.
OF_AIRFLOW = (
    *("reportUnusedExpression", "reportMissingTypeStubs"),
    *("reportUnknownMemberType", "reportUnknownVariableType"),
)
#: Airflow makes this of a dict of params, which mypy knows and pyright does not.
CONVERTED = 'parameter "params" of type "ParamsDict"'
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def write_blocks(folder: Path) -> list[str]:
    """Write each block of code into a file with the name of its document and line."""
    files = []
    for document in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))):
        text = document.read_text()
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 2
            file = folder / f"{document.stem}_line_{line}.py".replace("-", "_")
            file.write_text(block[1])
            files.append(str(file))
    return files


def pyright(folder: Path) -> int:
    """Run pyright on a folder, and return its exit code."""
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", **dict.fromkeys(OF_AIRFLOW, "none")}
    settings["extraPaths"] = [str(PROJECT / "scripts")]
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--project", folder, "--pythonpath", sys.executable]
    done = subprocess.run([*command, "--outputjson"], capture_output=True, text=True, check=False)
    found = [
        note for note in json.loads(done.stdout)["generalDiagnostics"] if CONVERTED not in note["message"]
    ]
    for note in found:
        place = f"{Path(note['file']).relative_to(folder)}:{note['range']['start']['line'] + 1}"
        print(f"{place}: {note['message']} ({note.get('rule')})")
    return len(found)


def main() -> int:
    """Run both, and return an exit code."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PROJECT / "dags", Path(folder, "dags"), ignore=shutil.ignore_patterns("__pycache__"))
        files = [*map(str, sorted(Path(folder, "dags").glob("*.py"))), *write_blocks(Path(folder))]
        os.environ["MYPYPATH"] = str(PROJECT / "scripts")
        options = ["--config-file", str(PROJECT / "pyproject.toml"), "--follow-imports", "silent"]
        out, err, code = api.run([*options, *files])
        print(out.replace(f"{folder}/", ""), err, sep="", end="")
        return code or pyright(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
