"""Faults as values: which calls a fault applies to, and what it does to their answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from airflow_provider_kling.emulator.fault_effects import EFFECTS, Effect
from airflow_provider_kling.emulator.jobs import Job, JobFault, Phase
from airflow_provider_kling.emulator.messages import NORMAL_TRANSFER, ErrorForm, Json, Reply
from airflow_provider_kling.emulator.views import View

CALLS = ("submit", "query", "download", "job")
CONDITIONS = ("times", "match", "job", "late")
TEMPORARY_FAULTS = {
    "submit": ("error=CREATE_TASK_FAILED", "rate-limit", "cut", "cut,late"),
    "query": ("error=GET_RESULT_FAILED", "html=502", "rate-limit", "cut"),
    "download": ("dead=403", "truncate", "cut"),
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    `call` is the kind of call that it applies to. With "job" it is attached to a job, and each query about
    that job shows it. `times` is a number of calls (with "job": of jobs); None means always. `match` is a
    text in the prompt, `job` is the number of the job, counted from 1. With `late`, a submit creates its job,
    which is paid for, before the fault is applied.
    """

    call: str
    effect: Effect
    times: int | None = 1
    match: str = ""
    job: int | None = None
    late: bool = False
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Parse a fault: `call:word[=value][,word[=value]]...`."""
        call, colon, rest = text.partition(":")
        if call not in CALLS or not colon:
            raise ValueError(f"{text!r}: a fault begins with one of {', '.join(c + ':' for c in CALLS)}")
        words = dict(_split(part) for part in re.findall(r'(?:[^,"]|"[^"]*")+', rest))
        given = {name: words.pop(name) for name in CONDITIONS if name in words}
        effect = Effect()
        for word, value in words.items():
            if word not in EFFECTS:
                raise ValueError(f"{text!r}: unknown word {word!r}; there are {', '.join(EFFECTS)}")
            effect = effect.and_then(EFFECTS[word](value))
        if not words:
            raise ValueError(f"{text!r}: it has no effect; there are {', '.join(EFFECTS)}")
        _check_call(text, call, effect, late="late" in given)
        return cls(call=call, effect=effect, text=text, **_conditions(given))

    def matches(self, call: str, job: Job | None, prompt: str, number: int, *, late: bool) -> bool:
        """Return whether this fault is for a call with this prompt or job."""
        return (
            self.call == call
            and self.late == late
            and self.match in (job.prompt if job else prompt)
            and self.job in (None, job.number if job else number)
        )

    def applies(self, age: float, phase: Phase | None) -> bool:
        """Return whether a job of this age and phase shows the fault."""
        effect = self.effect
        return age < effect.until_age and (effect.phase is None or effect.phase == phase)

    def apply_to_reply(self, reply: Reply, error: ErrorForm) -> Reply:
        """Return the answer with this fault applied, in a dialect that writes errors like this."""
        effect = self.effect
        if effect.answer is not None:
            reply = effect.answer(error)
        return reply if effect.transfer == NORMAL_TRANSFER else replace(reply, transfer=effect.transfer)

    def apply_to_job(self, job: Job) -> None:
        """Attach this fault to a job."""
        effect = self.effect
        job.faults = (*job.faults, self)
        if effect.queue_seconds is not None:
            job.queue_seconds = effect.queue_seconds
        if effect.render_seconds is not None:
            job.render_seconds = effect.render_seconds

    def change(self, view: View) -> None:
        """Change what an answer shows of a job."""
        if self.effect.change is not None:
            self.effect.change(view)

    def edit(self, answer: Json) -> None:
        """Edit the correct answer to a query."""
        if self.effect.edit is not None:
            self.effect.edit(answer)


class FaultList:
    """The faults that have not been applied yet, and random faults at a given rate."""

    def __init__(self, faults: Iterable[str | Fault], fail_rate: float, seed: int | None) -> None:
        self.pending: list[Fault] = []
        self.fail_rate = fail_rate
        self._applied: Counter[int] = Counter()  # id() of a fault -> how often it was applied
        self._random = Random(seed)  # noqa: S311, nothing secret is drawn
        self.add(*faults)

    def add(self, *faults: str | Fault) -> None:
        """Add faults. The first one that fits a call is applied."""
        added = [Fault.parse(fault) if isinstance(fault, str) else fault for fault in faults]
        self.pending = [*self.pending, *added]

    def clear(self) -> None:
        """Remove all faults, except those that are attached to a job."""
        self.pending = []
        self._applied.clear()

    def take(self, wanted: Callable[[Fault], bool]) -> Fault | None:
        """Return the first wanted fault and count it."""
        for fault in self.pending:
            if wanted(fault):
                self._count(fault)
                return fault
        return None

    def attach(self, job: Job) -> tuple[JobFault, ...]:
        """Attach the faults that match this job, and return all its faults."""
        for fault in self.pending:
            if fault not in job.faults and fault.matches("job", job, "", 0, late=False):
                self._count(fault)
                fault.apply_to_job(job)
        return job.faults

    def draw(self, call: str, *, late: bool) -> Fault | None:
        """Return a random temporary fault, or None, at the given rate."""
        if late or self.fail_rate <= 0 or self._random.random() >= self.fail_rate:
            return None
        return Fault.parse(f"{call}:{self._random.choice(TEMPORARY_FAULTS[call])}")

    def _count(self, fault: Fault) -> None:
        self._applied[id(fault)] += 1
        if fault.times is not None and self._applied[id(fault)] >= fault.times:
            self.pending = [other for other in self.pending if other is not fault]
            self._applied.pop(id(fault), None)


def _split(part: str) -> tuple[str, str]:
    word, _, value = part.partition("=")
    return word.strip().replace("_", "-"), value.strip().strip('"')


def _check_call(text: str, call: str, effect: Effect, *, late: bool) -> None:
    if late and call != "submit":
        raise ValueError(f"{text!r}: only a submit can be late; write submit:")
    if effect.hidden_seconds and call != "submit":
        raise ValueError(f"{text!r}: only a submit can hide its job; write submit:, or job:invisible=")
    if effect.change and call not in ("query", "job"):
        raise ValueError(f"{text!r}: only for answers to queries; write query: or job:")
    if (effect.queue_seconds, effect.render_seconds) != (None, None) and call != "job":
        raise ValueError(f"{text!r}: only jobs have a timing; write job:")


def _conditions(given: dict[str, str]) -> dict[str, Any]:
    read: dict[str, Any] = {"match": given.get("match", ""), "late": "late" in given}
    if "times" in given:
        read["times"] = None if given["times"] == "always" else int(given["times"])
    if "job" in given:
        read["job"] = int(given["job"])
    return read
