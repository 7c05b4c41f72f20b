"""The gallery's routes. Airflow mounts the app, but checks no login: each route with data does it."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep  # noqa: TC002 - FastAPI reads annotations
from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 - FastAPI reads annotations
from airflow.jobs.job import most_recent_job
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from airflow_provider_kling.gallery import database, player
from airflow_provider_kling.gallery.access import editable, readable, triggerable
from airflow_provider_kling.gallery.cards import RUNNING, Card, cards_of, totals
from airflow_provider_kling.gallery.sidecars import stored_videos
from airflow_provider_kling.gallery.values import picture
from airflow_provider_kling.values import as_object
from airflow_provider_kling.xcom_keys import PREVIEW_KEY, VIDEO_KEY

_WWW = Path(__file__).parents[1] / "www"
#: The browser asks each time whether a file has changed, so that an upgrade is seen at once.
_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
#: What the cursor begins with where Airflow's database has no more videos, and the folders may have some.
_FROM_FILES = "files/"
_MAX_TASKS = 200
#: The states that one counter at the head counts, and that are asked for together.
_GROUPS = {"running": RUNNING, "failed": ("failed", "uncertain")}

app = FastAPI(title="Kling videos", docs_url=None, redoc_url=None, openapi_url=None)


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response


app.mount("/www", _Files(directory=_WWW))


@app.get("/")
def page() -> FileResponse:
    """Return the gallery as a page of its own."""
    return FileResponse(_WWW / "index.html", headers=_HEADERS)


Time = Annotated[float | None, Query(ge=0, le=1e11)]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which cards are asked for.

    :param dag_id: of this Dag; *run_id*, *task_id* (any task of the video) and *map_index* likewise.
    :param state: in this state; ``running`` is any that is not at its end, ``failed`` also an uncertain one.
    :param model: of this model.
    :param since: begun at this time or later, in epoch seconds.
    :param until: begun at this time or earlier, in epoch seconds.
    :param search: with this text in the prompt, name, job id or path, in any case.
    """

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    state: str | None = None
    model: str | None = None
    since: Time = None
    until: Time = None
    search: str = ""

    def fits(self, card: Card) -> bool:
        """Return whether a card is asked for, or would be in another state."""
        searched = (card["prompt"], card["name"], card["kling_task_id"], card["path"])
        return (
            (not self.dag_id or card["dag_id"] == self.dag_id)
            and (not self.run_id or card["run_id"] == self.run_id)
            and (not self.task_id or self._is_of_task(card))
            and (not self.model or card["model"] == self.model)
            and (self.since is None or card["started_at"] >= self.since)
            and (self.until is None or card["started_at"] <= self.until)
            and (not self.search or self.search.casefold() in "\n".join(searched).casefold())
        )

    def fits_state(self, card: Card) -> bool:
        """Return whether a card is in the state that is asked for."""
        return not self.state or card["state"] in _GROUPS.get(self.state, (self.state,))

    def _is_of_task(self, card: Card) -> bool:
        _, _, own_task, own_index = database.read_key(card["key"])
        tasks = [(task["task_id"], task["map_index"]) for task in card["tasks"].values() if task]
        return any(
            task_id == self.task_id and self.map_index in (None, map_index)
            for task_id, map_index in (*tasks, (own_task, own_index))
        )


@app.get("/api/videos")
def videos(
    user: GetUserDep,
    session: SessionDep,
    filters: Annotated[Filters, Depends()],
    task: Annotated[list[str] | None, Query(max_length=_MAX_TASKS)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
    cursor: str = "",
    previews: bool = True,  # noqa: FBT001, FBT002 - a parameter of the URL
) -> Response:
    """Return cards, the latest first; the numbers at the head come with the first page only.

    The head counts all states, so that its counters stay while one of them is chosen.

    :param task: keys of cards: only these, instead of the filters.
    :param cursor: ``next`` of the page before.
    :param previews: with the small pictures.
    """
    _refuse_nul(filters.run_id, filters.dag_id, cursor, *(task or ()))
    following, head = None, None
    if task is not None:
        page = _cards_by_key(session, user, set(task))
    elif cursor.startswith(_FROM_FILES):
        page, following = _page_of_files(session, user, filters, cursor.removeprefix(_FROM_FILES), limit)
    else:
        page, following, head = _page_of_database(session, user, filters, cursor, limit)
    _complete(page, session, user, previews=previews)
    running = any(card["state"] in RUNNING for card in page)
    data = {
        "cards": page,
        "next": following,
        "now": time.time(),
        "triggerer_alive": not running or _triggerer_is_alive(session),
        "head": head,
    }
    return Response(
        json.dumps(data, allow_nan=False),
        headers={"Cache-Control": "no-store"},
        media_type="application/json",
    )


def _cards_by_key(session: Any, user: Any, wanted: Collection[str]) -> list[Card]:
    keys = {database.read_key(key) for key in wanted}
    allowed = readable(user, {key[0] for key in keys})
    runs = {key[:2] for key in keys if key[0] in allowed}
    reading = database.read_runs(session, allowed, runs=runs)
    return [card for run in reading.runs for card in cards_of(run) if card["key"] in wanted]


def _page_of_database(
    session: Any, user: Any, filters: Filters, cursor: str, limit: int
) -> tuple[list[Card], str | None, Card | None]:
    """Return one page, the cursor of the next one, and for the first page the numbers at the head."""
    known = database.dags_with_videos(session)
    named = {filters.dag_id} if filters.dag_id else known  # its XComs may have been deleted
    allowed = readable(user, known | named)
    at = _read_position(cursor)[0] if cursor else filters.until
    reading = database.read_runs(
        session, allowed & named, run_id=filters.run_id or None, since=filters.since, until=at
    )
    read = [card for run in reading.runs for card in cards_of(run)]
    cards = [card for card in read if filters.fits(card)]
    horizon = reading.horizon or 0.0
    if at is not None and horizon >= at:  # more at one time than are read at once: some are left out
        horizon = min((card["started_at"] for card in cards), default=0.0)
    reached = [card for card in cards if filters.fits_state(card) and card["started_at"] >= horizon]
    page, more = _page(reached, cursor, limit)
    following = None
    if more:
        following = _position(page[-1])
    elif horizon and (at is None or horizon < at):
        following = f"{horizon!r}/"
    elif player.gallery_folders():
        following = _FROM_FILES
    if cursor:
        return page, following, None
    models = sorted({card["model"] for card in read} - {""})
    head = {**totals(cards), "dags": sorted(allowed & known), "models": models, "capped": bool(horizon)}
    return page, following, head


def _page_of_files(
    session: Any, user: Any, filters: Filters, cursor: str, limit: int
) -> tuple[list[Card], str | None]:
    """Return one page of the videos that are in the gallery's folders and not in Airflow's database."""
    stored = stored_videos()
    allowed = readable(user, {video.key[0] for video in stored})
    in_database = database.instances_with_video(session, allowed)
    new = [video for video in stored if video.key[0] in allowed and video.key not in in_database]
    cards = [video.card() for video in new]
    page, more = _page(
        [card for card in cards if filters.fits(card) and filters.fits_state(card)], cursor, limit
    )
    return page, _FROM_FILES + _position(page[-1]) if more else None


def _complete(cards: list[Card], session: Any, user: Any, *, previews: bool) -> None:
    """Add what needs the database or the settings, for one page only."""
    dag_ids, folders = {card["dag_id"] for card in cards}, player.gallery_folders()
    may_edit, may_trigger = editable(user, dag_ids), triggerable(user, dag_ids)
    for card in cards:
        card["can_edit"] = card["dag_id"] in may_edit and any(card["tasks"].values())
        card["can_trigger"] = card["dag_id"] in may_trigger
        if card["player"] and (note := player.player_note(card["path"], folders)):
            card["player"], card["player_note"] = None, note
    if not previews:
        return
    keys = {
        (card["dag_id"], card["run_id"], task["task_id"], task["map_index"])
        for card in cards
        for task in card["tasks"].values()
        if task
    }
    found = database.read_xcoms(session, keys, PREVIEW_KEY)
    for card in cards:
        for task in filter(None, card["tasks"].values()):
            pushed = as_object(
                found.get((card["dag_id"], card["run_id"], task["task_id"], task["map_index"]))
            )
            if pushed.get("kling_task_id") == card["kling_task_id"]:
                for name in ("source", "poster"):
                    card[name] = card[name] or picture(pushed.get(name))


def _position(card: Card) -> str:
    return f"{card['started_at']!r}/{card['key']}"


def _read_position(cursor: str) -> tuple[float, str]:
    at, _, key = cursor.partition("/")
    try:
        if 0 <= (found := float(at)) <= 1e11:
            return found, key
    except ValueError:
        pass
    raise HTTPException(400, "cursor: must be 'next' of an earlier answer.")


def _page(cards: list[Card], cursor: str, limit: int) -> tuple[list[Card], bool]:
    """Return the cards after the cursor, the latest first, and whether there are more."""
    cards = sorted(cards, key=lambda card: (-card["started_at"], card["key"]))
    if cursor:
        at, key = _read_position(cursor)
        cards = [card for card in cards if (-card["started_at"], card["key"]) > (-at, key)]
    return cards[:limit], len(cards) > limit


def _triggerer_is_alive(session: Any) -> bool:
    job = most_recent_job("TriggererJob", session=session)
    return bool(job and job.is_alive())


def _refuse_nul(*texts: str | None) -> None:
    """Refuse what no id has; PostgreSQL cannot even look for it."""
    if any("\x00" in found for found in texts if found):
        raise HTTPException(400, "A parameter has a null byte.")


@app.api_route("/api/video/{dag_id}/{run_id}/{task_id}/{map_index}", methods=["GET", "HEAD"])
def video(
    request: Request,
    user: GetUserDep,
    session: SessionDep,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: Annotated[int, PathParameter(ge=-1, lt=2**31)],
    download: bool = False,  # noqa: FBT001, FBT002 - a parameter of the URL
    stream: bool = False,  # noqa: FBT001, FBT002 - a parameter of the URL
) -> Response:
    """Play the video that a task instance has downloaded; see :mod:`.player`.

    :param download: let the browser store it.
    :param stream: through Airflow, also where the storage can sign a link.
    """
    _refuse_nul(dag_id, run_id, task_id)
    if not readable(user, {dag_id}):
        raise HTTPException(403, "You may not read the XComs of this Dag.")
    key = (dag_id, run_id, task_id, map_index)
    pushed = as_object(database.read_xcoms(session, [key], VIDEO_KEY).get(key))
    session.close()  # a slow browser or storage must not hold a connection of the database
    path, job = pushed.get("path"), pushed.get("kling_task_id")
    if not pushed and (found := next((video for video in stored_videos() if video.key == key), None)):
        path, job = found.path, found.sidecar["kling_task_id"]
    opened = player.open_video(
        path, job, player.gallery_folders(), lambda dag_id: bool(readable(user, {dag_id}))
    )
    return player.play(opened, request.method, request.headers, download=download, stream=stream)
