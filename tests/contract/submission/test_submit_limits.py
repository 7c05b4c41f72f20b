"""What would cost more than a limit is refused before it is paid for. The gateway's log is the bill."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.sdk import DAG
from airflow_fakes import TI, Store, connect, context_of, runtime_error, submits
from dialects import check_lost_answer, rows

from airflow_provider_kling.errors import (
    KlingInputError,
    KlingModerationError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.operators import KlingImageToVideoOperator, KlingSubmitOperator


def submit(run=None, *, store=None, at=-1, ti=None, task_id="submit", **arguments):
    """Execute a submit of 0.56 USD as one of a run's task instances."""
    ti = ti or TI(task_id=task_id, map_index=at, run=run)
    arguments = {"model": "kling-v3.0-pro-t2v", "prompt": f"cat {at}", **arguments}
    dag = DAG("d", schedule=None)
    operator = KlingSubmitOperator(task_id=task_id, dag=dag, **arguments)
    if task_id != "submit":
        KlingSubmitOperator(task_id="submit", dag=dag, prompt="another task that buys")
    return operator.execute(context_of(ti, Store() if store is None else store))


def test_a_job_within_its_limits_is_bought(gateway):
    assert submit(max_cost_usd=0.56, max_run_cost_usd="0.56") == gateway.jobs[0].task_id


@pytest.mark.parametrize("argument", ["max_cost_usd", "max_run_cost_usd"])
@pytest.mark.parametrize("by_connection", [False, True])
def test_a_job_that_is_too_dear_is_refused_and_told_why(gateway, monkeypatch, argument, by_connection):
    limit = {argument: 0.55}
    if by_connection:
        connect(gateway, monkeypatch, **limit)
    run = {}
    with pytest.raises(KlingInputError, match=rf"{argument}=0\.55 USD .* an estimated 0\.56 USD") as caught:
        submit(run, **({} if by_connection else limit))
    assert isinstance(caught.value, AirflowFailException)
    assert caught.value.money is Money.UNTOUCHED
    assert not submits(gateway)
    assert [key for *_, key in run] == ["kling_error"]


def test_of_two_limits_the_lower_one_holds(gateway, monkeypatch):
    connect(gateway, monkeypatch, max_cost_usd=0.55)
    with pytest.raises(KlingInputError, match=r"max_cost_usd=0\.55"):
        submit(max_cost_usd=10)
    connect(gateway, monkeypatch, max_cost_usd=10)
    with pytest.raises(KlingInputError, match=r"max_cost_usd=0\.55"):
        submit(max_cost_usd=0.55)
    assert not submits(gateway)


@pytest.fixture
def unpriced(gateway):
    """A model that the gateway has and whose price is not known."""
    model = {"myrouter": "kling-v1.6-t2v", "kling": "text-to-video/kling-v9"}[gateway.spoken]
    gateway.settings = replace(gateway.settings, models=(model,))
    return model


@pytest.mark.parametrize("argument", ["max_cost_usd", "max_run_cost_usd"])
def test_under_a_limit_a_job_of_unknown_price_is_refused_until_its_price_is_named(
    gateway, monkeypatch, unpriced, argument
):
    unknown = {"model": unpriced, "duration": 5, argument: 100}
    with pytest.raises(KlingInputError, match=f"{argument}=100.* an unknown price") as caught:
        submit(**unknown)
    assert "missing prices" in caught.value.advice
    assert not submits(gateway)
    connect(gateway, monkeypatch, prices={unpriced: 0.1})
    submit(**unknown)
    assert submits(gateway) == 1


def test_the_jobs_of_a_run_count_together_and_the_refusal_names_their_sum(gateway):
    run = {}
    for at in range(3):
        submit(run, at=at, max_run_cost_usd=2)
    with pytest.raises(KlingInputError, match=r"so far"):
        submit(run, at=3, max_run_cost_usd=2)
    with pytest.raises(KlingInputError, match=r"estimated 1\.68 USD so far"):
        submit(run, at=4, max_run_cost_usd=2)
    assert submits(gateway) == 3


def test_jobs_of_other_tasks_and_of_tasks_without_a_limit_count_too(gateway):
    run = {}
    submit(run)
    with pytest.raises(KlingInputError, match=r"estimated 0\.56 USD so far"):
        submit(run, task_id="again", max_run_cost_usd=1)
    assert submits(gateway) == 1


def test_beside_a_job_of_unknown_price_no_limit_can_be_kept_and_that_is_said(gateway, unpriced):
    run = {}
    submit(run, model=unpriced)
    with pytest.raises(KlingInputError, match="without 1 of unknown price"):
        submit(run, at=1, max_run_cost_usd=100)
    assert submits(gateway) == 1


class Racing(TI):
    """A task instance that reads when all others do, and acts only when all have read."""

    def __init__(self, barriers, **place):
        super().__init__(task_id="submit", **place)
        self._barriers = list(barriers)

    def xcom_pull(self, **wanted):
        barrier = self._barriers.pop(0) if self._barriers else threading.Barrier(1)
        barrier.wait(timeout=30)
        read = super().xcom_pull(**wanted)
        barrier.wait(timeout=30)
        return read


@pytest.mark.parametrize("limit", [0.56 * 5, 0.56 * 5 + 0.5])
def test_tasks_that_race_for_the_last_dollars_buy_just_what_is_left(running, limit):
    run, barriers = {}, [threading.Barrier(12), threading.Barrier(12)]

    def attempt(at):
        try:
            return submit(run, ti=Racing(barriers, map_index=at, run=run), max_run_cost_usd=limit)
        except KlingInputError:
            return None

    with running() as gateway, ThreadPoolExecutor(12) as pool:
        bought = [found for found in pool.map(attempt, range(12)) if found]
        assert len(bought) == submits(gateway) == 5


def test_a_task_that_cannot_buy_whoever_steps_back_gets_in_nobodys_way(gateway):
    run = {}
    submit(run, at=0)
    pushed = []

    class Watched(TI):
        def xcom_push(self, key, value):
            pushed.append(value["state"])

    with pytest.raises(KlingInputError, match="so far"):
        submit(run, ti=Watched(task_id="submit", map_index=1, run=run), max_run_cost_usd=1)
    assert set(pushed) == {"withdrawn"}


def asking(run, task_id, *, usd="1.00", at):
    run[task_id, -1, "kling_reservation"] = {
        "task_id": task_id, "map_index": -1, "reserved_at": at, "usd": usd, "state": "asking"
    }  # fmt: skip


def test_while_the_request_is_out_its_money_is_taken_so_that_nobody_waits_for_it_to_come_back(running):
    run, seen = {}, []

    def look(request):
        seen.append(run["submit", 0, "kling_reservation"]["state"])

    with running(on_request=look):
        submit(run, at=0, max_run_cost_usd=1)
    assert seen == ["taken"]


def test_a_task_waits_for_one_that_asked_later_and_goes_on_when_it_has_stepped_back(gateway, monkeypatch):
    run = {}
    asking(run, "submit", at=time.time() + 1)
    naps, sleep = [], time.sleep

    def nap(seconds):
        sleep(seconds)
        naps.append(seconds)
        run["submit", -1, "kling_reservation"]["state"] = "withdrawn"

    monkeypatch.setattr(time, "sleep", nap)
    submit(run, task_id="other", max_run_cost_usd=1)
    assert len(naps) == 1
    assert 0.2 <= naps[0] <= 1
    assert submits(gateway) == 1


def test_one_that_died_while_asking_counts_and_holds_nobody_up_for_long(gateway, clock):
    run = {}
    asking(run, "submit", at=clock.time() + 1)
    with pytest.raises(KlingInputError, match=r"1\.00 USD so far"):
        submit(run, task_id="other", max_run_cost_usd=1)
    assert sum(clock.slept) < 65
    slept = len(clock.slept)
    with pytest.raises(KlingInputError):
        submit(run, task_id="third", max_run_cost_usd=1)
    assert len(clock.slept) == slept
    assert not submits(gateway)


@pytest.mark.parametrize("refusal", ["error=ILLEGAL_PROMPT", "rate-limit"])
def test_a_job_that_the_gateway_refused_leaves_its_money_to_others(gateway, refusal):
    run = {}
    gateway.add_fault(f"submit:{refusal}")
    with pytest.raises((KlingModerationError, KlingUnavailableError)):
        submit(run, at=0, max_run_cost_usd=0.56, busy_timeout=0)
    assert submit(run, at=1, max_run_cost_usd=0.56) == gateway.jobs[0].task_id


def test_a_retry_picks_its_job_up_again_though_the_limit_has_no_room_and_shows_it_to_others(gateway):
    run, store = {}, Store()
    first = submit(run, store=store, at=0, max_run_cost_usd=0.56)
    retry = TI(task_id="submit", map_index=0, run=run)
    assert not run  # Airflow has cleared the XComs
    assert submit(run, store=store, at=0, ti=retry, max_run_cost_usd=0.1) == first
    with pytest.raises(KlingInputError, match=r"0\.56 USD so far"):
        submit(run, at=1, max_run_cost_usd=0.56)
    assert submits(gateway) == 1


def test_what_a_cleared_task_has_spent_before_counts_with_its_new_job(gateway):
    run, store = {}, Store()
    submit(run, store=store, at=0, max_run_cost_usd=1)
    cleared = TI(task_id="submit", map_index=0, run=run, max_tries=6)
    with pytest.raises(KlingInputError, match=r"0\.56 USD so far"):
        submit(run, store=store, at=0, ti=cleared, max_run_cost_usd=1)
    with pytest.raises(KlingInputError, match=r"0\.56 USD so far"):
        submit(run, at=1, max_run_cost_usd=1)
    again = TI(task_id="submit", map_index=0, run=run, max_tries=9)
    submit(run, store=store, at=0, ti=again, max_run_cost_usd=1.12)
    assert run["submit", 0, "kling_reservation"]["usd"] == "1.1200"
    assert submits(gateway) == 2


def test_a_retry_that_fails_early_shows_to_others_what_its_earlier_try_has_bought(gateway):
    run, store = {}, Store()
    submit(run, store=store, at=0, max_run_cost_usd=1)
    retry = TI(task_id="submit", map_index=0, run=run)
    with pytest.raises(KlingInputError, match="prompt"):
        submit(run, store=store, at=0, ti=retry, max_run_cost_usd=1, prompt="")
    with pytest.raises(KlingInputError, match=r"0\.56 USD so far"):
        submit(run, at=1, max_run_cost_usd=1)


def test_a_request_whose_answer_is_unknown_counts_before_the_retry_reads_its_pictures(gateway, tmp_path):
    run, store = {}, Store()
    store.after[1] = SystemExit()  # the intent is recorded, and the task is killed
    with pytest.raises(SystemExit):
        submit(run, store=store, at=0, max_run_cost_usd=1)
    retry = TI(task_id="submit", map_index=0, run=run)
    assert not run  # Airflow has cleared the XComs
    with pytest.raises(KlingInputError, match="duration"):  # the retry does not get far
        submit(run, store=store, ti=retry, duration=99, max_run_cost_usd=1)
    with pytest.raises(KlingInputError, match=r"0\.56 USD so far"):
        submit(run, at=1, max_run_cost_usd=1)
    assert not submits(gateway)


@pytest.mark.parametrize("posted", ["x", {"usd": "0"}, {"usd": "-5"}, {"usd": "nan"}])
def test_a_reservation_that_cannot_be_read_leaves_no_room(gateway, posted):
    run = {}
    submit(run, at=0, max_run_cost_usd=5)
    key = ("submit", 0, "kling_reservation")
    run[key] = {**run[key], "state": "?", **posted} if isinstance(posted, dict) else posted
    with pytest.raises(KlingInputError, match="without 1 of unknown price"):
        submit(run, at=1, max_run_cost_usd=5)
    assert submits(gateway) == 1


@pytest.mark.parametrize("argument", ["max_cost_usd", "max_run_cost_usd"])
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("limit", ["", "  ", None, "None", "nan", "-1", "1e400"])
def test_a_limit_that_was_set_and_renders_to_nothing_is_refused(gateway, argument, native, limit):
    ti, dag = TI(task_id="submit"), DAG("d", schedule=None, render_template_as_native_obj=native)
    request = {"model": "kling-v3.0-pro-t2v", "prompt": "a cat", argument: "{{ params.limit }}"}
    operator = KlingSubmitOperator(task_id="submit", dag=dag, **request)
    context = {**context_of(ti, Store()), "params": {"limit": limit}}
    operator.render_template_fields(context)
    with pytest.raises(KlingInputError, match=f"{argument}=.* must be a number of US dollars"):
        operator.execute(context)
    assert not submits(gateway)


def test_a_limit_that_stands_in_the_dag_file_as_none_is_no_limit(gateway):
    ti, dag = TI(task_id="submit"), DAG("d", schedule=None)
    request = {"model": "kling-v3.0-pro-t2v", "prompt": "a cat", "max_cost_usd": None}
    operator = KlingSubmitOperator(task_id="submit", dag=dag, **request)
    operator.render_template_fields(context := context_of(ti, Store()))
    assert operator.execute(context) == gateway.jobs[0].task_id


class Mute(TI):
    """A task instance whose first reservations cannot be pushed."""

    def __init__(self, *, failures, **arguments):
        super().__init__(**arguments)
        self.failures = failures

    def xcom_push(self, key, value):
        if key == "kling_reservation" and self.failures:
            self.failures -= 1
            raise runtime_error()
        super().xcom_push(key, value)


@pytest.mark.parametrize("limit", [{}, {"max_run_cost_usd": 1}])
def test_a_job_that_cannot_be_shown_to_other_tasks_is_not_bought(gateway, limit):
    with pytest.raises(KlingUnavailableError, match="the API server is away") as caught:
        submit(ti=Mute(task_id="submit", failures=99), busy_timeout=0, **limit)
    assert caught.value.money is Money.UNTOUCHED
    assert not isinstance(caught.value, AirflowFailException)  # a retry is free
    assert not submits(gateway)


@pytest.mark.parametrize("limit", [{}, {"max_run_cost_usd": 1}])
def test_a_reservation_that_can_be_pushed_only_later_counts(gateway, limit):
    run = {}
    submit(ti=Mute(task_id="submit", map_index=0, run=run, failures=2), **limit)
    with pytest.raises(KlingInputError, match=r"0\.56 USD so far"):
        submit(run, at=1, max_run_cost_usd=1)
    assert submits(gateway) == 1


def test_a_retry_that_cannot_show_its_earlier_job_names_it(gateway):
    store = Store()
    job = submit(store=store, at=0)
    retry = Mute(task_id="submit", map_index=0, failures=99)
    with pytest.raises(KlingUnavailableError, match=f"has submitted {job}") as caught:
        submit(store=store, ti=retry, prompt="cat 0")
    assert caught.value.money is Money.MAYBE


def test_without_a_task_state_store_a_run_keeps_to_its_limit_too(gateway):
    run = {}
    request = {"model": "kling-v3.0-pro-t2v", "prompt": "a cat", "max_run_cost_usd": 1}
    operator = KlingSubmitOperator(task_id="submit", **request)
    operator.execute(context_of(TI(task_id="submit", map_index=0, run=run)))
    with pytest.raises(KlingInputError, match=r"0\.56 USD so far"):
        operator.execute(context_of(TI(task_id="submit", map_index=1, run=run)))
    assert submits(gateway) == 1


LOST = {"max_run_cost_usd": 0.56}


@rows("cleared", [(True,)], myrouter=[(False,)])  # at Kling a retry has the job
def test_a_job_whose_answer_was_lost_counts_in_every_later_try(gateway, cleared):
    run, store = {}, Store()
    gateway.add_fault("submit:cut,late")
    request = {"run": run, "store": store, "prompt": "cat 0", "on_uncertain": "submit_again", **LOST}
    check_lost_answer(gateway, lambda: submit(at=0, **request), fails=False)
    ti = TI(task_id="submit", map_index=0, run=run, max_tries=6 if cleared else 3)
    with pytest.raises(KlingInputError, match="max_run_cost_usd"):
        submit(ti=ti, **request)
    assert submits(gateway) == 1


def test_a_job_whose_id_was_not_noted_counts_for_the_other_tasks_too(gateway):
    run, store = {}, Store()
    store.before[2] = store.before[3] = SystemExit()
    with pytest.raises(SystemExit):
        submit(run, store=store, at=0, **LOST)
    check_lost_answer(gateway, lambda: submit(run, store=store, at=0, **LOST))
    with pytest.raises(KlingInputError, match="max_run_cost_usd"):
        submit(run, at=1, **LOST)
    assert submits(gateway) == 1


def test_one_task_that_fails_early_on_a_retry_shows_what_it_has_bought(gateway, tmp_path):
    run, store = {}, Store()
    gateway.add_fault("job:render=500")

    def video(target):
        request = {"model": "kling-v3.0-pro-t2v", "prompt": "x", "allowed_paths": [str(tmp_path)], **LOST}
        dag, ti = DAG("d", schedule=None), TI(task_id="submit", map_index=0, run=run)
        KlingImageToVideoOperator(task_id="submit", dag=dag, target=target, **request).execute(
            context_of(ti, store)
        )

    with pytest.raises(TaskDeferred):
        video(f"{tmp_path}/")
    with pytest.raises(KlingInputError, match="outside of what is allowed"):
        video("/elsewhere/x.mp4")
    with pytest.raises(KlingInputError, match="max_run_cost_usd"):
        submit(run, at=1, **LOST)
    assert submits(gateway) == 1


@pytest.mark.parametrize("spent", ["0.56", ["0.56"], {"t-1": "much"}, {"t-1": {}}])
def test_earlier_costs_that_cannot_be_read_leave_no_room_and_the_error_says_what_to_do(gateway, spent):
    store, run = Store(), {}
    store.set("kling_spent", spent)
    with pytest.raises(KlingInputError, match="1 of unknown price") as caught:
        submit(run, store=store, max_run_cost_usd=100)
    assert "kling_spent" in caught.value.advice
    with pytest.raises(KlingInputError, match="1 of unknown price"):  # other tasks of the run see it, too
        submit(run, task_id="other", max_run_cost_usd=100)
    assert not submits(gateway)
    store.set("kling_spent", {"t-1": "0.56"})
    assert submit(run, store=store, max_run_cost_usd=100)


def test_what_is_no_limit_is_shown_short_and_without_what_a_url_hides(gateway):
    for value in ("5" * 999 + "x", "https://s.example/limit?X-Amz-Signature=secret"):
        with pytest.raises(KlingInputError, match="must be a number of US dollars") as caught:
            submit(max_cost_usd=value)
        assert len(caught.value.what) < 200
        assert "secret" not in str(caught.value)
    assert not submits(gateway)
