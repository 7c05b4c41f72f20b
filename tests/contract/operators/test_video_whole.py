"""One task for it all: bought once, waited for, brought home, whatever dies and whoever clears it."""

import asyncio
import json
import time
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    TaskDeferred,
)
from airflow.sdk import DAG
from airflow.sdk.bases.sensor import TaskDeferralTimeout
from airflow_fakes import (
    TI,
    Store,
    connect,
    context_of,
    png,
    runtime_error,
    stored_and_read,
    submits,
)
from dialects import at_myrouter, dialect
from sensor_modes import triggered
from targets import VIDEO

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingDownloadError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    KlingWaitTimeoutError,
    Money,
)
from airflow_provider_kling.operators import KlingImageToVideoOperator
from airflow_provider_kling.submission.state import SubmissionRecord, SubmissionState, Try

BACKSTOP = ("__fail__", {"error": "Trigger timeout"})


class Task:
    """One task instance: its memory stays, its tries come and go, each with an operator of its own."""

    def __init__(self, target, *, store=None, **arguments):
        self.store, self.max_tries = Store() if store is None else store, 3
        self.arguments = {"model": "kling-v3.0-pro-t2v", "prompt": "a cat waves", "target": str(target)}
        self.arguments |= arguments
        self.deferrals = []

    def operator(self):
        with DAG("d", schedule=None):
            return KlingImageToVideoOperator(task_id="t", **self.arguments)

    def clear(self):
        self.max_tries += 3

    def begin(self):
        """Begin a try: Airflow forgets the XComs."""
        self.ti = OwnXComs(max_tries=self.max_tries)
        return self.step(lambda: self.operator().execute(self.context()))

    def context(self):
        return context_of(self.ti, self.store)

    def step(self, action):
        """Do the next piece of a try; returns None where it deferred."""
        try:
            return action()
        except TaskDeferred as pause:
            self.deferrals.append(pause)
            return None

    def resume(self):
        """Let the triggerer do its part, and resume."""
        pause = self.deferrals[-1]
        kwargs = {**stored_and_read(pause.kwargs or {}), "event": asyncio.run(triggered(pause))}
        return self.step(lambda: self.operator().resume_execution(pause.method_name, kwargs, self.context()))

    def run(self):
        """Do a whole try."""
        result = self.begin()
        while result is None:
            result = self.resume()
        return result


class OwnXComs(TI):
    """A task instance that finds what it pushed itself."""

    def xcom_pull(self, task_ids, key, map_indexes):
        own = task_ids == [self.task_id] and map_indexes == self.map_index and key in self.xcoms
        return [self.xcoms[key]] if own else []


@pytest.mark.parametrize("argument", ["initial_delay", "max_poll_interval"])
def test_how_often_to_look_is_checked_when_the_dag_is_parsed_and_reaches_the_trigger(
    gateway, rendering, tmp_path, argument
):
    with pytest.raises(ValueError, match=f"{argument}=-1: must be a number of seconds"):
        Task(tmp_path / "a.mp4", **{argument: -1}).operator()
    task = Task(tmp_path / "a.mp4", **{argument: timedelta(seconds=33)})
    assert task.begin() is None
    assert task.deferrals[0].trigger.serialize()[1][argument] == 33


def test_on_a_worker_too_nobody_looks_before_the_first_look(gateway, clock, tmp_path):
    began = clock.time()
    assert Task(tmp_path / "a.mp4", deferrable=False, initial_delay=100).run()
    asked = [request.at - began for request in gateway.requests if request.method == "GET"]
    assert asked[0] >= 99


@pytest.mark.parametrize("deferrable", [True, False])
def test_one_task_buys_waits_and_brings_home(rendering, tmp_path, deferrable):
    task = Task(f"{tmp_path}/", deferrable=deferrable)
    path = task.run()
    (job,) = rendering.jobs
    assert path == f"{tmp_path}/{job.task_id}.mp4"
    assert (tmp_path / f"{job.task_id}.mp4").read_bytes() == VIDEO
    assert len(task.deferrals) == (1 if deferrable else 0)
    xcoms = task.ti.xcoms
    assert xcoms["kling_task_id"] == xcoms["kling_request"]["kling_task_id"] == job.task_id
    assert xcoms["estimated_cost_usd"] == 0.56
    assert xcoms["kling_progress"]["status"] == dialect(rendering).states[-1]
    assert xcoms["kling_video_url"].startswith(rendering.storage_url)
    assert (xcoms["size"], xcoms["content_type"]) == (len(VIDEO), "video/mp4")
    told = json.loads((tmp_path / f"{job.task_id}.mp4.json").read_text())
    assert (told["inputs"]["prompt"], told["inputs"]["duration"]) == ("a cat waves", 5)
    assert (told["kling_task_id"], told["task_id"]) == (job.task_id, "t")


def test_a_link_that_nobody_wants_in_airflow_is_not_put_there(rendering, tmp_path):
    task = Task(tmp_path / "cat.mp4", publish_link=False)
    assert task.run()
    assert rendering.storage_url not in str(task.ti.xcoms)


def test_the_buttons_of_submit_and_sensor_are_on_it(rendering, tmp_path):
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    assert task.ti.xcoms["kling_gallery_link"].endswith("/dags/d/runs/r/tasks/t/plugin/kling-videos")
    task.resume()
    assert task.ti.xcoms["kling_video_link"].startswith(rendering.storage_url)
    names = {link.name for link in task.operator().operator_extra_links}
    assert names == {"Kling video", "Kling gallery"}


def test_a_retry_of_a_failed_download_neither_pays_nor_waits_again(rendering, tmp_path):
    task = Task(tmp_path / "cat.mp4")
    rendering.add_fault("download:dead=403,times=always")
    with pytest.raises(KlingDownloadError) as caught:
        task.run()
    rendering.clear_faults()
    assert isinstance(caught.value, AirflowException)
    assert not isinstance(caught.value, AirflowFailException)
    before = len(task.deferrals)
    assert task.begin() == str(tmp_path / "cat.mp4")
    assert (submits(rendering), len(task.deferrals)) == (1, before)


def test_an_id_that_the_store_took_only_before_the_deferral_is_the_retrys_job(gateway, clock, tmp_path):
    gateway.set_timing(queue_seconds=30)
    task = Task(tmp_path / "cat.mp4")
    task.store.before |= {number: runtime_error() for number in range(2, 8)}  # the submit tries six times
    assert task.begin() is None
    assert task.run() == str(tmp_path / "cat.mp4")  # the wait is lost, and Airflow retries
    assert submits(gateway) == 1


def test_an_id_that_the_store_took_only_before_the_download_is_the_retrys_job(
    gateway, clock, logged, tmp_path
):
    task = Task(tmp_path / "cat.mp4")
    task.store.before |= {number: runtime_error() for number in range(2, 14)}
    gateway.add_fault("download:dead=403,times=always")
    with pytest.raises(KlingDownloadError):
        task.run()
    gateway.clear_faults()
    assert task.run() == str(tmp_path / "cat.mp4")
    assert submits(gateway) == 1
    assert Money.UNTOUCHED not in logged.text()


def test_a_wait_that_is_lost_is_taken_up_by_the_retry_with_the_same_deadline(rendering, clock, tmp_path):
    rendering.add_fault("job:stuck")
    task = Task(tmp_path / "cat.mp4", timeout=600)
    task.begin()
    clock.sleep(200)
    task.begin()
    first, second = (pause.trigger.deadline for pause in task.deferrals)
    assert abs(first - second) < 1
    assert submits(rendering) == 1


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("timeout", [600, timedelta(minutes=10)])
def test_the_timeout_counts_from_the_submit_and_says_that_the_job_goes_on(
    rendering, clock, tmp_path, deferrable, timeout
):
    rendering.add_fault("job:stuck")
    task, began = Task(tmp_path / "cat.mp4", timeout=timeout, deferrable=deferrable), clock.time()
    with pytest.raises(KlingWaitTimeoutError, match="timeout of 600 s") as caught:
        task.run()
    assert isinstance(caught.value, AirflowSensorTimeout)
    assert 599 <= clock.time() - began <= 615
    assert "clear this task to wait on" in caught.value.advice


def test_a_task_that_timed_out_and_is_cleared_waits_on_for_the_job_that_it_bought(rendering, clock, tmp_path):
    rendering.add_fault("job:stuck")
    task = Task(tmp_path / "cat.mp4", timeout=600)
    with pytest.raises(KlingWaitTimeoutError):
        task.run()
    rendering.jobs[0].faults = ()
    task.clear()
    assert task.run() == str(tmp_path / "cat.mp4")
    assert submits(rendering) == 1


def test_a_task_that_is_cleared_amid_its_download_or_its_wait_buys_nothing(rendering, tmp_path):
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    task.clear()
    rendering.add_fault("download:dead=403,times=always")
    with pytest.raises(KlingDownloadError):
        task.run()
    rendering.clear_faults()
    task.clear()
    assert task.run()
    assert submits(rendering) == 1


def test_what_a_cleared_task_went_on_with_is_its_own_and_its_failure_buys_nothing(rendering, tmp_path):
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    task.clear()
    task.begin()
    rendering.add_fault("job:fail")
    time.sleep(60)
    with pytest.raises(KlingJobFailedError):
        task.begin()
    assert submits(rendering) == 1


def test_a_task_whose_video_is_home_buys_a_new_one_when_it_is_cleared(gateway, tmp_path):
    task = Task(f"{tmp_path}/")
    first = task.run()
    task.clear()
    assert task.run() != first
    assert submits(gateway) == 2


def test_a_cleared_task_whose_request_was_changed_buys_that(rendering, tmp_path):
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    task.clear()
    task.arguments["prompt"] = "a dog waves"
    assert task.run()
    assert [job.prompt for job in rendering.jobs] == ["a cat waves", "a dog waves"]


FAILURES = {"job:fail": KlingJobFailedError, "job:fail=moderation": KlingModerationError}


@pytest.mark.parametrize("fate", FAILURES)
def test_a_job_that_failed_fails_the_task_for_good_and_a_clear_buys_another(rendering, tmp_path, fate):
    rendering.add_fault(fate)
    task = Task(tmp_path / "cat.mp4")
    with pytest.raises(FAILURES[fate]) as caught:
        task.run()
    assert isinstance(caught.value, AirflowFailException)
    with pytest.raises(FAILURES[fate]):
        task.run()
    assert submits(rendering) == 1
    task.clear()
    assert task.run()
    assert submits(rendering) == 2


def test_who_allowed_it_gets_another_job_by_a_retry(rendering, tmp_path):
    rendering.add_fault("job:fail")
    task = Task(tmp_path / "cat.mp4", on_failed_job="submit_again")
    with pytest.raises(KlingJobFailedError) as caught:
        task.run()
    assert not isinstance(caught.value, AirflowFailException)
    assert "next try buys another" in caught.value.advice
    assert caught.value.kling_task_id == rendering.jobs[0].task_id
    assert task.run()
    assert submits(rendering) == 2


@at_myrouter("Kling has no such error; its twin: test_who_allowed_it_gets_another_job_by_a_retry")
def test_a_failure_that_is_told_as_an_error_is_retried_too_where_that_was_allowed(rendering, tmp_path):
    rendering.add_fault("query:error=TASK_FAILED")
    with pytest.raises(KlingJobFailedError) as caught:
        Task(tmp_path / "cat.mp4", on_failed_job="submit_again").run()
    assert "next try buys another" in caught.value.advice
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("choice", ["fail", "submit_again"])
def test_a_cleared_task_whose_job_is_gone_tells_that_once_and_then_buys(rendering, clock, tmp_path, choice):
    rendering.add_fault("job:invisible=100000")
    task = Task(tmp_path / "cat.mp4", on_failed_job=choice)
    task.begin()
    clock.sleep(100)
    task.clear()
    with pytest.raises(KlingSubmitUncertainError, match="does not show"):
        task.run()
    task.clear()
    assert task.run()
    assert submits(rendering) == 2


def test_where_no_triggerer_was_left_a_last_look_brings_the_video_home(rendering, clock, tmp_path):
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    clock.sleep(5000)
    assert task.operator().resume_execution(*BACKSTOP, task.context()) == str(tmp_path / "cat.mp4")


def away(*_, **__):
    raise runtime_error()


def test_where_neither_triggerer_nor_store_is_left_the_video_comes_all_the_same(
    rendering, clock, tmp_path, monkeypatch
):
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    clock.sleep(5000)
    monkeypatch.setattr(task.store, "get", away)
    assert task.operator().resume_execution(*BACKSTOP, task.context()) == str(tmp_path / "cat.mp4")


def test_where_no_triggerer_was_left_and_no_id_was_recorded_the_video_comes_all_the_same(
    rendering, clock, tmp_path
):
    task = Task(tmp_path / "cat.mp4")
    task.store.before |= {number: runtime_error() for number in range(2, 200)}
    task.begin()
    clock.sleep(5000)
    assert task.operator().resume_execution(*BACKSTOP, task.context()) == str(tmp_path / "cat.mp4")


def test_where_nothing_is_left_to_read_the_failure_is_reported(rendering, tmp_path, monkeypatch):
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    monkeypatch.setattr(task.store, "get", away)
    monkeypatch.setattr(task.ti, "xcom_pull", away)
    with pytest.raises(KlingUnavailableError) as caught:
        task.operator().resume_execution(*BACKSTOP, task.context())
    assert caught.value.money is Money.MAYBE
    assert task.ti.xcoms["kling_error"]["money"] == Money.MAYBE


def test_where_no_triggerer_was_left_and_the_job_goes_on_the_wait_is_over(rendering, tmp_path):
    rendering.add_fault("job:stuck")
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    with pytest.raises(KlingWaitTimeoutError) as caught:
        task.operator().resume_execution(*BACKSTOP, task.context())
    assert isinstance(caught.value, AirflowSensorTimeout)


def test_a_busy_gateway_defers_the_submit_and_then_the_wait(rendering, tmp_path):
    rendering.add_fault("submit:rate-limit=60")
    task = Task(tmp_path / "cat.mp4")
    assert task.run() == str(tmp_path / "cat.mp4")
    assert [pause.method_name for pause in task.deferrals] == ["execute_again", "execute_complete"]
    assert len(rendering.jobs) == 1


def test_where_no_triggerer_was_left_to_a_busy_submit_airflow_retries(rendering, tmp_path):
    rendering.add_fault("submit:rate-limit=60")
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    with pytest.raises(TaskDeferralTimeout):
        task.operator().resume_execution(*BACKSTOP, task.context())
    assert task.run()
    assert len(rendering.jobs) == 1


def occupied(place):
    (place / "cat.mp4").write_bytes(VIDEO)
    (place / "folder").mkdir()
    return [
        ({"target": f"{place}/cat.mp4", "if_exists": "fail"}, "exists already"),
        ({"target": f"{place}/cat.mp4", "if_exists": "skip"}, "exists already"),
        ({"target": f"{place}/folder"}, "is a folder"),
        ({"target": "nowhere://videos/"}, "storage cannot be used"),
        ({"target": ""}, "must be a path"),
        ({"target": "/elsewhere/", "allowed_paths": [str(place)]}, "outside of what is allowed"),
    ]


def test_what_would_keep_the_video_from_its_place_is_told_before_it_is_bought(gateway, tmp_path):
    for arguments, words in occupied(tmp_path):
        with pytest.raises(KlingInputError, match=words) as caught:
            Task(**arguments).run()
        assert isinstance(caught.value, AirflowFailException)
        assert caught.value.money is Money.UNTOUCHED
    assert not gateway.requests


def test_a_target_outside_of_the_connections_paths_is_told_before_it_is_bought(
    gateway, tmp_path, monkeypatch
):
    connect(gateway, monkeypatch, allowed_paths=[str(tmp_path)])
    with pytest.raises(KlingInputError, match="outside of what is allowed"):
        Task("/elsewhere/cat.mp4").run()
    assert not gateway.requests
    assert Task(tmp_path / "cat.mp4").run()


def test_a_package_that_is_missing_is_told_before_it_is_bought(gateway, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(KlingInputError, match="PyAV") as caught:
        Task(tmp_path / "cat.mp4", verify_media=True).run()
    assert caught.value.money is Money.UNTOUCHED
    assert not gateway.requests


def test_a_place_that_went_wrong_after_the_purchase_names_the_job(rendering, tmp_path):
    task = Task(tmp_path / "cat.mp4")
    task.begin()
    (tmp_path / "cat.mp4").mkdir()
    with pytest.raises(KlingInputError, match=f"has submitted {rendering.jobs[0].task_id}") as caught:
        task.begin()
    assert caught.value.money is Money.MAYBE
    with pytest.raises(KlingInputError, match="is a folder") as caught:
        task.resume()
    assert caught.value.money is Money.PAID


@pytest.mark.parametrize("choice", ["overwrite", "skip"])
def test_a_retry_after_the_video_was_put_in_its_place_keeps_to_the_choice(gateway, tmp_path, choice):
    task = Task(tmp_path / "cat.mp4", if_exists=choice)
    assert task.run() == task.run()
    assert submits(gateway) == 1
    fetched = sum(request.host == "storage" for request in gateway.requests)
    assert fetched == (2 if choice == "overwrite" else 1)


def test_a_cleared_task_whose_place_is_taken_by_its_own_former_video_buys_nothing(gateway, tmp_path):
    task = Task(tmp_path / "cat.mp4", if_exists="skip")
    task.run()
    task.clear()
    with pytest.raises(KlingInputError, match="exists already"):
        task.run()
    assert submits(gateway) == 1


def test_without_a_memory_nothing_is_bought(gateway, tmp_path):
    with pytest.raises(KlingInputError, match="no task state store") as caught:
        KlingImageToVideoOperator(
            task_id="t", model="kling-v3.0-pro-t2v", prompt="a cat", target=f"{tmp_path}/"
        ).execute(context_of())
    assert isinstance(caught.value, AirflowFailException)
    assert not gateway.requests


def test_a_key_that_is_revoked_during_the_wait_ends_it_and_a_clear_goes_on(rendering, tmp_path):
    task = Task(tmp_path / "cat.mp4")
    rendering.add_fault("query:error=INVALID_API_KEY,times=3")
    with pytest.raises(KlingAccessError) as caught:
        task.run()
    assert caught.value.money is Money.RUNNING
    rendering.clear_faults()
    task.clear()
    assert task.run()
    assert submits(rendering) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"poke_interval": 0.5}, "poke_interval=0.5: must be a number of seconds, at least 1"),
        ({"poke_interval": "5"}, "poke_interval='5'"),
        ({"timeout": -1}, "timeout=-1"),
        ({"timeout": True}, "timeout=True"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"if_exists": "ask"}, "if_exists='ask'"),
        ({"on_uncertain": "ask"}, "on_uncertain='ask'"),
    ],
)
def test_what_is_wrong_is_refused_when_the_dag_is_parsed(wrong, words):
    with pytest.raises(ValueError, match=words):
        Task("/videos/", **wrong).operator()


def test_it_can_be_mapped_over_inputs_and_targets():
    with DAG("d", schedule=None) as dag:
        KlingImageToVideoOperator.partial(
            task_id="one", prompt="It turns.", timeout=60, kling_conn_id="c"
        ).expand_kwargs([{"image": "a.png", "target": "/v/a.mp4"}, {"image": "b.png", "target": "/v/b.mp4"}])
        KlingImageToVideoOperator.partial(task_id="two", prompt="It turns.", target="/v/").expand(
            image=["a.png", "b.png"]
        )
        with pytest.raises(TypeError, match="targit"):
            KlingImageToVideoOperator.partial(task_id="three", targit="/v/")
    mapped = dag.get_task("one")
    unmapped = mapped.unmap({"image": "a.png", "target": "/v/a.mp4"})
    assert (unmapped.image, unmapped.target, unmapped.wait_options.timeout) == ("a.png", "/v/a.mp4", 60)
    assert {"image", "target", "prompt", "kling_conn_id"} <= set(mapped.template_fields)


def test_default_args_reach_both_what_is_inherited_and_what_is_its_own():
    with DAG("d", schedule=None, default_args={"target": "/v/", "on_failed_job": "submit_again"}):
        operator = KlingImageToVideoOperator(task_id="t", prompt="a cat")
    assert (operator.target, operator.on_failed_job) == ("/v/", "submit_again")


@pytest.mark.parametrize("target", ["cat.mp4", ""])
def test_a_local_target_is_warned_of_once_before_it_is_bought_for_where_there_may_be_several_workers(
    gateway, tmp_path, monkeypatch, logged, target
):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    task = Task(f"{tmp_path}/{target}", deferrable=False, reuse="fingerprint", library=f"{tmp_path}/library")
    task.run()
    task.run()  # a retry, for which everything is bought already
    text = logged.text()
    warning = f"target='{tmp_path}"
    assert text.count(warning) == 1
    assert text.index(warning) < text.index("Submitting")
    assert f"library='{tmp_path}/library' is on the disk of worker" in text


def test_a_task_that_is_cleared_before_its_video_is_stored_names_its_job_if_it_then_fails(
    rendering, tmp_path
):
    (tmp_path / "cat.png").write_bytes(png())
    arguments = {"model": "kling-v3.0-pro-i2v", "image": str(tmp_path / "cat.png")}
    task = Task(tmp_path / "cat.mp4", **arguments)
    assert task.begin() is None
    task.clear()
    (tmp_path / "cat.png").unlink()
    with pytest.raises(KlingUnavailableError, match=f"has submitted {rendering.jobs[0].task_id}") as caught:
        task.run()
    assert caught.value.money is Money.MAYBE


def test_a_reused_job_does_not_become_the_job_of_an_earlier_request_of_unknown_id(gateway, tmp_path):
    library = {"reuse": "fingerprint", "library": f"{tmp_path}/library", "deferrable": False}
    Task(tmp_path / "first.mp4", **library).run()
    task = Task(tmp_path / "cat.mp4", **library)
    SubmissionState(task.store, Try(3)).record_intent(SubmissionRecord(Try(3), "f", 1.0))
    SubmissionState(task.store, Try(3)).record_reported()
    task.clear()
    task.run()
    assert submits(gateway) == 1
    assert SubmissionState(task.store, Try(6)).last_record().kling_task_id == ""


def test_a_reused_job_does_not_become_the_job_that_an_earlier_try_may_have_bought(gateway, tmp_path):
    library = {"reuse": "fingerprint", "library": f"{tmp_path}/library", "deferrable": False}
    Task(tmp_path / "first.mp4", **library).run()
    task = Task(tmp_path / "cat.mp4", on_uncertain="submit_again", **library)
    SubmissionState(task.store, Try(3)).record_intent(SubmissionRecord(Try(3), "f", 1.0))
    task.run()
    assert submits(gateway) == 1
    assert SubmissionState(task.store, Try(3)).last_record().kling_task_id == ""
