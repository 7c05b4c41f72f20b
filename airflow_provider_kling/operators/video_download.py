"""How the video of a finished job is brought home: asked for, fetched, checked, and put in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.errors import (
    KlingDownloadError,
    KlingError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import Outcome, Task, checked_task_id, failed_task
from airflow_provider_kling.hooks import KlingHook, airflow_errors, harmless
from airflow_provider_kling.media.probe import check_media, examined, require_pyav
from airflow_provider_kling.operators.xcom import VIDEO_KEY, find_request, task_instance_key
from airflow_provider_kling.storage.allowed_paths import StoragePath, resolve_path
from airflow_provider_kling.storage.atomic_write import receive_video, remove_leftovers
from airflow_provider_kling.storage.files import open_file
from airflow_provider_kling.storage.sidecars import (
    IfExists,
    check_target,
    owner_name,
    read_sidecar,
    video_path,
    write_sidecar,
)
from airflow_provider_kling.submission.reuse import add_to_library, read_reused_video
from airflow_provider_kling.transport.download_stream import Stream

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

#: How often a video is asked for within one try of the task; each time with a fresh link.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class VideoDownload:
    """One video on its way into its place; the arguments are those of ``KlingDownloadOperator``.

    :param operator: who does it: its log is written to, its submit upstream is asked what was bought.
    :param hook: asks the gateway.
    :param target: file, or folder with a slash at the end.
    :param if_exists: what to do when a file stands there.
    :param allowed_paths: folders or storage URLs that the target must lie in.
    :param verify_media: decode a picture, and compare the video with what was asked for.
    :param max_bytes: bytes that the video may have.
    """

    operator: BaseOperator
    hook: KlingHook
    target: str
    if_exists: IfExists
    allowed_paths: Sequence[str]
    verify_media: bool
    max_bytes: int

    def run(self, kling_task_id: str, context: Context) -> str:
        """Fetch, check, store; push ``size``, ``sha256`` and ``content_type``, and return the path.

        :raises KlingError: as Airflow understands it, and naming the job.
        """
        with airflow_errors(), _job_named(kling_task_id):
            kling_task_id = checked_task_id(kling_task_id)
            path = self.checked_path(kling_task_id)
            asked = find_request(self.operator, context["ti"], kling_task_id)
            found = asked.get("reused") or {}
            if found.get("path") == str(path):
                for _ in read_reused_video(found):
                    pass  # it is where it is wanted, if it is still there
                story = read_sidecar(path)
                told = self._examined(story if story.get("kling_task_id") == kling_task_id else found, path)
            else:
                told = self._fetch(path, kling_task_id, context, asked)
            if self.verify_media:
                check_media(told["media_problems"], str(path))
            self._shelve(path, told, asked, context)
        size, content_type, sha256 = (told[key] for key in ("size", "content_type", "sha256"))
        self.operator.log.info("%s: %d bytes, %s, sha256 %s", path, size, content_type, sha256)
        ti = context["ti"]
        for key in ("size", "sha256", "content_type"):
            ti.xcom_push(key=key, value=told[key])
        home = {"kling_task_id": kling_task_id, "path": str(path), "reused": bool(found)}
        home |= task_instance_key(ti)
        ti.xcom_push(key=VIDEO_KEY, value=home)
        return str(path)

    def checked_path(self, kling_task_id: str) -> StoragePath:
        """Return where the job's video goes.

        :raises KlingInputError: where it may not go, or cannot be looked into.
        """
        with _video_paid():
            path = video_path(self.target, kling_task_id)
            limits = (self.allowed_paths, self.hook.settings.allowed_paths)
            resolved = resolve_path(path, "target", *limits, for_writing=True)
        if self.verify_media:
            require_pyav()
        return resolved

    def already_there(
        self, path: StoragePath, kling_task_id: str, context: Context
    ) -> Mapping[str, Any] | None:
        """Return the sidecar of the file that stands there if it may stay, or None to fetch.

        :raises KlingInputError: where neither is allowed.
        """
        with _video_paid():
            told = check_target(path, self.if_exists, kling_task_id=kling_task_id, owner=_origin(context))
        if not told:
            return None
        self.operator.log.info("The video of this very job is there already.")
        return self._examined(told, path)

    def _shelve(
        self, path: StoragePath, told: Mapping[str, Any], asked: Mapping[str, Any], context: Context
    ) -> None:
        """Note a video that was bought with ``reuse`` in its library, for others that ask for the same."""
        if asked.get("library_entry") and not asked.get("reused"):
            with harmless(self.operator.log, "The video could not be noted in the library"):
                add_to_library(asked["library_entry"], str(path), told, owner_of(context))

    def _examined(self, told: Mapping[str, Any], path: StoragePath) -> Mapping[str, Any]:
        """Return what a sidecar tells, and what is in its video where nobody has looked yet."""
        if not self.verify_media or "media_problems" in told:
            return told
        with open_file(path) as file:
            return {**told, **examined(file, told)}

    def _fetch(
        self, path: StoragePath, kling_task_id: str, context: Context, asked: dict[str, Any]
    ) -> dict[str, Any]:
        remove_leftovers(path, owner_of(context))
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                told = self.already_there(path, kling_task_id, context)  # also what came while we fetched
                return dict(told or self._fetch_once(path, kling_task_id, context, asked))
            except KlingDownloadError as error:
                if attempt == _ATTEMPTS:
                    raise
                self.operator.log.info("Again, with a fresh link: %s", error.what)
        raise AssertionError("unreachable")  # pragma: no cover

    def _fetch_once(
        self, path: StoragePath, kling_task_id: str, context: Context, asked: dict[str, Any]
    ) -> dict[str, Any]:
        checks: dict[str, Any] = {"owner": owner_of(context), "replace": self.if_exists == "overwrite"}
        with (
            self._stream(kling_task_id, asked) as (stream, timings),
            receive_video(stream.chunks, stream.length, path, max_bytes=self.max_bytes, **checks) as (
                stored,
                file,
            ),
        ):
            told = {**asked, **_origin(context), "kling_task_id": kling_task_id, "timings": timings}
            told |= {"size": stored.size, "sha256": stored.sha256, "content_type": stream.content_type}
            if self.verify_media:
                told |= examined(file, asked)
            # Before the video has its name: a retry must never find a video that nobody made.
            write_sidecar(path, told, **checks)
        return told

    @contextmanager
    def _stream(
        self, kling_task_id: str, asked: Mapping[str, Any]
    ) -> Iterator[tuple[Stream, dict[str, Any]]]:
        """Open the video at its storage host, or where one of the same stands already."""
        if found := asked.get("reused"):
            yield Stream(found["size"], found["content_type"], read_reused_video(found)), {}
            return
        task = self._finished_task(kling_task_id)
        with self.hook.open_video(task.videos[0].video_url) as stream:
            yield stream, dict(task.timings)

    def _finished_task(self, kling_task_id: str) -> Task:
        task = self.hook.get_task(kling_task_id)
        if task.outcome is Outcome.UNFINISHED:
            what = f"Job {kling_task_id} is not finished yet ({task.describe()})."
            raise KlingUnavailableError(what, money=Money.RUNNING, kling_task_id=kling_task_id)
        if task.outcome is not Outcome.SUCCEEDED:
            raise failed_task(task)
        if not task.videos:
            what = f"Job {kling_task_id} is done but does not name its video yet."
            raise KlingDownloadError(what, kling_task_id=kling_task_id)
        return task


@contextmanager
def _job_named(kling_task_id: str) -> Iterator[None]:
    """Name the job in every error: by its id the video can be fetched another way."""
    try:
        yield
    except KlingError as error:
        facts, job = error.facts(), str(kling_task_id)
        if job not in error.what:
            facts["what"] = f"Job {job}: {error.what}"
        facts["money"] = Money.ASIDE if error.money is Money.UNTOUCHED else error.money
        raise type(error)(**{**facts, "kling_task_id": job}) from error.__cause__


@contextmanager
def _video_paid() -> Iterator[None]:
    """Say of an error about the target that the video is paid for."""
    try:
        yield
    except KlingError as error:
        raise error.replace(money=Money.PAID) from error.__cause__


def owner_of(context: Context) -> str:
    """Return a short name for this task instance, the same in all its tries."""
    return owner_name(_origin(context))


def _origin(context: Context) -> dict[str, Any]:
    ti = context["ti"]
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
