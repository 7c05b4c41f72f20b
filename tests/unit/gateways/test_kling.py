"""Kling's own API: what is sent, how each answer is read, and what each of its codes means."""

import json
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kling_codes import CODES, DOCUMENTED

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingSubmitUncertainError,
    KlingTaskNotFoundError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways import kling
from airflow_provider_kling.gateways.base import Billing, Gateway, Outcome, Reply, Task, Video, failed_task
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.redaction import Redactor

JOB, OTHER = "893605946402811985", "893605946402811999"
CLIENT = "airflow-3f9a"
LINK = "https://storage.example/v.mp4?sig=1"
VIDEO_JOB = VideoJob("image-to-video/kling-3.0", {"image": "https://x/a.png", "prompt": "a cat"})
PAGE = b"<html><head><title>502 Bad Gateway</title></head>\n<body>nginx</body></html>"


def reply_of(body, status=200, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, headers, body)


def row(status="succeeded", **more):
    given = {"id": JOB, "status": status, "message": "", "create_time": 1000, "update_time": 9000}
    given |= {"external_id": CLIENT, **more}
    return {key: value for key, value in given.items() if value is not ...}


def tasks(*rows, **more):
    return {"code": 0, "message": "SUCCEED", "request_id": "r", "data": list(rows), **more}


def created(**more):
    return {"code": 0, "message": "SUCCEED", "request_id": "r", "data": row("submitted", **more)}


def refused(call, body, status=200, **headers):
    with pytest.raises(KlingError) as caught:
        call.read(reply_of(body, status, **headers))
    return caught.value


SUBMIT, QUERY = kling.submit(VIDEO_JOB, CLIENT), kling.query(JOB)
FIND, LIST, PROBE = kling.find(CLIENT), kling.list_tasks(1.5, ""), kling.probe()
BATCH = kling.query_jobs([JOB, OTHER])


def test_the_dialect_can_do_what_its_seam_says():
    gateway: Gateway = kling
    assert gateway.jobs_per_query == 20
    assert gateway.query_jobs
    assert gateway.find
    assert gateway.list_tasks


# --- what is sent


def test_a_submit_names_the_model_in_the_path_and_our_id_in_the_options():
    assert (SUBMIT.method, SUBMIT.path, SUBMIT.starts_job) == ("POST", "/image-to-video/kling-3.0", True)
    assert SUBMIT.body["options"] == {"external_task_id": CLIENT}
    assert "external_task_id" not in json.dumps(kling.submit(VIDEO_JOB).body)
    assert kling.submit(VideoJob("omni-video/a b?", {})).path == "/omni-video/a%20b%3F"


def test_a_query_names_its_jobs_and_a_search_our_id():
    assert (QUERY.method, QUERY.path, QUERY.params, QUERY.kling_task_id) == (
        *("GET", "/tasks", {"task_ids": JOB}),
        JOB,
    )
    assert BATCH.params == {"task_ids": f"{JOB},{OTHER}"}
    assert FIND.params == {"external_task_ids": CLIENT}
    assert PROBE.params == {"task_ids": "0"}
    assert not any(call.starts_job for call in (QUERY, BATCH, FIND, LIST, PROBE))


def test_a_list_begins_with_a_time_and_goes_on_with_a_cursor():
    assert (LIST.method, LIST.path, LIST.body) == ("POST", "/tasks", {"start_time": 1500, "limit": 500})
    assert kling.list_tasks(1.5, "c-2").body == {"cursor": "c-2", "limit": 500}


def test_where_a_list_refuses_numbers_the_times_are_texts():
    found, cursor = LIST.read(reply_of({"code": 1201, "message": "start_time"}, 400))
    again = kling.list_tasks(1.5, cursor)
    assert (found, again.body) == ([], {"start_time": "1500", "limit": 500})
    assert type(refused(again, {"code": 1201, "message": "start_time"}, 400)) is KlingInputError


# --- what an answer says


@pytest.mark.parametrize("task_id", [JOB, f" {JOB} ", int(JOB), 10**38])
def test_a_submit_yields_the_task_id_without_losing_a_digit(task_id):
    assert SUBMIT.read(reply_of(created(id=task_id))) == str(task_id).strip()


@pytest.mark.parametrize("data", [{"id": JOB}, {"task_id": JOB, "task_status": "submitted"}])
def test_an_answer_to_a_submit_needs_no_more_than_the_id(data):
    assert SUBMIT.read(reply_of({"code": 0, "data": data})) == JOB


def written(**names):
    return json.dumps(created()).replace(
        '"id"', ", ".join(f'"{k}": "{v}"' for k, v in names.items()) + ', "id"'
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *(
            (created(id=value), 200)
            for value in (None, "", " ", 8.9e17, True, [JOB], {"id": JOB}, "../x", "a,b")
        ),
        (created(), 500),
        (created(), 400),
        ({**created(), "code": 1303}, 429),
        ({**created(), "code": None}, 200),
        ({**created(), "code": False}, 200),
        ({**created(), "data": [created()["data"]]}, 200),
        (created(external_id="airflow-of-another-job"), 200),
        (created(task_id=OTHER), 200),
        (json.dumps(created()).replace('"id"', f'"id": "{OTHER}", "id"').encode(), 200),
        (json.dumps(created()).replace('"code"', '"code": 1303, "code"').encode(), 200),
        (json.dumps(created()).encode()[:-2], 200),
    ],
)
def test_an_id_that_is_not_plain_is_not_used_and_is_shown(body, status):
    error = refused(SUBMIT, body, status)
    assert type(error) is KlingSubmitUncertainError
    assert error.money is Money.MAYBE
    text = body.decode() if isinstance(body, bytes) else json.dumps(body)
    assert (JOB in error.what) == (JOB in text)
    assert (OTHER in error.what) == (OTHER in text)


def test_a_key_is_no_task_id():
    reply = Reply(200, {}, json.dumps(created()).encode(), redactor=Redactor(JOB))
    with pytest.raises(KlingSubmitUncertainError) as caught:
        SUBMIT.read(reply)
    assert JOB not in str(caught.value)


def test_a_finished_job_is_read_whole():
    outputs = [{"type": "video", "id": "7", "url": LINK, "watermark_url": "", "duration": "5.041"}]
    billing = [{"charge_type": "unit", "package_type": "video", "amount": "4.5"}]
    task = QUERY.read(reply_of(tasks(row(outputs=outputs, billing=billing))))
    assert task == Task(
        JOB,
        "succeeded",
        Outcome.SUCCEEDED,
        videos=(Video(LINK),),
        timings={"submit_time_ms": 1000.0, "complete_time_ms": 9000.0},
        client_id=CLIENT,
        created_at=1.0,
        billing=(Billing("unit", Decimal("4.5"), package_type="video"),),
    )


def test_a_job_of_the_legacy_design_is_read_too():
    legacy = {
        "task_id": JOB,
        "task_status": "succeed",
        "task_status_msg": "",
        "task_info": {"external_task_id": CLIENT},
        "task_result": {"videos": [{"id": "7", "url": LINK, "duration": "5"}]},
        "final_unit_deduction": "3",
        "created_at": 1000,
        "updated_at": 9000,
    }
    for data in ([legacy], legacy):
        task = QUERY.read(reply_of({"code": 0, "data": data}))
        assert (task.outcome, task.videos, task.client_id) == (Outcome.SUCCEEDED, (Video(LINK),), CLIENT)
        assert (task.created_at, task.billing) == (1.0, (Billing("unit", Decimal(3), package_type="video"),))


@pytest.mark.parametrize(
    ("word", "outcome", "known"),
    [
        *((word, Outcome.UNFINISHED, True) for word in ("submitted", "processing", " processing ")),
        *((word, Outcome.SUCCEEDED, True) for word in ("succeeded", "succeed", "Succeeded")),
        ("failed", Outcome.FAILED, True),
        *(
            (word, Outcome.UNFINISHED, False)
            for word in ("canceled", "success?", "dreaming", 7, ["x"], {"a": 1})
        ),
    ],
)
def test_a_word_that_is_not_known_means_unfinished(word, outcome, known):
    task = QUERY.read(reply_of(tasks(row(word, outputs=[{"url": LINK}]))))
    assert (task.outcome, task.status_known) == (outcome, known)
    assert bool(task.videos) == (outcome is Outcome.SUCCEEDED)


@pytest.mark.parametrize(
    ("message", "kind"),
    [("The model could not.", KlingJobFailedError), ("risk control", KlingModerationError)],
)
def test_a_failed_job_says_why(message, kind):
    error = failed_task(QUERY.read(reply_of(tasks(row("failed", message=message)))))
    assert type(error) is kind
    assert message.rstrip(".") in error.what
    assert error.money is Money.ENDED


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        *((none, ()) for none in (..., None, [], {}, "x", [None, 7, {}], [{"type": "video"}])),
        ([{"type": "image", "url": LINK}, {"type": "video", "url": "https://b"}], (Video("https://b"),)),
        ([{"url": LINK, "watermark_url": "https://w"}], (Video(LINK),)),
        ([{"type": "video", "url": "javascript:1"}, {"type": "video", "url": f" {LINK} "}], (Video(LINK),)),
        ([{"url": LINK}] * 500, (Video(LINK),) * 100),
    ],
)
def test_videos_are_found_among_whatever_comes(outputs, found):
    assert QUERY.read(reply_of(tasks(row(outputs=outputs)))).videos == found


def test_a_success_without_a_video_shows_what_came():
    task = QUERY.read(reply_of(tasks(row(outputs=[{"clip": "s3://bucket/v.mp4"}]))))
    assert "s3://bucket/v.mp4" in str(failed_task(task))


@pytest.mark.parametrize(
    ("billing", "read"),
    [
        *((none, ()) for none in (..., None, [], {}, "x", [None, {}, {"amount": "much"}, {"amount": "NaN"}])),
        ([{"amount": 4}, {"amount": "0.30"}], (Billing("", Decimal(4)), Billing("", Decimal("0.30")))),
        (
            [
                {
                    "charge_type": "cash",
                    "amount": "0.42",
                    "currency": "USD",
                    "list_price": "0.56",
                    "cash_type": "x",
                }
            ],
            (Billing("cash", Decimal("0.42"), "USD", "", Decimal("0.56")),),
        ),
    ],
)
def test_a_bill_is_read_as_far_as_it_can_be(billing, read):
    assert QUERY.read(reply_of(tasks(row(billing=billing)))).billing == read


@pytest.mark.parametrize(
    "body",
    [
        tasks(row(id=OTHER)),
        tasks(row(id=...)),
        tasks(row(id=float(JOB))),
        tasks(row(task_id=OTHER)),
        tasks(row(), row("failed")),
        tasks(row(task_status="failed")),
        tasks(row(status=None)),
        json.dumps(tasks(row())).replace('"status"', '"status": "failed", "status"').encode(),
        json.dumps(tasks(row())).replace('"id"', f'"id": "{OTHER}", "id"').encode(),
        json.dumps(tasks(row())).replace('"code"', '"code": 5000, "code"').encode(),
        json.dumps(tasks(row())).encode()[:-1],
        tasks(row(), code=1201),
        tasks(row(id=OTHER), code=1201),
        tasks(row(), code=None),
        *({"code": 0, "data": data} for data in (None, {}, "x", [None], [[]])),
        {"code": 0},
        tasks(row(), more=[0] * 60_000),
    ],
)
def test_an_answer_about_something_else_is_no_answer(body):
    error = refused(QUERY, body)
    assert type(error) is KlingUnavailableError
    assert (error.money, error.kling_task_id) == (Money.RUNNING, JOB)
    with suppress(KlingUnavailableError):
        assert JOB not in BATCH.read(reply_of(body))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502])
def test_a_job_under_an_error_status_is_not_trusted(status):
    with pytest.raises((KlingUnavailableError, KlingAccessError)):
        QUERY.read(reply_of(tasks(row()), status))


def test_a_job_that_kling_does_not_know_is_named_as_such():
    error = refused(QUERY, tasks())
    assert (type(error), error.money) == (KlingTaskNotFoundError, Money.UNAFFECTED)
    assert BATCH.read(reply_of(tasks())) == {}


@pytest.mark.parametrize("code", [1200, 1201])
def test_an_id_that_is_none_is_refused(code):
    body = {"code": code, "message": "task_ids"}
    assert type(refused(BATCH, body, 400)) is KlingInputError
    assert "Check the task id" in refused(QUERY, body, 400).advice


def test_one_query_reads_many_jobs_in_any_order_and_only_those_it_asked_for():
    body = tasks(row("processing", id=OTHER), row(id="7"), row(), row())
    found = BATCH.read(reply_of(body))
    assert {task_id: task.status for task_id, task in found.items()} == {
        OTHER: "processing",
        JOB: "succeeded",
    }


def test_an_answer_that_has_not_changed_is_not_read_anew():
    first = QUERY.read(reply_of(tasks(row())))
    assert QUERY.read(reply_of(tasks(row()))) is first
    assert QUERY.read(reply_of(tasks(row("processing")))).outcome is Outcome.UNFINISHED


def test_a_job_is_found_by_our_id_or_surely_not():
    assert FIND.read(reply_of(tasks(row("processing")))).kling_task_id == JOB
    assert FIND.read(reply_of(tasks())) is None
    for odd in (tasks(row(external_id="other")), tasks(row(external_id=...)), tasks(row(), row(id=OTHER))):
        assert type(refused(FIND, odd)) is KlingUnavailableError
    assert type(refused(FIND, PAGE, 404)) is KlingUnavailableError


@pytest.mark.parametrize(
    ("data", "ids", "cursor"),
    [
        ({"result": [row(), row(id=OTHER)], "next_cursor": "c", "has_more": True}, [JOB, OTHER], "c"),
        ({"result": [row()], "next_cursor": "c", "has_more": False}, [JOB], ""),
        ({"result": [row(), None, {}], "next_cursor": None}, [JOB], ""),
        ({"count": 0, "has_more": False}, [], ""),
    ],
)
def test_a_list_is_read_page_by_page(data, ids, cursor):
    found, following = LIST.read(reply_of({"code": 0, "data": data}))
    assert [task.kling_task_id for task in found] == ids
    assert following == cursor


def test_a_page_that_leads_to_itself_is_the_last():
    body = {"code": 0, "data": {"result": [], "next_cursor": "c", "has_more": True}}
    assert kling.list_tasks(0, "c").read(reply_of(body)) == ([], "")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (tasks(), 200, None),
        ({"code": 1002, "message": "api key not found"}, 401, KlingAccessError),
        (b"", 403, KlingAccessError),
        (PAGE, 200, KlingUnavailableError),
        (tasks(row()), 200, KlingUnavailableError),
        ({"code": 0, "data": None}, 200, KlingUnavailableError),
    ],
)
def test_a_probe_says_whether_the_key_is_good(body, status, kind):
    if kind is None:
        assert PROBE.read(reply_of(body, status)) is None
        return
    error = refused(PROBE, body, status)
    assert (type(error), error.money) == (kind, Money.UNTOUCHED)


def test_a_key_that_kling_does_not_know_may_be_one_of_the_other_region():
    error = refused(PROBE, {"code": 1002, "message": "api key not found", "request_id": "r-7"}, 401)
    assert "HTTP 401 1002: api key not found (request_id r-7)" in error.what
    assert "'singapore' or 'beijing'" in error.advice


# --- what a code means

# Without a code a proxy has answered, before Kling or after it.
BARE = [
    *(
        (status, KlingSubmitUncertainError, KlingUnavailableError)
        for status in (200, 204, 301, 400, 404, 408)
    ),
    *(
        (status, KlingSubmitUncertainError, KlingUnavailableError)
        for status in (422, 429, 500, 502, 503, 504)
    ),
    *((status, KlingInputError, KlingUnavailableError) for status in (405, 411, 413, 414, 415, 431)),
    *((status, KlingAccessError, KlingAccessError) for status in (401, 407)),
    (403, KlingSubmitUncertainError, KlingAccessError),
]


def test_every_code_of_the_dialect_is_in_this_table():
    assert set(kling._MEANINGS) == {code for code, *_ in DOCUMENTED}


@pytest.mark.parametrize("form", [int, str])
@pytest.mark.parametrize(("code", "status", "of_submit", "of_query"), CODES)
def test_a_code_sorts_a_refusal(code, status, of_submit, of_query, form):
    body = {"code": form(code), "message": "It was not to be.", "request_id": "r-7"}
    error = refused(SUBMIT, body, status)
    assert (type(error), error.money, error.reason) == (of_submit, of_submit.default_money, str(code))
    assert f"HTTP {status} {code}: It was not to be (request_id r-7)." in str(error)
    for call, job in ((QUERY, JOB), (BATCH, None), (FIND, None), (LIST, None)):
        if (call is LIST and code == 1201) or (call is BATCH and code in (1200, 1201)):
            continue
        error = refused(call, body, status)
        assert (type(error), error.kling_task_id) == (of_query, job)
        assert error.reason == (None if (code, status) == (1005, 401) else str(code))
        assert not job or error.money is Money.RUNNING


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500, 502, 503])
@pytest.mark.parametrize(("code", "_status", "of_submit", "of_query"), DOCUMENTED)
def test_the_code_decides_and_not_the_status(code, _status, of_submit, of_query, status):
    body = {"code": code, "message": "m"}
    assert type(refused(SUBMIT, body, status)) is of_submit
    assert type(refused(QUERY, body, status)) is of_query


@pytest.mark.parametrize(
    "body", [b"", PAGE, b"null", b"[1]", b"{}", b'{"code": "no"}', b'{"code": 1303.5}', b'{"code": true}']
)
@pytest.mark.parametrize(("status", "of_submit", "of_query"), BARE)
def test_without_a_code_nothing_is_certain_but_what_refuses_the_request_unread(
    status, of_submit, of_query, body
):
    error = refused(SUBMIT, body, status)
    assert (type(error), error.reason) == (of_submit, None)
    error = refused(QUERY, body, status)
    assert (type(error), error.money, error.reason) == (of_query, Money.RUNNING, None)


@pytest.mark.parametrize(
    "message",
    [
        "external_task_id already exists",
        "Duplicate external task id",
        "The id must be unique",
        "任务已存在",
        "",
        None,
    ],
)
def test_a_client_id_that_is_taken_makes_a_submit_uncertain(message):
    body = {"code": 1201, "message": message}
    error = refused(SUBMIT, body, 400)
    assert (type(error), error.money, error.reason) == (KlingSubmitUncertainError, Money.MAYBE, "1201")
    assert type(refused(kling.submit(VIDEO_JOB), body, 400)) is KlingInputError


def test_the_pause_that_kling_asks_for_is_kept():
    for code in (1302, 1303):
        assert refused(SUBMIT, {"code": code}, 429, **{"retry-after": "7"}).retry_after == 7


@pytest.mark.parametrize("status", [200, 429])
def test_too_many_requests_pause_all_queries_whatever_the_http_status(status):
    for call in (QUERY, BATCH):
        assert refused(call, {"code": 1302}, status).retry_after == 5
        assert refused(call, {"code": 1302}, status, **{"retry-after": "7"}).retry_after == 7
        assert refused(call, {"code": 5000}, status).retry_after is None


@pytest.mark.parametrize("code", [1100, 1102, 1103, 1304])
def test_the_advice_is_about_the_account_and_not_about_the_key(code):
    assert "Check the API key" not in refused(SUBMIT, {"code": code, "message": "m"}, 429).advice


KEYS = ["code", "message", "data", "id", "status", "outputs", "url", "type", "billing", "amount", "result"]
KEYS += ["task_id", "task_status", "task_info", "task_result", "external_id", "create_time", "next_cursor"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([JOB, "succeeded", 0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)


@given(
    status=st.sampled_from([200, 200, 200, 400, 401, 429, 500]) | st.integers(100, 599),
    body=st.binary()
    | JSON.map(lambda data: json.dumps(data).encode())
    | JSON.map(
        lambda data: json.dumps(
            {"code": 0, "data": [{"id": JOB, "status": "succeeded", "outputs": data}]}
        ).encode()
    ),
)
@example(500, b'{"message": ' + b"[" * 900 + b"]" * 900 + b', "code": 0, "data": [{"id": {}}]}')
def test_any_answer_at_all_gives_a_value_or_one_of_our_errors(status, body):
    for call in (SUBMIT, kling.query(JOB), BATCH, FIND, LIST, PROBE):
        try:
            call.read(reply_of(body, status))
        except KlingError as error:
            json.dumps(error.to_dict())
