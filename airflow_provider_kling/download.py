"""KlingDownloadOperator brings the video of a finished job home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.errors import KlingDownloadError, KlingUnavailableError, Money
from airflow_provider_kling.hooks import KlingHook, airflow_errors
from airflow_provider_kling.jobs import Outcome
from airflow_provider_kling.storage import Stored, store_video, video_path
from airflow_provider_kling.wire import failed_task

if TYPE_CHECKING:
    from airflow.sdk import Context

_DEAD_LINK = (403, 404, 410)


class KlingDownloadOperator(BaseOperator):
    """Fetches the video of a finished job and returns where it is, a string.

    Asks the gateway for a fresh link, streams it under a temporary name, checks that it is a whole mp4,
    and only then gives it its name. Costs nothing, so it may be retried at will. Pushes ``size`` (bytes),
    ``sha256`` and ``content_type`` too.

    :param kling_task_id: the job. (templated)
    :param target: where the video goes: a path or URL of any storage that Airflow knows; with a slash at
        the end a folder, in which it becomes ``<kling_task_id>.mp4``. (templated)
    :param overwrite: replace a file that stands there. The default makes retries harmless.
    :param kling_conn_id: the Airflow connection's id. (templated)
    :raises KlingDownloadError: the video was not fetched whole; a retry may help and does not pay.
    """

    template_fields: Sequence[str] = ("kling_task_id", "target", "kling_conn_id")
    ui_color = "#dcefe0"

    def __init__(
        self,
        *,
        kling_task_id: str,
        target: str,
        overwrite: bool = True,
        kling_conn_id: str = KlingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kling_task_id = kling_task_id
        self.target = target
        self.overwrite = overwrite
        self.kling_conn_id = kling_conn_id

    def execute(self, context: Context) -> str:
        """Fetch, check, store; return the path."""
        hook = KlingHook(self.kling_conn_id)
        with airflow_errors():
            path = video_path(self.target, self.kling_task_id)
            try:
                stored, content_type = self._fetch(hook, path)
            except KlingDownloadError as error:
                if error.http_status not in _DEAD_LINK:
                    raise
                self.log.info("The link was dead (HTTP %s); asking for a fresh one.", error.http_status)
                stored, content_type = self._fetch(hook, path)
        self.log.info("%s: %d bytes, %s, sha256 %s", stored.path, stored.size, content_type, stored.sha256)
        for key, value in {
            "size": stored.size,
            "sha256": stored.sha256,
            "content_type": content_type,
        }.items():
            context["ti"].xcom_push(key=key, value=value)
        return stored.path

    def _fetch(self, hook: KlingHook, path: str) -> tuple[Stored, str]:
        with hook.open_video(self._fresh_link(hook)) as stream:
            stored = store_video(stream.chunks, stream.length, path, overwrite=self.overwrite)
        return stored, stream.content_type

    def _fresh_link(self, hook: KlingHook) -> str:
        task = hook.get_task(self.kling_task_id)
        if task.outcome is Outcome.UNFINISHED:
            what = f"Job {self.kling_task_id} is not finished yet ({task.describe()})."
            raise KlingUnavailableError(what, money=Money.RUNNING, kling_task_id=self.kling_task_id)
        if task.outcome is not Outcome.SUCCEEDED:
            raise failed_task(task)
        if not task.videos:
            what = f"Job {self.kling_task_id} is done but does not name its video yet."
            raise KlingDownloadError(what, kling_task_id=self.kling_task_id)
        return task.videos[0].video_url
