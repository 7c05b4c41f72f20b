"""What tasks push is what docs/xcoms.md lists, and the sidecar has the same facts."""

import json
import re
from pathlib import Path

import pytest
from airflow.sdk import DAG
from airflow_fakes import TI, Store, context_of
from chains import chain, execute, one_task, submit_of
from dialects import dialect

from airflow_provider_kling.errors import KlingError
from airflow_provider_kling.operators import KlingDownloadOperator
from airflow_provider_kling.sensors import KlingTaskSensor

pytestmark = pytest.mark.usefixtures("decoders")

PAGE = (Path(__file__).parents[3] / "docs" / "xcoms.md").read_text()


def fields(title):
    """Return the names in the first column of the table under a title of the page."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r"^\|([^|]+)\|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


#: The fields of kling_request that only `reuse` adds.
REUSE = {"library_entry", "reused"}
JOB_ONLY = {"request", "video_type"}
#: Who pushes the bill, in the words of the page.
BILLS = {"myrouter": [], "kling": ["what waits or downloads"]}


def keys(*operators):
    """Return the keys that the page lists for operators, but those of tasks that fail."""
    rows = re.findall(r"^\|([^|]+)\|([^|]+)\|", PAGE.split("\n## ")[0], re.MULTILINE)
    known = [(by, key) for by, names in rows for key in re.findall(r"`(\w+)`", names)]
    return {
        key
        for by, key in known
        if "all but" in by or any(each in map(str.strip, by.split(",")) for each in operators)
    } - {"return_value"}


@pytest.mark.parametrize("deferrable", [True, False])
def test_three_tasks_push_what_the_page_lists(rendering, tmp_path, picture, deferrable):
    submitted, waited, downloaded = chain(tmp_path / "cat.mp4", picture, deferrable=deferrable)
    bills = BILLS[rendering.spoken]
    assert submitted.keys() - {"return_value"} == keys("submit")
    assert waited.keys() - {"return_value"} == keys("sensor", *bills)
    assert downloaded.keys() - {"return_value"} == keys("download", *bills)
    assert submitted["kling_request"].keys() == fields("kling_request") - REUSE
    assert submitted["kling_preview"].keys() == downloaded["kling_preview"].keys() == fields("kling_preview")
    assert waited["return_value"].keys() == fields("The sensor's result")
    assert waited["kling_progress"].keys() == fields("kling_progress")
    assert downloaded["kling_video"].keys() == fields("kling_video")


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_one_task_pushes_the_same(rendering, tmp_path, picture, deferrable):
    pushed = execute(one_task(tmp_path / "cat.mp4", picture, deferrable=deferrable))
    by = ["submit", "sensor", "download", "one task", *BILLS[rendering.spoken]]
    assert pushed.keys() - {"return_value"} == keys(*by)
    assert pushed["kling_request"].keys() == fields("kling_request") - REUSE
    for key in {"kling_preview", "kling_progress", "kling_video", "kling_bill"} & pushed.keys():
        assert pushed[key].keys() == fields(key)


def test_a_reused_video_has_the_same_fields(gateway, tmp_path, picture):
    reuse = {"reuse": "fingerprint", "library": f"{tmp_path}/library"}
    first = execute(one_task(tmp_path / "first.mp4", picture, **reuse))
    submitted, waited, downloaded = chain(tmp_path / "cat.mp4", picture, of_submit=reuse)
    assert submitted["kling_request"].keys() == fields("kling_request")
    assert waited["return_value"].keys() == fields("The sensor's result")
    assert waited["return_value"]["model"] == dialect(gateway).picture_model
    assert downloaded["kling_video"].keys() == fields("kling_video")
    assert downloaded["kling_video"]["reused"]
    assert downloaded["kling_video"]["media"] == first["kling_video"]["media"]
    assert downloaded["kling_preview"]["poster"] == first["kling_preview"]["poster"]


@pytest.mark.parametrize("form", ["three tasks", "one task"])
def test_the_video_has_the_times_of_the_gateway_and_of_the_download(
    rendering, clock, tmp_path, picture, form
):
    target, began = tmp_path / "cat.mp4", clock.time()
    video = (chain(target, picture)[2] if form == "three tasks" else execute(one_task(target, picture)))[
        "kling_video"
    ]
    timings = video["timings"]
    assert timings.keys() == dialect(rendering).timings
    assert timings["submit_time_ms"] / 1000 == pytest.approx(began, abs=5)
    assert timings["complete_time_ms"] - timings["submit_time_ms"] == pytest.approx(30_000, abs=5000)
    assert began + 30 <= video["downloaded_at"] <= clock.time()
    assert 0 <= video["download_seconds"] <= 5
    assert (video["model"], video["size"]) == (dialect(rendering).picture_model, target.stat().st_size)
    assert began <= video["submitted_at"] <= began + 5


def test_the_time_of_a_download_counts_its_failed_attempts(gateway, clock, tmp_path, picture):
    gateway.add_fault("download:dead=403")
    video = execute(one_task(tmp_path / "cat.mp4", picture))["kling_video"]
    assert video["download_seconds"] >= 1


def test_the_request_shows_the_defaults_that_apply(gateway, tmp_path, picture):
    request = execute(one_task(tmp_path / "cat.mp4", picture))["kling_request"]
    inputs = request["inputs"]
    assert (inputs["prompt"], inputs["duration"], inputs["sound"]) == ("a cat", 5, False)
    scale = {"myrouter": ["cfg_scale"], "kling": []}[gateway.spoken]
    assert request["defaults"] == [*scale, "duration", "sound"]


def test_the_sidecar_has_the_same_facts(gateway, tmp_path, picture):
    target = tmp_path / "cat.mp4"
    pushed = execute(one_task(target, picture))
    sidecar = json.loads(Path(f"{target}.json").read_text())
    listed = fields("kling_request") | fields("kling_video") | fields("The sidecar")
    assert sidecar.keys() <= listed
    assert listed - sidecar.keys() <= {*REUSE, *JOB_ONLY, "path", "media_problems", "replaces"}
    for key in ("kling_request", "kling_video"):
        assert {**pushed[key], **sidecar} == {**sidecar, **pushed[key]}
    preview = {"kling_task_id": sidecar["kling_task_id"], **sidecar["preview"]}
    assert preview == pushed["kling_preview"]


def test_a_rescued_video_has_what_the_gateway_says_of_it(gateway, tmp_path, picture):
    job = execute(one_task(tmp_path / "first.mp4", picture))["kling_task_id"]
    model = {"myrouter": dialect(gateway).picture_model, "kling": None}[
        gateway.spoken
    ]  # Kling does not tell it
    with DAG("d", schedule=None):
        wait = KlingTaskSensor(task_id="wait", kling_task_id=job)
        rescue = KlingDownloadOperator(task_id="rescue", kling_task_id=job, target=f"{tmp_path}/cat.mp4")
    assert execute(wait)["return_value"]["model"] == model
    video = execute(rescue)["kling_video"]
    assert video.keys() == fields("kling_video")
    assert video["model"] == model
    assert video["submitted_at"] == pytest.approx(gateway.jobs[0].created_at, abs=1)
    sidecar = json.loads((tmp_path / "cat.mp4.json").read_text())
    assert sidecar["inputs"] is sidecar["estimated_cost_usd"] is None
    assert sidecar["model"] == model
    assert sidecar.keys() >= JOB_ONLY


def test_an_error_has_the_listed_fields(gateway, tmp_path, picture):
    gateway.add_fault("submit:error=ILLEGAL_PROMPT")
    ti, task = TI(), one_task(tmp_path / "cat.mp4", picture)
    with pytest.raises(KlingError):
        task.execute(context_of(ti, Store()))
    assert ti.xcoms["kling_error"].keys() == fields("kling_error")


def test_what_a_task_bought_before_a_clear_is_in_its_request(gateway, tmp_path, picture):
    store, costs = Store(), []
    for clears in range(3):
        ti = TI(max_tries=3 * (clears + 1))
        pushed = execute(one_task(tmp_path / "cat.mp4", picture), store, ti)
        costs.append(pushed["kling_request"]["earlier_cost_usd"])
    assert costs == pytest.approx([0, 0.56, 1.12])


def test_a_retry_has_bought_nothing_before(gateway, tmp_path, picture):
    store = Store()
    for _ in range(2):
        assert execute(submit_of(picture), store)["kling_request"]["earlier_cost_usd"] == 0
    assert len(gateway.jobs) == 1


def test_an_earlier_job_of_unknown_price_makes_the_sum_unknown(gateway, picture):
    store = Store()
    store.set("kling_spent", {"an-earlier-job": None})
    assert execute(submit_of(picture), store)["kling_request"]["earlier_cost_usd"] is None


def test_without_a_memory_nothing_is_known_of_earlier_jobs(gateway, picture):
    ti = TI()
    submit_of(picture).execute(context_of(ti))
    assert ti.xcoms["kling_request"]["earlier_cost_usd"] is None
