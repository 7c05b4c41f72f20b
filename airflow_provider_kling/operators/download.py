"""KlingDownloadOperator downloads the video of a finished job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.hooks import KlingHook, airflow_errors
from airflow_provider_kling.links import KlingGalleryLink
from airflow_provider_kling.operators.base import reports_errors
from airflow_provider_kling.operators.stored_video import StoringOperator
from airflow_provider_kling.storage.options import DEFAULT_MAX_BYTES, IfExists, checked_max_bytes
from airflow_provider_kling.values import one_of

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg


class KlingDownloadOperator(StoringOperator):
    """Downloads the video of a finished job and returns where it is, a string.

    Asks the gateway for a fresh link, writes the video under a temporary name, checks that it is a whole
    mp4, and only then gives it its name. An expired link is replaced, a broken stream is resumed. It costs
    nothing, so it may be retried. Pushes ``size`` (bytes), ``sha256``, ``content_type`` and ``kling_video``.

    The gateway is asked as patiently as by the sensor: a busy gateway, or a job that it does not show for a
    moment, costs no try. What cannot change (a page instead of a video, a file that is cut off at the
    storage host or larger than ``max_bytes``) fails for good.

    The sidecar ``<video>.json`` has the task id, the request where a task upstream submitted it, the
    gateway's timings, size, sha256, media properties where they were read, and the task that wrote it.

    The target is checked when the video is paid for already. ``KlingImageToVideoOperator`` checks it before.

    :param kling_task_id: the job. (templated)
    :param target: where the video goes: a path or URL of any storage that Airflow knows; with a slash at
        the end a folder, in which it becomes ``<kling_task_id>.mp4``. ``{name}`` is the picture's file name
        or the beginning of the prompt, ``{date}`` the date of the Dag run. (templated)
    :param if_exists: ``overwrite`` replaces a video of ours, which a sidecar shows, and never another file.
        ``skip`` keeps the video of the same job and fails for another. ``fail`` replaces nothing.
    :param allowed_paths: folders or storage URLs that the target must lie in; the connection's
        ``allowed_paths`` hold too. Not templated, so that a trigger form cannot change it.
    :param verify_media: decode a picture with PyAV, and compare duration, sound and aspect ratio with the
        request or the model's default. A video that differs is kept, and the task fails for good.
    :param max_bytes: bytes that a video may have.
    :param preview: show a small picture of the video in Airflow, and its length, size and sound. Needs PyAV
        and Pillow. With False, no decoder reads the video, unless ``verify_media`` asks for it.
    :param outlets: Airflow's own: each ``AssetAlias`` gets an event for the stored video.
    :param kling_conn_id: the Airflow connection's id. (templated)
    :raises KlingDownloadError: the video was not fetched whole; a retry may help and does not pay.
    :raises KlingVideoError: what the link leads to is not a usable video; a retry cannot help.
    :raises KlingInputError: the target may not be used.
    """

    template_fields: Sequence[str] = ("kling_task_id", "target", "kling_conn_id")
    ui_color = "#dcefe0"
    operator_extra_links = (KlingGalleryLink(),)

    def __init__(
        self,
        *,
        kling_task_id: str | XComArg,
        target: str | XComArg,
        if_exists: IfExists = "overwrite",
        allowed_paths: Sequence[str] = (),
        verify_media: bool = False,
        max_bytes: int = DEFAULT_MAX_BYTES,
        preview: bool = True,
        kling_conn_id: str = KlingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Rendered before they are read.
        self.kling_task_id: str = kling_task_id  # type: ignore[assignment]
        self.target: str = target  # type: ignore[assignment]
        self.if_exists = one_of("if_exists", if_exists, IfExists)
        self.allowed_paths = [allowed_paths] if isinstance(allowed_paths, str) else list(allowed_paths)
        self.verify_media = verify_media
        self.max_bytes = checked_max_bytes(max_bytes)
        self.preview = preview
        self.kling_conn_id = kling_conn_id

    @reports_errors
    def execute(self, context: Context) -> str:
        """Download the video; return where it is."""
        from airflow_provider_kling.gateways.base import checked_task_id
        from airflow_provider_kling.operators.target_words import fill_target
        from airflow_provider_kling.operators.video_download import DownloadOptions, VideoDownload
        from airflow_provider_kling.operators.xcom import find_request

        with airflow_errors():
            self.kling_task_id = checked_task_id(self.kling_task_id)
        ti = context["ti"]
        request = find_request(self, ti, self.kling_task_id)
        self.target = fill_target(self.target, self, context)
        download = VideoDownload(KlingHook(self.kling_conn_id), DownloadOptions.of(vars(self)), ti, self.log)
        result = self._store_video(context, download, self.kling_task_id, request)
        download.release(self.kling_task_id)  # the submit may have claimed the target
        return result.path
