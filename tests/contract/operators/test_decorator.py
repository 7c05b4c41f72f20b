"""A function says what is wanted; the decorator buys it once, however often the function is called."""

import base64
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.sdk import DAG
from airflow_fakes import TI, Store, context_of, png, runtime_error, stored_and_read, submits
from dialects import dialect
from jinja2 import Template

from airflow_provider_kling import get_provider_info
from airflow_provider_kling.decorators import kling_video
from airflow_provider_kling.errors import KlingInputError, KlingUnavailableError
from airflow_provider_kling.request import VideoRequest

TEXT = "kling-v3.0-pro-t2v"


def made(function, *args, **kwargs):
    """Return the task that a decorated function becomes."""
    with DAG("d", schedule=None) as dag:
        function(*args, **kwargs)
    return dag.tasks[0]


def run(task, store=None, ti=None):
    return task.execute(context_of(ti or TI(task_id=task.task_id), Store() if store is None else store))


def test_a_function_that_returns_a_request_becomes_a_video(gateway, tmp_path):
    @kling_video(target=f"{tmp_path}/", deferrable=False)
    def wave(animal: str) -> VideoRequest:
        return VideoRequest(model=TEXT, prompt=f"a {animal} waves", duration=3)

    ti = TI(task_id="wave")
    path = run(made(wave, "cat"), ti=ti)
    assert path == f"{tmp_path}/{gateway.jobs[0].task_id}.mp4"
    assert gateway.jobs[0].prompt == "a cat waves"
    assert ti.xcoms["estimated_cost_usd"] == 0.336


def test_a_dict_will_do_and_may_name_the_target(gateway, tmp_path):
    @kling_video(deferrable=False, model=TEXT)
    def wave(params=None, **context: Any) -> dict[str, Any]:
        return {"prompt": "a cat waves", "target": f"{tmp_path}/{context['ti'].task_id}.mp4"}

    assert run(made(wave)) == f"{tmp_path}/wave.mp4"


def deferred_and_resumed(function, gateway, ti, resumed_ti=None):
    """Run a decorated function's task until it is deferred, then resume it in another process."""
    gateway.add_fault("job:render=5")
    store = Store()
    with pytest.raises(TaskDeferred) as deferred:
        run(made(function), store, ti)
    event = {"kling_task_id": gateway.jobs[0].task_id, "started_at": 0.0, "deadline": 1e12}
    gateway.jobs[0].render_seconds = 0.0
    return made(function).resume_execution(
        deferred.value.method_name, {"event": event}, context_of(resumed_ti or ti, store)
    )


def test_a_resumed_task_takes_the_target_of_the_function_without_asking_again(gateway, tmp_path):
    asked = []

    @kling_video(target=f"{tmp_path}/usual.mp4")
    def wave() -> dict[str, Any]:
        asked.append(1)
        return {"model": TEXT, "prompt": "a cat waves", "target": f"{tmp_path}/cat.mp4"}

    assert deferred_and_resumed(wave, gateway, TI(task_id="wave")) == f"{tmp_path}/cat.mp4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.mp4", "cat.mp4.json"]
    assert len(asked) == 1


def test_a_resumed_task_that_cannot_read_its_target_names_the_job(gateway, tmp_path):
    class Away(TI):
        def xcom_pull(self, *args, **options):
            raise runtime_error()

    @kling_video
    def wave() -> dict[str, Any]:
        return {"model": TEXT, "prompt": "a cat waves", "target": f"{tmp_path}/cat.mp4"}

    with pytest.raises(KlingUnavailableError, match=r"Job .*: the task ended unexpectedly") as caught:
        deferred_and_resumed(wave, gateway, TI(task_id="wave"), Away(task_id="wave"))
    assert caught.value.kling_task_id == gateway.jobs[0].task_id


def test_a_retry_asks_again_and_buys_nothing_for_the_same_answer(gateway, tmp_path):
    @kling_video(target=f"{tmp_path}/", deferrable=False)
    def wave() -> VideoRequest:
        return VideoRequest(model=TEXT, prompt="a cat waves")

    store = Store()
    assert run(made(wave), store) == run(made(wave), store)
    assert submits(gateway) == 1


def test_a_function_that_changes_its_mind_pays_once_and_names_the_job(gateway, tmp_path):
    answers = iter(["a cat", "a dog"])

    @kling_video(target=f"{tmp_path}/", deferrable=False)
    def wave() -> VideoRequest:
        return VideoRequest(model=TEXT, prompt=next(answers))

    store = Store()
    run(made(wave), store)
    with pytest.raises(dialect(gateway).changed, match=gateway.jobs[0].task_id):
        run(made(wave), store)
    assert submits(gateway) == 1


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (AirflowSkipException("nothing to do today"), "has skipped the task"),
        (
            AirflowFailException("nothing to do today"),
            "has ended the task .AirflowFailException: nothing to do",
        ),
        (
            AirflowSensorTimeout("nothing to do today"),
            "has ended the task .AirflowSensorTimeout: nothing to do",
        ),
    ],
)
def test_a_function_that_ends_its_task_does_not_hide_what_an_earlier_try_has_bought(
    gateway, tmp_path, logged, ended, words
):
    answers = iter(["a cat"])
    gateway.add_fault("job:render=5")

    @kling_video(target=f"{tmp_path}/", deferrable=True)
    def wave() -> VideoRequest:
        if not (answer := next(answers, None)):
            raise ended
        return VideoRequest(model=TEXT, prompt=answer)

    store = Store()
    with pytest.raises(TaskDeferred):
        run(made(wave), store)
    [job] = gateway.jobs
    ti = TI(task_id="wave")
    with pytest.raises(KlingInputError, match=rf"wave.. {words}.*{job.task_id}") as failed:
        run(made(wave), store, ti)
    assert failed.value.kling_task_id == ti.xcoms["kling_error"]["kling_task_id"] == job.task_id
    assert isinstance(failed.value, AirflowFailException)
    with pytest.raises(type(ended)) as passed:  # who clears the task wants something new
        run(made(wave), store, TI(task_id="wave", max_tries=1))
    assert passed.value is ended
    assert job.task_id in logged.text()
    with pytest.raises(type(ended)) as passed:  # nothing was bought
        run(made(wave))
    assert passed.value is ended


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([{"prompt": "x"}], "has returned a list, but is not annotated to return one"),
        ("a cat", "has returned a str: must be a VideoRequest or a dict"),
        (None, "has returned a NoneType"),
        ({"prompt": "x", "promt": "y"}, "has returned 'promt': must be of image"),
    ],
)
def test_what_is_no_request_is_refused_before_anything_is_bought(gateway, tmp_path, answer, words):
    @kling_video(target=f"{tmp_path}/")
    def wave():
        return answer

    with pytest.raises(KlingInputError, match=words):
        run(made(wave))
    assert not submits(gateway)


def test_without_a_target_nothing_is_bought(gateway):
    @kling_video
    def wave() -> VideoRequest:
        return VideoRequest(model=TEXT, prompt="x")

    with pytest.raises(KlingInputError, match="target"):
        run(made(wave))
    assert not submits(gateway)


def test_a_local_picture_that_a_function_names_has_to_lie_in_an_allowed_folder(
    gateway, tmp_path, monkeypatch
):
    picture = tmp_path / "cat.png"
    picture.write_bytes(png())

    def wave() -> VideoRequest:
        return VideoRequest(image=picture, prompt="x")

    with pytest.raises(KlingInputError, match="in folders that were allowed"):
        run(made(kling_video(target=f"{tmp_path}/")(wave)))
    allowed = kling_video(target=f"{tmp_path}/", allowed_paths=[str(tmp_path)], deferrable=False)
    ti = TI(task_id="wave", map_index=3)
    run(made(allowed(wave)), ti=ti)
    assert ti.xcoms["kling_request"]["name"] == "cat.png"


def test_a_picture_that_a_function_has_drawn_is_sent_and_shown_nowhere(gateway, tmp_path, logged):
    @kling_video(target=f"{tmp_path}/", deferrable=False)
    def wave(side: int) -> VideoRequest:
        return VideoRequest(image=png(side, side), prompt="x")

    ti = TI(task_id="wave")
    task = made(wave, side=320)
    run(task, ti=ti)
    assert len(gateway.jobs[0].pictures) == 1
    data = base64.b64encode(png(320, 320)).decode()[20:80]
    assert data not in f"{ti.xcoms}{logged.text()}{vars(task)['image']}"


def lists() -> list[dict[str, Any]]:
    """Return two requests."""
    return [{"prompt": "one"}, {"prompt": "two"}]


def requests() -> "list[VideoRequest]":
    """Return two requests."""
    return [VideoRequest(model=TEXT, prompt="one"), VideoRequest(model=TEXT, prompt="two")]


def unknown() -> "list[NotHere]":  # noqa: F821 - as under TYPE_CHECKING
    """Return two requests."""
    return [{"prompt": "one"}, {"prompt": "two"}]


@pytest.mark.parametrize("function", [lists, requests, unknown])
def test_a_function_that_returns_many_becomes_a_mapped_task(gateway, tmp_path, function):
    with DAG("d", schedule=None) as dag:
        kling_video(target=f"{tmp_path}/")(function).override(task_id="videos", retries=2)()
    asks, videos = dag.get_task("videos_requests"), dag.get_task("videos")
    answers = asks.execute(context_of())
    assert [answer["prompt"] for answer in answers] == ["one", "two"]
    assert videos.upstream_task_ids == {"videos_requests"}
    assert videos.partial_kwargs["target"] == f"{tmp_path}/"
    assert videos.partial_kwargs["retries"] == 2


def test_a_bad_one_among_many_is_refused(tmp_path):
    def bad() -> list[Any]:
        return [{"prompt": "one"}, "two"]

    with pytest.raises(KlingInputError, match="has returned a str"):
        made(kling_video(target=f"{tmp_path}/")(bad)).execute(context_of())


@pytest.mark.parametrize("fixed", [{}, {"verb": "waves"}])
def test_a_function_of_one_request_can_be_mapped_like_any_task_and_is_named_in_the_grid(
    gateway, tmp_path, fixed
):
    @kling_video(target=f"{tmp_path}/", deferrable=False)
    def wave(animal: str, verb: str = "waves") -> VideoRequest:
        return VideoRequest(model=TEXT, prompt=f"a {animal} {verb}")

    with DAG("d", schedule=None) as dag:
        (wave.partial(**fixed) if fixed else wave).expand(animal=["cat", "dog"])
    mapped, ti = dag.get_task("wave"), TI(task_id="wave", map_index=0)
    task, resumed = (mapped.unmap({"op_kwargs": {**fixed, "animal": "cat"}}) for _ in range(2))
    run(task, ti=ti)
    assert gateway.jobs[0].prompt == "a cat waves"
    for each in (task, resumed):
        assert Template(mapped.map_index_template).render(task=each, ti=ti) == "a cat waves"


def test_a_mapped_function_may_have_a_template_of_its_own():
    def wave(animal: str) -> dict[str, Any]:
        return {"prompt": animal}

    with DAG("d", schedule=None) as dag:
        kling_video(map_index_template="{{ ti.map_index }}")(wave).expand(animal=["cat"])
    assert dag.get_task("wave").map_index_template == "{{ ti.map_index }}"


def test_airflow_knows_the_decorator_by_the_providers_word():
    (told,) = get_provider_info()["task-decorators"]
    assert told == {"name": "kling_video", "class-name": "airflow_provider_kling.decorators.kling_video"}
    from airflow.sdk import task

    assert task.kling_video is kling_video


@pytest.mark.parametrize(
    ("picture", "sent"), [(Path("/x/a.png"), "/x/a.png"), ("a", "a"), ([Path("/b")], ["/b"])]
)
def test_requests_in_a_list_reach_the_mapped_tasks_as_texts(picture, sent):
    def wave() -> list[VideoRequest]:
        return [VideoRequest(image=picture, prompt="x")]

    with DAG("d", schedule=None) as dag:
        kling_video(target="/videos/")(wave)()
    asked = stored_and_read(dag.task_dict["wave_requests"].python_callable())
    assert [request["image"] for request in asked] == [sent]


@pytest.mark.parametrize(
    "image", [b"\x89PNG", "data:image/png;base64,iVBO", base64.b64encode(png()).decode()]
)
def test_a_picture_itself_in_a_list_of_requests_is_refused_in_our_words(image):
    def wave() -> list[VideoRequest]:
        return [VideoRequest(image=image, prompt="x")]

    with DAG("d", schedule=None) as dag:
        kling_video(target="/videos/")(wave)()
    with pytest.raises(KlingInputError, match=r"image=<.* sha256 .*>: a list"):
        dag.task_dict["wave_requests"].python_callable()
