"""The Dag whose task waits; its task instances are written straight into the database."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("waits", schedule=None):
    EmptyOperator(task_id="wait")
