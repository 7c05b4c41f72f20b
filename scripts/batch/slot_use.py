"""How well a run used the slots of a gateway, by the gateway's own log."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class SlotUse:
    """The use of the slots from when all were in use until the last job began: so long somebody waited.

    :param seconds: how long that was.
    :param full: the share of it in which all slots were in use.
    :param mean: the share of the slots that were in use.
    :param free: for how many seconds a slot was free between two jobs, on average.
    :param refused: how many submits found no free slot.
    :param waited: how many jobs had to wait for a slot.
    :param overtaken: by how many places a job that waited came too late, at most.
    """

    seconds: float
    full: float
    mean: float
    free: float
    refused: int
    waited: int
    overtaken: int


def slot_use(
    slots: int, jobs: Sequence[tuple[float, float]], asked: Sequence[float], refused: int
) -> SlotUse:
    """Return the use of the slots.

    :param jobs: when each job began and ended, in seconds, in the order of their beginnings.
    :param asked: when each of them was asked for first.
    :param refused: how many submits found no free slot.
    """
    changes = sorted([(began, 1) for began, _ in jobs] + [(ended, -1) for _, ended in jobs])
    last, used, first, full, area = jobs[-1][0], 0, None, 0.0, 0.0
    for (at, change), (until, _) in pairwise(changes):
        used += change
        first = at if first is None and used >= slots else first
        if first is not None and at < last:
            full += (until - at) * (used >= slots)
            area += (until - at) * used / slots
    seconds = last - first if first is not None else 0.0
    waited = [at for at, (began, _) in zip(asked, jobs, strict=True) if began - at > 1]
    places = sorted(range(len(waited)), key=waited.__getitem__)
    late = max((came - place for place, came in enumerate(places)), default=0)
    share = 1 / seconds if seconds else 0.0
    refilled = sum(first < began for began, _ in jobs) if first is not None else 0
    free = (seconds - area) * slots / refilled if refilled else 0.0
    return SlotUse(seconds, full * share, area * share, free, refused, len(waited), late)
