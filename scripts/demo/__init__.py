"""The demo: a picture becomes a video in a private Airflow."""
