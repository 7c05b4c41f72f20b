"""What came of it: the bill against the files, and what was left lying about."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from airflow_provider_kling.errors import KlingDownloadError
from airflow_provider_kling.media.mp4 import Mp4Check
from chaos.stage import FINAL, Order, Stage, TaskInstance

#: What the emulator serves to every job when it does not render.
VIDEO = (files("airflow_provider_kling.emulator") / "tiny.mp4").read_bytes()
VIDEO_SHA256 = hashlib.sha256(VIDEO).hexdigest()


@dataclass
class Verdict:
    """The figures of one run; those of `ZERO` must be 0, and as many videos whole as wanted."""

    jobs: int = 0
    submits_at_the_gateway: int = 0
    jobs_paid_for: int = 0
    paid_for_twice: int = 0
    videos_whole: int = 0
    videos_lost: int = 0
    tasks_stuck: int = 0
    leftovers: int = 0
    secrets_found: int = 0
    remarks: list[str] = field(default_factory=list)

    ZERO = ("paid_for_twice", "videos_lost", "tasks_stuck", "leftovers", "secrets_found")

    @property
    def good(self) -> bool:
        """Whether the run proves what it is to prove."""
        return self.videos_whole == self.jobs and not any(getattr(self, name) for name in self.ZERO)

    def to_dict(self) -> dict[str, Any]:
        """Give the figures as JSON-ready data."""
        return {**asdict(self), "good": self.good}


def judge(stage: Stage, orders: list[Order], tasks: list[TaskInstance], leaks: list[str]) -> Verdict:
    """Count everything."""
    bill, requests = stage.gateway.jobs(), stage.gateway.requests()
    stuck = [task for task in tasks if task.state not in FINAL]
    whole, remarks = {}, list(leaks)
    for order in orders:
        if wrong := _wrong_with(Path(order.target), bill.get(order.prompt, [])):
            remarks.append(f"{Path(order.target).name}: {wrong}")
        else:
            whole[_told(Path(order.target))["kling_task_id"]] = order
    paid = [job for jobs in bill.values() for job in jobs]
    left = sorted(_leftovers(stage.videos, orders))
    remarks += [f"left over: {name}" for name in left]
    remarks += [f"stuck: {task.place} {task.state}" for task in stuck]
    remarks += [f"paid for {len(jobs)} times: {prompt}" for prompt, jobs in bill.items() if len(jobs) > 1]
    return Verdict(
        jobs=len(orders),
        submits_at_the_gateway=sum(request["method"] == "POST" for request in requests),
        jobs_paid_for=len(paid),
        paid_for_twice=sum(len(jobs) - 1 for jobs in bill.values()),
        videos_whole=len(whole),
        videos_lost=sum(job not in whole for job in paid),
        tasks_stuck=len(stuck),
        leftovers=len(left),
        secrets_found=len(leaks),
        remarks=remarks,
    )


def _wrong_with(video: Path, jobs: list[str]) -> str:
    """Say why a video is not whole or not the right one; nothing if it is."""
    if not video.exists():
        return "there is no video"
    told, data, check = _told(video), video.read_bytes(), Mp4Check()
    check.feed(data)
    try:
        check.finish(told.get("size"))
    except KlingDownloadError as error:
        return error.what
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != VIDEO_SHA256 or sha256 != told.get("sha256"):
        return f"sha256 {sha256} is not what the storage host or the sidecar says"
    return (
        "" if told.get("kling_task_id") in jobs else f"its job {told.get('kling_task_id')} is not in the bill"
    )


def _told(video: Path) -> dict[str, Any]:
    sidecar = Path(f"{video}.json")
    return dict(json.loads(sidecar.read_text())) if sidecar.exists() else {}


def _leftovers(folder: Path, orders: list[Order]) -> Iterator[str]:
    wanted = {name for order in orders for name in (order.target, f"{order.target}.json")}
    for file in folder.rglob("*"):
        if str(file) not in wanted:
            yield file.name


def faults_met(stage: Stage) -> Counter[str]:
    """Count the answers of the gateway that went wrong, by kind."""
    faults = [request["fault"] for request in stage.gateway.requests() if request["fault"]]
    return Counter(fault.split(",match=")[0] for fault in faults)
