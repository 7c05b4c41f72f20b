"""What the gallery shows of each video, made of task instances and their XComs. Pure.

Any task can push anything under our keys, so each value is read by :mod:`.values`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from posixpath import commonprefix
from typing import Any
from urllib.parse import quote

from airflow_provider_kling.errors import KlingSubmitUncertainError, Money
from airflow_provider_kling.gallery.values import number, plain, text
from airflow_provider_kling.models.bill import Bill
from airflow_provider_kling.values import NO_SLOT, as_object
from airflow_provider_kling.xcom_keys import (
    BILL_KEY,
    ERROR_KEY,
    PROGRESS_KEY,
    REQUEST_KEY,
    RESERVATION_KEY,
    TASK_ID_KEY,
    VIDEO_KEY,
)

#: Airflow's names of the operators that buy, that wait and that download.
BUYS = ("KlingSubmitOperator", "KlingImageToVideoOperator", "DecoratedVideoOperator")
WAITS, DOWNLOADS = ("KlingTaskSensor",), ("KlingDownloadOperator",)
OPERATORS = (*BUYS, *WAITS, *DOWNLOADS)
#: States of a task instance that has begun and not ended.
ACTIVE = ("queued", "running", "deferred", "restarting", "up_for_retry", "up_for_reschedule")
#: States of a task instance that waits for a slot, and now and then asks for one.
WAITS_FOR_SLOT = ("deferred", "queued", "running")
FAILED = ("failed", "skipped", "upstream_failed")
#: Where a job may be charged although there is no video.
_MAYBE_CHARGED = (Money.MAYBE, Money.RUNNING, Money.ENDED, Money.PAID)
#: More videos than these are not compared with each task by all of its name: the time would be quadratic.
_MANY = 20
#: The states of a card that is not at its end.
RUNNING = ("no_slot", "submitting", "queued", "rendering", "waiting", "downloading")

Card = dict[str, Any]


@dataclass(slots=True)
class Instance:
    """A task instance, and what it has pushed.

    :param state: Airflow's; empty where it has not begun.
    :param operator: Airflow's name of the operator's class.
    :param started_at: when it began, in epoch seconds, as far as known.
    :param xcoms: the values of its XComs by key.
    :param pushed_at: when they were pushed, in epoch seconds.
    """

    task_id: str
    map_index: int = -1
    state: str = ""
    operator: str = ""
    try_number: int = 0
    started_at: float | None = None
    xcoms: dict[str, Any] = field(default_factory=dict)
    pushed_at: dict[str, float] = field(default_factory=dict)

    def pushed(self, key: str) -> Mapping[str, Any]:
        """Return an XCom that is an object; an empty object for anything else."""
        return as_object(self.xcoms.get(key))

    @property
    def buys(self) -> bool:
        """Whether it submits a job."""
        return self.operator in BUYS or not self.xcoms.keys().isdisjoint((REQUEST_KEY, RESERVATION_KEY))

    @property
    def does_all(self) -> bool:
        """Whether it submits, waits and downloads."""
        is_one_task = self.operator in BUYS[1:] or TASK_ID_KEY in self.xcoms or VIDEO_KEY in self.xcoms
        return self.buys and is_one_task

    @property
    def role(self) -> str:
        """Whether it waits or downloads; empty if neither is known."""
        if self.operator in DOWNLOADS or VIDEO_KEY in self.xcoms:
            return "download"
        if self.operator in WAITS or PROGRESS_KEY in self.xcoms:
            return "wait"
        error = self.pushed(ERROR_KEY)
        if not text(error.get("kling_task_id")):  # of a summary, for one
            return ""
        kind = text(error.get("class"))
        return "download" if "Download" in kind or "Video" in kind else "wait"

    @property
    def kling_task_id(self) -> str:
        """The job that its XComs name."""
        keys = (REQUEST_KEY, VIDEO_KEY, PROGRESS_KEY, ERROR_KEY)
        return next(filter(None, (text(self.pushed(key).get("kling_task_id"), 200) for key in keys)), "")

    def reference(self) -> dict[str, Any]:
        """Return what the page needs to name it."""
        names = ("task_id", "map_index", "state", "try_number")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Run:
    """A Dag run with the task instances of it that are ours.

    :param conf: what it was triggered with.
    """

    dag_id: str
    run_id: str
    instances: Sequence[Instance]
    conf: Any = None


@dataclass(slots=True)
class _VideoTasks:
    """The task instances of one video."""

    kling_task_id: str
    submit: Instance | None = None
    wait: Instance | None = None
    download: Instance | None = None

    @property
    def all(self) -> list[Instance]:
        found = [self.submit, self.wait, self.download]
        return list({id(instance): instance for instance in found if instance}.values())

    def failed_one(self) -> Instance | None:
        """Return the task instance that ended it, the first in the order of the work."""
        return next((instance for instance in self.all if instance.state in FAILED), None)


def cards_of(run: Run) -> list[Card]:
    """Return a card for each video of a run, also for those that are not made yet or failed."""
    # A form that is filled with a part of it would buy something else.
    conf = run.conf if plain(run.conf) == run.conf else None
    cards = [card for tasks in _by_video(run.instances) if (card := _card(run, tasks))]
    bought = sum(bool(card["tasks"]["submit"]) for card in cards)
    return [{**card, "trigger_conf": conf, "run_cards": bought} for card in cards]


def _by_video(instances: Sequence[Instance]) -> list[_VideoTasks]:
    """Return which task instances belong together: by the job they name, else by their place in the Dag."""
    ordered = sorted(instances, key=lambda instance: (instance.task_id, instance.map_index))
    videos: list[_VideoTasks] = []
    places: dict[Any, list[_VideoTasks]] = defaultdict(list)

    def add(tasks: _VideoTasks) -> None:
        videos.append(tasks)
        job, map_index = tasks.kling_task_id, tasks.all[0].map_index
        for place in ((job, map_index), job, map_index):
            places[place].append(tasks)

    for instance in ordered:
        if instance.buys:
            both = instance if instance.does_all else None
            add(_VideoTasks(instance.kling_task_id, instance, both, both))
    bought = {tasks.kling_task_id for tasks in videos}
    others = [instance for instance in ordered if not instance.buys and instance.role]
    # First those of a bought job, then those that name another one, last those that have not begun.
    for other in sorted(others, key=lambda it: (not it.kling_task_id, it.kling_task_id not in bought)):
        job, role = other.kling_task_id, other.role

        def free(*wanted: Any, role: str = role) -> list[_VideoTasks]:
            found = ([tasks for tasks in places[it] if getattr(tasks, role) is None] for it in wanted)
            return next(filter(None, found), [])

        near = free((job, other.map_index), job) if job else []
        if not near and (not job or (bought and VIDEO_KEY not in other.xcoms)):
            # It has not begun, or what it says is about an earlier job of a cleared task.
            near = free(other.map_index)
        if near:
            setattr(_nearest(near, other), role, other)
        elif VIDEO_KEY in other.xcoms or (not bought and (job or other.state)):  # a rescue
            add(_VideoTasks(job, **{role: other}))
    return videos


def _nearest(videos: Sequence[_VideoTasks], other: Instance) -> _VideoTasks:
    """Return the video whose first task has the most like name; of many, by the ends of the names alone."""
    if len(videos) == 1:
        return videos[0]
    name, is_many = other.task_id, len(videos) > _MANY

    def likeness(tasks: _VideoTasks) -> float:
        own = tasks.all[0].task_id
        if is_many:
            return len(commonprefix((own, name))) + len(commonprefix((own[::-1], name[::-1])))
        return SequenceMatcher(None, own, name).ratio()

    return max(videos, key=likeness)


def _card(run: Run, tasks: _VideoTasks) -> Card | None:
    request = tasks.submit.pushed(REQUEST_KEY) if tasks.submit else {}
    video = tasks.download.pushed(VIDEO_KEY) if tasks.download else {}
    error = _error(tasks)
    state = _state(tasks, request, video, error)
    if not state:
        return None
    first = tasks.all[0]
    made = video if state in ("made", "reused") else {}
    costs = _costs(tasks, request)
    card = {
        "key": "/".join((run.dag_id, run.run_id, first.task_id, str(first.map_index))),
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "map_index": first.map_index,
        **facts(request or video, made),
        **_bill(tasks, state),
        "kling_task_id": tasks.kling_task_id or first.kling_task_id,
        "state": state,
        **_progress(tasks, state),
        **costs,
        "started_at": _started_at(tasks),
        "error": error if state in ("failed", "uncertain") or _retries(tasks) else None,
        "tasks": {
            name: (at := getattr(tasks, name)) and at.reference() for name in _VideoTasks.__slots__[1:]
        },
        "action": _action(tasks, state, error, costs["estimated_cost_usd"]),
        "can_edit": False,
        "can_trigger": False,
    }
    name = text(request.get("name"), 200) or text(as_object(error).get("name"), 200)
    index = f"[{first.map_index}]" if first.map_index >= 0 else ""
    card["name"] = name or f"{first.task_id}{index}"
    if made:
        card["player"] = player_url(run.dag_id, run.run_id, tasks.download) if tasks.download else None
    card["player_note"] = _note(tasks, state)
    return card


def facts(request: Mapping[str, Any], video: Mapping[str, Any]) -> Card:
    """Return what was asked for and what came of it, from XComs or from a sidecar."""
    inputs, media = plain(request.get("inputs")), plain(video.get("media"))
    sound, duration = inputs.get("sound"), number(inputs.get("duration"))
    times = [number(as_object(video.get("timings")).get(f"{name}_time_ms")) for name in _TIMES]
    return {
        "prompt": _prompt(inputs),
        "model": text(request.get("model"), 200),
        "duration_seconds": number(media.get("duration")) if duration is None else duration,
        "sound": sound if isinstance(sound, bool) else None,
        "inputs": inputs,
        "submitted_at": number(request.get("submitted_at")) or None,
        "queued_seconds": _span(times[0], times[1]),
        "rendered_seconds": _span(times[1], times[2]),
        "download_seconds": number(video.get("download_seconds")),
        "downloaded_at": number(video.get("downloaded_at")),
        "path": text(video.get("path")),
        "size": number(video.get("size")),
        "media": media,
        "source": None,
        "poster": None,
        "player": None,
    }


_TIMES = ("submit", "execute", "complete")


def _span(start: float | None, end: float | None) -> float | None:
    return (end - start) / 1000 if start and end and end >= start else None


def _prompt(inputs: Mapping[str, Any]) -> str:
    if prompt := text(inputs.get("prompt")):
        return prompt
    shots = inputs.get("multi_prompt")
    shots = shots if isinstance(shots, list) else []
    texts = [text(shot.get("prompt")) if isinstance(shot, dict) else text(shot) for shot in shots]
    return "\n".join(filter(None, texts))[:4000]


def _error(tasks: _VideoTasks) -> Card | None:
    """Return why it failed, or why a try of it failed; None without a failure."""
    failed = tasks.failed_one()
    pushed = [instance for instance in (failed, *tasks.all[::-1]) if instance and instance.pushed(ERROR_KEY)]
    if pushed and (failed or pushed[0].state == "up_for_retry"):
        value = pushed[0].pushed(ERROR_KEY)
        error = {
            name: text(value.get(name)) for name in ("class", "what", "money", "advice", "reason", "name")
        }
        error["what"] = error["what"] or f"The task failed: {error['class']}. Its log says more."
        return error
    if failed:
        error = dict.fromkeys(("class", "money", "advice", "reason", "name"), "")
        if failed is tasks.submit and not tasks.kling_task_id and _reserved(tasks) is not None:
            # It died after the decision to buy: the request may have been sent.
            lost = KlingSubmitUncertainError
            error |= {"money": str(lost.default_money), "advice": lost.default_advice}
        return {**error, "what": f"The task {failed.task_id} is {failed.state}. Its log says more."}
    return None


def _retries(tasks: _VideoTasks) -> bool:
    return any(instance.state == "up_for_retry" for instance in tasks.all)


def _state(  # noqa: PLR0911 - a table of cases, the first one counts
    tasks: _VideoTasks, request: Mapping[str, Any], video: Mapping[str, Any], error: Card | None
) -> str:
    """Return the state of a card; empty where nothing has begun and nothing is to be told."""
    submit, wait, download = tasks.submit, tasks.wait, tasks.download
    if text(video.get("path")):
        return "reused" if video.get("reused") is True or request.get("reused") else "made"
    if failed := tasks.failed_one():
        if failed is submit and not tasks.kling_task_id and submit.state != "failed":
            return ""  # a branch that was not taken
        is_uncertain = error and ("Uncertain" in error["class"] or error["money"] == Money.MAYBE)
        return "uncertain" if is_uncertain else "failed"
    if submit and not tasks.kling_task_id:
        if submit.state in WAITS_FOR_SLOT and submit.pushed(PROGRESS_KEY).get("status") == NO_SLOT:
            return "no_slot"
        return {"success": "gone"}.get(submit.state, "submitting" if submit.state in ACTIVE else "")
    if download and download.state == "success":
        return "gone"
    if wait and wait.state == "success":
        return "downloading" if download else "made"
    if download and download is not wait and download.state in ACTIVE:
        return "downloading"
    status = text(_last_progress(tasks).get("status")).upper()
    words = {"QUEUE": "queued", "SUBMIT": "queued", "PROCESS": "rendering", "SUCC": "downloading"}
    return next((state for word, state in words.items() if word in status), "waiting")


def _last_progress(tasks: _VideoTasks) -> Mapping[str, Any]:
    """Return the last progress of the job; that of an earlier job of a cleared task does not count."""
    progress = tasks.wait.pushed(PROGRESS_KEY) if tasks.wait else {}
    return progress if progress.get("kling_task_id") == tasks.kling_task_id else {}


def _progress(tasks: _VideoTasks, state: str) -> Card:
    progress = _last_progress(tasks) if state in RUNNING else {}
    percent, seen_at, eta = (number(progress.get(key)) for key in ("progress_percent", "seen_at", "eta"))
    return {
        "percent": None if percent is None else min(percent, 100.0),
        "seen_at": seen_at,
        "eta_at": seen_at + eta if seen_at and eta else None,
    }


def _costs(tasks: _VideoTasks, request: Mapping[str, Any]) -> Card:
    """Return what the job costs, and what earlier jobs of the same task cost.

    The reservation has all of them; after a lost answer there is nothing else.
    """
    total = _reserved(tasks)
    cost = number(request.get("estimated_cost_usd")) if request else total
    earlier = number(request.get("earlier_cost_usd"))
    if earlier is None and request and total is not None and cost is not None and total > cost:
        earlier = round(total - cost, 6)
    return {"estimated_cost_usd": cost, "earlier_cost_usd": earlier}


def _bill(tasks: _VideoTasks, state: str) -> Card:
    """Return what the gateway says that the job has cost; a reused video was bought elsewhere."""
    for instance in tasks.all if state != "reused" else ():
        for key in (BILL_KEY, VIDEO_KEY):
            bill = Bill.from_dict(plain(instance.pushed(key)))
            if bill and bill.kling_task_id == tasks.kling_task_id:
                return billed(bill)
    return billed(None)


def billed(bill: Bill | None) -> Card:
    """Return what a card shows of a bill."""
    return {"cost_usd": bill and bill.cost_usd, "billed": bill.describe() if bill else ""}


def _reserved(tasks: _VideoTasks) -> float | None:
    """Return the price of all that the task has decided to buy; None where it has not, or it is not known."""
    reservation = tasks.submit.pushed(RESERVATION_KEY) if tasks.submit else {}
    return number(reservation.get("usd")) if reservation.get("state") == "taken" else None


def _started_at(tasks: _VideoTasks) -> float:
    """Return when it began by Airflow's clocks, in epoch seconds: the order of the cards."""
    first = tasks.all[0]
    keys = (REQUEST_KEY, VIDEO_KEY, ERROR_KEY, PROGRESS_KEY, RESERVATION_KEY)
    times = (first.pushed_at[key] for key in keys if key in first.pushed_at)
    return next(times, None) or first.started_at or 0.0


def _action(tasks: _VideoTasks, state: str, error: Card | None, price: float | None) -> str | None:
    """Return the one thing that helps a failed video: a free step before one that buys.

    Nothing helps where the same request fails again, or would cost what the page cannot say.
    """
    failed = tasks.failed_one()
    if state == "uncertain":
        return "rescue"
    if state != "failed" or not failed or not error or "Moderation" in error["class"]:
        return None
    ended = error["money"] == Money.ENDED or "JobFailed" in error["class"]
    if ended or not tasks.kling_task_id:
        if tasks.submit:
            return "buy_again" if price is not None and error["class"] != "KlingInputError" else None
        return "rescue" if tasks.kling_task_id else None
    if failed is tasks.submit and not tasks.submit.does_all:
        return "rescue"  # a clear of the submit may buy again
    return "clear_download" if failed is tasks.download and failed is not tasks.wait else "clear_wait"


def _note(tasks: _VideoTasks, state: str) -> str | None:
    """Return why there is nothing to play, where the state alone does not say it."""
    if state == "gone":
        return "Airflow no longer knows what became of it. Its XComs were deleted, as by airflow db clean."
    if state == "made" and not tasks.download:
        return "No task of this run downloads the video. Its link at the gateway expires: fetch it soon."
    return None


def player_url(dag_id: str, run_id: str, instance: Instance) -> str:
    """Return the player's URL of a task instance that downloads, relative to Airflow's base URL."""
    parts = (dag_id, run_id, instance.task_id, str(instance.map_index))
    return "kling/api/video/" + "/".join(quote(part, safe="") for part in parts)


def totals(cards: Iterable[Card]) -> dict[str, Any]:
    """Return the numbers at the head of the gallery."""
    cards = list(cards)

    def count(*states: str) -> int:
        return sum(card["state"] in states for card in cards)

    real = [card["cost_usd"] for card in cards if card["cost_usd"] is not None]
    estimates = [card[key] or 0 for card in cards for key in ("estimated_cost_usd", "earlier_cost_usd")]
    return {
        "made": count("made"),
        "running": count(*RUNNING),
        "failed": count("failed", "uncertain"),
        "reused": count("reused"),
        "gone": count("gone"),
        "maybe_charged": sum(map(_maybe_charged, cards)),
        "estimated_cost_usd": round(sum(estimates), 6),
        "cost_usd": round(sum(real), 6) if real else None,
        "unknown_price": sum(map(_is_of_unknown_price, cards)),
    }


def _maybe_charged(card: Card) -> bool:
    """Return whether a job may be charged without a video."""
    if card["state"] not in ("failed", "uncertain"):
        return False
    if card["billed"] and card["cost_usd"] == 0:
        return False
    return bool(card["kling_task_id"]) or as_object(card["error"]).get("money") in _MAYBE_CHARGED


def _is_of_unknown_price(card: Card) -> bool:
    """Return whether a job was bought here and its price is not known; a rescue buys nothing."""
    is_bought = bool(card["kling_task_id"] and card["tasks"]["submit"])
    return is_bought and card["estimated_cost_usd"] is None
