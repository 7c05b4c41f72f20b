"""The Dags that find a job again: by its task id, by its client id, and in the list of all jobs."""

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow_fakes import running_gateway
from example_dags import dag_module

from airflow_provider_kling.errors import KlingInputError, KlingTaskNotFoundError, Money
from airflow_provider_kling.hooks import KlingHook
from airflow_provider_kling.models.job import VideoJob

CLIENT_ID = "airflow-0123"


def function_of(name, task_id):
    return dag_module(name).dag.get_task(task_id).python_callable


def buy(client_id):
    return KlingHook().submit(VideoJob("text-to-video/kling-3.0", {"prompt": "a cat waves"}), client_id)


def test_a_job_is_found_by_either_id(kling):
    find, job = function_of("kling_rescue", "find"), buy(CLIENT_ID)
    for given in (job, f" {CLIENT_ID} "):
        assert find(params={"kling_task_id": given}) == job


def test_a_client_id_without_a_job_fails_for_good(kling):
    with pytest.raises(KlingTaskNotFoundError, match=CLIENT_ID) as caught:
        function_of("kling_rescue", "find")(params={"kling_task_id": CLIENT_ID})
    assert isinstance(caught.value, AirflowFailException)


def test_all_jobs_are_listed_with_their_bill_the_newest_first(kling, clock):
    first = buy(CLIENT_ID)
    clock.sleep(120)
    second = buy("another")
    rows = function_of("kling_list_jobs", "jobs")(params={"days": 1, "kling_conn_id": "kling_default"})
    assert [(row["kling_task_id"], row["client_id"]) for row in rows] == [
        (second, "another"),
        (first, CLIENT_ID),
    ]
    assert rows[1]["status"] == "succeeded"
    assert rows[1]["billing"].endswith(" unit")
    assert rows[1]["created"] < rows[0]["created"]


def test_a_list_of_many_pages_is_read_to_its_end(kling):
    ids = {buy(f"airflow-{number}") for number in range(503)}
    assert {job.kling_task_id for job in KlingHook().list_tasks(0.0)} == ids


@pytest.mark.parametrize("call", [lambda hook: hook.find_task(CLIENT_ID), lambda hook: [*hook.list_tasks(0)]])
def test_a_gateway_without_it_says_so(clock, monkeypatch, call):
    with running_gateway(monkeypatch), pytest.raises(KlingInputError, match="MyRouter has no") as caught:
        call(KlingHook())
    assert caught.value.money is Money.UNAFFECTED
