"""KlingDownloadOperator brings the video of a finished job home."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.errors import (
    KlingDownloadError,
    KlingError,
    KlingInputError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.hooks import KlingHook, airflow_errors
from airflow_provider_kling.jobs import Outcome, Task
from airflow_provider_kling.media import check_media, inspect_media, require_pyav
from airflow_provider_kling.places import check_inside
from airflow_provider_kling.storage import (
    check_target,
    exists,
    read_sidecar,
    received_video,
    sweep_parts,
    video_path,
    write_sidecar,
)
from airflow_provider_kling.submit import asked_for
from airflow_provider_kling.wire import checked_task_id, failed_task

if TYPE_CHECKING:
    from airflow.sdk import Context

IfExists = Literal["overwrite", "skip", "fail"]
#: How often a video is asked for within one try of the task; each time with a fresh link.
_ATTEMPTS = 3
_LARGEST = 4 * 1024**3


class KlingDownloadOperator(BaseOperator):
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
        repairs what an earlier try left), ``skip`` the download if the same job made that file and fail
        if another did, or ``fail``.
    :param within: folders or storage URLs that the target must lie in; the connection's ``allowed_paths``
        hold too. Not templated, so that a trigger form cannot change it.
    :param verify_media: decode a picture with PyAV, and compare duration and sound with what was asked for;
        a video that differs is kept, and the task fails for good.
    :param largest: bytes that a video may have.
    :param kling_conn_id: the Airflow connection's id. (templated)
    :raises KlingDownloadError: the video was not fetched whole; a retry may help and does not pay.
    :raises KlingInputError: the target may not be used.
    """

    template_fields: Sequence[str] = ("kling_task_id", "target", "kling_conn_id")
    ui_color = "#dcefe0"

    def __init__(
        self,
        *,
        kling_task_id: str,
        target: str,
        if_exists: IfExists = "overwrite",
        within: Sequence[str] = (),
        verify_media: bool = False,
        largest: int = _LARGEST,
        kling_conn_id: str = KlingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if if_exists not in get_args(IfExists):
            raise ValueError(f"if_exists={if_exists!r}: must be 'overwrite', 'skip' or 'fail'")
        self.kling_task_id = kling_task_id
        self.target = target
        self.if_exists = if_exists
        self.within = [within] if isinstance(within, str) else list(within)
        self.verify_media = verify_media
        self.largest = largest
        self.kling_conn_id = kling_conn_id

    def execute(self, context: Context) -> str:
        """Fetch, check, store; return the path."""
        hook = KlingHook(self.kling_conn_id)
        with airflow_errors(), self._job_named():
            self.kling_task_id = checked_task_id(self.kling_task_id)
            path = self._checked_path(hook)
            told = self._already_there(path) or self._fetch(hook, path, context)
        self.log.info("%s: %d bytes, %s, sha256 %s", path, told["size"], told["content_type"], told["sha256"])
        for key in ("size", "sha256", "content_type"):
            context["ti"].xcom_push(key=key, value=told[key])
        return path

    @contextmanager
    def _job_named(self) -> Iterator[None]:
        """Name the job in every error: by its id the video can be fetched another way."""
        try:
            yield
        except KlingError as error:
            facts, job = error.facts(), str(self.kling_task_id)
            if job not in error.what:
                facts["what"] = f"Job {job}: {error.what}"
            facts["money"] = Money.ASIDE if error.money is Money.UNTOUCHED else error.money
            raise type(error)(**{**facts, "kling_task_id": job}) from error.__cause__

    def _checked_path(self, hook: KlingHook) -> str:
        path = video_path(self.target, self.kling_task_id)
        check_inside(path, "target", self.within)
        check_inside(path, "target", hook.settings.allowed_paths)
        check_target(path)
        if self.verify_media:
            require_pyav()
        return path

    def _already_there(self, path: str) -> Mapping[str, Any] | None:
        """Return the sidecar of the file that stands there if it may stay, or None to fetch."""
        if self.if_exists == "overwrite" or not exists(path):
            return None
        told = read_sidecar(path)
        if self.if_exists == "skip" and told.get("kling_task_id") == self.kling_task_id:
            self.log.info("The video of this very job is there already.")
            return told
        maker = (
            f"made by job {told['kling_task_id']}" if told.get("kling_task_id") else "made by nobody known"
        )
        advice = "Choose another target, or allow if_exists='overwrite'."
        what = f"target={path!r} exists already, {maker}."
        raise KlingInputError(what, money=Money.PAID, advice=advice)

    def _fetch(self, hook: KlingHook, path: str, context: Context) -> Mapping[str, Any]:
        sweep_parts(path, _owner(context))
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._fetch_once(hook, path, context)
            except KlingDownloadError as error:
                if attempt == _ATTEMPTS:
                    raise
                self.log.info("Again, with a fresh link: %s", error.what)
        raise AssertionError("unreachable")  # pragma: no cover

    def _fetch_once(self, hook: KlingHook, path: str, context: Context) -> Mapping[str, Any]:
        task = self._finished_task(hook)
        asked = asked_for(self, context["ti"], self.kling_task_id)
        told = {
            **asked,
            **_origin(context),
            "kling_task_id": self.kling_task_id,
            "timings": dict(task.timings),
        }
        with (
            hook.open_video(task.videos[0].video_url) as stream,
            received_video(
                stream.chunks, stream.length, path, largest=self.largest, owner=_owner(context)
            ) as (stored, file),
        ):
            media = inspect_media(file) if self.verify_media else None
            told |= {"size": stored.size, "sha256": stored.sha256, "content_type": stream.content_type}
            if media:
                told["media"] = media.to_dict()
            # Before the video has its name: a retry must never find a video that nobody made.
            write_sidecar(path, told, _owner(context))
        if media:
            check_media(media, asked.get("inputs", {}), path)
        return told

    def _finished_task(self, hook: KlingHook) -> Task:
        task = hook.get_task(self.kling_task_id)
        if task.outcome is Outcome.UNFINISHED:
            what = f"Job {self.kling_task_id} is not finished yet ({task.describe()})."
            raise KlingUnavailableError(what, money=Money.RUNNING, kling_task_id=self.kling_task_id)
        if task.outcome is not Outcome.SUCCEEDED:
            raise failed_task(task)
        if not task.videos:
            what = f"Job {self.kling_task_id} is done but does not name its video yet."
            raise KlingDownloadError(what, kling_task_id=self.kling_task_id)
        return task


def _owner(context: Context) -> str:
    """Return a short name for this task instance, the same in all its tries."""
    return hashlib.sha256(json.dumps(_origin(context), sort_keys=True).encode()).hexdigest()[:8]


def _origin(context: Context) -> dict[str, Any]:
    ti = context["ti"]
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
