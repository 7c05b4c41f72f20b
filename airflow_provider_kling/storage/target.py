"""The target of a video: the claims on its name, the file, and the sidecar, a JSON file beside it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from airflow_provider_kling.errors import KlingDownloadError, KlingError, KlingInputError, KlingVideoError
from airflow_provider_kling.media.mp4 import Mp4Check
from airflow_provider_kling.redaction import NO_SECRETS
from airflow_provider_kling.storage.allowed_paths import StoragePath
from airflow_provider_kling.storage.files import storage_error
from airflow_provider_kling.storage.folders import Folder, open_folder, read_json, temporary_name, write_json
from airflow_provider_kling.storage.options import DEFAULT_MAX_BYTES, IfExists
from airflow_provider_kling.values import read_number

#: A task instance; it is the same in all its tries.
Owner = Mapping[str, Any]
_OWNER = ("dag_id", "run_id", "task_id", "map_index")
#: The reason of the error for a video that has more bytes than are allowed.
TOO_LARGE = "TOO_LARGE"
_CHUNK = 1024 * 1024
#: Bytes that must be free on a local disk before a video is bought.
_ROOM = 64 * 1024 * 1024
#: Seconds for which a task claims the name while it writes the sidecar and renames the video.
_STORE_SECONDS = 60.0
#: How often a task checks whether later claims are withdrawn, and the seconds between two checks.
_CLAIM_CHECKS, _CLAIM_PAUSE = 10, 0.2


def owner_name(owner: Owner) -> str:
    """Return a short name for a task instance, for temporary files and claims."""
    known = {key: owner.get(key) for key in _OWNER}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Target:
    """The file to which one task instance writes a video. Only videos of this provider are replaced.

    Each method opens the folder once. It turns an exception of the storage into a :class:`KlingInputError`
    if a retry would fail too. Else it raises a :class:`KlingUnavailableError` before a purchase, and a
    :class:`KlingDownloadError` after it.

    :param owner: the task instance: ``dag_id``, ``run_id``, ``task_id``, ``map_index``.
    """

    path: StoragePath
    owner: Owner
    if_exists: IfExists = "overwrite"
    max_bytes: int = DEFAULT_MAX_BYTES

    @property
    def _stem(self) -> str:
        """The beginning of the names of this task instance's temporary files and claim."""
        return f".{self.path.name}.{owner_name(self.owner)}"

    def check(self, kling_task_id: str = "") -> dict[str, Any] | None:
        """Return the sidecar if the job's video is there already, or None if a video may be written.

        ``overwrite`` replaces only videos with a sidecar that names their job and their SHA-256. It does
        not replace a video of another task of the same Dag run. A name that another task has claimed is
        not used.

        :param kling_task_id: the job, if it is already bought.
        :raises KlingInputError: the file may not be replaced.
        :raises KlingDownloadError: another task has claimed the name, and the job is paid for.
        """
        paid = bool(kling_task_id)
        with self._errors(paid=paid), suppress(FileNotFoundError), open_folder(self.path) as folder:
            if others := self._other_claims(folder):
                raise self._claimed_by(others[0], paid=paid)
            return self._check(folder, kling_task_id)
        return None

    def check_writable(self) -> None:
        """Write, list and remove a small file beside the target; raise if that fails."""
        with self._errors(), open_folder(self.path, create=True) as folder:
            self._check_room(folder)
            name = f"{self._stem}.probe"
            try:
                for _ in range(2):  # a file must be replaced, too
                    write_json(folder, name, {}, self._stem)
                folder.names(name, "")  # as the download does, to see what others have claimed
            finally:
                folder.remove(name)

    def claim(self, expires_at: float, kling_task_id: str = "") -> None:
        """Claim the name before the video is bought, then :meth:`check` the file.

        A retry of the same task renews its own claim.

        :param expires_at: when the claim ends, in epoch seconds.
        :param kling_task_id: the job, if an earlier try has bought it.
        """
        paid = bool(kling_task_id)
        with self._errors(paid=paid), open_folder(self.path, create=True) as folder:
            self._check_room(folder)
            with self._claimed(folder, expires_at, paid=paid, keep=True):
                self._check(folder, kling_task_id)  # not before: another task may just have stored its video

    def release(self) -> None:
        """Remove the task's own claim, and leftovers, after its video is stored or if there will be none."""
        with self._errors(), suppress(FileNotFoundError), open_folder(self.path) as folder:
            folder.remove(self._claim_name(self.owner))
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove the temporary files that killed tries of the same task instance have left."""
        with self._errors(paid=True), suppress(FileNotFoundError), open_folder(self.path) as folder:
            for name in folder.names(f"{self._stem}.", ".part"):
                folder.remove(name)

    def store(
        self,
        chunks: Iterable[bytes],
        length: int | None,
        facts: Mapping[str, Any],
        examine: Callable[[Callable[[], BinaryIO]], Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Write a video and its sidecar, and return the sidecar.

        The video gets a temporary name, and its final name only if it is whole. The sidecar is written
        before: a retry must find no video without one.

        :param chunks: the bytes.
        :param length: the number of bytes that the storage host promised, or None.
        :param facts: the content of the sidecar; ``kling_task_id`` is required.
        :param examine: gets a function that opens the whole file before it has its name; returns more facts
            or raises.
        :raises KlingVideoError: all bytes came, but they are no whole mp4, or too many.
        :raises KlingInputError: a file came meanwhile that may not be replaced.
        :raises KlingDownloadError: bytes are missing or cannot be written, or another task has claimed the
            name.
        """
        if length is not None and length > self.max_bytes:
            raise self._too_large(f"{length} bytes")
        with (
            self._errors(paid=True),
            open_folder(self.path, create=True) as folder,
            temporary_name(folder, self._stem) as part,
        ):
            stored = self._receive(folder, part, chunks, length)
            sidecar = {**facts, **self.owner, **stored}
            if examine:
                sidecar |= examine(partial(folder.open, part))
            with self._claimed(folder, time.time() + _STORE_SECONDS, paid=True):
                if existing := self._check(folder, sidecar["kling_task_id"]):
                    return existing
                self._finish(folder, part, sidecar)
        return sidecar

    def sidecar(self) -> dict[str, Any]:
        """Return the sidecar; empty if there is none or if the video has another SHA-256."""
        with self._errors(paid=True), suppress(FileNotFoundError), open_folder(self.path) as folder:
            sidecar = read_json(folder, f"{self.path.name}.json")
            if sidecar and _sha256(folder, self.path.name) == sidecar.get("sha256"):
                return sidecar
        return {}

    def examine(self, examine: Callable[[Callable[[], BinaryIO]], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return what *examine* returns for a function that opens the stored video."""
        with self._errors(paid=True), open_folder(self.path) as folder:
            return examine(partial(folder.open, self.path.name))

    def _receive(
        self, folder: Folder, part: str, chunks: Iterable[bytes], length: int | None
    ) -> dict[str, Any]:
        """Write the bytes, and return ``size`` and ``sha256``."""
        mp4, digest = Mp4Check(), hashlib.sha256()
        with folder.create(part) as file:
            for chunk in chunks:
                mp4.feed(chunk)
                if mp4.size > self.max_bytes:
                    raise self._too_large("more bytes")
                digest.update(chunk)
                file.write(chunk)
            folder.sync(file)
        mp4.finish(length)
        if (written := folder.size(part)) != mp4.size:
            raise KlingDownloadError(f"The storage took {written} of {mp4.size} bytes for {self.path}.")
        return {"size": mp4.size, "sha256": digest.hexdigest()}

    def _finish(self, folder: Folder, part: str, sidecar: Mapping[str, Any]) -> None:
        """Write the sidecar, and give the video its name.

        The sidecar has the SHA-256 of the video that is replaced. So that video can still be replaced after
        a crash between the two steps. A file that came after the last check is not replaced.
        """
        name, json_name = self.path.name, f"{self.path.name}.json"
        meanwhile = KlingDownloadError(f"Meanwhile another program has put a file at {self.path}.")
        replaced = _sha256(folder, name)
        if replaced and not _is_ours(replaced, read_json(folder, json_name)):
            raise meanwhile
        data = {**sidecar, "replaces": replaced} if replaced else sidecar
        try:
            write_json(folder, json_name, data, self._stem, replace=bool(folder.kind(json_name)))
            folder.rename(part, name, replace=bool(replaced))
        except FileExistsError:
            raise meanwhile from None

    def _check(self, folder: Folder, kling_task_id: str) -> dict[str, Any] | None:
        kind, sidecar = folder.kind(self.path.name), read_json(folder, f"{self.path.name}.json")
        if kind == "folder":
            what = f"target={self.path.text!r} is a folder; with a slash at its end, the video goes into it."
            raise KlingInputError(what)
        if sidecar is not None and not sidecar.get("kling_task_id"):
            raise self._refused(f"{self.path.name}.json exists already and is not ours")
        sha256 = _sha256(folder, self.path.name)
        if kind and not _is_ours(sha256, sidecar):
            raise self._refused("the file exists already, made by no known job")
        if not sidecar:
            return None
        is_own = owner_name(sidecar) == owner_name(self.owner)
        if sidecar["kling_task_id"] == kling_task_id:
            if self.if_exists == "overwrite" or not sha256:
                return None
            if (self.if_exists == "skip" or is_own) and sha256 == sidecar.get("sha256"):
                return sidecar
        if self.if_exists != "overwrite":
            there = self.path.name if sha256 else f"{self.path.name}.json"
            raise self._refused(f"{there} exists already, made by job {sidecar['kling_task_id']}")
        same_run = all(sidecar.get(key) == self.owner.get(key, "") for key in ("dag_id", "run_id"))
        if same_run and not is_own:
            raise self._refused(f"{_task(sidecar)} of this run has the same target")
        return None

    def _check_room(self, folder: Folder) -> None:
        free = folder.free_bytes()
        if free is not None and free < _ROOM:
            what = f"target={self.path.text!r}: the disk has only {free} bytes left, too few for a video."
            raise KlingInputError(what, advice="Make room on the disk.")

    @contextmanager
    def _claimed(
        self, folder: Folder, expires_at: float, *, paid: bool, keep: bool = False
    ) -> Iterator[None]:
        """Hold a claim on the name.

        A task writes its own claim first and reads the other claims after it. So of two tasks that claim at
        the same time, at least one sees the other. The later one withdraws, and the earlier one waits for
        that.

        :param keep: keep the claim if the block succeeds. By default only an earlier claim is kept.
        """
        name, now = self._claim_name(self.owner), time.time()
        own = _read_claim(folder, name)
        if own["expires_at"] < now:
            own["claimed_at"] = now
        claim = {key: self.owner.get(key) for key in _OWNER}
        claim |= {"claimed_at": own["claimed_at"], "expires_at": max(expires_at, own["expires_at"])}
        stays = False
        try:
            for _ in range(1 + keep):  # before the purchase, a file must be replaced, too
                write_json(folder, name, claim, self._stem)
            self._wait_for_withdrawals(folder, claim, paid=paid)
            stays = own["expires_at"] > now and not keep
            yield
            stays = stays or keep
        finally:
            if not stays:
                with suppress(Exception):
                    folder.remove(name)

    def _wait_for_withdrawals(self, folder: Folder, claim: Owner, *, paid: bool) -> None:
        """Raise where another task's claim is earlier than *claim*, or does not go away."""
        for _ in range(_CLAIM_CHECKS):
            others = self._other_claims(folder, remove_expired=True)
            if not others:
                return
            if any(_rank(other) < _rank(claim) for other in others):
                break
            time.sleep(_CLAIM_PAUSE)
        raise self._claimed_by(others[0], paid=paid)

    def _claim_name(self, owner: Owner) -> str:
        return f".{self.path.name}.{owner_name(owner)}.claim"

    def _other_claims(self, folder: Folder, *, remove_expired: bool = False) -> list[dict[str, Any]]:
        """Return the claims of other tasks that have not ended, the earliest first."""
        own, found = self._claim_name(self.owner), []
        for name in folder.names(f".{self.path.name}.", ".claim"):
            if name == own or len(name) != len(own):  # a claim on cat.mp4.mov is not one on cat.mp4
                continue
            claim = _read_claim(folder, name)
            if claim["expires_at"] > time.time():
                found.append(claim)
            elif remove_expired and claim["expires_at"]:
                folder.remove(name)
        return sorted(found, key=_rank)

    @contextmanager
    def _errors(self, *, paid: bool = False) -> Iterator[None]:
        """Turn what a storage raises into our errors."""
        try:
            yield
        except KlingError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a storage raises
            if paid:
                what = f"The video cannot be written to {self.path}"
                advice = (
                    "Make room or give the right to write there, then clear this task: it does not pay again."
                )
            else:
                what = f"target={self.path.text!r}: no file can be written there"
                advice = "Its bucket or folder must exist; files must be listed, written and removed there."
            raise storage_error(error, what, advice, paid=paid) from None

    def _claimed_by(self, claim: Mapping[str, Any], *, paid: bool) -> KlingError:
        """Return the error for a name that another task has claimed; a paid video may wait for its end."""
        who = NO_SECRETS.shown(f"{_task(claim)} of Dag {claim.get('dag_id')}, run {claim.get('run_id')}")
        until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(claim["expires_at"]))
        what = f"target={self.path.text!r}: {who}, has claimed it until {until} UTC and is not done yet."
        remove = f"If that task will not go on, remove {self._claim_name(claim)} beside it."
        advice = f"Choose another target. {remove}"
        if paid:
            return KlingDownloadError(what, advice=f"Run the download again when that task is done. {advice}")
        return KlingInputError(what, advice=advice)

    def _refused(self, why: str) -> KlingInputError:
        advice = "Choose another target. if_exists='overwrite' replaces only videos of earlier runs."
        what = f"target={self.path.text!r}: {NO_SECRETS.shown(why)}."
        return KlingInputError(what, advice=advice)

    def _too_large(self, what: str) -> KlingVideoError:
        advice = "Allow more with max_bytes, then clear this task: it does not pay again."
        what = f"The video has {what}; at most {self.max_bytes} bytes are allowed."
        return KlingVideoError(what, advice=advice, reason=TOO_LARGE)


def _sha256(folder: Folder, name: str) -> str:
    """Return the SHA-256 of a file, or an empty text where there is none."""
    if folder.kind(name) != "file":
        return ""
    digest = hashlib.sha256()
    with folder.open(name) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _is_ours(sha256: str, sidecar: Mapping[str, Any] | None) -> bool:
    """Return whether a sidecar knows a video by its hash."""
    known = sidecar or {}
    return sha256 in (known.get("sha256"), known.get("replaces"))


def _read_claim(folder: Folder, name: str) -> dict[str, Any]:
    """Return a claim; its times are 0 if there is none or if it cannot be read."""
    claim = read_json(folder, name) or {}
    times = {key: read_number(claim.get(key)) or 0.0 for key in ("claimed_at", "expires_at")}
    return {**claim, **times}


def _rank(claim: Mapping[str, Any]) -> tuple[float, str]:
    return claim["claimed_at"], owner_name(claim)


def _task(owner: Mapping[str, Any]) -> str:
    index = owner.get("map_index")
    mapped = f"[{index}]" if isinstance(index, int) and index >= 0 else ""
    return f"task {owner.get('task_id')}{mapped}"
