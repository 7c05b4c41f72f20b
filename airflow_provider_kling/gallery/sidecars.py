"""Cards from sidecars, of videos that Airflow's database no longer knows, as after ``airflow db clean``."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_kling.gallery.cards import Card, Instance, billed, facts, player_url
from airflow_provider_kling.gallery.database import Key
from airflow_provider_kling.gallery.player import gallery_folders
from airflow_provider_kling.gallery.values import number, picture, plain, text
from airflow_provider_kling.models.bill import Bill
from airflow_provider_kling.storage.allowed_paths import StoragePath, resolve_path
from airflow_provider_kling.storage.folders import open_folder, read_json
from airflow_provider_kling.values import as_object

#: What one search looks at: sidecars, folders in folders, seconds. Its result is kept for some seconds.
_MAX_SIDECARS, _MAX_DEPTH, _MAX_SECONDS, _KEPT_FOR = 2000, 6, 5.0, 60.0
_OF_BILL = ("kling_task_id", "cost_usd", "billing")
_MOVED = "Only the sidecar is left: the video was moved or deleted."
_lock = threading.Lock()
_kept: tuple[float, Sequence[str], list[StoredVideo]] | None = None


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """A video with a sidecar.

    :param key: the task instance that has stored it.
    :param path: of the video.
    :param exists: whether the video is there.
    """

    key: Key
    path: str
    exists: bool
    sidecar: dict[str, Any]

    @property
    def stored_at(self) -> float:
        """When it was downloaded, or else submitted, in epoch seconds."""
        return number(self.sidecar.get("downloaded_at")) or number(self.sidecar.get("submitted_at")) or 0.0

    def card(self) -> Card:
        """Return its card: there is no task left to be cleared."""
        dag_id, run_id, task_id, map_index = self.key
        bill = Bill.from_dict(plain({name: self.sidecar.get(name) for name in _OF_BILL}))
        sidecar, pictures = self.sidecar, as_object(self.sidecar.get("preview"))
        return {
            "key": "/".join(map(str, self.key)),
            "dag_id": dag_id,
            "run_id": run_id,
            "map_index": map_index,
            **facts(sidecar, {**sidecar, "path": self.path}),
            **billed(bill),
            "name": text(sidecar.get("name"), 200) or self.path.rpartition("/")[2],
            "kling_task_id": text(sidecar.get("kling_task_id"), 200),
            "state": "made" if self.exists else "gone",
            **dict.fromkeys(("percent", "seen_at", "eta_at", "error", "action")),
            "estimated_cost_usd": number(sidecar.get("estimated_cost_usd")),
            "earlier_cost_usd": number(sidecar.get("earlier_cost_usd")),
            "started_at": self.stored_at,
            "source": picture(pictures.get("source")),
            "poster": picture(pictures.get("poster")),
            "player": player_url(dag_id, run_id, Instance(task_id, map_index)) if self.exists else None,
            "player_note": None if self.exists else _MOVED,
            "tasks": dict.fromkeys(("submit", "wait", "download")),
            "can_edit": False,
            "can_trigger": False,
            "trigger_conf": None,
            "run_cards": None,
        }


def stored_videos() -> list[StoredVideo]:
    """Return the videos in the gallery's folders, the latest first: some thousand, searched once a minute.

    While one request searches, the others get the older list.
    """
    global _kept  # noqa: PLW0603 - one search serves all requests of the process
    folders = gallery_folders()
    older = _kept if _kept and _kept[1] == folders else None
    if not _lock.acquire(blocking=older is None):
        return older[2] if older else []
    try:
        if not _kept or _kept[1] != folders or time.monotonic() - _kept[0] > _KEPT_FOR:
            found = sorted(_search(folders), key=lambda video: (-video.stored_at, video.key))
            _kept = time.monotonic(), folders, found
        return _kept[2]
    finally:
        _lock.release()


def _search(folders: Sequence[str]) -> Iterator[StoredVideo]:
    until, left = time.monotonic() + _MAX_SECONDS, _MAX_SIDECARS
    for given in folders:
        try:
            folder = resolve_path(given, "gallery_folders")
            for parent, names in _walk(folder):
                for name in ("", *names):
                    if left <= 0 or time.monotonic() > until:
                        return
                    if not name.endswith(".json") or name.startswith("."):
                        continue
                    if video := _read(f"{parent}/{name}", given, exists=name.removesuffix(".json") in names):
                        left -= 1
                        yield video
        except Exception:  # noqa: BLE001, S112 - a folder that cannot be read hides no other
            continue


def _walk(folder: StoragePath) -> Iterator[tuple[str, set[str]]]:
    """Yield each folder, as it is written in a path, and the names in it. No link to a folder is followed."""
    root = folder.resolved.rstrip("/")
    walk: Any = os.walk(root) if folder.is_local else folder.filesystem().walk(root, maxdepth=_MAX_DEPTH)
    for parent, folders, names in walk:
        below = str(parent).rstrip("/")[len(root) :]
        if below.count("/") >= _MAX_DEPTH:
            folders.clear()
        yield folder.text.rstrip("/") + below, set(names)


def _read(path: str, folder: str, *, exists: bool) -> StoredVideo | None:
    """Return the video of a sidecar; None for any other file."""
    try:
        found = resolve_path(path, "gallery_folders", [folder])
        with open_folder(found) as opened:
            sidecar = read_json(opened, found.name) or {}
    except Exception:  # noqa: BLE001 - a file that cannot be read is none of ours
        return None
    owner = [sidecar.get(name) for name in ("dag_id", "run_id", "task_id")]
    map_index = sidecar.get("map_index")
    named = all(isinstance(name, str) and name for name in (*owner, sidecar.get("kling_task_id")))
    if not named or not isinstance(map_index, int) or abs(map_index) >= 2**31:
        return None
    key = (*map(text, owner), map_index)
    return StoredVideo(key, path.removesuffix(".json"), exists, sidecar)  # type: ignore[arg-type]
