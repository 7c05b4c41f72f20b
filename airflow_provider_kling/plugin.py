"""What Airflow's UI shows of this provider: the page and the tabs *Kling videos*.

Every component of Airflow imports this module. So the app itself is imported at its first request.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

#: Where the app is mounted, below Airflow's base URL.
URL_PREFIX = "/kling"
#: Where Airflow shows the gallery, and the last part of the address there. Airflow wants them distinct.
URL_ROUTES = {
    "nav": "kling",
    "dag": "kling-dag",
    "dag_run": "kling-run",
    "task_instance": "kling-videos",
}


class LazyApp:
    """The gallery's ASGI app, imported when it is first asked for something."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        from airflow_provider_kling.gallery.app import app  # noqa: PLC0415 - see the module's docstring

        await app(scope, receive, send)


def _react_app(destination: str) -> dict[str, Any]:
    """Return the entry of one place; its URLs are relative, so that Airflow may have a base URL with a path.

    The same script has another URL in each place, because the UI cannot load one script for two places.
    """
    www = f"{URL_PREFIX.strip('/')}/www"
    return {
        "name": "Kling videos",
        "bundle_url": f"{www}/gallery.js?in={destination}",
        "destination": destination,
        "url_route": URL_ROUTES[destination],
        "nav_top_level": destination == "nav",
        "icon": f"{www}/icon.svg",
        "icon_dark_mode": f"{www}/icon_dark.svg",
    }


class KlingPlugin(AirflowPlugin):
    """Registers the gallery."""

    name = "kling"
    fastapi_apps = [{"name": "Kling videos", "url_prefix": URL_PREFIX, "app": LazyApp()}]
    react_apps = [_react_app(destination) for destination in URL_ROUTES]
