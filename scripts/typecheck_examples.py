"""Checks the types of the example Dags and of the documents' Python code with mypy, in strict mode."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from mypy import api

PROJECT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def write_blocks(folder: Path) -> list[str]:
    """Write each block of code into a file with the name of its document and line."""
    files = []
    for document in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))):
        if document.name == "development.md":  # its code uses the scripts of this project
            continue
        text = document.read_text()
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 2
            file = folder / f"{document.stem}_line_{line}.py".replace("-", "_")
            file.write_text(block[1])
            files.append(str(file))
    return files


def main() -> int:
    """Run mypy, and return its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        files = [*map(str, sorted((PROJECT / "dags").glob("*.py"))), *write_blocks(Path(folder))]
        out, err, code = api.run(["--config-file", str(PROJECT / "pyproject.toml"), *files])
        print(out.replace(f"{folder}/", ""), err, sep="", end="")
    return code


if __name__ == "__main__":
    sys.exit(main())
