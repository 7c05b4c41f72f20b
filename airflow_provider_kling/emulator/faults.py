"""What can go wrong, as values: which calls a fault meets, and what it does to their answers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.emulator.fault_effects import WORDS, Effect
from airflow_provider_kling.emulator.messages import NO_FAULT, Json, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_kling.emulator.jobs import Job, JobFault, Phase

CALLS = ("submit", "query", "download", "job")
CONDITIONS = ("times", "match", "job", "late")
PASSING = {
    "submit": ("error=CREATE_TASK_FAILED", "rate-limit", "cut", "cut,late"),
    "query": ("error=GET_RESULT_FAILED", "html=502", "rate-limit", "cut"),
    "download": ("dead=403", "truncate", "cut"),
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    `call` is the kind of request that it applies to. With "job" it is attached to a job, and every query
    about that job shows it. `times` counts calls (with "job": jobs); None means always. `match` is a text in
    the prompt, `job` is the number of the job, counted from 1. With `late`, a submit creates its job, which
    is paid for, before the fault is applied.
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
        """Read a fault as written: `call:word[=value][,word[=value]]...`."""
        call, colon, rest = text.partition(":")
        if call not in CALLS or not colon:
            raise ValueError(f"{text!r}: a fault begins with one of {', '.join(c + ':' for c in CALLS)}")
        words = dict(_split(part) for part in re.findall(r'(?:[^,"]|"[^"]*")+', rest))
        given = {name: words.pop(name) for name in CONDITIONS if name in words}
        effect = Effect()
        for word, value in words.items():
            if word not in WORDS:
                raise ValueError(f"{text!r}: no such word as {word!r}; there are {', '.join(WORDS)}")
            effect = effect.and_then(WORDS[word](value))
        if not words:
            raise ValueError(f"{text!r}: nothing is to happen; there are {', '.join(WORDS)}")
        _check_place(text, call, effect, late="late" in given)
        return cls(call=call, effect=effect, text=text, **_conditions(given))

    def meets(self, call: str, job: Job | None, prompt: str, number: int, *, late: bool) -> bool:
        """Return whether this fault is for a call about that prompt or job."""
        return (
            self.call == call
            and self.late == late
            and self.match in (job.prompt if job else prompt)
            and self.job in (None, job.number if job else number)
        )

    def applies(self, age: float, phase: Phase | None) -> bool:
        """Return whether the job is in the state that this fault waits for."""
        effect = self.effect
        return age < effect.until_age and (effect.phase is None or effect.phase == phase)

    def apply_to_reply(self, reply: Reply) -> Reply:
        """Return the answer with this fault applied."""
        effect = self.effect
        if effect.reply is not None:
            reply = effect.reply
        return reply if effect.wire == NO_FAULT else replace(reply, wire=effect.wire)

    def assign_to(self, job: Job) -> None:
        """Attach this fault to a job."""
        effect = self.effect
        job.faults = (*job.faults, self)
        if effect.queue_seconds is not None:
            job.queue_seconds = effect.queue_seconds
        if effect.render_seconds is not None:
            job.render_seconds = effect.render_seconds

    def edit(self, answer: Json) -> None:
        """Edit the correct answer to a query."""
        if self.effect.edit is not None:
            self.effect.edit(answer)


class FaultList:
    """The faults that wait for their calls, and random faults at a set rate."""

    def __init__(self, faults: Iterable[str | Fault], fail_rate: float, seed: int | None) -> None:
        self.waiting: list[Fault] = []
        self.fail_rate = fail_rate
        self._met: Counter[int] = Counter()  # id of a fault -> how often it was applied
        self._dice = Random(seed)  # noqa: S311, nothing secret is drawn
        self.add(*faults)

    def add(self, *faults: str | Fault) -> None:
        """Add faults. The first one that fits a call is applied."""
        added = [Fault.parse(fault) if isinstance(fault, str) else fault for fault in faults]
        self.waiting = [*self.waiting, *added]

    def clear(self) -> None:
        """Remove all faults; a job keeps those that are attached to it."""
        self.waiting = []
        self._met.clear()

    def take(self, wanted: Callable[[Fault], bool]) -> Fault | None:
        """Return the first wanted fault and count it."""
        for fault in self.waiting:
            if wanted(fault):
                self._count(fault)
                return fault
        return None

    def bind(self, job: Job) -> tuple[JobFault, ...]:
        """Attach the faults that are for this job, and return all that it has."""
        for fault in self.waiting:
            if fault not in job.faults and fault.meets("job", job, "", 0, late=False):
                self._count(fault)
                fault.assign_to(job)
        return job.faults

    def chance(self, call: str, *, late: bool) -> Fault | None:
        """Return a random passing fault, at the set rate."""
        if late or self.fail_rate <= 0 or self._dice.random() >= self.fail_rate:
            return None
        return Fault.parse(f"{call}:{self._dice.choice(PASSING[call])}")

    def _count(self, fault: Fault) -> None:
        self._met[id(fault)] += 1
        if fault.times is not None and self._met[id(fault)] >= fault.times:
            self.waiting = [other for other in self.waiting if other is not fault]
            self._met.pop(id(fault), None)


def _split(part: str) -> tuple[str, str]:
    word, _, value = part.partition("=")
    return word.strip().replace("_", "-"), value.strip().strip('"')


def _check_place(text: str, call: str, effect: Effect, *, late: bool) -> None:
    if late and call != "submit":
        raise ValueError(f"{text!r}: only a submit can go wrong late; write submit:")
    if effect.edit and call not in ("query", "job"):
        raise ValueError(f"{text!r}: only the answer to a query says this; write query: or job:")
    if (effect.queue_seconds, effect.render_seconds) != (None, None) and call != "job":
        raise ValueError(f"{text!r}: only jobs have a timing; write job:")


def _conditions(given: dict[str, str]) -> dict[str, Any]:
    read: dict[str, Any] = {"match": given.get("match", ""), "late": "late" in given}
    if "times" in given:
        read["times"] = None if given["times"] == "always" else int(given["times"])
    if "job" in given:
        read["job"] = int(given["job"])
    return read
