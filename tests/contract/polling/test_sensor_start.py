"""A sensor that starts in the triggerer: what would go wrong there is refused when the Dag is parsed."""

import asyncio

import pytest
from airflow.sdk import DAG, Param, task, task_group
from airflow.sdk.definitions.xcom_arg import XComArg
from airflow.triggers.base import BaseTrigger
from airflow_fakes import TI, connect, context_of, stored_and_read
from sensor_modes import bought

from airflow_provider_kling.errors import KlingInputError, KlingJobFailedError, KlingWaitTimeoutError
from airflow_provider_kling.operators import KlingSubmitOperator
from airflow_provider_kling.sensors import KlingTaskSensor
from airflow_provider_kling.triggers import KlingTaskTrigger

pytestmark = pytest.mark.needs_airflow("3.3", "templates in triggers")


def sensor(**arguments):
    defaults = {"task_id": "wait", "kling_task_id": "t-1", "start_from_trigger": True}
    return KlingTaskSensor(**{**defaults, **arguments})


def kwargs_of(operator):
    return operator.start_trigger_args.trigger_kwargs


async def events(**kwargs):
    trigger = KlingTaskTrigger(**stored_and_read(kwargs))
    return [stored_and_read(event.payload) async for event in trigger.run()]


def started(operator, kling_task_id):
    """Start a sensor in the triggerer with its template rendered, and return the event of its trigger."""
    (event,) = asyncio.run(events(**{**kwargs_of(operator), "kling_task_id": kling_task_id}))
    return event


def test_without_the_argument_a_sensor_starts_on_a_worker():
    operator = KlingTaskSensor(task_id="wait", kling_task_id="t-1")
    assert (operator.start_from_trigger, operator.start_trigger_args) == (False, None)


def test_the_trigger_gets_all_that_a_wait_needs_under_the_names_that_airflow_renders():
    operator = sensor(timeout=600, poke_interval=20, initial_delay=30, kling_conn_id="c")
    args = operator.start_trigger_args
    assert operator.start_from_trigger
    assert (args.next_method, args.timeout.total_seconds()) == ("execute_complete", 1500)
    assert args.trigger_kwargs == {
        "kling_task_id": "t-1",
        "kling_conn_id": "c",
        "timeout": 600,
        "interval": 20,
        "initial_delay": 30,
        "max_poll_interval": operator.wait_options.max_poll_interval,
    }
    assert args.trigger_cls == KlingTaskTrigger("t-1").serialize()[0]
    assert {"kling_task_id", "kling_conn_id"} == args.trigger_kwargs.keys() & set(operator.template_fields)


def test_the_output_of_a_submit_becomes_a_template_and_stays_a_dependency():
    with DAG("d", schedule=None):
        submit = KlingSubmitOperator(task_id="submit", prompt="a cat")
        wait = sensor(kling_task_id=submit.output)
    pull = "{{ ti.xcom_pull(task_ids='submit', key='return_value', map_indexes=-1) }}"
    assert kwargs_of(wait)["kling_task_id"] == pull
    assert isinstance(wait.kling_task_id, XComArg)  # for who resumes, on a worker
    assert wait.upstream_task_ids == {"submit"}


def test_in_a_mapped_group_each_sensor_takes_the_output_of_its_own_submit():
    waits = []
    with DAG("d", schedule=None):
        before = KlingSubmitOperator(task_id="before", prompt="a cat")

        @task_group
        def one(prompt):
            submit = KlingSubmitOperator(task_id="submit", prompt=prompt)
            waits.append(sensor(kling_task_id=submit.output))
            waits.append(sensor(task_id="other", kling_task_id=before.output))

        one.expand(prompt=["a cat", "a dog"])
    own, outer = (kwargs_of(wait)["kling_task_id"] for wait in waits)
    assert own == "{{ ti.xcom_pull(task_ids='one.submit', key='return_value', map_indexes=ti.map_index) }}"
    assert "task_ids='before'" in outer
    assert "map_indexes=-1" in outer


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"kling_task_id": "{{ ti.xcom_pull('submit') }}"},
            "would wait for ever.*kling_task_id=submit.output",
        ),
        (
            {"kling_task_id": "{{ ti.xcom_pull('a', map_indexes=-1) or ti.xcom_pull('b') }}"},
            "would wait for ever",
        ),
        ({"kling_conn_id": "{{ task_instance.xcom_pull ('which') }}"}, "kling_conn_id=.*would wait for ever"),
        ({"kling_task_id": "{{ var.value.job }}"}, "would block all other triggers; use params"),
        ({"kling_task_id": None}, "must be a text or the output of a submit, not NoneType"),
        ({"deferrable": False}, "needs deferrable=True"),
        ({"pool": "videos"}, "ignores pool"),
        ({"queue": "videos"}, "ignores queue"),
        ({"pre_execute": print}, "ignores pre_execute"),
        ({"on_execute_callback": print}, "ignores on_execute_callback"),
    ],
)
def test_what_would_wait_for_ever_or_be_ignored_is_refused_when_the_dag_is_parsed(wrong, words):
    with pytest.raises(ValueError, match=words):
        sensor(**wrong)
    if "deferrable" not in wrong and wrong.get("kling_task_id", "t") is not None:
        assert KlingTaskSensor(**{"task_id": "wait", "kling_task_id": "t-1", **wrong})


@pytest.mark.parametrize("fine", ["{{ params.job }}", "{{ ti.xcom_pull('a', map_indexes=ti.map_index) }}"])
def test_templates_that_work_there_are_left_alone(fine):
    assert kwargs_of(sensor(kling_task_id=fine))["kling_task_id"] == fine


def test_an_output_that_is_not_one_task_id_is_refused():
    with DAG("d", schedule=None):
        submits = KlingSubmitOperator.partial(task_id="submit").expand(prompt=["a cat", "a dog"])

        @task
        def ids():
            return []

        for number, many in enumerate((submits.output, submits.output.map(str), ids().zip(ids()))):
            with pytest.raises(ValueError, match="start_from_trigger=True"):
                sensor(task_id=f"wait_{number}", kling_task_id=many)


@pytest.mark.parametrize("param", [Param(type="string"), Param(None, type="string")])
def test_a_param_without_a_value_of_its_own_which_would_end_the_triggerer_is_refused(param):
    with DAG("d", schedule=None, params={"job": param}):
        assert KlingTaskSensor(task_id="usual", kling_task_id="{{ params.job }}")
        with pytest.raises(
            ValueError, match=r"the param 'job' has no valid default\. That would end the triggerer"
        ):
            sensor(kling_task_id="{{ params.job }}")


def test_params_that_have_defaults_are_fine():
    params = {"job": Param("t-1", type="string"), "more": Param(None, type=["null", "string"]), "plain": 7}
    with DAG("d", schedule=None, params=params):
        assert sensor(kling_task_id="{{ params.job }}").start_from_trigger


def test_expand_is_refused_with_the_advice_to_map_a_group():
    with pytest.raises(ValueError, match="one mapped @task_group"):
        KlingTaskSensor.partial(task_id="wait", start_from_trigger=True)
    with DAG("d", schedule=None):
        assert KlingTaskSensor.partial(task_id="wait").expand(kling_task_id=["t-1"])


def test_an_older_airflow_is_refused(monkeypatch):
    monkeypatch.delattr(BaseTrigger, "render_template_fields")
    with pytest.raises(ValueError, match=r"needs Airflow 3\.3"):
        sensor()


def test_a_wait_that_began_in_the_triggerer_ends_as_any_other(gateway, clock):
    gateway.set_timing(queue_seconds=15, render_seconds=15)
    kling_task_id = bought(gateway)
    event = started(sensor(), kling_task_id)
    assert event.keys() == {"kling_task_id", "started_at", "deadline"}
    ti = TI()
    result = sensor(kling_task_id=kling_task_id).resume_execution(
        "execute_complete", {"event": event}, context_of(ti)
    )
    assert result["videos"][0]["video_url"] == ti.xcoms["kling_video_url"]


def test_a_failed_job_is_our_error_after_the_resume(gateway, clock):
    gateway.add_fault("job:fail")
    kling_task_id = bought(gateway)
    event = started(sensor(), kling_task_id)
    with pytest.raises(KlingJobFailedError) as caught:
        sensor(kling_task_id=kling_task_id).execute_complete(context_of(), event)
    assert caught.value.kling_task_id == kling_task_id


@pytest.mark.parametrize("waited", [0, 250])
def test_the_timeout_counts_from_the_submit_also_after_a_restart(gateway, clock, waited):
    gateway.add_fault("job:stuck")
    kling_task_id = bought(gateway)
    began = clock.time()
    clock.sleep(waited)  # another triggerer ran the wait until now
    event = started(sensor(timeout=600, poke_interval=10), kling_task_id)
    assert event["error"]["class"] == "KlingWaitTimeoutError"
    assert 599 <= clock.time() - began <= 615
    with pytest.raises(KlingWaitTimeoutError, match="timeout of 600 s"):
        sensor().execute_complete(context_of(), event)


@pytest.mark.parametrize("rendered", ["None", "", None])
def test_an_empty_template_is_an_error_without_a_poll(gateway, rendered):
    event = started(sensor(), rendered)
    with pytest.raises(KlingInputError, match="is not a task id"):
        sensor().execute_complete(context_of(), event)
    assert not gateway.requests


def test_where_the_triggerer_is_gone_a_worker_makes_the_last_poll(gateway, monkeypatch):
    connect(gateway, monkeypatch)
    operator = sensor(kling_task_id=bought(gateway))
    assert operator.resume_execution("__fail__", {"error": "Trigger timeout"}, context_of())["videos"]


def test_where_airflow_starts_it_on_a_worker_all_the_same_it_defers_there(gateway, clock):
    assert sensor(kling_task_id=bought(gateway)).execute(context_of())["videos"]
