"""The fingerprint of a request: what a retry compares before it takes an earlier job for its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from airflow_provider_kling.models.input_names import TEXT_INPUTS
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.values import is_link

#: How the query parameters begin that only sign a URL.
_SIGNATURE_PREFIXES = ("x-amz-", "x-goog-", "x-oss-", "x-cos-", "x-tos-", "x-obs-", "q-sign")
#: A parameter that marks a signed URL, and all that belong to that signature.
_SIGNATURES = {
    "signature": frozenset({"signature", "expires", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid"})
    | {"accesskeyid", "security-token", "key-pair-id", "policy"},
    "sig": frozenset({"sig", "se", "sp", "sv", "sr", "st", "spr", "sip", "skoid", "sktid", "skt", "ske"})
    | {"sks", "skv"},
    "q-signature": frozenset({"q-ak", "q-key-time", "q-header-list", "q-url-param-list"}),
}


def fingerprint(job: VideoJob, *connection: str) -> str:
    """Return a hash over model, inputs and connection; the signature of a picture's URL does not count.

    :param connection: what differs between connections: the id and the gateway's URL.
    """
    request = [job.model, _unsigned(dict(job.inputs), job.signed), *connection]
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _unsigned(value: Any, signed: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {n: item if n in TEXT_INPUTS else _unsigned(item, signed) for n, item in value.items()}
    if isinstance(value, list):
        return [_unsigned(item, signed) for item in value]
    if not isinstance(value, str) or not is_link(value):
        return value
    if value in signed:
        return signed[value]
    try:
        parts = urlsplit(value)
    except ValueError:  # the gateway may understand it
        return value
    query = parse_qsl(parts.query, keep_blank_values=True)
    names = {name.lower() for name, _ in query}
    signing = frozenset[str]().union(*(names & those for mark, those in _SIGNATURES.items() if mark in names))
    kept = [
        (name, text)
        for name, text in query
        if not name.lower().startswith(_SIGNATURE_PREFIXES) and name.lower() not in signing
    ]
    return urlunsplit(parts._replace(query=urlencode(kept)))
