"""The gallery's server: reads videos, their state and their cost from Airflow, and plays the files."""
