"""What a task is_persistent of its submit: the same request finds its job, another one never does."""

import itertools
import json
from decimal import Decimal

import pytest

from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.submission.fingerprint import fingerprint
from airflow_provider_kling.submission.state import SubmissionRecord, SubmissionState, Try

HOST = "https://api.example"
JOB = VideoJob(
    "m", {"image": "https://s.example/a.png?v=2&X-Amz-Signature=one&X-Amz-Expires=60", "prompt": "a cat"}
)


class Store(dict):
    """As much of Airflow's task state store as a state uses; it takes JSON only, never None."""

    def set(self, key, value):
        assert value is not None
        self[key] = json.loads(json.dumps(value))

    def delete(self, key):
        self.pop(key, None)


def test_an_intent_stands_until_the_job_is_known():
    store = Store()
    SubmissionState(store, Try(3)).record_intent(SubmissionRecord(Try(3), "f", 100.0))
    assert SubmissionState(store, Try(3)).last_record() == SubmissionRecord(Try(3), "f", 100.0)
    SubmissionState(store, Try(3)).record(SubmissionRecord(Try(3), "f", 101.0, "t-1"))
    assert SubmissionState(store, Try(3)).last_record() == SubmissionRecord(Try(3), "f", 101.0, "t-1")


def test_a_cleared_task_sees_what_was_noted_before_and_by_which_generation():
    store = Store()
    SubmissionState(store, Try(3)).record(SubmissionRecord(Try(3), "f", 100.0, "t-1"))
    assert SubmissionState(store, Try(4)).last_record() == SubmissionRecord(Try(3), "f", 100.0, "t-1")


def test_what_a_person_was_told_is_noted_with_the_rest():
    store = Store()
    SubmissionState(store, Try(3)).record_intent(SubmissionRecord(Try(3), "f", 100.0))
    SubmissionState(store, Try(4)).record_reported()
    assert SubmissionState(store, Try(4)).last_record() == SubmissionRecord(Try(3), "f", 100.0, reported=True)


def test_a_task_that_has_finished_is_noted_with_the_rest():
    store = Store()
    SubmissionState(store, Try(3)).record(SubmissionRecord(Try(3), "f", 100.0, "t-1"))
    SubmissionState(store, Try(3)).record_finished()
    finished = SubmissionRecord(Try(3), "f", 100.0, "t-1", finished=True)
    assert SubmissionState(store, Try(3)).last_record() == finished
    del store["kling_submit"]["finished"]
    store["kling_submit"]["delivered"] = True  # its name in an older version
    assert SubmissionState(store, Try(3)).last_record() == finished


def test_a_job_of_before_the_clear_can_become_this_generations_own():
    store = Store()
    SubmissionState(store, Try(3)).record(SubmissionRecord(Try(3), "f", 100.0, "t-1"))
    SubmissionState(store, Try(6)).adopt_job()
    assert SubmissionState(store, Try(6)).last_record() == SubmissionRecord(Try(6), "f", 100.0, "t-1")


def test_a_job_that_was_not_made_is_forgotten():
    store = Store()
    state = SubmissionState(store, Try(3))
    state.record_intent(SubmissionRecord(Try(3), "f", 100.0))
    state.remove_intent()
    state.record_reported()
    assert state.last_record() is None
    assert not store


def test_without_a_store_nothing_is_remembered_and_nothing_fails():
    state = SubmissionState(None, Try(3))
    state.record_intent(SubmissionRecord(Try(3), "f", 100.0))
    state.record(SubmissionRecord(Try(3), "f", 100.0, "t-1"))
    state.record_reported()
    state.remove_intent()
    assert state.last_record() is None
    assert not state.is_persistent
    assert SubmissionState(Store(), Try(3)).is_persistent


def test_what_a_newer_version_notes_besides_does_not_hide_the_job():
    store = Store()
    SubmissionState(store, Try(3)).record(SubmissionRecord(Try(3), "f", 100.0, "t-1"))
    store["kling_submit"] |= {"shade": "blue"}
    assert SubmissionState(store, Try(3)).last_record() == SubmissionRecord(Try(3), "f", 100.0, "t-1")


ODD = [{"generation": 3, "fingerprint": "f", "noted_at": at, "kling_task_id": "t"} for at in ("noon", None)]


@pytest.mark.parametrize("noted", ["t-1", 7, [], {}, {"shade": "blue"}, {"generation": 3}, *ODD])
def test_a_note_that_makes_no_sense_means_maybe_until_it_was_told(noted):
    store = Store()
    store.set("kling_submit", noted)
    assert SubmissionState(store, Try(3)).last_record() == SubmissionRecord(Try(3), "", 0.0)
    SubmissionState(store, Try(3)).record_reported()
    assert SubmissionState(store, Try(6)).last_record() == SubmissionRecord(Try(3), "", 0.0, reported=True)


def test_a_wait_that_was_begun_ends_when_it_was_to_end_but_not_after_a_clear():
    store = Store()
    assert SubmissionState(store, Try(3)).recorded_wait("t-1") is None
    SubmissionState(store, Try(3)).record_wait("t-1", 100.0, 700.0)
    assert SubmissionState(store, Try(3)).recorded_wait("t-1") == (100.0, 700.0)
    assert SubmissionState(store, Try(3)).recorded_wait("t-2") is None
    assert SubmissionState(store, Try(6)).recorded_wait("t-1") is None
    store["kling_wait"]["deadline"] = "soon"
    assert SubmissionState(store, Try(3)).recorded_wait("t-1") is None


def test_without_a_store_no_wait_is_remembered():
    SubmissionState(None, Try(3)).record_wait("t-1", 100.0, 700.0)
    assert SubmissionState(None, Try(3)).recorded_wait("t-1") is None


@pytest.mark.parametrize(
    "inputs",
    [
        {"prompt": "a cat", "image": "https://s.example/a.png?v=2&X-Amz-Signature=two"},
        {"prompt": "a cat", "image": "HTTPS://s.example/a.png?v=2&X-Amz-Signature=two"},
        {"image": "https://s.example/a.png?X-Goog-Signature=x&v=2&se=2026&SIG=abc", "prompt": "a cat"},
    ],
)
def test_what_signs_a_pictures_link_does_not_change_the_request(inputs):
    assert fingerprint(VideoJob("m", inputs), HOST) == fingerprint(JOB, HOST)


@pytest.mark.parametrize(
    ("job", "host"),
    [
        (VideoJob("other", JOB.inputs), HOST),
        (JOB, "https://other.example"),
        (VideoJob("m", {**JOB.inputs, "prompt": "a dog"}), HOST),
        (VideoJob("m", {**JOB.inputs, "image": "https://s.example/a.png?v=3"}), HOST),
        (VideoJob("m", {**JOB.inputs, "image": "https://s.example/b.png?v=2"}), HOST),
        (VideoJob("m", {**JOB.inputs, "multi_prompt": [{"prompt": "x"}]}), HOST),
        (VideoJob("m", {**JOB.inputs, "image": "https://s.example/a.png?v=2&token=t"}), HOST),
        (VideoJob("m", {**JOB.inputs, "image": "https://s.example/a.png?v=2&st=t&policy=p"}), HOST),
        (VideoJob("m", {**JOB.inputs, "prompt": "https://s.example/a.png?X-Amz-Signature=one"}), HOST),
    ],
)
def test_everything_else_does(job, host):
    assert fingerprint(job, host) != fingerprint(JOB, HOST)


SIGNERS = [
    "X-Amz-Algorithm=A&X-Amz-Credential={0}&X-Amz-Date={0}&X-Amz-Security-Token={0}&X-Amz-Signature={0}",
    "AWSAccessKeyId={0}&Signature={0}&Expires={0}",
    "X-Goog-Credential={0}&X-Goog-Date={0}&X-Goog-Signature={0}",
    "GoogleAccessId={0}&Expires={0}&Signature={0}",
    "sv={0}&st={0}&se={0}&sr=b&sp=r&spr=https&sig={0}&skoid={0}&sktid={0}&skt={0}&ske={0}&sks=b&skv={0}",
    "Policy={0}&Signature={0}&Key-Pair-Id={0}",
    "OSSAccessKeyId={0}&Expires={0}&Signature={0}&security-token={0}",
    "x-oss-date={0}&x-oss-expires={0}&x-oss-credential={0}&x-oss-signature={0}",
    "q-sign-algorithm=x&q-ak={0}&q-sign-time={0}&q-key-time={0}&q-header-list=&q-url-param-list=&q-signature={0}",
    "X-Tos-Date={0}&X-Tos-Signature={0}",
    "AccessKeyId={0}&Expires={0}&Signature={0}&x-obs-security-token={0}",
]


@pytest.mark.parametrize("signed", SIGNERS)
def test_links_of_every_known_storage_are_compared_without_what_signs_them(signed):
    one, two, other = (
        VideoJob("m", {"image": f"https://s.example/{name}.png?v=1&{signed.format(n)}"})
        for name, n in [("a", 1), ("a", 22), ("b", 1)]
    )
    assert fingerprint(one, HOST) == fingerprint(two, HOST) != fingerprint(other, HOST)


@pytest.mark.parametrize(
    "text", ["http://[is this a link?", "https://", "http://x:y@z:none/?a=%zz&&=", "http:// ?"]
)
def test_words_that_begin_like_a_link_are_words(text):
    assert fingerprint(VideoJob("m", {"prompt": text}), HOST) != fingerprint(
        VideoJob("m", {"prompt": ""}), HOST
    )


@pytest.mark.parametrize("words", ["prompt", "negative_prompt", "multi_prompt"])
def test_words_are_compared_as_they_are(words):
    one, two = (VideoJob("m", {words: f"https://s.example/a?X-Amz-Signature={n}"}) for n in "ab")
    assert fingerprint(one, HOST) != fingerprint(two, HOST)


@pytest.mark.parametrize("name", ["image", "image_url"])
def test_what_is_no_link_at_all_is_compared_as_it_is(name):
    one, two = (VideoJob("m", {name: f"https://[{n}?sig=1"}) for n in "ab")
    assert fingerprint(one, HOST) != fingerprint(two, HOST)


def test_links_are_compared_unsigned_wherever_they_stand():
    one, two = (
        VideoJob("m", {"images": [f"https://s.example/a?sig={n}"], "o": {"x": f"http://a?sig=7&se={n}"}})
        for n in "ab"
    )
    assert fingerprint(one, HOST) == fingerprint(two, HOST)
    assert fingerprint(VideoJob("m", {"prompt": "\ud800 ü"}), HOST)


def test_a_link_that_was_signed_for_this_request_counts_as_what_it_stands_for():
    def order(link, source="s3://b/cat.png 1234", **more):
        return fingerprint(VideoJob("m", {"images": [link], **more}, {link: source}), HOST)

    assert order("https://s.example/cat.png?unheard-of=1") == order("https://other.example/x?unheard-of=2")
    assert order("https://s.example/cat.png?a=1") != order(
        "https://s.example/cat.png?a=1", "s3://b/cat.png 9"
    )
    assert order("https://s.example/cat.png") != order("https://s.example/cat.png", prompt="a cat")


def test_each_job_that_was_bought_counts_once_and_for_good():
    store = Store()
    state = SubmissionState(store, Try(3))
    assert state.costs() == {}
    state.record_intent(SubmissionRecord(Try(3), "f", 100.0, cost="0.56"))
    assert state.costs() == {"of unknown id, 100.000": Decimal("0.56")}  # at once, before anything is sent
    state.record(SubmissionRecord(Try(3), "f", 101.0, "t-1", "0.56"))
    assert state.costs() == {"t-1": Decimal("0.56")}
    state.record_intent(SubmissionRecord(Try(3), "f", 200.0))
    assert state.costs() == {"t-1": Decimal("0.56"), "of unknown id, 200.000": None}
    state.remove_intent()
    assert SubmissionState(store, Try(9)).costs() == {"t-1": Decimal("0.56")}


@pytest.mark.parametrize("usd", ["-5", "nan", "much", [], -1, ""])
def test_a_cost_that_makes_no_sense_is_unknown(usd):
    store = Store()
    store.set("kling_spent", {"t-1": usd})
    assert SubmissionState(store, Try(3)).costs() == {"t-1": None}


@pytest.mark.parametrize("spent", ["0.56", 7, [], ["t-1"], True])
def test_costs_that_are_no_object_are_unknown_and_stay_so(spent):
    store = Store()
    store.set("kling_spent", spent)
    state = SubmissionState(store, Try(3))
    assert None in state.costs().values()
    state.record_intent(SubmissionRecord(Try(3), "f", 100.0, cost="0.56"))
    state.record(SubmissionRecord(Try(3), "f", 101.0, "t-1", "0.56"))
    assert set(state.costs().values()) == {None, Decimal("0.56")}


def test_what_an_older_version_has_recorded_is_read():
    store = Store()
    store.set("kling_submit", {"generation": 3, "fingerprint": "f", "noted_at": 1.0, "told": True})
    store.set("kling_spent", {"of unknown id, 1.000": "0.56"})
    state = SubmissionState(store, Try(3, 2, 3))
    assert state.last_record() == SubmissionRecord(Try(3), "f", 1.0, reported=True)
    assert not state.is_cleared_since(state.last_record())
    assert state.costs() == {"of unknown id, 1.000": Decimal("0.56")}


def test_an_id_that_the_store_did_not_take_can_be_confirmed():
    store = Store()
    state = SubmissionState(store, Try(3))
    state.record_intent(SubmissionRecord(Try(3), "f", 100.0, cost="0.56"))
    state.confirm_task_id("t-1")
    state.confirm_task_id("t-2")
    assert state.last_record() == SubmissionRecord(Try(3), "f", 100.0, "t-1", "0.56")


class TaskInstance:
    """A task instance with its numbers and its store, as Airflow counts and keeps them."""

    def __init__(self, retries):
        self.retries = self.max_tries = retries
        self.try_number, self.clear_number = 1, 0
        self.store, self.is_cleared, self.has_ended = Store(), False, False
        self.state().record(SubmissionRecord(self.state().current, "f", 100.0, "t-1"))

    def state(self):
        return SubmissionState(
            self.store, Try(self.max_tries, self.try_number, self.retries, self.clear_number)
        )

    def retry(self):
        """Begin the next try after one that failed or was killed."""
        if self.try_number <= self.max_tries and not self.has_ended:
            self.try_number += 1

    def finish(self):
        """End well, or with an error that Airflow does not retry."""
        self.has_ended = True
        self.state().record_finished()

    def report(self):
        self.has_ended = True
        self.state().record_reported()

    def clear(self):
        self.max_tries = self.try_number + self.retries
        self.clear_number += 1
        self.try_number += 1
        self.is_cleared, self.has_ended = True, False

    def clear_while_running(self):
        """Clear a task whose executor then reports a failure: ``max_tries`` stays as it is."""
        if not self.has_ended:
            self.clear_number += 1
            self.try_number += 1
            self.is_cleared = True

    def clear_another_task(self):
        self.clear_number += 1

    def lower_retries(self):
        self.retries = max(self.retries - 1, 0)

    def raise_retries(self):
        self.retries += 1

    def seems_cleared(self):
        state = self.state()
        return state.is_cleared_since(state.last_record())


STEPS = ("retry", "finish", "report", "clear", "clear_while_running", "clear_another_task")
CHANGES = ("lower_retries", "raise_retries")


def histories(retries, steps):
    """Yield a task instance after each step of each history, and the steps up to there."""
    for history in itertools.product(steps, repeat=4):
        task = TaskInstance(retries)
        for number, step in enumerate(history, 1):
            getattr(task, step)()
            if not task.has_ended:
                yield task, history[:number]


@pytest.mark.parametrize("retries", range(4))
def test_no_history_looks_like_a_clear_that_was_none(retries):
    for task, steps in histories(retries, (*STEPS, *CHANGES)):
        assert task.is_cleared or not task.seems_cleared(), steps


@pytest.mark.parametrize("retries", range(4))
def test_without_a_change_of_the_retries_every_clear_of_a_task_that_does_not_run_is_seen(retries):
    for task, steps in histories(retries, STEPS):
        assert task.seems_cleared() or "clear" not in steps, steps


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("end", ["finish", "report"])
@pytest.mark.parametrize("tries", range(4))
def test_a_task_that_has_ended_and_is_cleared_with_other_retries_is_seen_as_cleared(
    before, after, end, tries
):
    task = TaskInstance(before)
    for _ in range(tries):
        task.retry()
    getattr(task, end)()
    task.retries = after
    task.clear()
    for _ in range(3):
        assert task.seems_cleared()
        task.retry()


def test_a_real_cost_replaces_the_estimate_of_its_job_and_of_no_other():
    store = Store()
    SubmissionState(store, Try(3)).record(SubmissionRecord(Try(3), "f", 1.0, "t-1", cost="0.56"))
    state = SubmissionState(store, Try(4))
    state.record_intent(SubmissionRecord(Try(4), "f", 100.0, cost="0.56"))
    state.record_cost("t-1", Decimal("0.42"))
    state.record_cost("of another task", Decimal(9))
    assert state.costs() == {"t-1": Decimal("0.42"), "of unknown id, 100.000": Decimal("0.56")}
    state.confirm_task_id("t-2")
    assert state.costs() == {"t-1": Decimal("0.42"), "t-2": Decimal("0.56")}
    state.record_cost("t-2", Decimal(0))
    assert SubmissionState(store, Try(5)).costs() == {"t-1": Decimal("0.42"), "t-2": Decimal("0.0")}


@pytest.mark.parametrize("spent", ["damaged", "", [], 0])
def test_a_real_cost_does_not_hide_costs_that_cannot_be_read(spent):
    store = Store(kling_spent=spent)
    state = SubmissionState(store, Try(3))
    state.record(SubmissionRecord(Try(3), "f", 1.0, "t-1", cost="0.56"))
    state.record_cost("t-1", Decimal("0.42"))
    assert None in state.costs().values()
