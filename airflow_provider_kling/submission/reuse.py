"""Videos that were paid for once, found again by what was asked: the same content is not bought twice.

An index file for each request stands in the library, a folder or storage URL beside the videos: it lives
and dies with them, works on every Airflow, and may be shared by several.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.errors import KlingDownloadError, KlingError, KlingInputError, Money
from airflow_provider_kling.hooks import KlingHook, harmless
from airflow_provider_kling.media.pictures import check_picture
from airflow_provider_kling.models.catalog import MODELS
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.storage.allowed_paths import resolve_path
from airflow_provider_kling.storage.files import open_file, read_file
from airflow_provider_kling.storage.sidecars import read_sidecar, write_sidecar
from airflow_provider_kling.submission.state import WORDS, fingerprint

#: The arguments of :class:`Reusing` that are templated.
REUSING = ("library",)
_MEDIA = ("image", "end_image", "images", "video")
_LARGEST = 10 * 1024**2
_CHUNK = 1024**2


class Reusing(BaseOperator):
    """The arguments of an operator that may answer from videos that are there already.

    :param reuse: ``fingerprint``, or None: buy always.
    :param library: folder or storage URL where the index is. (templated)
    """

    def __init__(
        self, *, reuse: Literal["fingerprint"] | None = None, library: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if reuse not in (None, "fingerprint"):
            raise ValueError(f"reuse={reuse!r}: must be 'fingerprint' or None")
        if bool(reuse) != bool(library):
            raise ValueError(f"reuse={reuse!r}, library={library!r}: give both or none")
        self.reuse = reuse
        self.library = library
        self._entry: LibraryEntry | None = None
        self._reused: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LibraryEntry:
    """One request's place in a library.

    :param library: folder or storage URL.
    :param content: a hash over what was asked for: the model, its inputs, and the bytes of each picture.
    """

    library: str
    content: str

    @property
    def index(self) -> str:
        """The index file's name."""
        return f"{self.library.rstrip('/')}/{self.content}.json"

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON-ready data."""
        return {"library": self.library, "content": self.content}


def library_entry(
    operator: Reusing, hook: KlingHook, job: VideoJob, pictures: Mapping[str, Any]
) -> LibraryEntry | None:
    """Return the request's place in the operator's library; None without one.

    :param pictures: what is known of each picture, its SHA-256 among it.
    :raises KlingInputError: where the library is not in an allowed folder.
    """
    if not operator.reuse:
        return None
    place = str(operator.library)
    if not place.strip() or place == "None":
        raise KlingInputError(f"library={operator.library!r}: must be a folder or a storage URL.")
    resolve_path(place, "library", *_limits(operator, hook))
    model, bare, hashes = MODELS.get(job.model), dict(job.inputs), {}
    for name in _MEDIA:
        field = model.field(name) if model else None
        value = bare.pop(field.wire_name if field else name, None)
        facts = pictures.get(name)
        pairs = zip(
            value if isinstance(value, list) else [value],
            facts if isinstance(facts, list) else [facts],
            strict=False,
        )
        hashes[name] = [_hash(name, item, known or {}, hook) for item, known in pairs if item is not None]
    if any(None in found for found in hashes.values()) or _has_links(bare):
        operator.log.warning("What lies behind a URL could not be read to compare it, so nothing is reused.")
        return None
    return LibraryEntry(place, fingerprint(VideoJob(job.model, {**bare, "media": hashes}), ""))


def find_video(operator: Reusing, hook: KlingHook, entry: LibraryEntry) -> dict[str, Any] | None:
    """Return a video that was made of the same: ``kling_task_id``, ``path``, ``size``, ``sha256``.

    It is read whole and compared. What is not there, or not what it was, is bought: None.
    """
    with harmless(operator.log, "The library could not be read, so nothing is reused"):
        limits = _limits(operator, hook)
        try:
            index = read_file(resolve_path(entry.index, "library", *limits), "library", _CHUNK)
        except KlingInputError:
            return None
        try:
            told = json.loads(index)
            found = {key: told[key] for key in ("kling_task_id", "path", "size", "sha256", "content_type")}
            video = resolve_path(found["path"], "library", hook.settings.allowed_paths)
            story = read_sidecar(video)
            same = all(story.get(key) == found[key] for key in ("kling_task_id", "sha256"))
        except (OSError, ValueError, TypeError, LookupError, AttributeError, KlingError) as error:
            operator.log.warning("%s does not lead to a video (%s): bought.", entry.index, error)
            return None
        if same:
            operator.log.info("Nothing is bought: %s was made of the same.", found["path"])
            return found
        operator.log.warning("%s: the video at %s is not what it was: bought.", entry.index, found["path"])
    return None


def add_to_library(entry: Mapping[str, Any], path: str, told: Mapping[str, Any], owner: str) -> None:
    """Write the index file of a video that was fetched and checked.

    :param entry: see :meth:`LibraryEntry.to_dict`.
    :param told: the video's sidecar.
    :param owner: who writes.
    """
    name = f"{str(entry['library']).rstrip('/')}/{entry['content']}"
    kept = {key: told[key] for key in ("kling_task_id", "size", "sha256", "content_type")}
    write_sidecar(resolve_path(name, "library"), {**kept, "path": path}, owner)


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
    except OSError as error:
        words = f"cannot be read ({error})"
    if digest.hexdigest() != found["sha256"]:
        what = f"The video at {found['path']}, which was to be reused, {words}."
        advice = "Clear the submit: it looks again, and buys if the video is gone."
        raise KlingDownloadError(what, money=Money.ASIDE, advice=advice)


def _limits(operator: Any, hook: KlingHook) -> list[Any]:
    return [operator.allowed_paths, hook.settings.allowed_paths]


def _has_links(inputs: Any) -> bool:
    """Return whether further inputs point to what nobody here has looked at."""
    if isinstance(inputs, Mapping):
        return any(_has_links(value) for name, value in inputs.items() if name not in WORDS)
    if isinstance(inputs, list):
        return any(map(_has_links, inputs))
    return isinstance(inputs, str) and inputs.startswith(("http://", "https://"))


def _hash(name: str, value: Any, known: Mapping[str, Any], hook: KlingHook) -> str | None:
    """Return the SHA-256 of one picture's or video's bytes; None where they cannot be had, or are none."""
    if sha256 := known.get("sha256"):
        return str(sha256)
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    data = bytearray()
    try:
        with hook.open_video(value) as stream:
            for chunk in stream.chunks:
                data += chunk
                if len(data) > _LARGEST:
                    return None
        if name == "video":  # a page that says no would make all videos equal
            return hashlib.sha256(data).hexdigest() if data[4:8] == b"ftyp" else None
        return check_picture(bytes(data), name, "URL").sha256
    except KlingError:
        return None
