"""The files of the example Dags, as modules."""

import importlib.util
from pathlib import Path

from airflow.sdk import DAG

DAGS = Path(__file__).parents[2] / "dags"


def dag_module(name):
    """Import the file of an example Dag anew."""
    spec = importlib.util.spec_from_file_location(name, DAGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dags_of(name):
    """Return the Dags of a file by their ids."""
    return {value.dag_id: value for value in vars(dag_module(name)).values() if isinstance(value, DAG)}
