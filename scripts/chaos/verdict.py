"""Compares the gateway's bill with the stored files, and counts what is wrong."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from airflow_provider_kling.errors import KlingDownloadError
from airflow_provider_kling.media.mp4 import Mp4Check
from chaos.stage import FINAL, Stage, TaskInstance, VideoSpec

#: The video that the emulator serves for every job if it does not render.
VIDEO = (files("airflow_provider_kling.emulator") / "tiny.mp4").read_bytes()
VIDEO_SHA256 = hashlib.sha256(VIDEO).hexdigest()


@dataclass
class Verdict:
    """The figures of one run. Those in `ZERO` must be 0, and all videos must be whole.

    With a gateway that takes client ids, every submit settles itself: no person may be asked.
    """

    jobs: int = 0
    submits_at_the_gateway: int = 0
    submits_without_a_slot: int = 0
    jobs_paid_for: int = 0
    paid_for_twice: int = 0
    videos_whole: int = 0
    videos_lost: int = 0
    bought_in_the_limited_run: int = 0
    bought_over_the_limit: int = 0
    tasks_stuck: int = 0
    leftovers: int = 0
    unfinished_uploads: int = 0
    secrets_found: int = 0
    decided_by_a_person: int = 0
    settles_itself: bool = False
    remarks: list[str] = field(default_factory=list)

    ZERO = (
        "paid_for_twice",
        "videos_lost",
        "bought_over_the_limit",
        "tasks_stuck",
        "leftovers",
        "secrets_found",
    )

    @property
    def good(self) -> bool:
        """Whether the test has passed."""
        asked = self.settles_itself and self.decided_by_a_person
        return self.videos_whole == self.jobs and not (
            asked or any(getattr(self, name) for name in self.ZERO)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready data."""
        return {**asdict(self), "good": self.good}


def judge(
    stage: Stage,
    specs: list[VideoSpec],
    tasks: list[TaskInstance],
    leaks: list[str],
    decisions: int = 0,
    limited: Collection[VideoSpec] = (),
    limit: int = 0,
) -> Verdict:
    """Return the figures.

    :param limited: the videos of a run that may buy only *limit* of them. Those in the bill are wanted.
    """
    bill, submits, files = stage.gateway.jobs(), stage.gateway.submits(), stage.files()
    bought = sum(len(bill.get(spec.prompt, ())) for spec in limited)
    specs = [*specs, *(spec for spec in limited if spec.prompt in bill)]
    stuck = [task for task in tasks if task.state not in FINAL]
    whole, remarks = {}, list(leaks)
    for spec in specs:
        if wrong := _wrong_with(spec.target, files, bill.get(spec.prompt, [])):
            remarks.append(f"{Path(spec.target).name}: {wrong}")
        else:
            whole[_sidecar(spec.target, files)["kling_task_id"]] = spec
    paid = [job for jobs in bill.values() for job in jobs]
    wanted = {name for spec in specs for name in (spec.target, f"{spec.target}.json")}
    left = sorted(Path(name).name for name in files.keys() - wanted)
    remarks += [f"left over: {name}" for name in left]
    remarks += [f"stuck: {task.key} {task.state}" for task in stuck]
    remarks += [f"paid for {len(jobs)} times: {prompt}" for prompt, jobs in bill.items() if len(jobs) > 1]
    return Verdict(
        jobs=len(specs),
        submits_at_the_gateway=len(submits),
        submits_without_a_slot=sum(call["status"] == 429 and not call["fault"] for call in submits),
        jobs_paid_for=len(paid),
        paid_for_twice=sum(len(jobs) - 1 for jobs in bill.values()),
        videos_whole=len(whole),
        videos_lost=sum(job not in whole for job in paid),
        bought_in_the_limited_run=bought,
        bought_over_the_limit=max(0, bought - limit),
        tasks_stuck=len(stuck),
        leftovers=len(left),
        unfinished_uploads=stage.fleet.unfinished_uploads() if stage.fleet else 0,
        secrets_found=len(leaks),
        decided_by_a_person=decisions,
        settles_itself=stage.gateway.takes_client_ids,
        remarks=remarks,
    )


def _wrong_with(target: str, files: Mapping[str, bytes], jobs: list[str]) -> str:
    """Return why a video is not whole or not the right one, or an empty text."""
    if target not in files:
        return "there is no video"
    sidecar, data, check = _sidecar(target, files), files[target], Mp4Check()
    check.feed(data)
    try:
        check.finish(sidecar.get("size"))
    except KlingDownloadError as error:
        return error.what
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != VIDEO_SHA256 or sha256 != sidecar.get("sha256"):
        return f"sha256 {sha256} is not that of the storage host or the sidecar"
    return (
        ""
        if sidecar.get("kling_task_id") in jobs
        else f"its job {sidecar.get('kling_task_id')} is not in the bill"
    )


def _sidecar(target: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return dict(json.loads(files.get(f"{target}.json", b"{}")))


def gateway_faults(stage: Stage) -> Counter[str]:
    """Count the gateway's answers with a fault, by fault."""
    faults = [request["fault"] for request in stage.gateway.requests() if request["fault"]]
    return Counter(fault.split(",match=")[0] for fault in faults)
