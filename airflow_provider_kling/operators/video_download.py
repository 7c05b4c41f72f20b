"""Downloads the video of a finished job: asks for its link, reads it, checks it and stores it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, BinaryIO

from airflow_provider_kling import metrics
from airflow_provider_kling.errors import (
    KlingDownloadError,
    KlingError,
    KlingInputError,
    KlingVideoError,
    Money,
)
from airflow_provider_kling.gateways.base import Task
from airflow_provider_kling.hooks import KlingHook, airflow_errors, suppress_and_log
from airflow_provider_kling.media.preview import Decoded, checked_preview, decode_video
from airflow_provider_kling.media.probe import check_media, differences, require_pyav
from airflow_provider_kling.models.bill import NO_BILL
from airflow_provider_kling.models.inputs import plain_value
from airflow_provider_kling.operators.job_wait import finished_task
from airflow_provider_kling.operators.target_words import WORD
from airflow_provider_kling.operators.xcom import bill_facts, find_source, show_bill, task_instance_key
from airflow_provider_kling.redaction import NO_SECRETS, redacted
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.files import STORAGE_FAILED
from airflow_provider_kling.storage.options import DEFAULT_MAX_BYTES, IfExists
from airflow_provider_kling.storage.target import TOO_LARGE, Target, owner_name
from airflow_provider_kling.submission.local_disk import warn_of_local_disk
from airflow_provider_kling.submission.reuse import add_to_library, read_reused_video
from airflow_provider_kling.transport.download_stream import Stream
from airflow_provider_kling.values import as_object, is_placeholder, read_number
from airflow_provider_kling.xcom_keys import CONTENT_TYPE_KEY, PREVIEW_KEY, SHA256_KEY, SIZE_KEY, VIDEO_KEY

#: Seconds before each further attempt; each begins with a fresh link.
ATTEMPT_PAUSES = (1.0, 5.0, 15.0, 45.0)
#: What the XCom has of the sidecar.
_PUBLISHED = (
    *("kling_task_id", "model", "submitted_at", "timings", "downloaded_at", "download_seconds"),
    *("size", "sha256", "media", "cost_usd", "billing"),
)
#: The ends of the names of sidecars, claims and temporary files: another target's file may need such a name.
_BESIDE_VIDEOS = (".json", ".claim", ".part")
_NOT_KNOWN = "unknown: no task of this Dag run submitted the job"


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """Where a video goes, and what is checked; see ``KlingDownloadOperator``."""

    target: Any
    if_exists: IfExists
    allowed_paths: Sequence[str]
    verify_media: bool
    max_bytes: int
    preview: bool

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> DownloadOptions:
        """Return the options from an operator's arguments of these names."""
        allowed = arguments.get("allowed_paths") or ()
        return cls(
            plain_value(arguments["target"]),
            arguments.get("if_exists", "overwrite"),
            [allowed] if isinstance(allowed, str) else allowed,
            bool(arguments.get("verify_media")),
            arguments.get("max_bytes", DEFAULT_MAX_BYTES),
            bool(arguments.get("preview", True)),
        )

    def file(self, kling_task_id: str) -> str:
        """Return *target*; if it ends with a slash, ``<kling_task_id>.mp4`` in it.

        :raises KlingInputError: it is no path.
        """
        if not isinstance(self.target, str) or not self.target.strip() or is_placeholder(self.target):
            raise KlingInputError(f"target={self.target!r}: must be a path or a storage URL.")
        if word := WORD.search(self.target):
            what = f"target={self.target!r}: {word[0]} is unknown; known are {{name}} and {{date}}."
            raise KlingInputError(what, advice="Correct the target.")
        return f"{self.target}{kling_task_id}.mp4" if self.target.endswith("/") else self.target


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A stored video.

    :param path: its path or storage URL.
    :param facts: its sidecar: size, SHA-256, content type, request, timings.
    :param reused: whether it is a copy of a video of an earlier job.
    :param is_new: whether it has just come from the gateway; else it was there already, or is a copy.
    :param preview: whether its small pictures are shown.
    :param allowed_paths: the connection's allowed folders, for the library.
    :param gateway: the name of the connection's gateway.
    """

    path: str
    facts: Mapping[str, Any]
    reused: bool
    is_new: bool
    preview: bool
    allowed_paths: Sequence[str]
    gateway: str

    def video(self) -> dict[str, Any]:
        """Return what the XCom ``kling_video`` has of the video."""
        video = {name: self.facts.get(name) for name in _PUBLISHED}
        video |= {"path": self.path, "reused": self.reused}
        if self.reused or not video["billing"]:  # the bill of an earlier purchase, or a sidecar without one
            video |= NO_BILL
        return video

    def count(self) -> None:
        """Count the video if it has come from the gateway."""
        if not self.is_new:
            return
        tags = metrics.job_tags(self.gateway, self.facts.get("model"))
        metrics.BYTES.add(self.facts["size"], **tags)
        metrics.DOWNLOAD.record(self.facts["download_seconds"], **tags)
        if ended_at := read_number(self.facts["timings"].get("complete_time_ms")):
            metrics.DELIVERY.record(time.time() - ended_at / 1000, **tags)

    def publish(self, ti: Any, request: Mapping[str, Any], log: Any) -> None:
        """Push what is known of the video; add it to the library.

        :param request: the XCom of the submit about the job; empty if there is none.
        """
        for key in (SIZE_KEY, SHA256_KEY, CONTENT_TYPE_KEY):
            ti.xcom_push(key=key, value=self.facts[key])
        ti.xcom_push(key=VIDEO_KEY, value={**self.video(), **task_instance_key(ti)})
        pictures = _pictures(self.facts.get("preview") if self.preview else None)
        if pictures["poster"]:
            if request.get("task_id") != ti.task_id:  # the task of the submit has pushed the source
                pictures["source"] = None
            with suppress_and_log(log, "The preview of the video could not be stored"):
                preview = {"kling_task_id": self.facts["kling_task_id"], **pictures}
                ti.xcom_push(key=PREVIEW_KEY, value=preview)
        if (entry := self.facts.get("library_entry")) and not self.reused:
            with suppress_and_log(log, "The video could not be added to the library"):
                add_to_library(entry, self.path, self.facts, owner_name(self.facts), self.allowed_paths)


class VideoDownload:
    """Downloads the video of a job for one task.

    A :class:`KlingVideoError` is final:

    - The video has more than ``max_bytes``.
    - The link is no http(s) URL, or all promised bytes came and are no whole mp4. This is final at the second
      time only: a cache or a proxy may have answered the first time.

    Any other :class:`KlingDownloadError` is repeated after a pause, with a fresh link; in the end Airflow
    retries it. These are broken connections, slow hosts, and each HTTP status but 200: storages answer 400,
    403, 404 or 410 to a link that has expired.

    A failure of the target's storage is not repeated here: the video would be fetched again for nothing.

    :param hook: sends the queries to the gateway.
    :param options: the target, and what is checked.
    :param ti: the task instance, for the sidecar and for claims.
    :param log: the task's log.
    """

    def __init__(self, hook: KlingHook, options: DownloadOptions, ti: Any, log: Any) -> None:
        self._hook, self._options, self._ti, self._log = hook, options, ti, log
        self._owner = {"dag_id": ti.dag_id, "run_id": ti.run_id, **task_instance_key(ti)}

    def check_before_submit(self, kling_task_id: str, expires_at: float) -> None:
        """Check that the video can be written, and claim the target if it is a file.

        :param kling_task_id: the job if an earlier try has bought it, else empty.
        :param expires_at: when the claim ends, in epoch seconds.
        :raises KlingInputError: the target must be changed before a video is bought.
        """
        target = self._target(kling_task_id or "video")
        if not kling_task_id:
            warn_of_local_disk("target", target.path, self._log)
        if not kling_task_id and str(self._options.target).endswith("/"):  # the name will be the job's own
            target.check_writable()
        else:
            target.claim(expires_at, kling_task_id)

    def release(self, kling_task_id: str) -> None:
        """Remove the claim on the target."""
        with suppress_and_log(self._log, "The claim on the target could not be removed"):
            self._target(kling_task_id or "video").release()

    def run(self, kling_task_id: str, request: Mapping[str, Any], task: Task | None = None) -> DownloadResult:
        """Download the job's video.

        :param kling_task_id: the job; a checked task id.
        :param request: the XCom of the submit about the job; empty if there is none.
        :param task: the finished job, if its link is already known.
        :raises KlingError: as one of Airflow's exceptions; it names the job and the money.
        """
        with airflow_errors(), self._naming_job(kling_task_id, Money.RUNNING):
            settings = self._hook.settings  # without a connection, the state of the job is not known
            with self._naming_job(kling_task_id, Money.PAID):
                target = self._target(kling_task_id)
                target.remove_leftovers()
                facts, is_new = self._store(target, kling_task_id, request, task)
                if self._options.verify_media:
                    if "media_problems" not in facts:  # the video was stored without a check
                        facts = {**facts, **target.examine(partial(self._examine, facts))}
                    check_media(facts["media_problems"], str(target.path))
        self._log.info(
            "%s: %d bytes, %s, sha256 %s",
            *(target.path, facts["size"], facts["content_type"], facts["sha256"]),
        )
        entry = request.get("library_entry")  # not from the sidecar, which other programs can change
        facts = {**facts, "kling_task_id": kling_task_id, "library_entry": entry}
        return DownloadResult(
            str(target.path),
            facts,
            reused=bool(request.get("reused")),
            is_new=is_new,
            preview=self._options.preview,
            allowed_paths=settings.allowed_paths,
            gateway=settings.gateway.name,
        )

    def _target(self, kling_task_id: str) -> Target:
        options = self._options
        if options.verify_media:
            require_pyav()
        given = options.file(kling_task_id)
        limits = options.allowed_paths, self._hook.settings.allowed_paths
        path = resolve_path(given, "target", *limits, for_writing=True)
        if path.name.lower().endswith(_BESIDE_VIDEOS):
            what = f"target={path.text!r}: names that end in '.json', '.claim' or '.part' are of files beside"
            raise KlingInputError(f"{what} a video.", advice="Choose another target.")
        return Target(path, self._owner, options.if_exists, options.max_bytes)

    def _store(
        self, target: Target, kling_task_id: str, request: Mapping[str, Any], task: Task | None
    ) -> tuple[Mapping[str, Any], bool]:
        """Store the video, in several attempts if needed; return its sidecar, and whether it is new."""
        wrong_before, began_at = False, time.time()
        for pause in (*ATTEMPT_PAUSES, None):
            try:
                return self._attempt(target, kling_task_id, request, task, began_at)
            except KlingDownloadError as error:
                is_wrong = isinstance(error, KlingVideoError)
                final = error.reason in (TOO_LARGE, STORAGE_FAILED) or (is_wrong and wrong_before)
                if pause is None or final or request.get("reused"):
                    raise
                wrong_before |= is_wrong
                self._log.info("%s The next attempt begins with a fresh link in %.0f s.", error.what, pause)
            task = None
            time.sleep(pause)
        raise AssertionError("unreachable")  # pragma: no cover

    def _attempt(
        self,
        target: Target,
        kling_task_id: str,
        request: Mapping[str, Any],
        task: Task | None,
        began_at: float,
    ) -> tuple[Mapping[str, Any], bool]:
        """Store the video from its link, or a copy of a reused video; return as :meth:`_store` does."""
        source: AbstractContextManager[Stream]
        facts = {**request, "kling_task_id": kling_task_id, "timings": {}, "media": None, **NO_BILL}
        if self._options.preview:
            with suppress_and_log(self._log, "The preview of the picture could not be read"):
                facts["preview"] = {"source": find_source(self._ti, request), "poster": None}
        reused = request.get("reused")
        if reused and reused.get("path") == str(target.path):  # it is the same file
            for _ in read_reused_video(reused):
                pass  # its hash is compared at the end
            sidecar = target.sidecar()
            return (sidecar if sidecar.get("kling_task_id") == kling_task_id else reused), False
        if existing := target.check(kling_task_id):
            self._log.info("The video of this job is there already.")
            return existing, False
        if reused:
            stream = Stream(reused["size"], reused["content_type"], read_reused_video(reused))
            source = nullcontext(stream)
        else:
            task = task or finished_task(self._hook, kling_task_id, self._log)
            facts["timings"] = dict(task.timings)
            facts |= bill_facts(self._hook, task)
            show_bill(self._hook, self._ti, task, self._log)
            if not request:
                facts |= {"request": _NOT_KNOWN, "video_type": task.videos[0].video_type or ""}
                facts |= {"model": task.model, "inputs": None, "estimated_cost_usd": None}
                if submitted_at := task.timings.get("submit_time_ms"):
                    facts["submitted_at"] = submitted_at / 1000
            source = self._hook.open_video(task.videos[0].video_url)
        with source as stream:
            facts["content_type"] = stream.content_type
            examine = partial(self._examine, facts) if self._looks_into_video() else None
            chunks = _timed(stream.chunks, facts, began_at)
            return target.store(chunks, stream.length, facts, examine), not reused

    def _looks_into_video(self) -> bool:
        return self._options.verify_media or (self._options.preview and bool(find_spec("av")))

    def _examine(self, facts: Mapping[str, Any], open_video: Callable[[], BinaryIO]) -> dict[str, Any]:
        """Return what is seen in the video, for its sidecar.

        :raises KlingVideoError: with ``verify_media``: no frame can be decoded.
        """
        found, must = Decoded(), self._options.verify_media
        tolerant = nullcontext() if must else suppress_and_log(self._log, "The video could not be decoded")
        with tolerant, open_video() as file:
            found = decode_video(file)
        seen: dict[str, Any] = {"media": found.media}
        if self._options.preview:
            seen["preview"] = {**_pictures(facts.get("preview")), "poster": found.picture}
        if must:
            if not found.media:
                raise KlingVideoError(f"No picture can be read from the video ({found.error}).")
            seen["media_problems"] = differences(found.media, facts)
        return seen

    @contextmanager
    def _naming_job(self, kling_task_id: str, money: Money) -> Iterator[None]:
        """Name the job in every error: with its id, another task can download the video.

        :param money: replaces "nothing is charged" in an error.
        """
        job = str(kling_task_id)
        try:
            yield
        except KlingError as error:
            what = error.what if job in error.what else f"Job {job}: {error.what}"
            money = money if error.money is Money.UNTOUCHED else error.money
            ours = error.replace(what=what, money=money, kling_task_id=job)
            raise ours.with_traceback(error.__traceback__) from error.__cause__
        except Exception as error:  # noqa: BLE001 - the video is paid for, whatever happens
            words = NO_SECRETS.shown(f"{type(error).__name__}: {error}", 300)
            where = NO_SECRETS.shown(str(redacted(self._options.target)), 300)
            what = f"Job {job}: its video was not stored at {where} ({words})."
            failed = KlingDownloadError(what, kling_task_id=job)
            raise failed.with_traceback(error.__traceback__) from None


def _pictures(preview: Any) -> dict[str, str | None]:
    """Return the small pictures in a sidecar, which other programs can change."""
    return {name: checked_preview(as_object(preview).get(name)) for name in ("source", "poster")}


def _timed(chunks: Iterable[bytes], facts: dict[str, Any], began_at: float) -> Iterator[bytes]:
    """Yield the chunks, and then add to *facts* when the last one came and how long the download took."""
    yield from chunks
    facts["downloaded_at"] = time.time()
    facts["download_seconds"] = round(facts["downloaded_at"] - began_at, 3)
