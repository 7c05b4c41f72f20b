"""The nightly catalogue buys no video twice, and none that it cannot store."""

import pytest
from airflow_fakes import TI, connect, png
from example_dags import dag_module

from airflow_provider_kling.errors import (
    KlingInputError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)

GONE = KlingInputError("The picture is gone.", money=Money.MAYBE)
TIMEOUT = KlingUnavailableError("Timeout.", money=Money.RUNNING, kling_task_id="j")


@pytest.fixture
def catalogue():
    return dag_module("kling_nightly_catalogue")


class Night(TI):
    """A task instance that pulls the XComs of an earlier run."""

    def __init__(self, pushed):
        super().__init__()
        self.pushed = pushed

    def xcom_pull(self, task_ids, run_id, map_indexes, key="return_value"):
        assert (task_ids, run_id, map_indexes) == ("animate.submit", "earlier", 0)
        return self.pushed.get(key)


@pytest.mark.parametrize(
    ("pushed", "job"),
    [
        ({}, None),
        ({"return_value": "j"}, "j"),
        ({"kling_request": {"kling_task_id": "j"}}, "j"),
        ({"kling_error": TIMEOUT.to_dict()}, "j"),
        ({"kling_error": GONE.to_dict()}, "of unknown id"),
        ({"kling_error": KlingSubmitUncertainError("Lost.").to_dict()}, "of unknown id"),
        ({"kling_error": KlingInputError("No prompt.").to_dict()}, None),
        ({"kling_error": {"class": "ValueError"}}, None),
    ],
)
def test_each_job_that_an_earlier_submit_may_have_bought_counts(catalogue, pushed, job):
    assert catalogue.earlier_job(Night(pushed), "earlier", 0) == job


def test_a_folder_for_videos_that_cannot_be_used_is_found_before_the_purchase(gateway, catalogue, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "file").touch()
    params = {"pictures": str(tmp_path), "videos": f"{tmp_path}/file/videos", "redo": True}
    plan = catalogue.dag.get_task("plan").python_callable
    with pytest.raises(KlingInputError, match="no file can be written there"):
        plan(params=params, ti=TI())


def test_local_folders_are_warned_of_where_there_may_be_several_workers(
    gateway, catalogue, tmp_path, monkeypatch, caplog
):
    connect(gateway, monkeypatch, allowed_paths=str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setattr(catalogue.Variable, "get", lambda *_, **__: {})
    monkeypatch.setattr(catalogue.Variable, "set", lambda *_, **__: None)
    params = {"pictures": f"{tmp_path}/p", "videos": f"{tmp_path}/v", "redo": False, "at_most": 1}
    (tmp_path / "p").mkdir()
    assert catalogue.dag.get_task("plan").python_callable(params=params, ti=TI()) == []
    for argument in ("pictures", "videos"):
        assert f"{argument}='{tmp_path}/" in caplog.text
