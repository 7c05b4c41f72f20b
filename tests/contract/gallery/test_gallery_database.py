"""The cards as the database gives them: filters, pages, totals, statements; on SQLite and PostgreSQL."""

import datetime as dt
import zlib
from base64 import b64encode

import pytest
from gallery_stage import BEGUN, counted_statements, small_jpeg

SUBMIT, SENSOR, ONE = "KlingSubmitOperator", "KlingTaskSensor", "KlingImageToVideoOperator"
PICTURE = small_jpeg()


def header_of_a_png(width, height):
    chunk = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\1\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + chunk + zlib.crc32(chunk).to_bytes(4)


pytestmark = pytest.mark.parametrize("gallery_app", ["sqlite", "postgresql"], indirect=True, scope="module")


def request(job, **more):
    inputs = {"prompt": f"The prompt of {job}", "duration": 5}
    return {
        "kling_task_id": job,
        "model": "kling-v3.0-pro-i2v",
        "inputs": inputs,
        "estimated_cost_usd": 0.56,
        **more,
    }


def video(job):
    return {"kling_task_id": job, "path": f"/videos/{job}.mp4", "reused": False}


def make(gallery, n, **more):
    job = f"job-{n}"
    arguments = {"run_id": f"run-{n}", "operator": ONE, "after": n, "kling_request": request(job), **more}
    gallery.add("make", kling_video=video(job), **arguments)


def names(answer):
    return [card["kling_task_id"] for card in answer["cards"]]


def test_pages_follow_each_other_without_a_gap_and_the_latest_comes_first(gallery):
    for n in range(7):
        make(gallery, n)
    found, cursor = [], ""
    while True:
        answer = gallery.videos(limit=3, cursor=cursor)
        found += names(answer)
        assert (answer["head"] is None) == bool(cursor)
        make(gallery, 100 + len(found))  # a new one moves nothing
        if not (cursor := answer["next"]):
            break
    assert found == [f"job-{n}" for n in range(6, -1, -1)]


def test_videos_that_began_at_the_same_time_are_on_one_page_each(gallery):
    for n in range(5):
        gallery.add("make", map_index=n, operator=ONE, kling_request=request(f"job-{n}"))
    first = gallery.videos(limit=3)
    second = gallery.videos(limit=3, cursor=first["next"])
    assert sorted(names(first) + names(second)) == [f"job-{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("filters", "jobs"),
    [
        ({}, {1, 2, 3, 4}),
        ({"dag_id": "shop"}, {1, 2, 3}),
        ({"dag_id": "none"}, set()),
        ({"run_id": "run-2"}, {2}),
        ({"task_id": "make", "run_id": "run-2"}, {2}),
        ({"task_id": "wait"}, {3}),
        ({"task_id": "wait", "map_index": "0"}, set()),
        ({"model": "another"}, {4}),
        ({"since": BEGUN.timestamp() + 2}, {2, 3, 4}),
        ({"until": BEGUN.timestamp() + 2}, {1, 2}),
        ({"since": BEGUN.timestamp() + 2, "until": BEGUN.timestamp() + 3}, {2, 3}),
        ({"search": "PROMPT of job-1"}, {1}),
        ({"search": "/videos/job-2"}, {2}),
        ({"search": "100%"}, set()),
    ],
)
def test_filters_choose_cards_and_totals(gallery, filters, jobs):
    make(gallery, 1)
    make(gallery, 2)
    gallery.add("submit", run_id="run-3", operator=SUBMIT, after=3, kling_request=request("job-3"))
    gallery.add("wait", run_id="run-3", operator=SENSOR, state="deferred", after=3.5)
    make(gallery, 4, dag_id="other", kling_request=request("job-4", model="another"))
    answer = gallery.videos(**filters)
    assert set(names(answer)) == {f"job-{n}" for n in jobs}
    assert answer["head"]["made"] + answer["head"]["running"] == len(jobs)
    assert answer["head"]["estimated_cost_usd"] == round(0.56 * len(jobs), 2)
    assert answer["head"]["dags"] == ["other", "shop"]
    if filters.keys() <= {"state", "model", "search"}:  # the page fills its list with them
        assert answer["head"]["models"] == ["another", "kling-v3.0-pro-i2v"]
    assert answer["next"] is None


@pytest.mark.parametrize(
    ("state", "jobs"),
    [
        ("made", {1}),
        ("waiting", {2}),
        ("running", {2}),
        ("failed", {3, 4}),
        ("uncertain", {4}),
        ("", {1, 2, 3, 4}),
    ],
)
def test_a_state_chooses_cards_while_the_head_counts_all(gallery, state, jobs):
    make(gallery, 1)
    gallery.add("submit", run_id="run-2", operator=SUBMIT, kling_request=request("job-2"))
    gallery.add("wait", run_id="run-2", operator=SENSOR, state="deferred")
    for n, kind in ((3, "KlingJobFailedError"), (4, "KlingUncertainError")):
        error = {"class": kind, "kling_task_id": f"job-{n}"}
        gallery.add("make", run_id=f"run-{n}", operator=ONE, state="failed", kling_error=error)
    answer = gallery.videos(state=state)
    assert set(names(answer)) == {f"job-{n}" for n in jobs}
    head = answer["head"]
    assert (head["made"], head["running"], head["failed"]) == (1, 1, 2)


def test_running_cards_are_asked_for_by_their_keys(gallery):
    for n in range(3):
        make(gallery, n)
    keys = [
        "shop/run-0/make/-1",
        "shop/run-2/make/-1",
        "shop/run-9/make/-1",
        "x",
        "",
        "a/b/c/d/e",
        "shop/run-0/make/9" * 50,
    ]
    with counted_statements() as statements:
        answer = gallery.videos(task=keys, previews=0)
    assert not [it for it in statements if "UNION SELECT" in it]  # a poll does not look for all Dags
    assert (sorted(names(answer)), answer["head"], answer["next"]) == (["job-0", "job-2"], None, None)
    assert gallery.get("/kling/api/videos", params={"task": ["x"] * 201}).status_code == 422


def test_a_submit_that_has_pushed_nothing_yet_and_one_that_has_died_are_shown(gallery):
    gallery.add("running", operator=SUBMIT, state="running")
    gallery.add("died", operator=SUBMIT, state="failed")
    gallery.add("foreign", operator="BashOperator", state="failed")
    gallery.add("later", operator=SUBMIT, state=None)
    states = {card["name"]: card["state"] for card in gallery.videos()["cards"]}
    assert states == {"running": "submitting", "died": "failed"}


def test_after_the_xcoms_were_deleted_the_run_says_what_is_gone(gallery):
    gallery.add("make", operator=ONE, state="success")
    assert gallery.videos()["cards"] == []
    (card,) = gallery.videos(dag_id="shop", run_id="r1")["cards"]
    assert card["state"] == "gone"
    assert "airflow db clean" in card["player_note"]


def test_the_number_of_statements_does_not_depend_on_the_number_of_videos(gallery):
    counts = []
    for n in range(0, 60, 20):
        for more in range(n, n + 20):
            make(
                gallery,
                more,
                kling_preview={"kling_task_id": f"job-{more}", "source": PICTURE, "poster": None},
            )
            gallery.add("wait", run_id=f"run-{more}", operator=SENSOR, state="deferred", map_index=more)
        with counted_statements() as statements:
            gallery.videos()
        counts.append(len(statements))
    assert len(set(counts)) == 1
    assert counts[0] <= 7, "\n".join(statements)


def test_the_pictures_come_with_the_cards_of_the_same_job(gallery):
    preview = {"kling_task_id": "job-1", "source": PICTURE, "poster": None}
    gallery.add("submit", operator=SUBMIT, kling_request=request("job-1"), kling_preview=preview)
    poster = {"kling_task_id": "job-1", "source": None, "poster": small_jpeg(319)}
    gallery.add(
        "download", operator="KlingDownloadOperator", kling_video=video("job-1"), kling_preview=poster
    )
    old = {"kling_task_id": "an earlier job", "source": PICTURE, "poster": PICTURE}
    make(gallery, 2, kling_preview=old)
    cards = {card["kling_task_id"]: (card["source"], card["poster"]) for card in gallery.videos()["cards"]}
    assert cards == {"job-1": (PICTURE, small_jpeg(319)), "job-2": (None, None)}
    assert {card["source"] for card in gallery.videos(previews=0)["cards"]} == {None}


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "https://x.example/a.jpg",
        "data:text/html;base64,AAAA",
        PICTURE + '" onload="',
        7,
        PICTURE * 9999,
        PICTURE + "A",
        small_jpeg(641, 180),
        small_jpeg(180, 65_535),
        PICTURE.replace("jpeg", "png"),
        "data:image/png;base64," + b64encode(header_of_a_png(15_000, 15_000)).decode(),
        small_jpeg(data=bytes(8000)),
    ],
)
def test_a_preview_is_a_small_picture_or_nothing(gallery, url):
    make(gallery, 1, kling_preview={"kling_task_id": "job-1", "source": url, "poster": url})
    (card,) = gallery.videos()["cards"]
    assert (card["source"], card["poster"]) == (None, None)


def test_many_large_xcoms_are_read_until_they_are_too_much_together(gallery, monkeypatch):
    from airflow_provider_kling.gallery import database

    for n in range(3):
        make(gallery, n)
    size = len(str(request("job-0")))
    monkeypatch.setattr(database, "_MAX_TOTAL", 3 * size)
    found = gallery.videos()["cards"]
    assert 0 < sum(bool(card["kling_task_id"]) for card in found) < 3


def test_a_very_large_xcom_is_not_read(gallery):
    large = request("job-1", extra="x" * 200_000)
    gallery.add(
        "make", operator=ONE, state="deferred", kling_request=large, kling_progress={"status": "x" * 200_000}
    )
    (card,) = gallery.videos()["cards"]
    assert (card["name"], card["state"]) == ("make", "submitting")


@pytest.mark.parametrize(
    "value", ["text", 7, [], {"kling_task_id": {"a": []}}, '{"kling_task_id": "job-1"}', None, True]
)
def test_what_other_tasks_push_under_our_keys_breaks_nothing(gallery, value):
    make(gallery, 1)
    keys = (
        "kling_request",
        "kling_video",
        "kling_error",
        "kling_progress",
        "kling_preview",
        "kling_reservation",
    )
    gallery.add("foreign", run_id="run-1", operator="PythonOperator", **dict.fromkeys(keys, value))
    gallery.add(
        "foreign", run_id="run-2", operator="PythonOperator", conf=[value], **dict.fromkeys(keys, value)
    )
    assert "job-1" in names(gallery.videos())


def test_an_xcom_that_was_encoded_twice_is_read(gallery):
    import json

    gallery.add("make", operator=ONE, kling_request=json.dumps(request("job-1")), kling_video=video("job-1"))
    assert names(gallery.videos()) == ["job-1"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"dag_id": "\x00"}, {"run_id": "\x00"}, {"task": "\x00/r/t/1"},
        {"cursor": "x"}, {"cursor": "nan/x"}, {"cursor": "1/\x00"},
        {"since": "nan"}, {"until": "inf"}, {"until": "1e300"}, {"since": -1},
        {"limit": 0}, {"limit": 10**9}, {"map_index": "x"},
    ],
)  # fmt: skip
def test_a_parameter_that_makes_no_sense_is_refused(gallery, parameters):
    assert gallery.get("/kling/api/videos", params=parameters).status_code in (400, 422)


def test_quotes_and_percent_signs_in_a_filter_are_only_texts(gallery):
    make(gallery, 1, dag_id="shop")
    for text in ("'; drop table xcom; --", "%", "_", '"', "\\", "shop' or '1'='1"):
        for name in ("dag_id", "run_id", "task_id", "state", "model", "search"):
            assert len(gallery.videos(**{name: text})["cards"]) == (text == "_" and False)
    assert names(gallery.videos()) == ["job-1"]


def test_a_dead_triggerer_is_told_while_a_job_runs(gallery):
    make(gallery, 1)
    assert gallery.videos()["triggerer_alive"] is True  # nothing waits for it
    gallery.add("make", run_id="run-2", operator=ONE, state="deferred", kling_request=request("job-2"))
    assert gallery.videos()["triggerer_alive"] is False
    add_triggerer(dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    assert gallery.videos()["triggerer_alive"] is False
    add_triggerer(dt.datetime.now(dt.UTC))
    assert gallery.videos()["triggerer_alive"] is True


def add_triggerer(heartbeat):
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session
    from sqlalchemy import insert

    with create_session() as session:
        session.execute(
            insert(Job.__table__).values(job_type="TriggererJob", state="running", latest_heartbeat=heartbeat)
        )


@pytest.mark.parametrize("search", ["", "prompt of job-0"])
def test_more_videos_than_are_read_at_once_are_reached_by_the_cursor(gallery, monkeypatch, search):
    from airflow_provider_kling.gallery import database

    monkeypatch.setattr(database, "_MAX_XCOMS", 8)
    for n in range(6):
        make(gallery, n)
    # A run that began first, and in which something happens last.
    make(gallery, 0, dag_id="long", kling_request=request("job-long"))
    gallery.add("late", dag_id="long", run_id="run-0", after=99, kling_error={})
    answer = gallery.videos(search=search)
    assert answer["head"]["capped"] is True
    found = names(answer)
    for _ in range(9):
        if not answer["next"]:
            break
        answer = gallery.videos(search=search, cursor=answer["next"])
        found += names(answer)
    expected = [f"job-{n}" for n in range(5, 0, -1)] + ["job-long", "job-0"]
    assert found == [job for job in expected if search in f"prompt of {job}"]
