"""What is told of a job is found by who comes after its submit: its own, and no other's."""

import pytest
from airflow.sdk import DAG
from airflow_fakes import TI

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
