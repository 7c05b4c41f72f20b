"""Downloads the video of a finished job: asks for its link, reads it, checks it and stores it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from airflow_provider_kling.errors import (
    KlingDownloadError,
    KlingError,
    KlingUnavailableError,
    KlingVideoError,
    KlingWaitTimeoutError,
    Money,
)
from airflow_provider_kling.gateways.base import Task, checked_task_id
from airflow_provider_kling.hooks import KlingHook, airflow_errors, suppress_and_log
from airflow_provider_kling.media.probe import check_media, probe_video, require_pyav
from airflow_provider_kling.operators.xcom import VIDEO_KEY, task_instance_key
from airflow_provider_kling.polling.policy import PollPolicy
from airflow_provider_kling.redaction import clean, shorten
from airflow_provider_kling.storage.allowed_paths import StoragePath, resolve_path
from airflow_provider_kling.storage.files import open_file
from airflow_provider_kling.storage.options import IfExists
from airflow_provider_kling.storage.target import (
    TOO_LARGE,
    check_target,
    check_writable,
    claim_target,
    owner_name,
    read_sidecar,
    receive_video,
    release_target,
    remove_leftovers,
    video_path,
    write_sidecar,
)
from airflow_provider_kling.submission.reuse import add_to_library, read_reused_video
from airflow_provider_kling.transport.download_stream import Stream

#: Seconds for which the gateway is asked for the link of a job that is said to be done, and how often.
QUERY_TIMEOUT, QUERY_INTERVAL = 300.0, 5.0
#: Seconds before each further attempt; each begins with a fresh link.
ATTEMPT_PAUSES = (1.0, 5.0, 15.0, 45.0)


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """Where a video goes, and what is checked; see ``KlingDownloadOperator``."""

    target: str
    if_exists: IfExists
    allowed_paths: Sequence[str]
    verify_media: bool
    max_bytes: int


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A video in its place.

    :param path: where it is.
    :param facts: its sidecar: size, SHA-256, content type, request, timings.
    :param reused: whether it is a copy of a video that was bought before.
    """

    path: str
    facts: Mapping[str, Any]
    reused: bool

    def publish(self, ti: Any) -> None:
        """Push ``size``, ``sha256``, ``content_type`` and ``kling_video``."""
        for key in ("size", "sha256", "content_type"):
            ti.xcom_push(key=key, value=self.facts[key])
        video = {"kling_task_id": self.facts["kling_task_id"], "path": self.path, "reused": self.reused}
        ti.xcom_push(key=VIDEO_KEY, value={**video, **task_instance_key(ti)})


class VideoDownload:
    """Downloads videos for one task.

    What cannot change is final, as a :class:`KlingVideoError`:

    - The video has more than ``max_bytes``. A fresh link leads to the same file.
    - The link is no http(s) URL, or what comes is no whole mp4 although all promised bytes came. A cache, a
      proxy or a portal may have answered once, so a fresh link is tried first, once.

    What can change is given time, as a :class:`KlingDownloadError` that Airflow retries in the end: a broken
    connection, a slow or silent host, and every HTTP status but 200. A link expires with 403, 404, 410 or
    400, depending on the storage, so a status says little. After each pause the attempt begins with a fresh
    link.

    A target that cannot be written ends the try at once: to fetch the video again would not help.

    :param hook: asks the gateway.
    :param options: where the video goes, and what is checked.
    :param ti: the task instance, for the sidecar and for claims.
    :param log: the task's log.
    """

    def __init__(self, hook: KlingHook, options: DownloadOptions, ti: Any, log: Any) -> None:
        self._hook, self._options, self._log = hook, options, log
        self._origin = {"dag_id": ti.dag_id, "run_id": ti.run_id, **task_instance_key(ti)}
        self._owner = owner_name(self._origin)

    def check_before_submit(self, kling_task_id: str, expires_at: float) -> None:
        """Raise what would keep a video from its place, and claim a target that is a file.

        :param kling_task_id: the job, where an earlier try has bought it; else empty.
        :param expires_at: epoch seconds after which other tasks need not respect the claim.
        :raises KlingInputError: what must be changed before a video is bought.
        """
        path = self._resolve(kling_task_id or "video")
        if not kling_task_id and str(self._options.target).endswith("/"):  # the name will be the job's own
            check_writable(path, self._origin)
            return
        claim_target(path, self._origin, expires_at)  # first: another task may just have delivered
        try:
            check_target(path, self._options.if_exists, kling_task_id=kling_task_id, owner=self._origin)
        except KlingError:
            self.release(kling_task_id)
            raise

    def release(self, kling_task_id: str) -> None:
        """Give back the claim on the target."""
        with suppress_and_log(self._log, "The claim on the target could not be removed"):
            release_target(self._resolve(kling_task_id or "video"), self._origin)

    def run(self, kling_task_id: str, request: Mapping[str, Any], task: Task | None = None) -> DownloadResult:
        """Download the job's video and return where it is.

        :param request: what the submit has pushed about the job; empty where it is not known.
        :param task: the finished job, where its link is known already.
        :raises KlingError: as Airflow understands it; it names the job and the money.
        """
        with airflow_errors(), _naming_job(kling_task_id, self._options.target):
            kling_task_id = checked_task_id(kling_task_id)
            _ = self._hook.settings  # where there is no connection, nothing is known about the video
            with _video_paid():
                path = self._resolve(kling_task_id)
            remove_leftovers(path, self._owner)
            reused = request.get("reused") or {}
            if reused:
                facts = self._copy(path, kling_task_id, request, reused)
            else:
                facts = self._fetch(path, kling_task_id, request, task)
            if self._options.verify_media:
                facts = self._examined(path, facts)
                check_media(facts["media_problems"], str(path))
            if request.get("library_entry") and not reused:
                with suppress_and_log(self._log, "The video could not be added to the library"):
                    add_to_library(request["library_entry"], str(path), facts, self._owner)
        self._log.info(
            "%s: %d bytes, %s, sha256 %s", path, facts["size"], facts["content_type"], facts["sha256"]
        )
        return DownloadResult(str(path), {**facts, "kling_task_id": kling_task_id}, bool(reused))

    def _resolve(self, kling_task_id: str) -> StoragePath:
        if self._options.verify_media:
            require_pyav()
        limits = (self._options.allowed_paths, self._hook.settings.allowed_paths)
        path = video_path(self._options.target, kling_task_id)
        return resolve_path(path, "target", *limits, for_writing=True)

    def _copy(
        self, path: StoragePath, kling_task_id: str, request: Mapping[str, Any], reused: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Copy a video that was bought before, unless it is where it is wanted already."""
        if reused.get("path") == str(path):
            for _ in read_reused_video(reused):
                pass  # to its end, where its hash is compared
            standing = read_sidecar(path)
            return standing if standing.get("kling_task_id") == kling_task_id else reused
        if sidecar := self._existing(path, kling_task_id):
            return sidecar
        stream = Stream(reused["size"], reused["content_type"], read_reused_video(reused))
        return self._store(path, stream, {**request, "kling_task_id": kling_task_id, "timings": {}})

    def _fetch(
        self, path: StoragePath, kling_task_id: str, request: Mapping[str, Any], task: Task | None
    ) -> Mapping[str, Any]:
        wrong_before = False
        for pause in (*ATTEMPT_PAUSES, None):
            try:
                if sidecar := self._existing(path, kling_task_id):  # also one that came in the meantime
                    return sidecar
                task = task or self._finished_task(kling_task_id)
                with self._hook.open_video(task.videos[0].video_url) as stream:
                    return self._store(path, stream, _known(request, task))
            except KlingDownloadError as error:
                is_wrong = isinstance(error, KlingVideoError)
                final = wrong_before or error.reason == TOO_LARGE if is_wrong else _is_of_target(error)
                if pause is None or final:
                    raise
                wrong_before |= is_wrong
                self._log.info("%s The next attempt begins with a fresh link in %.0f s.", error.what, pause)
            task = None
            time.sleep(pause)
        raise AssertionError("unreachable")  # pragma: no cover

    def _finished_task(self, kling_task_id: str) -> Task:
        """Ask for a job that is said to be done, as patiently as a wait does.

        :raises KlingUnavailableError: where it cannot be asked or is not done in time.
        """
        started_at = time.time()
        policy = PollPolicy(kling_task_id, started_at, started_at + QUERY_TIMEOUT, QUERY_INTERVAL)
        while True:
            answer: Task | KlingError
            try:
                answer = self._hook.get_task(kling_task_id)
            except KlingError as error:
                answer = error
            result = policy.update(answer, time.time())
            for message in result.messages:
                self._log.info(message)
            if result.task:
                return result.task
            if isinstance(result.error, KlingWaitTimeoutError):  # a retry may help, and does not pay
                if isinstance(answer, KlingError):
                    raise answer
                what = f"Job {kling_task_id} is not finished yet ({answer.describe()})."
                raise KlingUnavailableError(what, money=Money.RUNNING, kling_task_id=kling_task_id)
            if result.error:
                raise result.error
            time.sleep(max(0.0, result.next_poll_at - time.time()))

    def _existing(self, path: StoragePath, kling_task_id: str) -> Mapping[str, Any] | None:
        """Return the sidecar of the job's video if it is there and may stay, or None to fetch it."""
        with _video_paid():
            if_exists = self._options.if_exists
            sidecar = check_target(path, if_exists, kling_task_id=kling_task_id, owner=self._origin)
        if sidecar:
            self._log.info("The video of this job is there already.")
        return sidecar

    def _store(self, path: StoragePath, stream: Stream, known: Mapping[str, Any]) -> dict[str, Any]:
        """Write the video and its sidecar."""
        write: dict[str, Any] = {"owner": self._owner, "replace": self._options.if_exists == "overwrite"}
        with receive_video(
            stream.chunks, stream.length, path, max_bytes=self._options.max_bytes, **write
        ) as (stored, file):
            facts = {**known, **self._origin, "size": stored.size, "sha256": stored.sha256}
            facts["content_type"] = stream.content_type
            if self._options.verify_media:
                facts |= probe_video(file, known)
            # The sidecar comes first: a retry must never find a video that is not known as ours.
            write_sidecar(path, facts, **write)
        return facts

    def _examined(self, path: StoragePath, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the facts with what is in the video, also of one that was stored without."""
        if "media_problems" in facts:
            return facts
        with open_file(path) as file:
            return {**facts, **probe_video(file, facts)}


def _known(request: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return what is known of the job, for its sidecar."""
    known: dict[str, Any] = {"kling_task_id": task.kling_task_id, "timings": dict(task.timings)}
    if request:
        return {**request, **known}
    if submitted_at := task.timings.get("submit_time_ms"):
        known["submitted_at"] = submitted_at / 1000
    video_type = shorten(clean(str(task.videos[0].video_type or "")), 40)
    return {
        **known,
        "video_type": video_type,
        "request": "unknown: no task of this Dag run submitted the job",
    }


def _is_of_target(error: KlingError) -> bool:
    """Return whether the target's storage has failed; it leaves its own exception as the cause."""
    return error.__cause__ is not None


@contextmanager
def _naming_job(kling_task_id: str, target: str) -> Iterator[None]:
    """Name the job in every error: by its id the video can be fetched in another way."""
    job = str(kling_task_id)
    try:
        yield
    except KlingError as error:
        facts = error.facts()
        if job not in error.what:
            facts["what"] = f"Job {job}: {error.what}"
        if error.money is Money.UNTOUCHED:
            facts["money"] = Money.RUNNING
        raise type(error)(**{**facts, "kling_task_id": job}) from error.__cause__
    except Exception as error:
        words = shorten(clean(f"{type(error).__name__}: {error}"), 300)
        what = f"Job {job}: its video was not stored at {target} ({words})."
        raise KlingDownloadError(what, kling_task_id=job) from error


@contextmanager
def _video_paid() -> Iterator[None]:
    """Say of an error about the target that the video is paid for."""
    try:
        yield
    except KlingError as error:
        if error.money is not Money.UNTOUCHED:
            raise
        raise type(error)(**{**error.facts(), "money": Money.PAID}) from error.__cause__
