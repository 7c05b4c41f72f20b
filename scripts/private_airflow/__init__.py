"""An Airflow of one's own, with the programs it needs."""
