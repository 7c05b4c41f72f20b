"""The session for the gateway: the http provider's, with the key and what else the connection says."""

from __future__ import annotations

import json

import requests
from airflow.providers.common.compat.sdk import Connection
from airflow.providers.http.hooks.http import HttpHook

from airflow_provider_kling.settings import Settings


class BearerAuth(requests.auth.AuthBase):
    """Sends the API key; being an *auth*, it also keeps a ``.netrc`` from replacing the key."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:  # noqa: D102 - requests' protocol
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


class _PlainHttpHook(HttpHook):
    """The http provider's hook on a connection that holds only what is meant for it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(http_conn_id=settings.conn_id, auth_type=lambda: BearerAuth(settings.api_key))
        self._connection = Connection(
            conn_id=settings.conn_id,
            conn_type="http",
            host=settings.base_url,
            extra=json.dumps({**settings.http_extra, **settings.headers}),
        )

    def get_connection(self, conn_id: str) -> Connection:  # type: ignore[override]  # a classmethod there
        assert conn_id == self._connection.conn_id
        return self._connection


def gateway_session(settings: Settings) -> requests.Session:
    """Return a session as the http provider sets it up (proxies, TLS, keep-alive), carrying the API key."""
    session = _PlainHttpHook(settings).get_conn()
    # Of a redirect that it does not follow, requests would still read the target, and all of the body.
    session.get_redirect_target = _nowhere  # type: ignore[method-assign]
    return session


def _nowhere(resp: requests.Response) -> None:  # noqa: ARG001 - the argument names it
    return None
