"""How the batch measures the use of slots."""

import pytest
from batch.slot_use import slot_use


def test_only_the_time_counts_in_which_somebody_waits():
    # Two slots: full from 2 to 10, one is free from 10 to 12, full again until the last job begins at 20.
    jobs = [(0, 10), (2, 20), (12, 30), (20, 40)]
    use = slot_use(2, jobs, asked=[0, 2, 3, 4], refused=5)
    assert use.seconds == 18
    assert use.full == pytest.approx(16 / 18)
    assert use.mean == pytest.approx(17 / 18)
    assert use.free == pytest.approx(1)
    assert (use.refused, use.waited, use.overtaken) == (5, 2, 0)


def test_a_job_that_came_too_late_was_overtaken():
    jobs = [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert slot_use(1, jobs, asked=[0, 3, 4, 2], refused=0).overtaken == 2


def test_slots_that_were_never_all_in_use_have_no_share():
    use = slot_use(3, [(0, 10), (5, 10)], asked=[0, 5], refused=0)
    assert (use.seconds, use.full, use.mean, use.free) == (0.0, 0.0, 0.0, 0.0)
