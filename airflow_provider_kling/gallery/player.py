"""Plays a stored video through Airflow.

The path comes from an XCom, and any task of any Dag can push one. So a path alone opens nothing:

- It lies in a folder that an admin has named, with links followed, and no link is followed when it is opened.
- Beside it is a sidecar that names the XCom's job, a Dag that the user may read, and the file's size.
- The file has the boxes of a whole mp4.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

from airflow.configuration import conf
from fastapi import HTTPException
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from airflow_provider_kling.errors import KlingInputError, KlingVideoError
from airflow_provider_kling.gallery.values import text
from airflow_provider_kling.media.mp4 import check_headers
from airflow_provider_kling.storage.allowed_paths import StoragePath, is_local, resolve_path
from airflow_provider_kling.storage.folders import open_folder, read_json
from airflow_provider_kling.values import is_web_url

SETTING = "[kling] gallery_folders"
#: Bytes that are read at once, while nothing else waits for them.
_CHUNK = 256 * 1024
#: Seconds for which a signed link of the storage is good.
_SIGNED_FOR = 3600
_MAX_PATH = 4096
_SHA256 = re.compile("[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_ANOTHER_FILE = "The file is not the video that was downloaded."
#: When the structure of a file was found good, by path, size and hash; seconds for which it counts; files.
_checked_at: dict[tuple[StoragePath, int, str], float] = {}
_CHECK_HOLDS_FOR, _MAX_CHECKED = 300.0, 1000
NO_FOLDERS = f"Videos are not played here: an admin has to name their folders in {SETTING}."
OUTSIDE = f"The video is not in a folder that {SETTING} names. Ask an admin to add its folder."


def gallery_folders() -> list[str]:
    """Return the folders and storage URLs from which videos are played."""
    return [
        folder.strip()
        for folder in conf.get("kling", "gallery_folders", fallback="").split(",")
        if folder.strip()
    ]


def player_note(path: str, folders: Sequence[str]) -> str | None:
    """Return why a video cannot be played, as far as its path says it; no file is opened."""
    if not folders:
        return NO_FOLDERS
    if not is_local(path):  # its storage is not asked for each card
        return None if any(path.startswith(folder.rstrip("/") + "/") for folder in folders) else OUTSIDE
    try:
        _inside(path, [folder for folder in folders if is_local(folder)])
    except KlingInputError:
        return OUTSIDE
    return None


@dataclass(frozen=True, slots=True)
class OpenedVideo:
    """A video that may be played.

    :param path: where it is.
    :param file: the open file.
    :param size: bytes.
    :param etag: names its content.
    """

    path: StoragePath
    file: BinaryIO
    size: int
    etag: str


def open_video(
    path: Any, kling_task_id: Any, folders: Sequence[str], may_read: Callable[[str], bool]
) -> OpenedVideo:
    """Open the video of a job.

    :param path: where an XCom says that it is.
    :param kling_task_id: the job that the XCom names.
    :param folders: where videos may be.
    :param may_read: says whether the user may read the XComs of a Dag.
    :raises HTTPException: it may not be played, or it is gone.
    """
    if not folders:
        raise HTTPException(403, NO_FOLDERS)
    if not isinstance(path, str) or not 0 < len(path) <= _MAX_PATH or not text(kling_task_id):
        raise HTTPException(404, "There is no video here.")
    with _http_errors():
        found = _inside(path, folders)
        with open_folder(found) as folder:
            sidecar = read_json(folder, f"{found.name}.json") or {}
            _check_sidecar(sidecar, kling_task_id, may_read)
            file = folder.open(found.name)
            try:
                size = folder.size(found.name) if not found.is_local else file.seek(0, 2)
                _check_file(found, file, size, sidecar)
            except BaseException:
                file.close()
                raise
    sha256 = text(sidecar.get("sha256"), 64)
    return OpenedVideo(found, file, size, f'"{sha256 if _SHA256.fullmatch(sha256) else size}"')


def _inside(path: str, folders: Sequence[str]) -> StoragePath:
    """Return the checked path. A folder that cannot be used closes no other.

    :raises KlingInputError: it is in none of the folders.
    """
    for folder in folders:
        with suppress(KlingInputError):
            return resolve_path(path, "path", [folder], for_writing=True)
    raise KlingInputError(OUTSIDE)


def _check_sidecar(sidecar: Mapping[str, Any], kling_task_id: str, may_read: Callable[[str], bool]) -> None:
    if sidecar.get("kling_task_id") != kling_task_id:
        raise HTTPException(403, "The file has no sidecar that names this job.")
    dag_id = sidecar.get("dag_id")
    if not isinstance(dag_id, str) or not may_read(dag_id):
        raise HTTPException(403, "The video belongs to a Dag that you may not read.")


def _check_file(path: StoragePath, file: BinaryIO, size: int, sidecar: Mapping[str, Any]) -> None:
    """Check the size, and the structure unless it was good some minutes ago: a player asks for parts."""
    key, now = (path, size, text(sidecar.get("sha256"), 64)), time.monotonic()
    if size != sidecar.get("size"):
        raise HTTPException(403, _ANOTHER_FILE)
    if now - _checked_at.get(key, -_CHECK_HOLDS_FOR) < _CHECK_HOLDS_FOR:
        return
    try:
        check_headers(file, size)
    except KlingVideoError:
        raise HTTPException(403, _ANOTHER_FILE) from None
    if len(_checked_at) >= _MAX_CHECKED:
        _checked_at.clear()
    _checked_at[key] = now


@contextmanager
def _http_errors() -> Iterator[None]:
    """Turn what a storage raises into answers. They name no path that the XCom does not name."""
    try:
        yield
    except HTTPException:
        raise
    except KlingInputError:
        raise HTTPException(403, OUTSIDE) from None
    except (FileNotFoundError, NotADirectoryError):
        where = "It was moved or deleted, or it is on a disk that only the workers have."
        raise HTTPException(404, f"The API server does not find the file. {where}") from None
    except Exception as error:  # noqa: BLE001 - whatever a storage raises
        what = f"The API server cannot read the file ({type(error).__name__})."
        raise HTTPException(502, what) from None


def play(
    video: OpenedVideo, method: str, headers: Mapping[str, str], *, download: bool, stream: bool
) -> Response:
    """Answer a request for a video: as a signed link of its storage, where it has some, else its bytes.

    :param method: GET or HEAD.
    :param headers: of the request.
    :param download: let the browser store it, instead of playing it.
    :param stream: send the bytes, also where there would be a link.
    """
    if not stream and (link := _signed_link(video.path)):
        video.file.close()
        return RedirectResponse(link, 307, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    shown = "attachment" if download else "inline"
    answer = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"{shown}; filename*=UTF-8''{quote(video.path.name)}",
        "Content-Security-Policy": "default-src 'none'; media-src 'self'",
        "ETag": video.etag,
        "X-Content-Type-Options": "nosniff",
    }
    if video.etag in headers.get("if-none-match", ""):
        video.file.close()
        return Response(status_code=304, headers=answer)
    asked = headers.get("range", "") if headers.get("if-range", video.etag) == video.etag else ""
    span = byte_range(asked, video.size)
    start, end = span or (0, video.size)
    if start >= end:
        video.file.close()
        return Response(status_code=416, headers={**answer, "Content-Range": f"bytes */{video.size}"})
    answer["Content-Length"] = str(end - start)
    status = 200
    if span:
        status, answer["Content-Range"] = 206, f"bytes {start}-{end - 1}/{video.size}"
    if method == "HEAD":
        video.file.close()
        return Response(status_code=status, headers=answer, media_type="video/mp4")
    return _FileResponse(video.file, start, end, status_code=status, headers=answer)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last; None if all are asked for, or several ranges are.

    An empty span is one that the file does not have.
    """
    found = _RANGE.fullmatch(header.strip())
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    start, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if found[2] and last < start:
        return None
    return (start, min(last + 1, size)) if start < size else (size, size)


def _signed_link(path: StoragePath) -> str | None:
    """Return a link with which the browser reads the file from its storage, or None where there is none."""
    if path.is_local:
        return None
    try:
        link = path.filesystem().sign(path.resolved, expiration=_SIGNED_FOR)
    except Exception:  # noqa: BLE001 - whatever a storage raises; most cannot sign
        return None
    return link if is_web_url(link) else None


class _FileResponse(StreamingResponse):
    """Sends a part of a file; it reads in a thread, so that the other requests go on."""

    def __init__(self, file: BinaryIO, start: int, end: int, **kwargs: Any) -> None:
        self._file, self._start, self._end = file, start, end
        super().__init__(self._chunks(), media_type="video/mp4", **kwargs)

    async def _chunks(self) -> AsyncIterator[bytes]:
        await run_in_threadpool(self._file.seek, self._start)
        left = self._end - self._start
        while left > 0 and (chunk := await run_in_threadpool(self._file.read, min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk

    async def __call__(self, *args: Any) -> None:
        """Send it, and close the file also where the browser has gone."""
        try:
            await super().__call__(*args)
        finally:
            self._file.close()
