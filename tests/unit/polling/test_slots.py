"""The rule of the queue for a slot, and what comes of it for a mapped run of 300."""

import heapq
import itertools
import random

import pytest

from airflow_provider_kling.polling.slots import ROUND_INTERVAL, SlotQueue, SlotWaiter, slots_of


def waiter(asked_at, refused_at=0.0, not_before=0.0, deadline=1e9):
    return SlotWaiter(asked_at, refused_at, not_before, deadline)


def queue_of(*waiters, now=0.0):
    queue = SlotQueue(now)
    for one in waiters:
        queue.add(one)
    return queue


def leave(queue, now):
    return [one.asked_at for one in queue.leave(now)]


def rounds(queue, first, count):
    return [len(queue.leave(first + number * ROUND_INTERVAL)) for number in range(count)]


def test_the_first_to_ask_leaves_for_each_end_in_whatever_order_they_came():
    queue = queue_of(waiter(3), waiter(1), waiter(2))
    assert leave(queue, 1) == []
    queue.saw_end(5)
    assert leave(queue, 5) == [1]
    queue.saw_end(6)
    queue.saw_end(6)
    queue.saw_end(6)
    assert leave(queue, 6) == [2, 3]


def test_a_task_that_was_refused_again_is_the_first_again():
    queue = queue_of(waiter(1), waiter(2), waiter(3))
    queue.saw_end(5)
    assert leave(queue, 5) == [1]
    queue.add(waiter(1, refused_at=8))
    queue.saw_end(9)
    assert leave(queue, 9) == [1]


def test_an_end_is_kept_for_a_task_that_may_not_leave_yet():
    queue = queue_of(waiter(1, not_before=10))
    queue.saw_end(5)
    assert leave(queue, 9.9) == []
    assert queue.next_at() == 10
    assert leave(queue, 10) == [1]
    assert queue.next_at() is None


def test_a_later_task_leaves_first_where_an_earlier_one_was_just_refused():
    queue = queue_of(waiter(1, not_before=10), waiter(2))
    queue.saw_end(5)
    assert leave(queue, 5) == [2]


def test_a_refusal_takes_back_the_ends_that_were_seen_before_it():
    queue = queue_of(waiter(1, not_before=20), waiter(2, not_before=20))
    queue.saw_end(5)
    queue.saw_end(7)
    queue.add(waiter(3, refused_at=6, not_before=20))
    assert leave(queue, 20) == [1]


def test_one_leaves_in_each_round_while_all_slots_stay_in_use():
    queue = queue_of(*map(waiter, range(9)))
    assert queue.next_at() == ROUND_INTERVAL
    for number in range(1, 5):
        now = number * ROUND_INTERVAL
        assert leave(queue, now - 1) == []
        assert leave(queue, now) == [0]
        queue.add(waiter(0, refused_at=now + 5))


def test_the_rounds_grow_while_jobs_begin_and_shrink_when_one_is_refused():
    queue, sizes = queue_of(*map(waiter, range(99))), []
    for number in range(1, 5):
        sizes += rounds(queue, number * ROUND_INTERVAL, 1)
        queue.saw_begin(number * ROUND_INTERVAL + 3)
    assert sizes == [1, 2, 4, 8]
    queue.add(waiter(0, refused_at=4 * ROUND_INTERVAL + 4))
    assert rounds(queue, 5 * ROUND_INTERVAL, 3) == [4, 4, 4]  # and stay as they are without news


def test_a_round_comes_on_top_of_the_ends_that_were_seen():
    queue = queue_of(*map(waiter, range(9)))
    queue.saw_end(1)
    assert leave(queue, 1) == [0]
    queue.saw_end(ROUND_INTERVAL)
    assert leave(queue, ROUND_INTERVAL) == [1, 2]


def test_at_its_deadline_a_task_leaves_in_any_case():
    queue = queue_of(waiter(1), waiter(2, deadline=7, not_before=9))
    assert queue.next_at() == 9
    assert leave(queue, 8) == []
    assert leave(queue, 9) == [2]


def test_a_task_that_waits_no_longer_does_not_leave():
    gone, twin = waiter(1), waiter(1)
    queue = queue_of(gone, twin, waiter(2))
    queue.remove(gone)
    queue.saw_end(1)
    queue.saw_end(1)
    assert [one is twin for one in queue.leave(1)] == [True, False]


@pytest.mark.parametrize("model", ["image-to-video/kling-3.0", "text-to-video/kling-3.0", "kling-3.0"])
def test_the_operations_of_a_model_share_its_slots(model):
    assert slots_of(model) == "kling-3.0"


class Run:
    """A run of tasks on a gateway with slots, in simulated seconds.

    The tasks start in 8 workers, which takes 2 to 5 seconds. A refused one is in the queue up to 3 seconds
    later. The end of a job is seen up to 6 seconds later, or never. A task that leaves the queue tries again
    every other second, for 20 seconds.
    """

    WORKERS, DURATION = 8, (150, 240)

    def __init__(self, tasks, slots, seen):
        self.random, self.slots, self.seen = random.Random(1), slots, seen
        self.queue, self.now, self.numbers = SlotQueue(0.0), 0.0, itertools.count()
        self.events, self.ready, self.asked_at, self.waiters = [], [], {}, {}
        self.used = self.busy = self.starts = 0
        self.accepted, self.usage = [], []
        for number in range(tasks):
            self.after(number / 20, self.schedule, number)
        while len(self.accepted) < tasks:
            self.now, _, action, arguments = heapq.heappop(self.events)
            action(*arguments)

    def after(self, seconds, action, *arguments):
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), action, arguments))

    def schedule(self, task):
        heapq.heappush(self.ready, task)
        self.start()

    def start(self):
        while self.ready and self.busy < self.WORKERS:
            self.busy += 1
            self.starts += 1
            task = heapq.heappop(self.ready)
            patience = 20 if task in self.asked_at else 0
            self.after(self.random.uniform(2, 5), self.submit, task, patience)

    def submit(self, task, patience):
        if self.used < self.slots:
            self.use(+1)
            self.accepted.append(task)
            self.after(self.random.uniform(*self.DURATION), self.end)
            self.after(3, self.queue.saw_begin, self.now)
        elif patience > 0:
            self.after(2, self.submit, task, patience - 2)
            return
        else:
            place = self.asked_at.setdefault(task, self.now)
            one = waiter(place, self.now, self.now + 10)
            self.waiters[id(one)] = one, task
            self.after(self.random.uniform(1, 3), self.join, one)
        self.busy -= 1
        self.start()

    def join(self, one):
        self.queue.add(one)
        self.leave()

    def end(self):
        self.use(-1)
        if self.random.random() < self.seen:
            self.after(self.random.uniform(0, 6), self.see)

    def see(self):
        self.queue.saw_end(self.now)
        self.leave()

    def leave(self):
        for one in self.queue.leave(self.now):
            _, task = self.waiters.pop(id(one))
            self.after(self.random.uniform(1, 2), self.schedule, task)
        if (at := self.queue.next_at()) is not None:
            self.after(max(0.05, at - self.now), self.leave)

    def use(self, change):
        self.usage.append((self.now, self.used))
        self.used += change

    @property
    def in_use(self):
        """The share of the slots that are in use, from when all are until the last task has one."""
        first = next(at for at, used in self.usage if used == self.slots)
        times = [(at, used) for at, used in self.usage if at >= first]
        spans = [(at - before, used) for (before, _), (at, used) in itertools.pairwise(times)]
        return sum(span * used for span, used in spans) / sum(span for span, _ in spans) / self.slots


@pytest.mark.parametrize(
    ("seen", "share", "starts"), [(1.0, 0.98, 720), (0.5, 0.96, 750), (0.0, 0.92, 800)]
)  # 580 starts without any that is refused twice
def test_the_slots_are_in_use_without_a_storm_of_submits(seen, share, starts):
    run = Run(tasks=300, slots=20, seen=seen)
    assert run.in_use > share
    assert run.starts < starts


def test_a_simulated_run_keeps_the_order_of_having_asked():
    run = Run(tasks=300, slots=20, seen=1.0)
    waited = [task for task in run.accepted if task in run.asked_at]
    places = {task: place for place, task in enumerate(sorted(waited, key=run.asked_at.__getitem__))}
    # A later one leaves where an earlier one was just refused, and so overtakes it.
    assert max(abs(places[task] - place) for place, task in enumerate(waited)) <= 14
