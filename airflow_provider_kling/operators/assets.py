"""A stored video as Airflow's assets and as OpenLineage's datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_kling.values import as_list

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_kling.operators.video_download import DownloadResult

#: What an asset event has of the XCom ``kling_video``.
_OF_VIDEO = ("kling_task_id", "model", "path", "reused", "size", "sha256", "cost_usd")
#: What may stand in a URI's path as it is, besides letters, digits and ``-._~``.
_PATH = "/!$&'()*+,;=:@"


def add_to_outlets(outlets: Sequence[Any], context: Context, result: DownloadResult) -> None:
    """Add a stored video to the asset events of a task's outlets."""
    video = result.video()
    extra = {name: video[name] for name in _OF_VIDEO}
    extra |= {name: result.facts.get(name) for name in ("name", "estimated_cost_usd")}
    extra |= {"seconds": (video["media"] or {}).get("duration"), "sidecar": f"{result.path}.json"}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(Asset(uri=asset_uri(result.path)), extra=extra)
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)


def asset_uri(path: str) -> str:
    """Return the URI of a file: without the Airflow connection's id, and percent-encoded.

    Airflow would cut off what follows a ``#`` and sort what follows a ``?``, and MySQL stores ASCII only.
    """
    scheme, authority, key = _parts(path)
    return f"{scheme}://{authority}{quote(key, safe=_PATH)}"


def lineage(result: DownloadResult) -> OperatorLineage[Any, Any]:
    """Return the pictures as inputs and the video as output."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    sources = map(_dataset, _sources(result.facts.get("pictures") or {}))
    return OperatorLineage(inputs=list(sources), outputs=[_dataset(result.path)])


def _parts(path: str) -> tuple[str, str, str]:
    """Return the scheme, the host or bucket, and the path with its leading slash."""
    scheme, is_url, rest = path.partition("://")
    if not is_url:
        return "file", "", path
    authority, slash, key = rest.partition("/")
    return scheme, authority.rpartition("@")[2], f"{slash}{key}"


def _dataset(path: str) -> Dataset:
    """Return a file as OpenLineage names it, as the asset converters of Airflow's providers do."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    scheme, authority, key = _parts(path)
    if scheme == "file":
        return Dataset(namespace="file", name=key)
    return Dataset(namespace=f"{scheme}://{authority}", name=key.lstrip("/"))


def _sources(pictures: Mapping[str, Any]) -> list[str]:
    """Return the paths and URLs of a request's pictures and of its video, each once."""
    given = [item for value in pictures.values() for item in as_list(value)]
    return [
        source
        for source in dict.fromkeys(item.get("source") for item in given)
        if source not in (None, "data")
    ]
