"""The time to parse a Dag file with our operators, compared with the same file with BashOperator.

Airflow's DagBag reads each file in a new interpreter, in turns, ``RUNS=15`` of each. The result is CPU time,
which other processes change little: the additional time of the parsing, as a share of the whole process with
Airflow's own imports.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from report import report, spread

RUNS = int(os.environ.get("RUNS", "15"))
TARGET = 5.0
FILES = {
    "BashOperator": """
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator

with DAG("d", schedule=None):
    submit = BashOperator(task_id="submit", bash_command="echo {{ params }}")
    wait = BashOperator(task_id="wait", bash_command="true")
    submit >> wait >> BashOperator(task_id="download", bash_command="true")
""",
    "three Kling operators": """
from airflow.sdk import DAG
from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor

with DAG("d", schedule=None):
    submit = KlingSubmitOperator(task_id="submit", image="{{ params }}", prompt="It waves.")
    wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output)
    submit >> wait >> KlingDownloadOperator(task_id="download", kling_task_id=submit.output, target="/v/")
""",
    "one Kling operator": """
from airflow.sdk import DAG
from airflow_provider_kling.operators import KlingImageToVideoOperator

with DAG("d", schedule=None):
    KlingImageToVideoOperator(task_id="video", image="{{ params }}", prompt="It waves.", target="/v/")
""",
}
# The same file a second time shows the random part of a difference.
FILES["BashOperator again"] = FILES["BashOperator"]
#: Imports in a process that has already imported Airflow.
IMPORTS = {
    "operators and sensors alone": "import airflow_provider_kling.operators, airflow_provider_kling.sensors",
    "PythonOperator alone": "import airflow.providers.standard.operators.python",
    "HttpOperator alone": "import airflow.providers.http.operators.http",
}
IMPORT_TARGET_MS = 15.0
IMPORT = """
import airflow.sdk, airflow.sdk.bases.sensor, time
began = time.process_time()
{}
print(1000 * (time.process_time() - began))
"""
READ = """
import json, resource, sys, time
from airflow.dag_processing.dagbag import DagBag

began = time.process_time()
bag = DagBag(sys.argv[1])
parse = time.process_time() - began
assert len(bag.dags) == 1, bag.import_errors
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "parse": parse, "mb": used.ru_maxrss / 1024}))
"""


def measure_imports() -> dict[str, list[float]]:
    """Return the CPU milliseconds of each import, in turns. The first run fills the caches."""
    runs: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(RUNS + 1):
        for name, statement in IMPORTS.items():
            code = IMPORT.format(statement)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            runs[name].append(float(done.stdout.splitlines()[-1]))
    return {name: values[1:] for name, values in runs.items()}


def read(file: Path, home: str) -> dict[str, float]:
    """Return the CPU seconds of the process and of the parsing alone, and the peak memory in MB."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    env |= {"AIRFLOW_HOME": home, "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(file)], env=env, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure() -> dict[str, list[dict[str, float]]]:
    """Read each file once to fill the caches, then in turns."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for number, (name, text) in enumerate(FILES.items()):
            files[name] = Path(folder) / f"dag_{number}.py"
            files[name].write_text(text)
            read(files[name], f"{folder}/home")
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in FILES}
        for _ in range(RUNS):
            for name, file in files.items():
                runs[name].append(read(file, f"{folder}/home"))
        return runs


def main() -> None:
    """Measure and report."""
    runs = measure()
    columns = {name: {key: [run[key] for run in some] for key in some[0]} for name, some in runs.items()}
    base = {key: statistics.median(values) for key, values in columns["BashOperator"].items()}
    rows = []
    for name, column in columns.items():
        # Before the parsing all processes do the same, so a difference there is random.
        more = statistics.median(column["parse"]) - base["parse"]
        megabytes = statistics.median(column["mb"]) - base["mb"]
        rows.append(
            {
                "file": name,
                "CPU s": spread(column["cpu"]),
                "added %": round(100 * more / base["cpu"], 1),
                "of it parsing ms": spread([1000 * value for value in column["parse"]], ".0f"),
                "peak MB": spread(column["mb"], ".1f"),
                "MB added %": round(100 * megabytes / base["mb"], 1),
            }
        )
    worst = max(max(row["added %"], row["MB added %"]) for row in rows if "Kling" in row["file"])
    imports = measure_imports()
    blank = dict.fromkeys(rows[0], "")
    rows = [{**row, "import CPU ms": ""} for row in rows]
    for name, values in imports.items():
        rows.append({**blank, "file": name, "import CPU ms": spread(values, ".1f")})
    ours = statistics.median(imports["operators and sensors alone"])
    targets = [
        f"Target: under {TARGET:g} % added; measured: {worst:g} %: {_verdict(reached=worst < TARGET)}.",
        f"Target: imports in at most {IMPORT_TARGET_MS:g} ms; measured: {ours:.1f} ms: "
        + _verdict(reached=ours <= IMPORT_TARGET_MS)
        + ".",
    ]
    report("parse", rows, targets, runs={**runs, **imports})


def _verdict(*, reached: bool) -> str:
    return "reached" if reached else "MISSED"


if __name__ == "__main__":
    main()
