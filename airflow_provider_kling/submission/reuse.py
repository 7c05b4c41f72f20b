"""Finds the video of an earlier request with the same content, so that it is not bought twice.

The library, a folder or storage URL, has one index file for each request. Several Airflows may share it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from airflow_provider_kling.errors import KlingDownloadError, KlingError, KlingInputError, Money
from airflow_provider_kling.hooks import KlingHook, suppress_and_log
from airflow_provider_kling.media.pictures import check_picture
from airflow_provider_kling.models.catalog import MODELS
from airflow_provider_kling.models.input_names import MEDIA_INPUTS, TEXT_INPUTS
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.redaction import clean
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.files import open_file, read_file
from airflow_provider_kling.storage.folders import open_folder, write_json
from airflow_provider_kling.storage.target import Target
from airflow_provider_kling.submission.fingerprint import fingerprint
from airflow_provider_kling.submission.local_disk import warn_of_local_disk
from airflow_provider_kling.values import as_list, is_unset

_MAX_BYTES = 10 * 1024**2
_CHUNK = 1024**2
#: What a text looks like that leads somewhere, to content that may change.
_LINK = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*:)?//")


@dataclass(frozen=True, slots=True)
class LibraryEntry:
    """One request's place in a library.

    :param library: folder or storage URL.
    :param content: a hash over what was asked for: the model, its inputs, and the bytes of each picture.
    :param allowed_paths: the submit's allowed folders.
    """

    library: str
    content: str
    allowed_paths: Sequence[str] = ()

    @property
    def index(self) -> str:
        """The index file's name."""
        return f"{self.library.rstrip('/')}/{self.content}.json"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        allowed = list(self.allowed_paths)
        return {"library": self.library, "content": self.content, "allowed_paths": allowed}


def library_entry(
    library: str,
    job: VideoJob,
    pictures: Mapping[str, Any],
    hook: KlingHook,
    allowed_paths: Sequence[str],
    log: Any,
) -> LibraryEntry | None:
    """Return where the request's video is noted in a library; None where its content is not fully known.

    :param pictures: what is known of each picture, its SHA-256 among it.
    :raises KlingInputError: the library is empty, or not in an allowed folder.
    """
    if is_unset(library):
        raise KlingInputError(f"library={library!r}: must be a folder or a storage URL.")
    folder = resolve_path(library, "library", allowed_paths, hook.settings.allowed_paths)
    model, rest, hashes = MODELS.get(job.model), dict(job.inputs), {}
    for name in MEDIA_INPUTS:
        field = model.field(name) if model else None
        value, facts = rest.pop(field.json_key if field else name, None), pictures.get(name)
        values, known = as_list(value), as_list(facts)
        pairs = zip_longest(values, known[: len(values)])
        hashes[name] = [_hash(name, item, of or {}, hook) for item, of in pairs if item is not None]
    if any(None in found for found in hashes.values()) or _has_links(rest):
        log.warning("What a URL leads to could not be read to compare it, so nothing is reused.")
        return None
    warn_of_local_disk("library", folder, log)
    content = fingerprint(VideoJob(job.model, {**rest, "media": hashes}), "")
    return LibraryEntry(library, content, allowed_paths)


def find_video(
    entry: LibraryEntry, allowed_paths: Sequence[Sequence[str]], log: Any
) -> dict[str, Any] | None:
    """Return a video of the same content: ``kling_task_id``, ``path``, ``size``, ``sha256``, its type.

    The video and its sidecar must lie in the allowed folders, and the sidecar must name the same content.
    It is read whole and compared. None: it is not there, or it has changed; then the job is bought.

    :param allowed_paths: the operator's folders, and the connection's.
    """
    with suppress_and_log(log, "The library could not be read, so nothing is reused"):
        try:
            index = read_file(resolve_path(entry.index, "library", *allowed_paths), "library", _CHUNK)
        except KlingInputError:
            return None
        try:
            noted = json.loads(index)
            found = {key: noted[key] for key in ("kling_task_id", "path", "size", "sha256", "content_type")}
            sidecar = Target(resolve_path(found["path"], "library", *allowed_paths), {}).sidecar()
            same = all(sidecar.get(key) == found[key] for key in ("kling_task_id", "sha256"))
            same = same and sidecar["library_entry"]["content"] == entry.content
        except (OSError, ValueError, TypeError, LookupError, AttributeError, KlingError) as error:
            log.warning("%s does not lead to a video (%s): the job is bought.", entry.index, error)
            return None
        if same:
            log.info("Nothing is bought: %s was made of the same content.", found["path"])
            return found
        log.warning("%s: the video at %s has changed: the job is bought.", entry.index, found["path"])
    return None


def add_to_library(
    entry: Mapping[str, Any],
    path: str,
    sidecar: Mapping[str, Any],
    owner: str,
    allowed_paths: Sequence[str],
) -> None:
    """Write the index file of a video that was fetched and checked.

    :param entry: see :meth:`LibraryEntry.to_dict`.
    :param allowed_paths: the connection's allowed folders; those of the submit are in the entry.
    """
    kept = {key: sidecar[key] for key in ("kling_task_id", "size", "sha256", "content_type")}
    known = LibraryEntry(**entry)
    index = resolve_path(known.index, "library", known.allowed_paths, allowed_paths)
    with open_folder(index, create=True) as folder:
        write_json(folder, index.name, {**kept, "path": path}, f".{index.name}.{owner}")


def read_reused_video(found: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the bytes of a video that :func:`find_video` has found.

    :raises KlingDownloadError: where it is no longer there, or in the end turns out not to be what it was.
    """
    digest, words = hashlib.sha256(), "is not what it was"
    try:
        with open_file(resolve_path(found["path"], "library")) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                yield chunk
    except Exception as error:  # noqa: BLE001 - whatever a storage raises
        words = f"cannot be read ({clean(str(error))})"
    if digest.hexdigest() != found["sha256"]:
        what = f"The video at {found['path']}, which was to be reused, {words}."
        advice = "Clear the submit: it looks again, and buys if the video is gone."
        raise KlingDownloadError(what, money=Money.UNAFFECTED, advice=advice)


def _has_links(inputs: Any) -> bool:
    """Return whether further inputs point to what nobody here has looked at."""
    if isinstance(inputs, Mapping):
        return any(_has_links(value) for name, value in inputs.items() if name not in TEXT_INPUTS)
    if isinstance(inputs, list):
        return any(_has_links(item) for item in inputs)
    return isinstance(inputs, str) and bool(_LINK.match(inputs))


def _hash(name: str, value: Any, known: Mapping[str, Any], hook: KlingHook) -> str | None:
    """Return the SHA-256 of one picture's or video's bytes; None where they cannot be had, or are none."""
    if sha256 := known.get("sha256"):
        return str(sha256)
    if not isinstance(value, str) or not _LINK.match(value):
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    data = bytearray()
    try:
        with hook.open_video(value) as stream:
            for chunk in stream.chunks:
                data += chunk
                if len(data) > _MAX_BYTES:
                    return None
        if name == "video":  # a page that says no would make all videos equal
            return hashlib.sha256(data).hexdigest() if data[4:8] == b"ftyp" else None
        return check_picture(bytes(data), name, "URL").sha256
    except KlingError:
        return None
