"""The target of a video: its name, claims on it, the file, and the JSON file beside it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from airflow_provider_kling.errors import KlingDownloadError, KlingError, KlingInputError, KlingVideoError
from airflow_provider_kling.media.mp4 import Mp4Check
from airflow_provider_kling.storage.allowed_paths import StoragePath
from airflow_provider_kling.storage.files import input_errors, target_errors, write_errors
from airflow_provider_kling.storage.folders import Folder, open_folder, temporary_name, write_whole
from airflow_provider_kling.storage.options import IfExists
from airflow_provider_kling.values import read_number

#: The reason of the error for a video that has more.
TOO_LARGE = "TOO_LARGE"
#: Who writes: the task instance, the same in all its tries.
Owner = Mapping[str, Any]
_OWNER = ("dag_id", "run_id", "task_id", "map_index")
_CHUNK = 1024 * 1024
#: Bytes that must be free on a local disk before a video is bought.
_ROOM = 64 * 1024 * 1024
#: How often, and after how many seconds, a claim looks again whether the others have withdrawn.
_CLAIM_CHECKS, _CLAIM_PAUSE = 10, 0.2


def video_path(target: Any, kling_task_id: str) -> str:
    """Return the file that *target* means: itself, or ``<kling_task_id>.mp4`` in it after a slash.

    :raises KlingInputError: where it is no path.
    """
    if isinstance(target, os.PathLike):
        target = os.fspath(target)
    if not isinstance(target, str) or not target.strip():
        raise KlingInputError(f"target={target!r}: must be a path or a storage URL.")
    return f"{target}{kling_task_id}.mp4" if target.endswith("/") else target


def owner_name(owner: Owner) -> str:
    """Return a short name for a task instance, for temporary files and claims."""
    known = {key: owner.get(key) for key in _OWNER}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]


def read_sidecar(path: StoragePath) -> dict[str, Any]:
    """Return the sidecar of the very video at *path*, whose SHA-256 is compared; nothing without either."""
    with input_errors(path, "target"), suppress(FileNotFoundError), open_folder(path) as folder:
        sidecar = _read(folder, path)
        if sidecar and _sha256(folder, path.name) == sidecar.get("sha256"):
            return sidecar
    return {}


def write_sidecar(path: StoragePath, sidecar: Mapping[str, Any], owner: str, *, replace: bool = True) -> None:
    """Write the JSON beside the video at *path*, whole or not at all.

    It is written before the video has its name, and notes the video that it replaces: after a crash in
    between, the old video is still known as one of ours.

    :param replace: whether the sidecar and the video of another job are replaced.
    :raises KlingDownloadError: where it cannot be written, or the name is taken.
    """
    name = _sidecar_name(path)
    with write_errors(path), open_folder(path, create=True) as folder:
        there = _read(folder, path)
        if not replace and folder.kind(path.name):
            raise taken(path)
        standing = _sha256(folder, path.name)
        if standing and not _is_ours(standing, there):  # it was put there while the video was fetched
            raise taken(path)
        told = {**sidecar, **({"replaces": standing} if standing else {})}
        data = json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False)
        own = (there or {}).get("kling_task_id") == sidecar["kling_task_id"]
        try:
            write_whole(folder, name, f"{data}\n".encode(), owner, replace=replace or own)
        except FileExistsError:
            raise taken(path) from None


def check_target(
    path: StoragePath, if_exists: IfExists, *, kling_task_id: str = "", owner: Owner | None = None
) -> dict[str, Any] | None:
    """Return the sidecar of a video that may stay, or None where a video may be written.

    ``overwrite`` replaces videos of ours only: a sidecar names their job and their SHA-256. A video that
    another task of the same Dag run has written is not replaced, and a name that another task has claimed
    is not used.

    :param kling_task_id: the job, where it is known already.
    :param owner: the task instance that writes.
    :raises KlingInputError: naming what stands there.
    :raises KlingDownloadError: where the job is paid for and only a claim is in the way, which ends.
    :raises KlingUnavailableError: where the storage has a trouble that may pass.
    """
    sidecar, sha256 = None, ""
    with target_errors(path), suppress(FileNotFoundError), open_folder(path) as folder:
        if other := _other_claims(folder, path, owner):
            raise _claimed(path, other[0], paid=bool(kling_task_id))
        sidecar, sha256 = _standing(folder, path)
    if not sidecar:
        return None
    if sidecar["kling_task_id"] == kling_task_id:
        if if_exists == "overwrite" or not sha256:
            return None
        if if_exists == "skip" and sha256 == sidecar.get("sha256"):
            return sidecar
    if if_exists != "overwrite":
        there = path.name if sha256 else _sidecar_name(path)
        raise _refused(path, f"{there} exists already, made by job {sidecar['kling_task_id']}")
    if owner and _same_run(sidecar, owner) and owner_name(sidecar) != owner_name(owner):
        raise _refused(path, f"{_task(sidecar)} of this run has the same target")
    return None


def check_writable(path: StoragePath, owner: Owner) -> None:
    """Raise unless files can be written and removed beside *path*: one is, for a moment.

    :raises KlingInputError: where that is not possible; the message has the storage's own words.
    """
    with target_errors(path), open_folder(path, create=True) as folder:
        _check_room(folder, path)
        name = f".{path.name}.{owner_name(owner)}.probe"
        try:
            write_whole(folder, name, b"{}\n", owner_name(owner))
        finally:
            folder.remove(name)


def claim_target(path: StoragePath, owner: Owner, expires_at: float) -> None:
    """Claim a name before the video for it is bought; a retry of the same task finds its own claim.

    Each task writes a claim of its own, and only then reads the others'. So of two tasks that claim at
    once at least one sees the other. The later one withdraws, and the earlier one waits for that.

    :param expires_at: epoch seconds after which others need not respect the claim.
    :raises KlingInputError: where another task has claimed the name, or nothing can be written there.
    """
    name = _claim_name(path, owner)
    claim = {key: owner.get(key) for key in _OWNER} | {"claimed_at": time.time(), "expires_at": expires_at}
    with target_errors(path), open_folder(path, create=True) as folder:
        _check_room(folder, path)
        own = _read_json(folder, name)
        if own and isinstance(own.get("claimed_at"), float):
            claim["claimed_at"] = own["claimed_at"]
        write_whole(folder, name, json.dumps(claim).encode(), owner_name(owner))
        for _ in range(_CLAIM_CHECKS):
            others = _other_claims(folder, path, owner)
            if not others:
                return
            if any(_rank(other) < _rank(claim) for other in others):
                break
            time.sleep(_CLAIM_PAUSE)
        folder.remove(name)
        raise _claimed(path, others[0])


def release_target(path: StoragePath, owner: Owner) -> None:
    """Remove the task's own claim, once its video is there or will never come."""
    with target_errors(path), suppress(FileNotFoundError), open_folder(path) as folder:
        folder.remove(_claim_name(path, owner))


@dataclass(frozen=True, slots=True)
class Stored:
    """A video in its place: where, how many bytes, and their SHA-256."""

    path: str
    size: int
    sha256: str


@contextmanager
def receive_video(
    chunks: Iterator[bytes],
    length: int | None,
    path: StoragePath,
    *,
    max_bytes: int,
    owner: str,
    replace: bool = True,
) -> Iterator[tuple[Stored, BinaryIO]]:
    """Receive a video under a temporary name, and give it its name when the block ends without an error.

    Yields the video's facts and the file, open for reading.

    :param chunks: the bytes.
    :param length: how many the storage host promised, or None.
    :param path: where it appears, whole or not at all.
    :param max_bytes: more bytes than these are not taken.
    :param owner: who writes; stands in the temporary name.
    :param replace: whether a file that stands there in the end is replaced.
    :raises KlingVideoError: where all bytes came but are no whole mp4, or too many.
    :raises KlingDownloadError: where bytes are missing or cannot be written, or the name is taken.
    """
    if length is not None and length > max_bytes:
        raise _too_large(f"{length} bytes", max_bytes)
    check, digest = Mp4Check(), hashlib.sha256()
    with (
        write_errors(path),
        open_folder(path, create=True) as folder,
        temporary_name(folder, path.name, owner) as part,
    ):
        with folder.create(part) as file:
            for chunk in chunks:
                check.feed(chunk)
                if check.size > max_bytes:
                    raise _too_large("more bytes", max_bytes)
                digest.update(chunk)
                file.write(chunk)
            folder.sync(file)
        check.finish(length)
        if (written := folder.size(part)) != check.size:
            raise KlingDownloadError(f"The storage took {written} of {check.size} bytes for {path}.")
        with folder.open(part) as received:
            yield Stored(str(path), check.size, digest.hexdigest()), received
        try:
            folder.rename(part, path.name, replace=replace)
        except FileExistsError:
            raise taken(path) from None


def remove_leftovers(path: StoragePath, owner: str) -> None:
    """Remove the temporary files of a killed try of the same owner; no other's."""
    with write_errors(path), suppress(FileNotFoundError), open_folder(path) as folder:
        for name in folder.names(f".{path.name}", ".part"):
            if f".{owner}." in name:
                folder.remove(name)


def taken(path: StoragePath) -> KlingDownloadError:
    """Return the error for a name that another task has taken since it was checked."""
    return KlingDownloadError(f"Meanwhile another task has put a file at {path}.")


def _too_large(size: str, max_bytes: int) -> KlingVideoError:
    advice = "Allow more with max_bytes, then clear this task: it does not pay again."
    what = f"The video has {size}; at most {max_bytes} bytes are allowed."
    return KlingVideoError(what, advice=advice, reason=TOO_LARGE)


def _sidecar_name(path: StoragePath) -> str:
    return f"{path.name}.json"


def _claim_name(path: StoragePath, owner: Owner) -> str:
    return f".{path.name}.{owner_name(owner)}.claim"


def _read(folder: Folder, path: StoragePath) -> dict[str, Any] | None:
    """Return the sidecar; None where there is none, an empty dict where it is not ours."""
    return _read_json(folder, _sidecar_name(path))


def _standing(folder: Folder, path: StoragePath) -> tuple[dict[str, Any] | None, str]:
    """Return the sidecar, None without one, and the SHA-256 of the video, an empty text without one.

    :raises KlingInputError: where something stands there that is not ours.
    """
    kind, sidecar = folder.kind(path.name), _read(folder, path)
    if kind == "folder":
        what = f"target={path.text!r} is a folder; with a slash at its end, the video goes into it."
        raise KlingInputError(what)
    if sidecar is not None and not sidecar.get("kling_task_id"):
        raise _refused(path, f"{_sidecar_name(path)} exists already and is not ours")
    sha256 = _sha256(folder, path.name)
    if kind and not _is_ours(sha256, sidecar):
        raise _refused(path, "the file exists already, made by no known job")
    return sidecar, sha256


def _read_json(folder: Folder, name: str) -> dict[str, Any] | None:
    if not folder.kind(name):
        return None
    try:
        with folder.open(name) as file:
            found = json.loads(file.read(_CHUNK))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


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


def _check_room(folder: Folder, path: StoragePath) -> None:
    free = folder.free_bytes()
    if free is not None and free < _ROOM:
        what = f"target={path.text!r}: the disk has only {free} bytes left, too few for a video."
        raise KlingInputError(what, advice="Make room on the disk.")


def _other_claims(folder: Folder, path: StoragePath, owner: Owner | None) -> list[dict[str, Any]]:
    """Return the claims of other tasks that have not expired, the earliest first."""
    own = _claim_name(path, owner or {})
    found = folder.names(f".{path.name}.", ".claim")
    names = [name for name in found if name != own and len(name) == len(own)]  # not those of cat.mp4.mov
    claims = [claim for name in names if (claim := _read_json(folder, name))]
    live = [claim for claim in claims if (read_number(claim.get("expires_at")) or 0) > time.time()]
    return sorted(live, key=_rank)


def _rank(claim: Mapping[str, Any]) -> tuple[float, str]:
    return read_number(claim.get("claimed_at")) or 0.0, owner_name(claim)


def _same_run(sidecar: Mapping[str, Any], owner: Owner) -> bool:
    return all(sidecar.get(key) == owner.get(key) for key in ("dag_id", "run_id"))


def _task(owner: Mapping[str, Any]) -> str:
    index = owner.get("map_index")
    mapped = f"[{index}]" if isinstance(index, int) and index >= 0 else ""
    return f"task {owner.get('task_id')}{mapped}"


def _claimed(path: StoragePath, claim: Mapping[str, Any], *, paid: bool = False) -> KlingError:
    """Return the error for a name that another task has claimed. For a paid video it passes: claims end."""
    who = f"{_task(claim)} of Dag {claim.get('dag_id')}, run {claim.get('run_id')}"
    until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(read_number(claim.get("expires_at"))))
    what = f"target={path.text!r}: {who}, has claimed it until {until} UTC and is not done yet."
    advice = (
        f"Choose another target. If that task will not go on, remove {_claim_name(path, claim)} beside it."
    )
    if paid:
        return KlingDownloadError(what, advice=f"Run the download again when that task is done. {advice}")
    return KlingInputError(what, advice=advice)


def _refused(path: StoragePath, why: str) -> KlingInputError:
    advice = "Choose another target. if_exists='overwrite' replaces only videos of earlier runs."
    return KlingInputError(f"target={path.text!r}: {why}.", advice=advice)
