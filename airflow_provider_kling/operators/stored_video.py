"""The base of the operators that store a video; it tells of it by XComs, metrics, a span and assets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.hooks import suppress_and_log
from airflow_provider_kling.operators.base import KlingBaseOperator

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_kling.gateways.base import Task
    from airflow_provider_kling.operators.video_download import DownloadResult, VideoDownload


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
        from airflow_provider_kling.operators.assets import add_to_outlets

        model = request.get("model")
        with tracing.step("download", context["ti"], job=kling_task_id, model=model) as span:
            result = download.run(kling_task_id, request, task)
            span.add(gateway=result.gateway.lower(), bytes=result.facts["size"])
            span.add_content(path=result.path)
        with suppress_and_log(self.log, "The download could not be counted"):
            result.count()
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
        from airflow_provider_kling.operators.assets import lineage

        return lineage(self._stored) if self._stored else None
