"""Starts a private Airflow and the programs that it needs."""
