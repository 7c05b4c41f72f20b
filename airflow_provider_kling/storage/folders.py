"""Opens the folder of a checked path: the files in it are then reached by name alone.

A local folder is opened as a handle, part by part, and no link is followed on the way. So what is opened
is what was judged, also where somebody exchanges a folder for a link in between.
"""

from __future__ import annotations

import glob
import json
import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Literal, Protocol

from airflow_provider_kling.storage.allowed_paths import WITH_FOLDERS, StoragePath
from airflow_provider_kling.values import as_object

Kind = Literal["file", "folder", ""]
_MAX_JSON = 1024 * 1024
_OPEN_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Linux opens a folder for passing through without the right to list it.
_PASS_THROUGH = _OPEN_FOLDER | getattr(os, "O_PATH", os.O_RDONLY)


class Folder(Protocol):
    """The files of one folder, by their names."""

    def kind(self, name: str) -> Kind:
        """Return what stands under a name; an empty text for nothing."""

    def size(self, name: str) -> int:
        """Return the bytes of a file."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""

    def create(self, name: str) -> BinaryIO:
        """Open a new file for writing, under a name that nothing else uses."""

    def sync(self, file: BinaryIO) -> None:
        """Wait until a written file is on the disk, where it has one."""

    def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Give a file another name.

        :raises FileExistsError: where that name is taken and *replace* is False.
        """

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""

    def names(self, start: str, end: str) -> list[str]:
        """Return the names that begin and end so."""

    def free_bytes(self) -> int | None:
        """Return how many bytes may be written, or None where that is not known."""


@contextmanager
def open_folder(path: StoragePath, *, create: bool = False) -> Iterator[Folder]:
    """Yield the folder that *path* lies in.

    :param create: make the folder where it is missing; on bucket storages there is nothing to make.
    :raises FileNotFoundError: where a local folder is missing.
    """
    if not path.name:
        raise IsADirectoryError(f"{path} names no file")
    if not path.is_local:
        filesystem = path.filesystem()
        if create and path.protocol in WITH_FOLDERS:  # on a bucket storage, mkdir may create the bucket
            filesystem.makedirs(path.folder, exist_ok=True)
        yield _ObjectFolder(filesystem, path.folder)
        return
    handle = os.open("/", _PASS_THROUGH)
    try:
        for part in filter(None, path.folder.split("/")):
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
            inner = os.open(part, _PASS_THROUGH, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield _LocalFolder(handle)
    finally:
        os.close(handle)


def read_json(folder: Folder, name: str) -> dict[str, Any] | None:
    """Return the JSON object in a small file: None without a file, an empty one for anything else."""
    if not folder.kind(name):
        return None
    try:
        with folder.open(name) as file:
            return as_object(json.loads(file.read(_MAX_JSON)))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}


def write_json(
    folder: Folder, name: str, data: Mapping[str, Any], stem: str, *, replace: bool = True
) -> None:
    """Write a small JSON file, whole or not at all.

    :param stem: what its temporary name begins with.
    :raises FileExistsError: where the name is taken and *replace* is False.
    """
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False)
    with temporary_name(folder, stem) as part:
        with folder.create(part) as file:
            file.write(f"{text}\n".encode())
            folder.sync(file)
        folder.rename(part, name, replace=replace)


@contextmanager
def temporary_name(folder: Folder, stem: str) -> Iterator[str]:
    """Yield a name that begins with *stem* and that nothing else uses, and leave no file under it.

    Where it cannot be removed now, a later try of the task does it; the error of the block counts.
    """
    part = f"{stem}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
    finally:
        with suppress(Exception):
            folder.remove(part)


class _LocalFolder:
    """A folder on the worker's disk.

    :param handle: its open file descriptor; names are looked up in it, and links are not followed.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def kind(self, name: str) -> Kind:
        try:  # a link is a file, which cannot be opened
            mode = os.stat(name, dir_fd=self._handle, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return ""
        return "folder" if stat.S_ISDIR(mode) else "file"

    def size(self, name: str) -> int:
        with self.open(name) as file:
            return os.fstat(file.fileno()).st_size

    def open(self, name: str) -> BinaryIO:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=self._handle)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ValueError(f"{name} is not a regular file")
        return os.fdopen(descriptor, "rb")

    def create(self, name: str) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(name, flags, 0o666, dir_fd=self._handle), "wb")

    def sync(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())

    def rename(self, old: str, new: str, *, replace: bool) -> None:
        folders = {"src_dir_fd": self._handle, "dst_dir_fd": self._handle}
        if replace:
            os.replace(old, new, **folders)  # noqa: PTH105 - Path knows no folder handles
            return
        try:  # in one step
            os.link(old, new, follow_symlinks=False, **folders)
        except FileExistsError:
            raise
        except OSError:  # a disk without hard links
            if self.kind(new):
                raise FileExistsError(new) from None
            os.replace(old, new, **folders)  # noqa: PTH105 - Path knows no folder handles
        else:
            self.remove(old)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._handle)

    def names(self, start: str, end: str) -> list[str]:
        listing = os.open(".", _OPEN_FOLDER | os.O_RDONLY, dir_fd=self._handle)
        try:
            names = os.listdir(listing)  # noqa: PTH208 - Path knows no folder handles
        finally:
            os.close(listing)
        return [name for name in names if name.startswith(start) and name.endswith(end)]

    def free_bytes(self) -> int | None:
        disk = os.fstatvfs(self._handle)
        return disk.f_bavail * disk.f_frsize


class _ObjectFolder:
    """A folder, or the prefix of the keys, on a storage that Airflow knows.

    :param filesystem: Airflow's.
    :param folder: the storage's own path of it.
    """

    def __init__(self, filesystem: Any, folder: str) -> None:
        self._filesystem, self._folder = filesystem, folder

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def kind(self, name: str) -> Kind:
        self._filesystem.invalidate_cache(self._folder)
        try:
            found = self._filesystem.info(self._path(name))
        except FileNotFoundError:
            return ""
        return "folder" if found["type"] == "directory" else "file"

    def size(self, name: str) -> int:
        self._filesystem.invalidate_cache(self._folder)
        return int(self._filesystem.size(self._path(name)))

    def open(self, name: str) -> BinaryIO:
        file: BinaryIO = self._filesystem.open(self._path(name), "rb")
        return file

    def create(self, name: str) -> BinaryIO:
        file: BinaryIO = self._filesystem.open(self._path(name), "wb")
        return file

    def sync(self, file: BinaryIO) -> None:
        """Do nothing: a file is stored when it is closed."""

    def rename(self, old: str, new: str, *, replace: bool) -> None:
        # A storage's own rename may refuse to replace a file, or do nothing and report no error.
        from fsspec import (  # type: ignore[import-untyped]  # noqa: PLC0415 - when a Dag is parsed, not needed
            AbstractFileSystem,
        )

        if not replace and self.kind(new):
            raise FileExistsError(new)
        paths = self._path(old), self._path(new)
        if type(self._filesystem).mv is AbstractFileSystem.mv:  # it takes a "[" in a name for a pattern
            self._filesystem.cp_file(*paths)
            self._filesystem.rm_file(paths[0])
            return
        if replace and self.kind(new):
            with suppress(Exception):
                self._filesystem.mv(*paths)
            if not self.kind(old):
                return
            self.remove(new)
        self._filesystem.mv(*paths)
        if self.kind(old):
            raise OSError(f"{old} was not renamed to {new}")

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(name))

    def names(self, start: str, end: str) -> list[str]:
        self._filesystem.invalidate_cache(self._folder)
        pattern = f"{glob.escape(self._path(start))}*{glob.escape(end)}"
        return [str(path).rpartition("/")[2] for path in self._filesystem.glob(pattern)]

    def free_bytes(self) -> int | None:
        return None
