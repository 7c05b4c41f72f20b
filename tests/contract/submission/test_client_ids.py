"""Where the gateway takes client ids, no submit stays uncertain: it is paid once, and no job is lost."""

import os
import re
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowTaskTimeout
from airflow_fakes import TI, Store, context_of, submits

from airflow_provider_kling.errors import (
    KlingBalanceError,
    KlingInputError,
    KlingJobFailedError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.operators import KlingSubmitOperator

DEATHS = [AirflowTaskTimeout, KeyboardInterrupt, SystemExit]


def submit(store, ti=None, **arguments):
    """Execute a submit, as each try of a task does: with an operator of its own."""
    run = arguments.pop("dag_run", None)
    arguments = {"model": "text-to-video/kling-3.0", "prompt": "a cat waves", **arguments}
    context = {**context_of(ti, store), "dag_run": run}
    return KlingSubmitOperator(task_id="submit", **arguments).execute(context)


def try_of(number, **arguments):
    """Return the task instance in one of its tries."""
    ti = TI(**arguments)
    ti.try_number = number
    return ti


@pytest.fixture
def one_job(kling):
    """At the end there is one job, paid once."""
    yield kling
    assert len(kling.jobs) == 1
    assert not kling.double_payments


def noted(store):
    return store.values["kling_submit"]


def test_the_client_id_is_noted_logged_sent_and_pushed(one_job, logged):
    store, ti = Store(), TI()
    kling_task_id = submit(store, ti)
    [job] = one_job.jobs
    assert job.task_id == kling_task_id
    assert job.client_id == noted(store)["client_id"] == ti.xcoms["kling_request"]["client_id"]
    assert re.fullmatch("[a-z0-9-]{1,64}", job.client_id)
    assert f"Client id: {job.client_id}" in logged.text()


@pytest.mark.parametrize("fault", ["cut,late,hidden=8", "code=5000,hidden=40", "malformed,hidden=40"])
def test_a_job_that_is_visible_late_is_found_late(one_job, fault):
    one_job.add_fault(f"submit:{fault}")
    assert submit(Store(), deferrable=False) == one_job.jobs[0].task_id


def test_the_task_id_of_a_job_that_was_found_is_noted(one_job):
    one_job.add_fault("submit:cut,late")
    store = Store()
    kling_task_id = submit(store)
    assert noted(store)["kling_task_id"] == kling_task_id
    assert submit(store) == kling_task_id
    assert submits(one_job) == 1


def test_a_clear_before_the_request_was_sent_sends_it(one_job):
    store = Store()
    store.after[1] = SystemExit()
    with pytest.raises(SystemExit):
        submit(store, TI(max_tries=3))
    assert submit(store, TI(max_tries=6)) == one_job.jobs[0].task_id


def test_a_failed_job_that_may_be_bought_again_gets_a_new_client_id_each_time(kling):
    kling.add_fault("job:fail,times=2")
    for store in (Store(), None):
        ids = [
            submit(store, try_of(number, task_id=str(store)), on_failed_job="submit_again")
            for number in range(1, 5)
        ]
        kling.add_fault("job:fail,times=2")
        assert len(set(ids)) == 3
        assert ids[2] == ids[3]
    assert len(kling.jobs) == len({job.client_id for job in kling.jobs}) == 6


def test_a_job_that_was_found_and_has_failed_fails_the_retry(one_job):
    one_job.add_fault("job:fail")
    store = Store()
    store.before |= {2: SystemExit(), 3: SystemExit()}
    with pytest.raises(SystemExit):
        submit(store)
    with pytest.raises(KlingJobFailedError):
        submit(store)


def test_where_nothing_is_recorded_a_retry_gets_the_same_job_and_a_clear_a_new_one(kling, logged):
    first = submit(None, try_of(1))
    assert submit(None, try_of(2)) == submit(None, try_of(3)) == first
    assert submits(kling) == 1
    second = submit(None, try_of(4, max_tries=6))
    assert second != first
    assert submit(None, try_of(5, max_tries=6)) == second
    assert submit(None, try_of(1, map_index=1)) not in (first, second)
    assert "no task state store" not in logged.text()


def run_of(start, clear_number=0):
    return SimpleNamespace(start_date=start, clear_number=clear_number)


def test_a_run_that_was_deleted_and_made_again_buys_anew_also_where_nothing_is_recorded(kling, clock):
    began = datetime.fromtimestamp(clock.time(), UTC)
    first = submit(None, try_of(1), dag_run=run_of(began))
    clock.sleep(86400)
    later = run_of(began + timedelta(days=1))
    second = submit(None, try_of(1), dag_run=later)
    assert second != first
    assert submit(None, try_of(2), dag_run=later) == second
    assert submit(None, try_of(2), dag_run=run_of(began)) == first
    assert len(kling.jobs) == 2


def test_the_clear_of_another_task_does_not_let_a_retry_pay_again(one_job, clock):
    began = datetime.fromtimestamp(clock.time(), UTC)
    first = submit(None, try_of(1), dag_run=run_of(began))
    clock.sleep(86400)
    assert submit(None, try_of(2), dag_run=run_of(began + timedelta(days=1), clear_number=1)) == first


@pytest.mark.parametrize("store", [Store, lambda: None], ids=["store", "no store"])
def test_two_tries_at_the_same_time_buy_one_job(one_job, store):
    together, found = threading.Barrier(2), []
    shared = store()

    class Late(Store):
        """Both tries read it before one of them has written."""

        def get(self, key, default=None):
            return shared.get(key, default) if shared is not None else None

        def set(self, key, value):
            if self.writes == 0:
                together.wait(5)
            self.writes += 1
            shared.set(key, value)

    def run():
        found.append(submit(Late() if shared is not None else None))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [one_job.jobs[0].task_id] * 2


def test_while_kling_is_away_nothing_is_decided_and_a_retry_settles_it(one_job):
    one_job.add_fault("submit:cut,late", "query:status=503,times=always")
    store = Store()
    with pytest.raises(KlingUnavailableError, match="client id airflow-") as caught:
        submit(store, busy_timeout=0)
    assert caught.value.money is Money.MAYBE
    assert not isinstance(caught.value, AirflowFailException)
    assert isinstance(caught.value, AirflowException)
    assert not noted(store)["kling_task_id"]
    one_job.clear_faults()
    assert submit(store) == one_job.jobs[0].task_id
    assert submits(one_job) == 1


def test_a_retry_while_kling_is_still_away_sends_nothing(one_job):
    one_job.add_fault("submit:cut,late", "query:cut,times=always")
    store = Store()
    for _ in range(3):
        with pytest.raises(KlingUnavailableError) as caught:
            submit(store, busy_timeout=0)
        assert caught.value.money is Money.MAYBE
    assert submits(one_job) == 1


def test_a_task_that_resumes_while_kling_is_away_waits_on_for_it(one_job, clock):
    one_job.add_fault("submit:cut,late", "query:status=503,times=9")
    store = Store()
    with pytest.raises(KlingUnavailableError):
        submit(store, busy_timeout=0)
    assert submit(store, deferrable=False) == one_job.jobs[0].task_id
    assert sum(clock.slept) > 60
    assert submits(one_job) == 1


def test_a_refusal_after_a_lost_answer_is_final_only_when_no_job_can_come_any_more(kling, clock):
    kling.add_fault("submit:cut", "submit:code=1102,times=always")
    store, began = Store(), clock.time()
    with pytest.raises(KlingUnavailableError) as caught:
        submit(store, busy_timeout=5)
    assert caught.value.money is Money.MAYBE
    with pytest.raises(KlingBalanceError) as final:
        submit(store, deferrable=False)
    assert final.value.money is Money.UNTOUCHED
    assert clock.time() - began >= 60
    assert not store.values
    assert not kling.jobs


def test_only_the_last_request_says_how_long_a_job_may_stay_invisible(one_job, clock):
    store = Store()
    one_job.add_fault("submit:code=5000", "submit:cut,late,hidden=12")
    store.after[1] = KeyboardInterrupt()  # the first request is not sent
    with pytest.raises(KeyboardInterrupt):
        submit(store)
    with pytest.raises(KlingUnavailableError):
        submit(store, busy_timeout=0)
    clock.sleep(600)  # the requests before can create no job any more; the next one does
    with pytest.raises(KlingUnavailableError) as caught:
        submit(store, busy_timeout=0)
    assert caught.value.money is Money.MAYBE
    with pytest.raises(KlingUnavailableError):  # taken, and not visible yet
        submit(store, busy_timeout=0)
    assert submit(store, deferrable=False) == one_job.jobs[0].task_id


def test_a_client_id_that_is_taken_without_a_job_is_a_contradiction_for_a_person(kling):
    kling.add_fault("submit:cut,late,hidden=100000")
    store = Store()
    with pytest.raises(KlingSubmitUncertainError, match="it contradicts itself") as caught:
        submit(store, deferrable=False)
    assert isinstance(caught.value, AirflowFailException)
    assert caught.value.money is Money.MAYBE
    first = kling.jobs[0].client_id
    assert submit(store, TI(max_tries=6)) == kling.jobs[1].task_id  # a person has looked, and cleared
    assert kling.jobs[1].client_id != first


def test_a_retry_with_a_changed_request_names_the_job_and_a_clear_buys_the_changed_one(kling):
    store = Store()
    first = submit(store)
    with pytest.raises(KlingInputError, match=f"job {first} .* has changed since") as caught:
        submit(store, prompt="a dog")
    assert (caught.value.money, caught.value.kling_task_id) == (Money.RUNNING, first)
    assert isinstance(caught.value, AirflowFailException)
    assert "Clear the task" in caught.value.advice
    assert submits(kling) == 1
    second = submit(store, TI(max_tries=6), prompt="a dog")
    assert [job.task_id for job in kling.jobs] == [first, second]


def test_a_request_that_changed_while_its_first_form_was_unsettled_buys_nothing_before_that_is_certain(
    kling, clock
):
    store = Store()
    store.after[1] = SystemExit()  # killed before anything was sent
    with pytest.raises(SystemExit):
        submit(store)
    with pytest.raises(KlingUnavailableError, match="has changed since") as caught:
        submit(store, busy_timeout=0, prompt="a dog")
    assert caught.value.money is Money.MAYBE
    assert not submits(kling)
    clock.sleep(300)
    assert submit(store, prompt="a dog") == kling.jobs[0].task_id
    assert submit(store, prompt="a dog") == kling.jobs[0].task_id
    assert len(kling.jobs) == 1


def test_a_request_that_changed_after_its_first_form_was_bought_names_that_job(one_job):
    store = Store()
    store.before |= {2: SystemExit(), 3: SystemExit()}
    with pytest.raises(SystemExit):
        submit(store)
    with pytest.raises(KlingInputError, match=one_job.jobs[0].task_id):
        submit(store, prompt="a dog")


def test_an_intent_of_another_account_is_left_to_a_person(kling, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OF_ANOTHER_ACCOUNT", os.environ["AIRFLOW_CONN_KLING_DEFAULT"])
    store = Store()
    store.before |= {2: SystemExit(), 3: SystemExit()}
    with pytest.raises(SystemExit):
        submit(store)
    with pytest.raises(KlingSubmitUncertainError):
        submit(store, kling_conn_id="of_another_account")
    assert len(kling.jobs) == 1


def test_an_unexpected_end_after_the_request_is_retried_and_settled(one_job, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    store = Store()
    with monkeypatch.context() as patched:
        patched.setattr(requests.Session, "request", broken)
        with pytest.raises(KlingUnavailableError) as caught:
            submit(store, busy_timeout=0)
    assert caught.value.money is Money.MAYBE
    assert not isinstance(caught.value, AirflowFailException)
    assert submit(store) == one_job.jobs[0].task_id


@pytest.mark.parametrize("death", DEATHS)
def test_without_a_store_a_death_amid_the_request_is_retried_too(one_job, monkeypatch, logged, death):
    def dying(*_, **__):
        raise death

    with monkeypatch.context() as patched:
        patched.setattr(requests.Session, "request", dying)
        with pytest.raises(death):
            submit(None)
    if death is AirflowTaskTimeout:
        assert Money.MAYBE in logged.errors()
        assert "looks for the job by its client id first" in logged.errors()
    assert submit(None, try_of(2)) == one_job.jobs[0].task_id


def test_the_cost_of_a_request_that_is_sent_again_counts_once(one_job):
    one_job.add_fault("submit:cut,times=2")
    store, ti = Store(), TI()
    submit(store, ti)
    assert ti.xcoms["kling_reservation"]["state"] == "taken"
    assert [*store.values.get("kling_spent", {})] == []
