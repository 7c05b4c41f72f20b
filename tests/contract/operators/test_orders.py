"""What is told of a job is found by who comes after its submit: its own, and no other's."""

import json

import pytest
from airflow.sdk import DAG
from airflow_fakes import TI, Store, context_of

from airflow_provider_kling.operators import KlingDownloadOperator, KlingSubmitOperator
from airflow_provider_kling.operators.xcom import find_request


@pytest.fixture(params=["plain", "mapped"])
def download(request):
    """A download after a submit, and beside a submit that has nothing to do with it."""
    with DAG("d", schedule=None):
        if request.param == "mapped":
            submit = KlingSubmitOperator.partial(task_id="submit").expand(prompt=["a", "b"])
        else:
            submit = KlingSubmitOperator(task_id="submit", prompt="a")
        KlingSubmitOperator(task_id="beside", prompt="a")
        task = KlingDownloadOperator(task_id="download", kling_task_id="k", target="/v/")
        submit >> task
    return task


def told(download, *pushed, map_index=-1):
    """Return what the download finds of job k where tasks pushed (task id, map index, job, note)."""
    ti = TI(map_index=map_index)
    for task_id, index, job, note in pushed:
        ti.upstream.append((task_id, index, "kling_request", {"kling_task_id": job, "note": note}))
    return find_request(download, ti, "k").get("note")


def test_the_note_of_ones_own_map_index_is_found(download):
    assert told(download, ("submit", 1, "k", "mine"), map_index=1) == "mine"


def test_a_note_of_a_submit_that_is_not_mapped_is_found_by_every_instance(download):
    assert told(download, ("submit", -1, "k", "mine"), map_index=1) == "mine"


def test_no_other_jobs_note_is_believed(download):
    assert told(download, ("submit", -1, "other", "no"), ("submit", -1, "k", "mine")) == "mine"
    assert told(download, ("submit", -1, "other", "no")) is None


def test_neither_another_map_indexs_nor_a_strangers_note_is_looked_at(download):
    assert told(download, ("submit", 2, "k", "no"), ("beside", -1, "k", "no"), map_index=1) is None


@pytest.mark.parametrize("as_sensor_gives_it", [False, True])
def test_the_sidecar_has_the_request_whatever_form_the_task_id_has(gateway, tmp_path, as_sensor_gives_it):
    with DAG("d", schedule=None):
        submit = KlingSubmitOperator(task_id="submit", model="kling-v3.0-pro-t2v", prompt="a cat waves")
        task = KlingDownloadOperator(task_id="download", kling_task_id="k", target=f"{tmp_path}/cat.mp4")
        submit >> task
    ti, of_submit = TI(task_id="download"), TI(task_id="submit")
    job = submit.execute(context_of(of_submit, Store()))
    ti.upstream.append(("submit", -1, "kling_request", of_submit.xcoms["kling_request"]))
    task.kling_task_id = {"kling_task_id": job, "videos": []} if as_sensor_gives_it else job
    task.execute(context_of(ti))
    assert json.loads((tmp_path / "cat.mp4.json").read_text())["inputs"]["prompt"] == "a cat waves"
