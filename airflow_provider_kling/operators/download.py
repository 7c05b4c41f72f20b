"""KlingDownloadOperator brings the video of a finished job home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.operators.base import KlingBaseOperator, reports_errors
from airflow_provider_kling.storage.atomic_write import LARGEST
from airflow_provider_kling.storage.sidecars import IfExists, checked_if_exists

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg


class KlingDownloadOperator(KlingBaseOperator):
    """Fetches the video of a finished job and returns where it is, a string.

    Asks the gateway for a fresh link, streams it under a temporary name, checks that it is a whole mp4,
    and only then gives it its name. A dead link is refreshed, a broken stream goes on where it stopped.
    Costs nothing, so it may be retried at will. Pushes ``size`` (bytes), ``sha256`` and ``content_type``.

    Beside the video it writes ``<video>.json``: the task id, what was asked for (by the submit upstream),
    the gateway's timings, size, sha256, media properties where they were read, and the task that did it.

    :param kling_task_id: the job. (templated)
    :param target: where the video goes: a path or URL of any storage that Airflow knows; with a slash at
        the end a folder, in which it becomes ``<kling_task_id>.mp4``. (templated)
    :param if_exists: what to do when a file stands there: ``overwrite`` it (the default: a retry then
        repairs what an earlier try left), ``skip`` the download if the same job made that very file and
        fail if not, or ``fail``. A sidecar of another job counts as a file of its.
    :param allowed_paths: folders or storage URLs that the target must lie in; the connection's
        ``allowed_paths`` hold too. Not templated, so that a trigger form cannot change it.
    :param verify_media: decode a picture with PyAV, and compare duration, sound and aspect ratio with what
        was asked for, or is the model's default; a video that differs is kept, and the task fails for good.
    :param max_bytes: bytes that a video may have.
    :param kling_conn_id: the Airflow connection's id. (templated)
    :raises KlingDownloadError: the video was not fetched whole; a retry may help and does not pay.
    :raises KlingInputError: the target may not be used.
    """

    template_fields: Sequence[str] = ("kling_task_id", "target", "kling_conn_id")
    ui_color = "#dcefe0"

    def __init__(
        self,
        *,
        kling_task_id: str | XComArg,
        target: str | XComArg,
        if_exists: IfExists = "overwrite",
        allowed_paths: Sequence[str] = (),
        verify_media: bool = False,
        max_bytes: int = LARGEST,
        kling_conn_id: str = KlingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Rendered before they are read.
        self.kling_task_id: str = kling_task_id  # type: ignore[assignment]
        self.target: str = target  # type: ignore[assignment]
        self.if_exists = checked_if_exists(if_exists)
        self.allowed_paths = [allowed_paths] if isinstance(allowed_paths, str) else list(allowed_paths)
        self.verify_media = verify_media
        self.max_bytes = max_bytes
        self.kling_conn_id = kling_conn_id

    @reports_errors
    def execute(self, context: Context) -> str:
        """Fetch, check, store; return the path."""
        from airflow_provider_kling.operators.video_download import VideoDownload

        checks = (self.target, self.if_exists, self.allowed_paths, self.verify_media, self.max_bytes)
        return VideoDownload(self, KlingHook(self.kling_conn_id), *checks).run(self.kling_task_id, context)
