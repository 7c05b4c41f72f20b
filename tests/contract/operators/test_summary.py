"""Mapped over many pictures: each shows its name, fails alone and says why; a summary tells it all."""

import re

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import DAG
from airflow_fakes import TI, Store, context_of, png, runtime_error, submits
from jinja2 import Environment

from airflow_provider_kling.errors import KlingInputError, KlingJobFailedError, Money
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
    KlingSummaryOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor

TEXT = {"model": "kling-v3.0-pro-t2v", "prompt": "a cat waves"}


class Chain:
    """Submit, wait and download for many pictures, and the summary of it all; the run is one dict."""

    def __init__(self, folder, **arguments):
        self.run, self.folder, self.arguments = {}, folder, arguments

    def tasks(self, at):
        dag = DAG("d", schedule=None)
        request = {**TEXT, "image": None, **self.arguments}
        submit = KlingSubmitOperator(task_id="submit", dag=dag, **request)
        job = self.run.get(("submit", at, "return_value"), "none")
        wait = KlingTaskSensor(task_id="wait", dag=dag, kling_task_id=job, deferrable=False)
        download = KlingDownloadOperator(
            task_id="download", dag=dag, kling_task_id=job, target=f"{self.folder}/{at}.mp4"
        )
        summary = KlingSummaryOperator(task_id="summary", dag=dag)
        submit >> wait >> download >> summary
        return {task.task_id: task for task in dag.tasks}

    def play(self, at, *, steps=("submit", "wait", "download"), **changes):
        for step in steps:
            task = self.tasks(at)[step]
            for name, value in changes.items() if step == "submit" else ():
                setattr(task, name, value)
            ti = TI(task_id=step, map_index=at, run=self.run)
            result = task.execute(context_of(ti, Store()))
            ti.xcom_push("return_value", result)

    def summary(self, states=(), **arguments):
        task = self.tasks(0)["summary"]
        for name, value in {"fail_on_error": False, **arguments}.items():
            setattr(task, name, value)
        ti = TI(task_id="summary", run=self.run)
        ti.states = dict(states)
        return ti, task.execute(context_of(ti))


def test_a_summary_tells_what_was_made_what_failed_and_why_and_what_it_cost(gateway, tmp_path, logged):
    chain = Chain(tmp_path)
    for at in range(3):
        chain.play(at, prompt=f"cat {at}")
    with pytest.raises(KlingInputError):
        chain.play(3, duration=99)
    gateway.add_fault("job:fail")
    with pytest.raises(KlingJobFailedError):
        chain.play(4, prompt="cat 4")
    states = {("submit", at): "success" for at in range(5)} | {
        ("submit", 3): "failed",
        ("submit", 5): "failed",
    }
    ti, told = chain.summary(states)
    assert [(order["name"], order["path"]) for order in told["made"]] == [
        (f"cat {at}", f"{tmp_path}/{at}.mp4") for at in range(3)
    ]
    errors = [(order["name"], order.get("error")) for order in told["failed"]]
    assert errors == [
        ("a cat waves", "KlingInputError"), ("cat 4", "KlingJobFailedError"), ("submit[5]", None)
    ]  # fmt: skip
    assert "duration=99" in told["failed"][0]["why"]
    assert told["estimated_cost_usd"] == 2.24 == round(0.56 * submits(gateway), 2)
    assert told["maybe_charged_without_a_video"] == ["cat 4"]
    billed, cost = {
        "myrouter": ("", "0.56 USD"),
        "kling": ("; billed 1.68 USD (12 units)", "estimated 0.56 USD, billed 0.56 USD (4 units)"),
    }[gateway.spoken]  # the failed job has no bill
    assert f"3 made, 3 failed; estimated at 2.24 USD{billed}." in logged.text()
    assert ti.xcoms["kling_summary"].count("\n") == 8
    assert f"] cat 0: made, {cost}." in logged.text()
    assert f"{tmp_path}/0.mp4 " in logged.text()
    assert "cat 4: failed, 0.56 USD. KlingJobFailedError: Job " in logged.errors()
    assert logged.errors().count(Money.ENDED) == 1


def test_the_one_task_is_summed_up_like_the_three(gateway, tmp_path):
    dag = DAG("d", schedule=None)
    arguments = {**TEXT, "target": f"{tmp_path}/", "deferrable": False}
    one = KlingImageToVideoOperator(task_id="video", dag=dag, **arguments)
    one >> KlingSummaryOperator(task_id="summary", dag=dag)
    run = {}
    path = one.execute(context_of(TI(task_id="video", run=run), Store()))
    told = dag.get_task("summary").execute(context_of(TI(task_id="summary", run=run)))
    assert [order["path"] for order in told["made"]] == [path]
    assert told["estimated_cost_usd"] == 0.56


def test_a_summary_of_a_run_with_a_failure_fails_unless_it_shall_only_warn(gateway, tmp_path, logged):
    assert KlingSummaryOperator(task_id="s").fail_on_error
    chain = Chain(tmp_path)
    with pytest.raises(KlingInputError):
        chain.play(0, duration=99)
    assert len(chain.summary()[1]["failed"]) == 1
    assert re.search(r"\[warning *\] 1 failed; estimated at 0.00 USD", logged.text())
    with pytest.raises(AirflowFailException, match="1 failed"):
        chain.summary(fail_on_error=True)
    assert len(chain.run["summary", -1, "return_value"]["failed"]) == 1


def test_where_states_cannot_be_read_the_rest_is_told(tmp_path, logged):
    class Blind(TI):
        def get_task_states(self, **_):
            raise runtime_error()

    summary = Chain(tmp_path).tasks(0)["summary"]
    assert summary.execute(context_of(Blind()))["made"] == []
    assert "could not be read" in logged.text()


def test_a_summary_without_kling_tasks_upstream_is_empty():
    assert KlingSummaryOperator(task_id="s").execute(context_of())["estimated_cost_usd"] == 0
    assert KlingSummaryOperator(task_id="s").trigger_rule == "all_done"
    assert KlingSummaryOperator(task_id="s", trigger_rule="always").trigger_rule == "always"


def test_why_a_task_failed_is_told_without_anything_secret(gateway, tmp_path):
    picture = tmp_path / "small.png"
    picture.write_bytes(png(100, 100))
    ti = TI(task_id="submit", map_index=7)
    submit = KlingSubmitOperator(task_id="submit", image=str(picture), prompt="x")
    with pytest.raises(KlingInputError):
        submit.execute(context_of(ti, Store()))
    told = ti.xcoms["kling_error"]
    assert (told["class"], told["name"], told["map_index"]) == ("KlingInputError", "small.png", 7)
    assert told["money"] == "No job was started, nothing is charged."


def test_of_an_error_that_is_not_ours_the_class_alone_is_told(gateway):
    store, ti = Store(), TI()
    store.before[1] = MemoryError("https://s.example/?signature=secret")
    with pytest.raises(MemoryError):
        KlingSubmitOperator(task_id="submit", **TEXT).execute(context_of(ti, store))
    assert ti.xcoms["kling_error"]["class"] == "MemoryError"
    assert "secret" not in str(ti.xcoms)


def test_a_sensor_that_skips_instead_of_failing_tells_no_failure(gateway):
    ti = TI()
    wait = KlingTaskSensor(task_id="wait", kling_task_id="unheard-of", soft_fail=True, deferrable=False)
    gateway.add_fault("query:error=TASK_FAILED")
    with pytest.raises(AirflowSkipException):
        wait.execute(context_of(ti))
    assert "kling_error" not in ti.xcoms


def test_what_ends_a_resumed_wait_is_told_too(gateway):
    ti = TI()
    wait = KlingTaskSensor(task_id="wait", kling_task_id="some-job")
    error = KlingJobFailedError("it failed", kling_task_id="some-job").to_dict()
    with pytest.raises(KlingJobFailedError):
        wait.resume_execution("execute_complete", {"event": {"error": error}}, context_of(ti))
    assert ti.xcoms["kling_error"]["kling_task_id"] == "some-job"


def test_an_error_that_cannot_be_stored_stays_the_error_it_is(gateway, logged):
    class Mute(TI):
        def xcom_push(self, key, value):
            raise runtime_error()

    with pytest.raises(KlingInputError):
        KlingSubmitOperator(task_id="submit", duration=99, **TEXT).execute(context_of(Mute(), Store()))
    assert "Why the task failed could not be stored" in logged.text()


def shown(task, ti):
    return Environment(autoescape=True).from_string(task.map_index_template).render(task=task, ti=ti)


def test_a_mapped_task_shows_its_order_in_the_grid_and_an_unmapped_one_nothing(gateway, tmp_path):
    chain = Chain(tmp_path, image="/pictures/red.png", prompt="It turns")
    tasks = chain.tasks(2)
    ti = TI(task_id="submit", map_index=2, run=chain.run)
    assert shown(tasks["submit"], ti) == "red.png"
    assert shown(tasks["submit"], TI()) == ""
    ti.xcom_push("kling_request", {"kling_task_id": "none", "name": "red.png"})
    for later in ("wait", "download"):
        assert shown(tasks[later], TI(task_id=later, map_index=2, run=chain.run)) == "red.png"
        assert shown(tasks[later], TI(task_id=later, map_index=3)) == "none"


def test_a_name_that_cannot_be_read_fails_no_task(tmp_path):
    class Deaf(TI):
        def xcom_pull(self, **_):
            raise runtime_error()

    assert shown(Chain(tmp_path).tasks(0)["wait"], Deaf(map_index=0)) == "none"


def test_a_template_of_the_authors_own_wins():
    own = KlingSubmitOperator(task_id="submit", map_index_template="{{ task.prompt }}", **TEXT)
    assert own.map_index_template == "{{ task.prompt }}"


@pytest.mark.parametrize("own", [None, "{{ task.prompt }}"])
def test_an_expanded_operator_has_its_name_in_the_grid_too(own):
    """Airflow reads the template of the operator that is still mapped."""
    template = {} if own is None else {"map_index_template": own}
    with DAG("names", schedule=None):
        mapped = KlingSubmitOperator.partial(task_id="submit", prompt="p", **template).expand(image=["a.png"])
    unmapped = KlingSubmitOperator(task_id="submit", **TEXT)
    assert mapped.partial_kwargs["map_index_template"] == (own or unmapped.map_index_template)
