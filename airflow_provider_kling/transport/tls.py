"""Which certificates count for a connection: its own, the environment's, or the usual ones."""

from __future__ import annotations

import asyncio
import os
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Literal

import certifi

from airflow_provider_kling.transport.extra import wrong_connection
from airflow_provider_kling.transport.settings import Settings


def verification(settings: Settings) -> str | Literal[False]:
    """Return the path of the bundle to verify with, or False where the connection says not to.

    :raises KlingAccessError: where the bundle or the client certificate is not there.
    """
    for path in settings.cert:
        _existing(settings, "cert", path)
    if isinstance(settings.verify, str):
        return _existing(settings, "verify", settings.verify)
    if not settings.verify:
        return False
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if settings.trust_env else ()
    return next((os.environ[name] for name in names if os.environ.get(name)), certifi.where())


async def tls_context(settings: Settings) -> ssl.SSLContext:
    """Build the TLS context off the loop: it costs files and 15 ms of CPU, once per process and setting."""
    return await asyncio.to_thread(lambda: _context(verification(settings) or None, settings.cert))


@lru_cache(maxsize=8)
def _context(bundle: str | None, cert: tuple[str, ...]) -> ssl.SSLContext:
    folder = bundle is not None and Path(bundle).is_dir()
    context = (
        ssl.create_default_context(capath=bundle) if folder else ssl.create_default_context(cafile=bundle)
    )
    if bundle is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert:
        context.load_cert_chain(*cert)
    return context


def _existing(settings: Settings, name: str, path: str) -> str:
    if not Path(path).exists():
        raise wrong_connection(settings.conn_id, f"the extra's {name!r} names {path!r}, which is not there")
    return path
