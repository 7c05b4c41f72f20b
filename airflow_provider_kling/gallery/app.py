"""The gallery's routes. Airflow mounts the app, but checks no login: each route with data does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

_WWW = Path(__file__).parents[1] / "www"
#: The browser asks each time whether a file has changed, so that an upgrade is seen at once.
_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}

app = FastAPI(title="Kling videos", docs_url=None, redoc_url=None, openapi_url=None)


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response


app.mount("/www", _Files(directory=_WWW))


@app.get("/")
def page() -> FileResponse:
    """Return the gallery as a page of its own."""
    return FileResponse(_WWW / "index.html", headers=_HEADERS)
