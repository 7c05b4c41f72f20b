"""Apache Airflow provider for Kling: pictures become videos. No video is paid twice or lost."""

from __future__ import annotations

from typing import Any

__version__ = "0.2.0"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata for Airflow: its modules and the form of its connection."""
    return {
        "package-name": "airflow-provider-kling",
        "name": "Kling",
        "description": "Pictures become videos with Kling, through the MyRouter gateway or Kling's own API.",
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
            "airflow_provider_kling.links.KlingGalleryLink",
            "airflow_provider_kling.links.KlingRunGalleryLink",
        ],
        "connection-types": [_CONNECTION_TYPE],
        "config": _CONFIG,
    }


_CONFIG: dict[str, Any] = {
    "kling": {
        "description": "The gallery of Kling videos in Airflow's UI, and the spans of tasks.",
        "options": {
            "gallery_folders": {
                "description": "Folders and storage URLs, separated by commas. The API server plays videos "
                "only from there, to users who may read the XComs of the video's Dag. Without any, the "
                "gallery shows no video. A storage URL names its Airflow connection, as the videos' "
                "paths do.\n",
                "version_added": "0.2.0",
                "type": "string",
                "example": "/data/videos, s3://aws_default@media/videos",
                "default": "",
            },
            "traces": {
                "description": "Send a span of each submit, wait and download to the OpenTelemetry that "
                "Airflow's section [traces] sets up.\n",
                "version_added": "0.2.0",
                "type": "boolean",
                "example": "True",
                "default": "False",
            },
            "traces_content": {
                "description": "Add the prompts, the paths of the videos and the words of errors to the "
                "spans.\n",
                "version_added": "0.2.0",
                "type": "boolean",
                "example": None,
                "default": "False",
            },
        },
    }
}


_CONNECTION_TYPE: dict[str, Any] = {
    "connection-type": "kling",
    "hook-class-name": "airflow_provider_kling.hooks.KlingHook",
    "hook-name": "Kling",
    "ui-field-behaviour": {
        "hidden-fields": ["login", "schema"],
        # Airflow 3.3.2 does not test a saved connection without a port. A host's own port wins over 443.
        "relabeling": {"password": "API key", "host": "Gateway host", "port": "Port (443 to test)"},
        "placeholders": {
            "host": "https://api.myrouter.ai, or Kling's: singapore, beijing",
            "port": "443",
            "extra": '{"proxies": {"https": "http://proxy.example.com:3128"}}',
        },
    },
    "conn-fields": {
        "gateway": {
            "label": "Gateway",
            "description": "Whose API it is: myrouter, or kling for Kling's own. If empty, the host decides: "
            "those of klingai.com are Kling's, all others speak as MyRouter.",
            "schema": {"type": ["string", "null"]},
        },
        "default_model": {
            "label": "Default model",
            "description": "For tasks that name no model. If empty: kling-v3.0-pro-i2v, on Kling's own API "
            "kling-3.0.",
            "schema": {"type": ["string", "null"]},
        },
        "request_timeout": {
            "label": "Request timeout",
            "description": "Seconds that one request to the gateway may take. If empty: 60.",
            "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 600},
        },
        "queries_per_second": {
            "label": "Queries per second",
            "description": "The most queries that one triggerer sends per second, for all waiting tasks "
            "together. If empty: 100.",
            "schema": {"type": ["number", "null"], "minimum": 0.1, "maximum": 10000},
        },
        "allow_private_hosts": {
            "label": "Allow private hosts",
            "description": "Fetch videos also from loopback and private addresses. Only for test gateways.",
            "schema": {"type": ["boolean", "null"]},
        },
        "allowed_paths": {
            "label": "Allowed paths",
            "description": "Folders and storage URLs, separated by commas. Tasks read pictures and store "
            "videos only there. If empty: videos may go anywhere, and a local picture is read only if the "
            "Dag file itself names it.",
            "schema": {"type": ["string", "null"]},
        },
        "prices": {
            "label": "Prices",
            "description": 'US dollars per second without sound, by model: {"kling-v2.1-i2v": 0.05}. They '
            "replace the list prices in estimates and limits. If empty: the list prices.",
            "schema": {"type": ["object", "null"]},
        },
        "unit_price_usd": {
            "label": "Price of a unit, USD",
            "description": "What a unit of your resource pack costs on Kling's own API, for estimates and "
            "bills. If empty: 0.14.",
            "schema": {"type": ["number", "null"], "minimum": 0},
        },
        "max_cost_usd": {
            "label": "Limit for one job, USD",
            "description": "A job with a higher estimate is not submitted. If empty: no limit.",
            "schema": {"type": ["number", "null"], "minimum": 0},
        },
        "max_run_cost_usd": {
            "label": "Limit for one Dag run, USD",
            "description": "A job is not submitted if the estimates of its Dag run would add up to more. If "
            "empty: no limit.",
            "schema": {"type": ["number", "null"], "minimum": 0},
        },
    },
}
