"""The trigger forms of the example Dags: the form shows what is bought."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import TriggerForm
from playwright.sync_api import expect
from stage import VIDEO, Run, paint

from airflow_provider_kling.emulator.jobs import fingerprint

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page
    from stage import Stage

Body = dict[str, Any]

LINK = "https://media.example/one.png?a='1'&b=2"
CLIP = "https://media.example/dance.mp4"
#: What a template, a shell, HTML or JSON could change.
ODD = """forms: "It's" {{ params.target }} {% raw %} <b>50 %</b> \\n \\\\ ü 猫 $HOME\nsecond line"""
SHOTS = [{"prompt": "forms: she knocks", "duration": 3}, {"prompt": ODD, "duration": 5}]


@dataclass(frozen=True)
class Form:
    """How a form is filled in, and which request each field stands for.

    :param dag_id: the Dag.
    :param typed: what a person types; the other fields keep what the form offers.
    :param model: the model that the form shows, or that the Dag names.
    :param body: the JSON body of the request, made of what the form shows.
    """

    dag_id: str
    typed: dict[str, Any]
    body: Callable[[dict[str, Any]], Body]
    model: Callable[[dict[str, Any]], str] = field(default=lambda shown: shown["model"])


def as_shown(value: Any) -> Any:
    """Return what the field of a value shows."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        return "\n".join(value)
    return value if isinstance(value, (bool, list)) else str(value)


def lines(text: str) -> list[str]:
    return text.splitlines()


def data_uri(path: str) -> str:
    return f"data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def picture_to_video(shown: dict[str, Any]) -> Body:
    return {
        "image": shown["image"] if shown["image"].startswith("https:") else data_uri(shown["image"]),
        "prompt": shown["prompt"],
        "duration": int(shown["duration"]),
        "sound": shown["sound"],
    }


FORMS = {
    "untouched": Form("kling_image_to_video", {"image": LINK}, picture_to_video),
    "all typed": Form(
        "kling_image_to_video",
        {"image": LINK, "prompt": ODD, "duration": 10, "model": "kling-v3.0-std-i2v", "sound": True},
        picture_to_video,
    ),
    "sound by default": Form(
        "kling_image_to_video",
        {"image": LINK, "prompt": "forms: silent", "model": "kling-v2.6-pro-i2v"},
        picture_to_video,
    ),
    "no sound at all": Form(
        "kling_image_to_video",
        {"image": LINK, "prompt": "forms: o1", "model": "kling-o1-i2v"},
        lambda shown: {k: v for k, v in picture_to_video(shown).items() if k != "sound"},
    ),
    "local picture": Form(
        "kling_image_to_video",
        {"image": "pictures/lamp.png", "prompt": "forms: local"},
        picture_to_video,
    ),
    "one task": Form(
        "kling_one_task",
        {"image": LINK, "prompt": ODD + "!"},
        lambda shown: {"image": shown["image"], "prompt": shown["prompt"]},
        lambda _: "kling-v3.0-pro-i2v",
    ),
    "text": Form(
        "kling_text_to_video",
        {"prompt": ODD, "aspect_ratio": "1:1", "duration": 7},
        lambda shown: {
            "prompt": shown["prompt"],
            "duration": int(shown["duration"]),
            "aspect_ratio": shown["aspect_ratio"],
        },
        lambda _: "kling-v3.0-std-t2v",
    ),
    "references": Form(
        "kling_reference_to_video",
        {"prompt": "forms: references", "images": [LINK, f"{LINK}&<c>"]},
        lambda shown: {
            "prompt": shown["prompt"],
            "images": lines(shown["images"]),
            "duration": int(shown["duration"]),
        },
        lambda _: "kling-o1-ref2v",
    ),
    "editing": Form(
        "kling_video_editing",
        {"video": CLIP, "prompt": "forms: it snows"},
        lambda shown: {
            "video": shown["video"],
            "prompt": shown["prompt"],
            "images": lines(shown["images"]),
            "keep_original_sound": True,
        },
        lambda _: "kling-o1-video-edit",
    ),
    "motion": Form(
        "kling_motion_control",
        {"image": LINK, "video": CLIP},
        lambda shown: {"image": shown["image"], "video": shown["video"], "character_orientation": "video"},
        lambda _: "kling-v2.6-pro-motion-control",
    ),
    "shots untouched": Form(
        "kling_multi_shot",
        {"image": LINK},
        lambda shown: {
            "image": shown["image"],
            "multi_prompt": shown["shots"],
            "duration": int(shown["duration"]),
        },
        lambda _: "kling-v3.0-pro-i2v",
    ),
    "shots": Form(
        "kling_multi_shot",
        {"image": LINK, "shots": SHOTS, "duration": 8},
        lambda shown: {
            "image": shown["image"],
            "multi_prompt": shown["shots"],
            "duration": int(shown["duration"]),
        },
        lambda _: "kling-v3.0-pro-i2v",
    ),
}


@dataclass
class Sent:
    """A form that was sent.

    :param shown: what the form showed when it was sent.
    :param run: the run that it started.
    """

    shown: dict[str, Any]
    run: Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the pictures and the videos."""
    folder = tmp_path_factory.mktemp("forms")
    for seed, name in enumerate(("lamp", "sofa")):
        paint(folder / "pictures" / f"{name}.png", seed)
    return folder


def send(page: Page, stage: Stage, dag_id: str, typed: dict[str, Any]) -> Sent:
    stage.until(f"the Dag {dag_id} to be read", lambda: stage.api.dag_exists(dag_id))
    form = TriggerForm(page, stage.airflow.url, dag_id)
    form.fill(typed)
    assert form.problems() == []
    shown = form.shown()
    return Sent(shown, Run(dag_id, form.send()))


@pytest.fixture(scope="module")
def sent(running: Stage, browser: BrowserContext, folder: Path) -> dict[str, Sent | Exception]:
    """Send all forms, so that their runs go on side by side."""
    page, sent = browser.new_page(), {}
    for name, form in FORMS.items():
        typed = dict(form.typed, target=f"{folder}/videos/{name}.mp4")
        if "image" in typed and not typed["image"].startswith("https:"):
            typed["image"] = str(folder / typed["image"])
        try:
            sent[name] = send(page, running, form.dag_id, typed)
        except Exception as error:  # noqa: BLE001 - the form's own test raises it
            sent[name] = error
    page.close()
    return sent


def found(sent: dict[str, Sent | Exception], name: str) -> Sent:
    if isinstance(sent[name], Exception):
        raise sent[name]
    return sent[name]


@pytest.mark.parametrize("name", FORMS)
def test_what_the_form_shows_is_what_is_bought(
    running: Stage, sent: dict[str, Sent | Exception], name: str
) -> None:
    form, mine = FORMS[name], found(sent, name)
    expected = fingerprint(form.model(mine.shown), form.body(mine.shown))
    task, key = ("video", "kling_task_id") if form.dag_id == "kling_one_task" else ("submit", "return_value")

    def bought() -> str | None:
        assert running.states(mine.run).get(task) not in ("failed", "up_for_retry"), running.error(
            mine.run, task
        )
        return running.xcom(mine.run, task, key)

    job = running.gateway.job_store.find(running.until(f"the form {name!r} to buy", bought))
    assert (job.fingerprint, job.unknown_fields) == (expected, ())
    for param, value in form.typed.items():
        assert mine.shown[param] == as_shown(value) or param == "image", param


@pytest.mark.parametrize("name", ["all typed", "one task"])
def test_the_video_is_stored_where_the_form_says(
    running: Stage, sent: dict[str, Sent | Exception], name: str
) -> None:
    mine = found(sent, name)
    for job in running.gateway.jobs:
        if job.prompt == mine.shown["prompt"]:
            running.finish(job)
    tasks = running.until_over(mine.run)
    assert {ti["state"] for ti in tasks.values()} == {"success"}
    assert Path(mine.shown["target"]).read_bytes() == VIDEO


def test_the_catalogue_buys_what_its_form_shows_and_never_again_for_the_same_picture(
    running: Stage, page: Page, folder: Path
) -> None:
    typed = {
        "pictures": str(folder / "pictures"),
        "videos": str(folder / "catalogue"),
        "at_most": 1,
        "prompt": f"{ODD} the {{name}}",
        "duration": 4,
        "model": "kling-v3.0-pro-i2v",
    }
    first = send(page, running, "kling_nightly_catalogue", typed)
    assert first.shown == {name: as_shown(value) for name, value in typed.items()} | {"redo": False}
    job = running.until("the catalogue to buy", lambda: bought_by(running, first.run))
    body = {
        "image": data_uri(f"{typed['pictures']}/lamp.png"),
        "prompt": f"{ODD} the lamp",
        "duration": 4,
    }
    assert job.fingerprint == fingerprint("kling-v3.0-pro-i2v", body)
    running.finish(job)
    running.until_over(first.run)
    video = folder / "catalogue" / "lamp.png.mp4"
    assert video.read_bytes() == VIDEO

    # Another worker has neither the video nor what this one has noted on its disk.
    video.unlink()
    video.with_name(f"{video.name}.json").unlink()
    second = running.trigger("kling_nightly_catalogue", **typed | {"at_most": 2})
    other = running.until("the other picture to be bought", lambda: bought_by(running, second))
    assert other.prompt == f"{ODD} the sofa"
    assert running.xcom(second, "plan")[0]["image"].endswith("/sofa.png")
    assert len(running.xcom(second, "plan")) == 1
    assert f"has bought the job {job.task_id}" in running.log(second, "plan")
    running.finish(other)
    running.until_over(second)

    again = send(page, running, "kling_nightly_catalogue", typed | {"redo": True})
    assert again.shown["redo"] is True
    job_again = running.until("the picture to be bought again", lambda: bought_by(running, again.run))
    assert job_again.fingerprint == job.fingerprint
    running.finish(job_again)
    running.until_over(again.run)


def test_a_person_approves_what_the_form_shows(running: Stage, page: Page, folder: Path) -> None:
    pictures = ["https://media.example/one.png?b=2", "https://media.example/two.png"]
    typed = {"pictures": pictures, "prompt": "forms: approved", "duration": 3, "sound": True}
    sent = send(page, running, "kling_ask_first", typed | {"target": f"{folder}/approved/"})
    path = f"/dags/{sent.run.dag_id}/dagRuns/{sent.run.run_id}/taskInstances/ask/-1/hitlDetails"
    running.until("the question", lambda: running.api_or_none("GET", path))
    # An answer within the first second would come before the scheduler knows that the task has paused: it
    # would take the resumed task for one that was killed, and fail it.
    paused = ("Received executor event", "task_id='ask'", f"run_id='{sent.run.run_id}'")
    running.until("the scheduler to know that the task waits", lambda: scheduler_says(running, *paused))
    running.api.call("PATCH", path, {"chosen_options": ["Approve"], "params_input": {}})
    jobs = running.until("both videos to be bought", lambda: both(running.jobs("forms: approved")))
    assert {job.fingerprint for job in jobs} == {
        fingerprint(
            "kling-v3.0-pro-i2v",
            {"image": image, "prompt": "forms: approved", "duration": 3, "sound": True},
        )
        for image in lines(sent.shown["pictures"])
    }
    running.until_state(sent.run, "deferred", "video[0]", "video[1]")
    names = {running.tasks(sent.run)[f"video[{index}]"]["rendered_map_index"] for index in (0, 1)}
    assert names == {"one.png", "two.png"}
    page.goto(f"{running.airflow.url}/dags/{sent.run.dag_id}/runs/{sent.run.run_id}/tasks/video/mapped")
    for name in names:  # in place of 0 and 1
        page.get_by_role("link", name=name, exact=True).wait_for()


def test_the_rescue_form_stores_the_video_of_the_job_it_names(
    running: Stage, page: Page, folder: Path
) -> None:
    job = running.start_job("forms: rescue")
    running.finish(job)
    count = len(running.gateway.jobs)
    typed = {"kling_task_id": job.task_id, "target": f"{folder}/rescued.mp4"}
    sent = send(page, running, "kling_rescue", typed)
    assert sent.shown == typed
    running.until_over(sent.run)
    assert (folder / "rescued.mp4").read_bytes() == VIDEO
    assert len(running.gateway.jobs) == count


def test_a_form_without_its_picture_cannot_be_sent(running: Stage, page: Page) -> None:
    form = TriggerForm(page, running.airflow.url, "kling_image_to_video")
    assert form.problems() == ["This field is required"]
    assert form.button.is_disabled()


def test_shots_that_are_no_shots_cannot_be_sent(running: Stage, page: Page) -> None:
    form = TriggerForm(page, running.airflow.url, "kling_multi_shot")
    form.fill({"image": LINK})
    expect(form.button).to_be_enabled()
    form.fill({"image": LINK, "shots": ["[object Object]"]})
    expect(form.button).to_be_disabled()


def test_each_dag_explains_itself(running: Stage) -> None:
    for dag_id in example_dags(running):
        details = running.api.call("GET", f"/dags/{dag_id}/details")
        assert details["description"], dag_id
        assert "cost" in details["doc_md"], dag_id


def test_every_form_is_tried(running: Stage) -> None:
    alone = {"kling_nightly_catalogue", "kling_ask_first", "kling_rescue"}  # have a test of their own
    alone |= {"kling_list_jobs", "kling_film"}  # needs Kling's own API; has no form
    assert {form.dag_id for form in FORMS.values()} | alone == example_dags(running)


def example_dags(stage: Stage) -> set[str]:
    dags = stage.api.call("GET", "/dags", tags="kling", limit=100)["dags"]
    return {dag["dag_id"] for dag in dags}


def bought_by(stage: Stage, run: Run) -> Any:
    job = stage.xcom(run, "animate.submit", map_index=0)
    return job and stage.gateway.job_store.find(job)


def scheduler_says(stage: Stage, *words: str) -> bool:
    lines_of_log = (stage.logs / "scheduler.log").read_text().splitlines()
    return any(all(word in line for word in words) for line in lines_of_log)


def both(jobs: list[Any]) -> list[Any]:
    return jobs if len(jobs) == 2 else []
