"""Downloads a video and tells of it: XComs, metrics, a span, asset events, and datasets for OpenLineage."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_kling.hooks import suppress_and_log
from airflow_provider_kling.operators.base import KlingBaseOperator
from airflow_provider_kling.values import as_list, read_number

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_kling.gateways.base import Task
    from airflow_provider_kling.operators.video_download import DownloadResult, VideoDownload

#: What an asset event has of the XCom ``kling_video``.
_OF_VIDEO = ("kling_task_id", "model", "path", "reused", "size", "sha256", "cost_usd")
#: What may stand in a URI's path as it is, besides letters, digits and ``-._~``.
_PATH = "/!$&'()*+,;=:@"


class StoringOperator(KlingBaseOperator):
    """The base of operators that store a video.

    :param outlets: Airflow's own. Each ``AssetAlias`` gets an event for the asset at the video's path. The
        event of each ``Asset`` gets the same facts.
    """

    _stored: DownloadResult | None = None

    def _store_video(
        self,
        context: Context,
        download: VideoDownload,
        kling_task_id: str,
        request: Mapping[str, Any],
        task: Task | None = None,
    ) -> DownloadResult:
        """Download the video, count it, push its XComs, and add it to the outlets' asset events.

        Airflow stores the events when the task succeeds. The arguments are those of
        :meth:`VideoDownload.run <airflow_provider_kling.operators.video_download.VideoDownload.run>`.
        """
        from airflow_provider_kling import tracing

        model = request.get("model")
        with tracing.step("download", context["ti"], job=kling_task_id, model=model) as span:
            result = download.run(kling_task_id, request, task)
            span.add(gateway=result.gateway.lower(), bytes=result.facts["size"])
            span.add_content(path=result.path)
        with suppress_and_log(self.log, "The download could not be counted"):
            count(result)
        result.publish(context["ti"], request, self.log)
        self._stored = result
        with suppress_and_log(self.log, "No asset event has the video"):
            add_to_outlets(self.outlets, context, result)
        return result

    def get_openlineage_facets_on_complete(
        self,
        task_instance: Any,  # noqa: ARG002 - OpenLineage gives it
    ) -> OperatorLineage[Any, Any] | None:
        """Return the pictures as inputs and the video as output. Only the OpenLineage provider calls it."""
        if not self._stored:
            return None
        from airflow.providers.openlineage.extractors import OperatorLineage

        sources = map(_dataset, _sources(self._stored.facts.get("pictures") or {}))
        return OperatorLineage(inputs=list(sources), outputs=[_dataset(self._stored.path)])


def count(result: DownloadResult) -> None:
    """Count a video that has come from the gateway."""
    from airflow_provider_kling import metrics

    if not result.is_new:
        return
    video = result.facts
    tags = metrics.job_tags(result.gateway, video.get("model"))
    metrics.BYTES.add(video["size"], **tags)
    metrics.DOWNLOAD.record(video["download_seconds"], **tags)
    if ended_at := read_number(video["timings"].get("complete_time_ms")):
        metrics.DELIVERY.record(time.time() - ended_at / 1000, **tags)


def add_to_outlets(outlets: Sequence[Any], context: Context, result: DownloadResult) -> None:
    """Add a stored video to the asset events of a task's outlets."""
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

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
