"""A submit checks the target of the download that follows it, where it is known, before it buys."""

from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG, ObjectStoragePath
from airflow_fakes import TI, Store, context_of, submits
from dialects import check_lost_answer, dialect
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.errors import KlingInputError, Money
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor


def chain(target, *, mapped=False, submit_id="submit", **arguments):
    """Return a submit that a sensor and a download follow."""
    with DAG("d", schedule=None):
        if mapped:
            submit = KlingSubmitOperator.partial(task_id=submit_id, model="kling-v3.0-pro-t2v").expand(
                prompt=["a", "b"]
            )
            KlingDownloadOperator.partial(task_id="download", target=target, **arguments).expand(
                kling_task_id=submit.output
            )
            return submit.unmap({"prompt": "a"})
        submit = KlingSubmitOperator(task_id=submit_id, model="kling-v3.0-pro-t2v", prompt="a")
        wait = KlingTaskSensor(task_id="wait", kling_task_id=submit.output)
        download = KlingDownloadOperator(
            task_id=f"{submit_id}_download", kling_task_id=submit.output, target=target, **arguments
        )
        wait >> download
    return submit


def run(submit, map_index=-1, **more):
    ti = TI(map_index=map_index, task_id="submit")
    return submit.execute({**context_of(ti, Store()), **more})


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nosuch://bucket/cat.mp4", "No filesystem registered"),
        ("/elsewhere/", "outside of what is allowed"),
        ("{folder}/../cat.mp4", "outside of what is allowed"),
        ("{folder}/my thesis.txt", "exists already, made by no known job"),
        ("{folder}/my thesis.txt/cat.mp4", "NotADirectoryError"),
        ("{folder}/cat.mp4.json", "names that end in '.json'"),
        ("{folder}/cat.CLAIM", "names that end in '.json'"),
        ("{folder}/cat.part", "names that end in '.json'"),
    ],
)
def test_a_target_that_cannot_be_used_is_found_before_the_purchase(gateway, tmp_path, target, words, mapped):
    (tmp_path / "my thesis.txt").write_text("all of it")
    target = target.replace("{folder}", str(tmp_path))
    with pytest.raises(KlingInputError, match=words) as caught:
        run(
            chain(target, mapped=mapped, allowed_paths=[str(tmp_path), "nosuch://bucket"]),
            0 if mapped else -1,
        )
    assert caught.value.money is Money.UNTOUCHED
    assert submits(gateway) == 0


def test_of_two_mapped_tasks_with_one_name_one_buys(gateway, tmp_path):
    submit = chain(f"{tmp_path}/cat.mp4", mapped=True)
    run(submit, 0)
    with pytest.raises(KlingInputError, match=r"task download\[0\].*has claimed it"):
        run(submit, 1)
    assert submits(gateway) == 1
    assert run(submit, 0)  # its own claim keeps no later try out


def test_of_two_chains_with_one_name_one_buys(gateway, tmp_path):
    run(chain(f"{tmp_path}/cat.mp4"))
    with pytest.raises(KlingInputError, match=r"task submit_download.*has claimed it"):
        run(chain(f"{tmp_path}/cat.mp4", submit_id="second"))
    assert submits(gateway) == 1


def test_the_download_finds_the_claim_of_its_submit_and_gives_it_back(gateway, tmp_path):
    submit = chain(f"{tmp_path}/cat.mp4")
    kling_task_id = run(submit)
    assert len(list(tmp_path.iterdir())) == 1
    download = KlingDownloadOperator(
        task_id="submit_download", kling_task_id=kling_task_id, target=f"{tmp_path}/cat.mp4"
    )
    download.execute(context_of(TI(task_id="submit_download")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.mp4", "cat.mp4.json"]


def test_a_target_of_a_trigger_form_is_rendered(gateway, tmp_path):
    submit = chain("{{ params.target }}", allowed_paths=[str(tmp_path)])
    with pytest.raises(KlingInputError, match=r"target='/etc/cat.mp4' is outside"):
        run(submit, params={"target": "/etc/cat.mp4"})
    assert submits(gateway) == 0
    assert run(submit, params={"target": f"{tmp_path}/cat.mp4"})


@pytest.mark.parametrize("target", ["/elsewhere/{{ ti.map_index }}.mp4", "{{ ti.xcom_pull('name') }}"])
def test_a_target_that_only_the_download_knows_is_left_to_it(gateway, tmp_path, target):
    assert run(chain(target, allowed_paths=[str(tmp_path)]))


def test_a_disk_of_another_queue_is_not_looked_at(gateway, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert run(chain(f"{tmp_path}/file", queue="disks"))
    with pytest.raises(KlingInputError, match="No filesystem registered"):
        run(chain("nosuch://bucket/", queue="disks"))


def test_a_download_of_another_submit_is_not_checked(gateway, tmp_path):
    with DAG("d", schedule=None):
        submit = KlingSubmitOperator(task_id="submit", model="kling-v3.0-pro-t2v", prompt="a")
        other = KlingSubmitOperator(task_id="other", model="kling-v3.0-pro-t2v", prompt="a")
        KlingDownloadOperator(task_id="download", kling_task_id=other.output, target="nosuch://x/")
        submit >> other
    assert run(submit)


def test_a_connection_that_only_the_download_knows_keeps_no_submit_from_buying(gateway, tmp_path):
    submit = chain(f"{tmp_path}/cat.mp4", kling_conn_id="{{ var.value.conn }}")
    assert run(submit, var={"value": {"conn": "kling_default"}})
    assert run(chain(f"{tmp_path}/dog.mp4", kling_conn_id="{{ ti.xcom_pull('conn') }}"))


def test_arguments_that_are_mapped_in_the_download_are_left_to_it(gateway, tmp_path):
    with DAG("d", schedule=None):
        submit = KlingSubmitOperator(task_id="submit", model="kling-v3.0-pro-t2v", prompt="a")
        KlingDownloadOperator.partial(
            task_id="download", target=f"{tmp_path}/{{{{ ti.map_index }}}}/", kling_task_id=submit.output
        ).expand(kling_conn_id=["kling_default"])
        KlingDownloadOperator.partial(
            task_id="also", target=f"{tmp_path}/", kling_task_id=submit.output
        ).expand(kling_conn_id=["kling_default"])
    assert run(submit)


def test_a_target_with_parameters_of_the_download_is_left_to_it(gateway, tmp_path):
    target = "{{ params.folder }}/cat.mp4"
    submit = chain(target, params={"folder": str(tmp_path)}, allowed_paths=[str(tmp_path)])
    assert run(submit, params={})
    assert run(submit, params={"folder": "/elsewhere"})


@pytest.mark.parametrize("kind", [Path, ObjectStoragePath])
def test_a_target_as_a_path_object_is_checked_and_used(gateway, tmp_path, attached, kind):
    folder = tmp_path if kind is Path else ObjectStoragePath(attached(MemoryFileSystem()))
    (folder / "thesis.mp4").write_bytes(b"all of it")
    with pytest.raises(KlingInputError, match="made by no known job"):
        run(chain(folder / "thesis.mp4"))
    assert submits(gateway) == 0
    download = KlingDownloadOperator(
        task_id="t", kling_task_id=run(chain(folder / "cat.mp4")), target=folder / "dog.mp4"
    )
    assert download.execute(context_of(TI())) == str(folder / "dog.mp4")
    assert (folder / "dog.mp4").exists()
    whole = KlingImageToVideoOperator(
        task_id="t", model="kling-v3.0-pro-t2v", prompt="a", target=folder / "cow.mp4", deferrable=False
    )
    assert whole.execute(context_of(TI(), Store())) == str(folder / "cow.mp4")


@pytest.mark.parametrize("target", [None, "", " ", 5, ["/videos/"], "{{ params.nothing }}"])
def test_a_target_that_is_none_is_refused_before_the_purchase(gateway, target):
    with pytest.raises(KlingInputError, match="target="):
        run(chain(target), params={"nothing": ""})
    assert submits(gateway) == 0


@pytest.mark.parametrize("fault", ["submit:error=INVALID_REQUEST_BODY", "too dear"])
def test_a_claim_is_given_back_where_nothing_was_bought(gateway, tmp_path, fault):
    submit = chain(f"{tmp_path}/cat.mp4")
    if fault == "too dear":
        submit.max_run_cost_usd = 0.01
    else:
        gateway.add_fault(fault)
    with pytest.raises(KlingInputError) as caught:
        run(submit)
    assert caught.value.money is Money.UNTOUCHED
    assert list(tmp_path.iterdir()) == []
    assert run(chain(f"{tmp_path}/cat.mp4", submit_id="corrected"))


def test_a_claim_is_given_back_where_a_person_decides_about_the_submit(gateway, tmp_path):
    gateway.add_fault("submit:cut,late")
    check_lost_answer(gateway, lambda: run(chain(f"{tmp_path}/cat.mp4")))
    assert bool([*tmp_path.iterdir()]) is dialect(gateway).finds_jobs


@pytest.mark.parametrize(("timeout", "mapped"), [(None, False), (None, True), (timedelta(hours=5), False)])
def test_a_claim_lasts_as_long_as_the_wait(gateway, clock, tmp_path, timeout, mapped):
    wait = {} if timeout is None else {"timeout": timeout}

    def chain(name):
        with DAG("d", schedule=None):
            submit = KlingSubmitOperator(task_id=name, model="kling-v3.0-pro-t2v", prompt="a")
            sensor = KlingTaskSensor.partial(task_id="wait", **wait) if mapped else KlingTaskSensor
            given = {"kling_task_id": submit.output}
            wait_task = sensor.expand(**given) if mapped else sensor(task_id="wait", **wait, **given)
            wait_task >> KlingDownloadOperator(task_id=f"{name}_get", target=f"{tmp_path}/cat.mp4", **given)
        return submit

    run(chain("one"))
    clock.sleep((timeout or timedelta(hours=1)).total_seconds() + 60)
    with pytest.raises(KlingInputError, match="has claimed it"):
        run(chain("two"))
    assert submits(gateway) == 1
    clock.sleep(2 * 3600)
    assert run(chain("two"))


@pytest.mark.parametrize(
    "target", ["None", "null", "undefined", "[object Object]", "videos/[object Object].mp4"]
)
def test_a_target_that_a_template_or_a_form_has_broken_is_refused(gateway, monkeypatch, tmp_path, target):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KlingInputError, match="must be a path or a storage URL"):
        run(chain(target))
    assert not submits(gateway)
