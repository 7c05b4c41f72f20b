"""The words in braces of a target: the same file in the submit, in the download, and in each try."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG
from airflow_fakes import TI, Store, context_of, submits

from airflow_provider_kling.decorators import kling_video
from airflow_provider_kling.errors import KlingInputError, Money
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
)
from airflow_provider_kling.operators.target_words import fill_target

NIGHT = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
BY_HAND = SimpleNamespace(logical_date=None, run_after=NIGHT)
TEXT = {"model": "kling-v3.0-pro-t2v", "prompt": "A cat waves."}


def with_run(context, run=BY_HAND):
    return {**context, "dag_run": run}


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        ({"image": "s3://shop/summer/lamp.v2.PNG"}, "lamp.v2"),
        ({"image": "https://shop.example/lamp.jpg?X-Amz-Signature=abc"}, "lamp"),
        ({"prompt": "../../A cat: waves/purrs\n"}, "A-cat-waves-purrs"),
        ({"prompt": "猫が手を振る"}, "猫が手を振る"),
        ({"prompt": "..."}, "video"),
    ],
)
def test_the_name_is_that_of_the_picture_or_of_the_prompt(inputs, name):
    task = KlingImageToVideoOperator(task_id="t", target="", **inputs)
    assert fill_target("v/{name}-{date}.mp4", task, with_run(context_of())) == f"v/{name}-2026-03-01.mp4"


def test_the_date_is_the_runs_logical_date_if_it_has_one():
    run = SimpleNamespace(logical_date=datetime(2026, 2, 28, tzinfo=UTC), run_after=NIGHT)
    task = KlingImageToVideoOperator(task_id="t", target="", prompt="a")
    assert fill_target("{date}/", task, with_run(context_of(), run)) == "2026-02-28/"


def test_the_submit_claims_the_file_that_the_download_writes(gateway, tmp_path):
    with DAG("d", schedule=None):
        submit = KlingSubmitOperator(task_id="submit", **TEXT)
        target = f"{tmp_path}/{{date}}-{{name}}.mp4"
        download = KlingDownloadOperator(task_id="download", kling_task_id=submit.output, target=target)
    ti = TI(task_id="submit")
    download.kling_task_id = submit.execute(with_run(context_of(ti, Store())))
    (claim,) = tmp_path.iterdir()
    assert claim.name.startswith(".2026-03-01-A-cat-waves.mp4.")
    path = download.execute(with_run(context_of(TI(task_id="download", run=ti.run))))
    assert path == f"{tmp_path}/2026-03-01-A-cat-waves.mp4"
    assert not claim.exists()


def test_a_resumed_function_keeps_the_name_that_it_has_claimed(gateway, tmp_path):
    @kling_video(target=f"{tmp_path}/{{name}}.mp4")
    def wave():
        return TEXT

    def made():
        with DAG("d", schedule=None) as dag:
            wave()
        return dag.tasks[0]

    ti, store = TI(task_id="wave"), Store()
    gateway.add_fault("job:render=5")
    with pytest.raises(TaskDeferred) as pause:
        made().execute(with_run(context_of(ti, store)))
    gateway.jobs[0].render_seconds = 0.0
    event = {"kling_task_id": gateway.jobs[0].task_id, "started_at": 0.0, "deadline": 1e12}
    context = with_run(context_of(ti, store))
    path = made().resume_execution(pause.value.method_name, {"event": event}, context)
    assert path == f"{tmp_path}/A-cat-waves.mp4"


def test_an_unknown_word_is_refused_before_the_purchase_and_names_the_job_after_it(gateway, tmp_path):
    task = KlingImageToVideoOperator(task_id="t", target=f"{tmp_path}/{{nmae}}.mp4", **TEXT)
    with pytest.raises(
        KlingInputError, match=r"\{nmae\} is unknown; known are \{name\} and \{date\}"
    ) as caught:
        task.execute(context_of(TI(), Store()))
    assert (caught.value.money, submits(gateway)) == (Money.UNTOUCHED, 0)
    download = KlingDownloadOperator(task_id="t", kling_task_id="a1", target="{nmae}.mp4")
    with pytest.raises(KlingInputError) as caught:
        download.execute(context_of())
    assert (caught.value.money, caught.value.kling_task_id) == (Money.PAID, "a1")
