"""Whatever dies, and wherever: no retry pays twice, no paid job is lost. The gateway's log is the bill."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout
from airflow_fakes import (
    TI,
    Store,
    connect,
    context_of,
    png,
    runtime_error,
    submits,
)
from dialects import DIALECTS, at_myrouter, check_lost_answer, dialect, rows

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingJobFailedError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.operators import KlingSubmitOperator

PROMPT = "a cat waves"
DEATHS = [AirflowTaskTimeout, KeyboardInterrupt, SystemExit]


def submit(store, ti=None, **arguments):
    """Execute a submit, as each try of a task does: with an operator of its own."""
    arguments = {"model": "kling-v3.0-pro-t2v", "prompt": PROMPT, **arguments}
    return KlingSubmitOperator(task_id="submit", **arguments).execute(context_of(ti, store))


#: When a task dies at which writes (the intent, the id twice), what it has sent, and what its retry does.
MOMENTS = {
    "before the intent": ("before", [1], 0, dict.fromkeys(DIALECTS, "submits")),
    "after the intent": ("after", [1], 0, {"myrouter": "is uncertain", "kling": "submits"}),
    "before the id": ("before", [2, 3], 1, {"myrouter": "is uncertain", "kling": "resumes"}),
    "while it records the id": ("before", [2], 1, dict.fromkeys(DIALECTS, "resumes")),
    "after the id": ("after", [2], 1, dict.fromkeys(DIALECTS, "resumes")),
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize(("when", "writes", "sent", "retry"), MOMENTS.values(), ids=MOMENTS)
def test_a_retry_after_a_death_neither_pays_twice_nor_loses_a_job(
    gateway, logged, death, when, writes, sent, retry
):
    store, ti = Store(), TI()
    getattr(store, when).update({number: death() for number in writes})
    with pytest.raises(death):
        submit(store)
    assert submits(gateway) == sent
    assert all(f"Kling task id: {job.task_id}" in logged.text() for job in gateway.jobs)
    if retry[gateway.spoken] == "is uncertain":
        with pytest.raises(KlingSubmitUncertainError, match="ended before it noted the answer"):
            submit(store)
        assert submits(gateway) == sent
        return
    assert submit(store, ti) == gateway.jobs[0].task_id
    assert submits(gateway) == 1
    assert ti.xcoms["kling_request"]["kling_task_id"] == gateway.jobs[0].task_id
    assert ti.xcoms["estimated_cost_usd"] == 0.56
    assert ("Resumed: job" in logged.text()) == (retry[gateway.spoken] == "resumes")


@pytest.fixture
def struck(running):
    """Let a death strike the main thread, as Airflow's own timeout does, while the gateway answers."""
    died = []

    def die(*_):
        raise died.pop()

    def strike(request):
        if died and request.method == "POST":
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, die)
    with running(on_request=strike) as gateway:
        yield gateway, died
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("death", DEATHS)
def test_a_death_during_the_request_pays_once(struck, death):
    (gateway, died), store = struck, Store()
    died.append(death())
    with pytest.raises(death):
        submit(store)
    check_lost_answer(gateway, lambda: submit(store))
    assert (submits(gateway), len(gateway.jobs)) == (1, 1)


@pytest.mark.parametrize(("fault", "paid"), [("cut", 0), ("cut,late", 1), ("hang=2", 0), ("hang=2,late", 1)])
def test_a_lost_answer_is_settled_at_once_and_for_every_retry(gateway, monkeypatch, fault, paid):
    connect(gateway, monkeypatch, request_timeout=1)
    gateway.add_fault(f"submit:{fault}")
    store, sent_again = Store(), dialect(gateway).finds_jobs and not paid
    for _ in range(3):
        check_lost_answer(gateway, lambda: submit(store), r"It may have cost .*0\.56")
    gateway.wait_until(lambda: submits(gateway) == 1 + sent_again)
    assert len(gateway.jobs) == paid + sent_again


@pytest.mark.parametrize("fault", ["cut,late", "malformed,late"])
def test_who_accepts_to_pay_twice_is_asked_for_nothing_more_and_pays_twice_only_if_uncertain(
    gateway, logged, fault
):
    gateway.add_fault(f"submit:{fault}")
    store, choice = Store(), {"on_uncertain": "submit_again"}
    check_lost_answer(gateway, lambda: submit(store, **choice), fails=False)
    assert submit(store, **choice) == submit(store, **choice) == gateway.jobs[-1].task_id
    assert ("as on_uncertain='submit_again' says" in logged.text()) is not dialect(gateway).finds_jobs
    assert submits(gateway) == len(gateway.jobs) == {"myrouter": 2, "kling": 1}[gateway.spoken]


def test_a_retry_gets_the_job_of_the_first_try_and_a_cleared_task_buys_anew(gateway):
    store = Store()
    first = submit(store, TI(max_tries=3))
    assert submit(store, TI(max_tries=3)) == first
    cleared = submit(store, TI(max_tries=6))
    assert cleared != first
    assert submit(store, TI(max_tries=6)) == cleared
    assert [job.task_id for job in gateway.jobs] == [first, cleared]


@pytest.mark.parametrize(
    "change",
    [
        *({"prompt": "a dog"}, {"model": "kling-v3.0-std-t2v"}, {"duration": 10}, {"sound": True}),
        {"kling_conn_id": "of_another_account"},
    ],
)
def test_a_changed_request_gets_neither_the_old_job_nor_a_second_one(gateway, monkeypatch, change):
    monkeypatch.setenv("AIRFLOW_CONN_OF_ANOTHER_ACCOUNT", os.environ["AIRFLOW_CONN_KLING_DEFAULT"])
    store = Store()
    first = submit(store, **change)
    with pytest.raises(dialect(gateway).changed, match=f"job {first} .* has changed since") as caught:
        submit(store)
    assert isinstance(caught.value, AirflowFailException)
    assert submits(gateway) == 1
    assert submit(store, on_uncertain="submit_again") != first
    assert submits(gateway) == 2


def test_a_picture_whose_links_signature_alone_changed_gets_the_old_job(gateway):
    store = Store()
    told = {"model": "kling-v3.0-pro-i2v"}
    links = [
        f"https://pictures.example/cat.png?v=1&X-Amz-Signature={n}&X-Amz-Date=2026110{n}" for n in (1, 2)
    ]
    assert submit(store, image=links[0], **told) == submit(store, image=links[1], **told)
    assert submits(gateway) == 1


@pytest.mark.parametrize("noted", [{"shade": "blue"}, {"generation": "a"}, "t-1"])
def test_a_note_that_nobody_can_read_buys_nothing_until_a_person_has_looked(gateway, noted):
    store, cleared = Store(), TI(max_tries=6)
    store.set("kling_submit", noted)
    for _ in range(2):
        with pytest.raises(KlingSubmitUncertainError, match="ended before it noted the answer"):
            submit(store)
    assert submits(gateway) == 0
    assert submit(store, cleared) == submit(store, cleared) == gateway.jobs[0].task_id


def test_mapped_instances_buy_a_job_each_even_for_the_same_request(gateway):
    stores = [Store(), Store(), Store()]
    ids = [submit(store, TI(map_index=at)) for at, store in enumerate(stores)]
    assert ids == [submit(store, TI(map_index=at)) for at, store in enumerate(stores)]
    assert len(set(ids)) == len(gateway.jobs) == 3


FATES = [("job:fail", "failed at the gateway")]
OTHER_FATES = [("job:cancel", "was cancelled"), ("query:error=TASK_FAILED", "TASK_FAILED")]


@rows("fate why", FATES, myrouter=OTHER_FATES)  # Kling has one word for a job that did not succeed
def test_a_remembered_job_that_failed_fails_the_retry_for_good(gateway, fate, why):
    gateway.add_fault(fate)
    store = Store()
    kling_task_id = submit(store)
    with pytest.raises(KlingJobFailedError, match=why) as caught:
        submit(store)
    assert isinstance(caught.value, AirflowFailException)
    assert caught.value.kling_task_id == kling_task_id
    assert submits(gateway) == 1


@rows("fate why", FATES, myrouter=OTHER_FATES)
def test_a_remembered_job_that_failed_is_bought_anew_where_that_was_allowed(gateway, fate, why):
    gateway.add_fault(fate)
    store, choice = Store(), {"on_failed_job": "submit_again"}
    first, second = submit(store, **choice), submit(store, **choice)
    assert first != second == submit(store, **choice)
    assert submits(gateway) == 2


@pytest.mark.parametrize("trouble", ["html=502", "cut", "rate-limit", "status=503", "malformed"])
@pytest.mark.parametrize("choice", ["fail", "submit_again"])
def test_a_remembered_job_whose_state_cannot_be_asked_is_taken(gateway, trouble, choice):
    store = Store()
    kling_task_id = submit(store)
    gateway.add_fault(f"query:{trouble},times=always")
    assert submit(store, on_failed_job=choice) == kling_task_id
    assert submits(gateway) == 1


@pytest.mark.parametrize("choice", ["fail", "submit_again"])
def test_a_young_job_that_is_not_visible_yet_is_neither_lost_nor_bought_again(gateway, choice):
    gateway.add_fault("job:invisible=60")
    store = Store()
    kling_task_id = submit(store)
    assert submit(store, on_failed_job=choice) == kling_task_id
    assert submits(gateway) == 1


def test_an_old_job_that_the_gateway_does_not_know_is_told_and_nothing_is_bought(gateway, clock):
    gateway.add_fault("job:invisible=100000")
    store = Store()
    kling_task_id = submit(store)
    clock.sleep(61)
    for choice in ("fail", "submit_again"):
        with pytest.raises(
            KlingSubmitUncertainError, match=f"{kling_task_id}, which the gateway does not show"
        ):
            submit(store, on_failed_job=choice)
    assert submit(store, on_uncertain="submit_again") != kling_task_id
    assert submits(gateway) == 2


def test_a_clear_that_comes_between_the_request_and_its_answer_pays_once(gateway):
    store = Store()
    store.before[2] = store.before[3] = SystemExit()  # the clear kills the task before it can note the id
    with pytest.raises(SystemExit):
        submit(store, TI(max_tries=3))
    check_lost_answer(gateway, lambda: submit(store, TI(max_tries=6)), "ended before it noted the answer")
    assert submits(gateway) == 1
    assert submit(store, TI(max_tries=9)) == gateway.jobs[1].task_id  # a person knows, and cleared again


@pytest.mark.parametrize("death", [SystemExit(), AirflowTaskTimeout("execution_timeout")])
@at_myrouter("Kling remembers: test_without_a_store_a_death_amid_the_request_is_retried_too")
def test_where_nothing_is_remembered_a_death_amid_the_request_is_never_retried(gateway, monkeypatch, death):
    def dying(*_, **__):
        raise death

    monkeypatch.setattr(requests.Session, "request", dying)
    with pytest.raises(KlingSubmitUncertainError) as caught:
        submit(None)
    assert isinstance(caught.value, AirflowFailException)


def test_without_a_store_it_works_and_warns_unless_the_gateway_remembers(gateway, logged):
    assert submit(None) == gateway.jobs[0].task_id
    assert ("has no task state store" in logged.text()) is not dialect(gateway).finds_jobs


def test_an_empty_store_is_a_store(gateway, logged):
    class Shy(Store):
        def __bool__(self):
            return False

    store = Shy()
    assert submit(store) == submit(store)
    assert "has no task state store" not in logged.text()
    assert len(gateway.jobs) == 1


class Away(Store):
    """A store that takes its first *writes*, and is away after them."""

    def __init__(self, writes):
        super().__init__()
        self.taken = writes

    @staticmethod
    def away(*_, **__):
        raise runtime_error()

    def set(self, key, value):
        if self.writes >= self.taken:
            raise runtime_error()
        super().set(key, value)


def test_a_store_that_stays_away_before_the_request_keeps_it_from_being_sent(gateway, clock):
    store = Away(0)
    with pytest.raises(KlingUnavailableError, match="the API server is away") as caught:
        submit(store, busy_timeout=0)
    assert caught.value.money is Money.UNTOUCHED
    assert not submits(gateway)
    store.taken = 9
    assert submit(store) == gateway.jobs[0].task_id


@pytest.mark.parametrize("number", [1, 2])
def test_one_hiccup_of_the_store_is_nothing_to_a_submission(gateway, clock, number):
    store = Store()
    store.before[number] = runtime_error()
    assert submit(store) == submit(store) == gateway.jobs[0].task_id
    assert submits(gateway) == 1


def test_an_id_that_the_store_never_takes_is_named_with_the_money_and_the_next_step(gateway, clock, logged):
    store = Away(1)
    kling_task_id = submit(store)
    text = logged.text()
    assert f"The task id {kling_task_id} is not recorded" in text
    assert "Keep the task id" in text
    assert Money.UNTOUCHED not in text
    check_lost_answer(gateway, lambda: submit(store), "log has a line 'Kling task id'")
    assert submits(gateway) == 1


def test_a_store_that_cannot_be_read_buys_nothing(gateway, clock):
    class Blind(Store):
        def get(self, key, default=None):
            raise runtime_error("https://s.example/?X-Amz-Signature=secret")

    with pytest.raises(
        KlingUnavailableError, match="cannot be read from Airflow's task state store"
    ) as caught:
        submit(Blind(), busy_timeout=0)
    assert "secret" not in str(caught.value)
    assert not submits(gateway)


def submit_as(store, try_number, max_tries, retries, clears):
    """Execute a try of a submit with the numbers that Airflow gives it."""
    ti = TI(max_tries=max_tries)
    ti.try_number = try_number
    dag_run = SimpleNamespace(clear_number=clears)
    operator = KlingSubmitOperator(
        task_id="submit", retries=retries, model="kling-v3.0-pro-t2v", prompt=PROMPT
    )
    return operator.execute({**context_of(ti, store), "task": operator, "dag_run": dag_run})


def test_a_task_that_is_cleared_with_fewer_retries_buys_anew_and_its_retry_does_not(gateway):
    store = Store()
    first = submit_as(store, 1, 3, 3, 0)
    assert submit_as(store, 2, 3, 3, 0) == first
    # Airflow sets max_tries to try 2 and the one retry: the same number again.
    cleared = submit_as(store, 3, 3, 1, 1)
    assert cleared != first
    assert submit_as(store, 4, 3, 1, 1) == cleared
    assert submits(gateway) == 2


@pytest.mark.parametrize("write", [2, 3])  # the job's id, and that the task has finished
def test_a_retry_after_lowered_retries_and_the_clear_of_another_task_does_not_pay_again(gateway, write):
    store = Store()
    store.before[write] = SystemExit()
    with pytest.raises(SystemExit):
        submit_as(store, 1, 3, 3, 0)
    kling_task_id = gateway.jobs[0].task_id
    assert submit_as(store, 2, 3, 2, 1) == kling_task_id  # the numbers of a clear with two retries
    assert submits(gateway) == 1


def test_a_picture_that_is_gone_on_a_retry_does_not_hide_the_job_that_was_bought(gateway, tmp_path):
    picture = tmp_path / "cat.png"
    picture.write_bytes(png())
    store, told = Store(), {"model": "kling-v3.0-pro-i2v", "image": str(picture)}
    kling_task_id = submit(store, **told)
    picture.unlink()
    with pytest.raises(KlingUnavailableError, match=f"has submitted {kling_task_id}") as caught:
        submit(store, **told)
    assert (caught.value.kling_task_id, caught.value.money) == (kling_task_id, Money.MAYBE)
    assert not isinstance(caught.value, AirflowFailException)  # another worker may have it
    picture.write_bytes(png())
    assert submit(store, **told) == kling_task_id
    assert submits(gateway) == 1


def test_a_picture_that_is_gone_after_a_lost_answer_does_not_hide_that_either(gateway, tmp_path):
    gateway.add_fault("submit:cut,late", "query:status=503,times=always")
    store = Store()
    with pytest.raises(dialect(gateway).unsettled):
        submit(store, busy_timeout=0)
    with pytest.raises(KlingUnavailableError, match=r"has submitted a job (of .*|with client) id") as caught:
        submit(store, model="kling-v3.0-pro-i2v", image=str(tmp_path / "gone.png"))
    assert caught.value.money is Money.MAYBE


def test_where_the_store_is_away_a_wrong_picture_does_not_say_that_nothing_is_charged(
    gateway, clock, tmp_path
):
    store = Store()
    submit(store)
    store.get = Away.away
    with pytest.raises(KlingUnavailableError) as caught:
        submit(store, model="kling-v3.0-pro-i2v", image=str(tmp_path / "gone.png"))
    assert caught.value.money is Money.MAYBE


def test_where_the_key_is_refused_on_a_retry_the_job_of_the_first_try_is_named(gateway):
    store = Store()
    kling_task_id = submit(store)
    gateway.add_fault("query:error=INVALID_API_KEY,times=always")
    with pytest.raises(KlingAccessError, match=kling_task_id) as caught:
        submit(store)
    assert (caught.value.kling_task_id, caught.value.money) == (kling_task_id, Money.RUNNING)
    assert submits(gateway) == 1


@pytest.mark.parametrize("death", DEATHS)
def test_a_submit_that_failed_after_its_purchase_and_is_cleared_goes_on_with_its_job(gateway, death):
    store = Store()
    store.after[2] = death()
    with pytest.raises(death):
        submit(store, TI(max_tries=0))
    job = gateway.jobs[0].task_id
    assert submit(store, TI(max_tries=1)) == submit(store, TI(max_tries=1)) == job
    assert submit(store, TI(max_tries=2)) != job  # it had ended well
    assert submits(gateway) == 2


def test_an_id_that_the_store_takes_late_is_recorded_before_the_submit_counts_as_finished(gateway, clock):
    store = Store()
    store.before |= {number: runtime_error() for number in range(2, 8)}
    kling_task_id = submit(store)
    record = store.values["kling_submit"]
    assert (record["kling_task_id"], record["finished"]) == (kling_task_id, True)


def test_an_intent_that_the_store_took_without_an_answer_is_removed(gateway, clock):
    store = Store()
    store.after |= {number: runtime_error() for number in range(1, 7)}
    with pytest.raises(KlingUnavailableError):
        submit(store, busy_timeout=0)
    assert submit(store) == gateway.jobs[0].task_id
    assert submits(gateway) == 1


def test_an_intent_that_the_store_did_not_take_leaves_the_earlier_job_recorded(gateway, clock):
    store = Store()
    first = submit(store)
    store.before |= {store.writes + number: runtime_error() for number in range(2, 8)}
    with pytest.raises(KlingUnavailableError):
        submit(store, TI(max_tries=6), busy_timeout=0)
    assert store.values["kling_submit"]["kling_task_id"] == first
