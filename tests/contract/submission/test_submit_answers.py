"""Every answer to a submit: final, safe to repeat, or uncertain. Only the second kind is sent again."""

import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib import import_module

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred
from airflow_fakes import TI, Store, connect, context_of, png, stored_and_read, submits
from dialects import check_lost_answer, dialect, rows

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingBalanceError,
    KlingInputError,
    KlingModerationError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.operators import KlingSubmitOperator

#: One answer of each kind; the unit tests of the gateways have them all.
FINAL = [
    ("error=FAILED_TO_AUTH", KlingAccessError),
    ("error=ILLEGAL_PROMPT", KlingModerationError),
    ("error=API_NOT_FOUND/400", KlingInputError),
]
UNCERTAIN = ["status=500", "html=502", "html=504,late", "malformed,late", "cut", "cut,late", "redirect"]
UNCERTAIN += ["error=TASK_FAILED", "error=TASK_FAILED,late", "redirect=302/http://elsewhere.example/"]
UNCERTAIN_CODES = [f"code={code}{late}" for code in (5000, 5001, 5002) for late in ("", ",late")]
SAFE = ["rate-limit", "rate-limit=2", "error=CREATE_TASK_FAILED", "nested=BILLING_FAILED", "html=429"]


def operator(**arguments):
    arguments = {"model": "kling-v3.0-pro-t2v", "prompt": "a cat waves", **arguments}
    return KlingSubmitOperator(task_id="submit", **arguments)


@rows(
    "fault error",
    FINAL,
    myrouter=[
        ("error=WHAT_IS_THIS/401", KlingAccessError),
        ("nested=NOT_ENOUGH_BALANCE", KlingBalanceError),
    ],
    kling=[("code=1201", KlingInputError), ("code=1102", KlingBalanceError), ("code=1304", KlingAccessError)],
)
def test_a_final_refusal_is_sent_once_and_leaves_no_intent(gateway, fault, error):
    gateway.add_fault(f"submit:{fault}")
    store = Store()
    with pytest.raises(error) as caught:
        operator().execute(context_of(store=store))
    assert isinstance(caught.value, AirflowFailException)
    assert caught.value.money is Money.UNTOUCHED
    assert (submits(gateway), store.values) == (1, {})


@rows("fault", [(fault,) for fault in UNCERTAIN], kling=[(fault,) for fault in UNCERTAIN_CODES])
@pytest.mark.parametrize("store", [Store, lambda: None], ids=["store", "no store"])
def test_an_answer_that_says_nothing_buys_one_job_at_most_and_is_no_loss(gateway, fault, store):
    is_sent_again = dialect(gateway).finds_jobs and "late" not in fault
    gateway.add_fault(f"submit:{fault},times={1 if is_sent_again else 2}")
    store = store()
    check_lost_answer(gateway, lambda: operator().execute(context_of(store=store)))
    assert submits(gateway) == 1 + is_sent_again
    assert store is None or store.values


@pytest.mark.parametrize("fault", SAFE)
def test_a_refusal_that_made_no_job_is_repeated_until_there_is_exactly_one(gateway, clock, fault):
    gateway.add_fault(f"submit:{fault},times=2")
    kling_task_id = operator().execute(context_of(store=Store()))
    assert [job.task_id for job in gateway.jobs] == [kling_task_id]
    assert submits(gateway) == 3
    assert 2 <= sum(clock.slept) <= 20


def test_a_closed_port_is_tried_again_and_ends_in_one_job(gateway, monkeypatch, clock):
    gateway_connection = gateway.connection_json()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    elsewhere = {**json.loads(gateway_connection), "host": f"http://127.0.0.1:{port}"}
    monkeypatch.setenv("AIRFLOW_CONN_KLING_DEFAULT", json.dumps(elsewhere))
    store, task = Store(), operator(busy_timeout=5)
    with pytest.raises(KlingUnavailableError) as caught:
        task.execute(context_of(store=store))
    assert not isinstance(caught.value, AirflowFailException)
    assert clock.slept
    assert not store.values
    connect(gateway, monkeypatch)
    assert task.execute(context_of(store=store)) == gateway.jobs[0].task_id
    assert len(gateway.jobs) == 1


def how_it_ended(task, context, method="execute", **resumed):
    with pytest.raises((TaskDeferred, KlingUnavailableError)) as caught:
        getattr(task, method)(context, **resumed)
    return caught.value


def dates(seconds):
    return f'"{format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)}"'


@pytest.mark.parametrize("asked", [lambda: "120", lambda: dates(120)], ids=["seconds", "date"])
def test_a_long_pause_that_the_gateway_asked_for_needs_no_worker(gateway, clock, logged, asked):
    gateway.add_fault(f"submit:rate-limit={asked()}")
    store, ti = Store(), TI()
    deferred = how_it_ended(operator(), context_of(ti, store))
    assert not clock.slept
    assert not store.values
    path, arguments = deferred.trigger.serialize()
    module, name = path.rsplit(".", 1)
    again = getattr(import_module(module), name)(**stored_and_read(arguments))
    pause = again.moment.timestamp() - clock.time()
    assert 100 <= pause <= 130
    assert f"The triggerer waits until {again.moment:%Y-%m-%d %H:%M:%S} UTC, then" in logged.text()
    assert "look at Home, Health: is the triggerer healthy?" in logged.text()
    kwargs = {**stored_and_read(deferred.kwargs), "event": "now"}
    kling_task_id = operator().resume_execution(deferred.method_name, kwargs, context_of(ti, store))
    assert [job.task_id for job in gateway.jobs] == [kling_task_id]
    assert submits(gateway) == 2


def test_the_pauses_grow_over_deferrals_and_end_with_the_timeout(gateway, clock):
    gateway.add_fault("submit:rate-limit,times=always")
    context, task = context_of(store=Store()), operator(busy_timeout=300)
    began, pauses = clock.time(), []
    deferred = how_it_ended(task, context)
    while isinstance(deferred, TaskDeferred):
        pauses.append(deferred.trigger.moment.timestamp() - clock.time())
        clock.sleep(pauses[-1])
        kwargs = {**stored_and_read(deferred.kwargs), "event": None}
        deferred = how_it_ended(task, context, deferred.method_name, **kwargs)
    assert isinstance(deferred, KlingUnavailableError)
    assert isinstance(deferred, AirflowException)
    assert not isinstance(deferred, AirflowFailException)
    assert pauses == sorted(pauses)
    assert 100 < clock.time() - began <= 300
    assert not gateway.jobs


def test_a_pause_beyond_the_timeout_is_left_to_airflows_retry(gateway, clock):
    gateway.add_fault("submit:rate-limit=600")
    with pytest.raises(KlingUnavailableError) as caught:
        operator(busy_timeout=60).execute(context_of(store=Store()))
    assert caught.value.retry_after == 600
    assert not clock.slept


def test_no_pause_of_the_gateways_own_is_longer_than_a_quarter_of_an_hour(gateway, clock):
    gateway.add_fault("submit:rate-limit=86400")
    deferred = how_it_ended(operator(busy_timeout=7200), context_of(store=Store()))
    assert deferred.trigger.moment.timestamp() - clock.time() < 1000


def test_a_death_during_a_pause_leaves_nothing_to_doubt(gateway, monkeypatch, clock):
    gateway.add_fault("submit:rate-limit")

    def die(_):
        raise KeyboardInterrupt

    store = Store()
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", die)
        with pytest.raises(KeyboardInterrupt):
            operator().execute(context_of(store=store))
    assert operator().execute(context_of(store=store)) == gateway.jobs[0].task_id
    assert len(gateway.jobs) == 1


WRONG = [
    ({"prompt": ""}, "prompt"),
    ({"duration": 2}, "duration"),
    ({"duration": "soon"}, "duration"),
    ({"cfg_scale": 2}, "cfg_scale"),
    ({"model": "kling-v3.0-pro-i2v", "image": None}, "image"),
    ({"model": "kling-v3.0-pro-i2v", "image": "/dev/null/picture.png"}, "image"),
    ({"model": "kling-v3.0-pro-i2v", "image": "data:image/png;base64,!!"}, "image"),
    ({"model": "kling-v3.0-pro-i2v", "image": "nowhere://x/y.png"}, "image"),
    ({"prompt": None, "multi_prompt": ["a", {"prompt": "b"}]}, "multi_prompt"),
    ({"extra_body": {"x": float("nan")}}, "x cannot be written as JSON"),
]


@rows(
    "arguments name",
    WRONG,
    myrouter=[({"prompt": "x" * 2501}, "prompt")],
    kling=[({"prompt": "x" * 3073}, "prompt"), ({"negative_prompt": "a dog"}, "negative_prompt")],
)
def test_a_wrong_input_is_named_before_anything_is_sent(gateway, arguments, name):
    store = Store()
    with pytest.raises(KlingInputError, match=name) as caught:
        operator(**arguments).execute(context_of(store=store))
    assert isinstance(caught.value, AirflowFailException)
    assert not gateway.requests
    assert not store.writes


@pytest.mark.parametrize("argument", ["on_uncertain", "on_failed_job"])
def test_a_choice_that_does_not_exist_is_refused_when_the_dag_is_parsed(argument):
    with pytest.raises(ValueError, match=f"{argument}='retry': must be one of fail, submit_again"):
        operator(**{argument: "retry"})


def test_what_was_bought_is_told_without_the_pictures_data(gateway, tmp_path):
    path, link = tmp_path / "cat.png", "https://pictures.example/cat.png?X-Amz-Signature=secret"
    path.write_bytes(png())
    ti, task = TI(), operator(model="kling-v3.0-pro-i2v", image=str(path), end_image=link, sound="true")
    kling_task_id = task.execute(context_of(ti, Store()))
    request = ti.xcoms["kling_request"]
    assert request["kling_task_id"] == kling_task_id
    assert request["inputs"]["sound"] is True
    assert request["pictures"]["image"]["source"] == str(path)
    assert request["pictures"]["end_image"] == {"source": "https://pictures.example/cat.png"}
    assert request["estimated_cost_usd"] == ti.xcoms["estimated_cost_usd"] == 0.84


def test_a_broken_connection_is_told_before_anything_is_sent(gateway, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_KLING_DEFAULT", json.dumps({"conn_type": "kling", "host": gateway.url}))
    with pytest.raises(KlingAccessError, match="the API key is missing") as caught:
        operator().execute(context_of(store=Store()))
    assert isinstance(caught.value, AirflowFailException)
    assert not gateway.requests


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1, True, "60"])
def test_a_patience_that_is_no_number_of_seconds_is_refused_at_once(odd):
    with pytest.raises(ValueError, match="busy_timeout"):
        KlingSubmitOperator(task_id="submit", busy_timeout=odd)


def test_an_output_that_airflow_could_not_store_is_refused_before_anything_is_paid():
    with pytest.raises(ValueError, match="multiple_outputs"):
        KlingSubmitOperator(task_id="submit", multiple_outputs=True)
