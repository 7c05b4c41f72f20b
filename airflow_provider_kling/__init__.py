"""Apache Airflow provider for Kling: pictures become videos, paid once, never lost."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow's providers manager wants to know: the hook, and the form of its connection."""
    return {
        "package-name": "airflow-provider-kling",
        "name": "Kling",
        "description": "Pictures become videos with Kling, through the MyRouter gateway.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Kling",
                "external-doc-url": "https://klingai.com/",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": "Kling", "python-modules": ["airflow_provider_kling.hooks"]}],
        "operators": [{"integration-name": "Kling", "python-modules": ["airflow_provider_kling.operators"]}],
        "sensors": [{"integration-name": "Kling", "python-modules": ["airflow_provider_kling.sensors"]}],
        "triggers": [{"integration-name": "Kling", "python-modules": ["airflow_provider_kling.triggers"]}],
        "task-decorators": [
            {"name": "kling_video", "class-name": "airflow_provider_kling.decorators.kling_video"}
        ],
        "extra-links": [
            "airflow_provider_kling.links.KlingVideoLink",
            "airflow_provider_kling.links.KlingProgressLink",
        ],
        "connection-types": [_CONNECTION_TYPE],
    }


_CONNECTION_TYPE: dict[str, Any] = {
    "connection-type": "kling",
    "hook-class-name": "airflow_provider_kling.hooks.KlingHook",
    "hook-name": "Kling",
    "ui-field-behaviour": {
        "hidden-fields": ["login", "schema"],
        "relabeling": {"password": "API key", "host": "Gateway host"},
        "placeholders": {
            "host": "https://api.myrouter.ai",
            "port": "443",
            "extra": '{"proxies": {"https": "http://proxy.example.com:3128"}}',
        },
    },
    "conn-fields": {
        "default_model": {
            "label": "Default model",
            "description": "For operators that name none; kling-v3.0-pro-i2v if empty.",
            "schema": {"type": ["string", "null"]},
        },
        "request_timeout": {
            "label": "Request timeout",
            "description": "Seconds that one call to the gateway may take, 60 if empty.",
            "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 600},
        },
        "queries_per_second": {
            "label": "Queries per second",
            "description": "How many queries a triggerer may send in a second, however many tasks wait; "
            "100 if empty.",
            "schema": {"type": ["number", "null"], "minimum": 0.1, "maximum": 10000},
        },
        "allow_private_hosts": {
            "label": "Allow private hosts",
            "description": "Fetch videos from loopback and private addresses too; for test gateways only.",
            "schema": {"type": ["boolean", "null"]},
        },
        "allowed_paths": {
            "label": "Allowed paths",
            "description": "Folders and storage URLs, with commas between, that pictures and videos must "
            "lie in; no limit if empty.",
            "schema": {"type": ["string", "null"]},
        },
        "max_cost_usd": {
            "label": "Most for one job, USD",
            "description": "A job that is estimated to cost more is refused before it is submitted.",
            "schema": {"type": ["number", "null"], "minimum": 0},
        },
        "max_run_cost_usd": {
            "label": "Most for one Dag run, USD",
            "description": "A job with which the jobs of its Dag run would be estimated to cost more "
            "together is refused before it is submitted.",
            "schema": {"type": ["number", "null"], "minimum": 0},
        },
    },
}
