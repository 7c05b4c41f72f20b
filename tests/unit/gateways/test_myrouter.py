"""Calls as values: what is sent, and how each answer is read."""

import json
import re
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.errors import (
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingModerationError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.gateways.base import Outcome, Reply, Task, Video, checked_task_id, failed_task
from airflow_provider_kling.gateways.myrouter import outcome_of, probe, query, submit
from airflow_provider_kling.models.job import VideoJob

MISSING = object()
LINK = "https://storage.example/v.mp4?sig=1"


def answer(**parts):
    whole = {"task": {"task_id": "t-1", "status": "TASK_STATUS_SUCCEED"}, **parts}
    return {key: value for key, value in whole.items() if value is not MISSING}


def read(data, status=200):
    return query("t-1").read(Reply(status, {}, json.dumps(data).encode()))


def test_a_submit_names_the_model_in_the_path_and_the_inputs_in_the_body():
    call = submit(VideoJob("kling-v3.0-pro-i2v", {"prompt": "a cat"}))
    assert (call.method, call.path) == ("POST", "/v3/async/kling-v3.0-pro-i2v")
    assert (call.body, call.params, call.kling_task_id) == ({"prompt": "a cat"}, {}, None)
    assert submit(VideoJob("a b/c", {})).path == "/v3/async/a%20b%2Fc"


def test_a_query_names_the_task_in_the_query_string():
    call = query("t-1")
    assert (call.method, call.path, call.params) == ("GET", "/v3/async/task-result", {"task_id": "t-1"})
    assert (call.body, call.kling_task_id) == (None, "t-1")


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_submit_yields_the_task_id(status):
    assert submit(VideoJob("m", {})).read(Reply(status, {}, b'{"task_id": " t-1 ", "more": 1}')) == "t-1"


def test_a_task_id_under_an_error_status_is_not_trusted():
    with pytest.raises(KlingSubmitUncertainError):
        submit(VideoJob("m", {})).read(Reply(500, {}, b'{"task_id": "t-1"}'))


@pytest.mark.parametrize(
    "task_id", ["", " ", "t\0", "\ud800", "t-1\r\nX: y", 7.5, None, True, ["t-1"], "None"]
)
def test_a_task_id_that_cannot_be_noted_or_asked_for_is_none_and_leaves_the_submit_uncertain(task_id):
    reply = Reply(200, {}, json.dumps({"task_id": task_id}).encode())
    with pytest.raises(KlingSubmitUncertainError):
        submit(VideoJob("m", {})).read(reply)


def test_nothing_that_a_task_says_is_more_than_a_database_or_a_log_takes():
    said = {"status": "TASK_STATUS_\ud800", "reason": "no\x1b[31m\0\u202e\r\nERROR"}
    task = read({"task": said})
    assert (task.status, task.reason) == ("TASK_STATUS_\ufffd", "no\ufffd[31m\ufffd\ufffd ERROR")
    (video,) = read(answer(videos=[{"video_url": LINK, "video_type": "mp4\udfff\u202e"}])).videos
    assert video == Video(LINK, None, "mp4\ufffd\ufffd")
    assert len(read(answer(videos=[LINK] * 10_000)).videos) == 100


@pytest.mark.parametrize("sent", [True, False])
def test_a_lost_call_says_whether_it_may_have_cost(sent):
    paid = submit(VideoJob("m", {})).lost("cut", sent=sent)
    assert type(paid) is (KlingSubmitUncertainError if sent else KlingUnavailableError)
    assert paid.money is (Money.MAYBE if sent else Money.UNTOUCHED)
    free = query("t-1").lost("cut", sent=sent)
    assert (type(free), free.money, free.kling_task_id) == (KlingUnavailableError, Money.RUNNING, "t-1")
    assert "(cut)" in str(free)


NUMBERS = [
    (7, 7.0),
    (7.5, 7.5),
    ("7", 7.0),
    ("", None),
    (MISSING, None),
    (None, None),
    (True, None),
    ([], None),
    ("50%", None),
    (10**400, None),
    (float("nan"), None),
    (float("-inf"), None),
]


@pytest.mark.parametrize(("form", "number"), NUMBERS)
def test_every_number_of_an_answer_is_read_in_every_form(form, number):
    def with_number(key, **parts):
        return parts if form is MISSING else {**parts, key: form}

    task = read(
        {
            "task": with_number("eta", **with_number("progress_percent", status="TASK_STATUS_SUCCEED")),
            "videos": [with_number("video_url_ttl", video_url=LINK)],
            "extra": {"debug_info": with_number("submit_time_ms", request_info="the prompt")},
        }
    )
    assert (task.eta, task.progress_percent) == (number, number)
    assert task.videos[0].video_url_ttl == (None if number is None else int(number))
    assert task.timings == ({} if number is None else {"submit_time_ms": number})


def test_an_answer_that_has_not_changed_is_not_read_anew_and_one_that_has_is():
    call, same = query("t-1"), json.dumps(answer()).encode()
    first = call.read(Reply(200, {}, same))
    assert call.read(Reply(200, {}, same)) is first
    other = json.dumps(answer(task={"status": "TASK_STATUS_PROCESSING"})).encode()
    assert call.read(Reply(200, {}, other)).status == "TASK_STATUS_PROCESSING"
    with pytest.raises(KlingUnavailableError):
        call.read(Reply(502, {}, other))


@pytest.mark.parametrize(
    ("videos", "found"),
    [
        (MISSING, ()),
        (None, ()),
        ([], ()),
        ({}, ()),
        ("garbage", ()),
        ([None, 7, "x", [], {}], ()),
        ({"video_url": LINK}, (Video(LINK),)),
        ([LINK], (Video(LINK),)),
        ([{"url": LINK}], (Video(LINK),)),
        ([{"video_url": LINK.replace("https", "HTTPS")}], (Video(LINK.replace("https", "HTTPS")),)),
        *(
            ([{"video_url": odd}], ())
            for odd in (
                *("javascript:alert(1)", "java\tscript:alert(1)", "file:///etc/passwd", "data:video/mp4,x"),
                *(
                    "//storage.example/v.mp4",
                    "https:///v.mp4",
                    "http://[::1/x",
                    "http://x/\0",
                    "http://x/\ud800",
                ),
                *("http://x/ y", "http://x/\u202e", "http://x/" + "y" * 9000),
            )
        ),
        ([{"video_url": None}, {"video_url": " "}, {"video_url": 7}], ()),
        ([{"video_url": f" {LINK} "}], (Video(LINK),)),
        ([{"video_url": LINK, "video_type": 7, "video_url_ttl": "3600"}], (Video(LINK, 3600),)),
        (
            [{"video_url": LINK, "video_type": ""}, {"video_url": "http://b", "video_type": "mp4"}],
            (Video(LINK), Video("http://b", None, "mp4")),
        ),
    ],
)
def test_videos_are_found_among_whatever_comes(videos, found):
    assert read(answer(videos=videos)).videos == found


def succeeded(**more):
    return {"task_id": "t-1", "status": "TASK_STATUS_SUCCEED", **more}


@pytest.mark.parametrize(
    "body",
    [
        *({"task": succeeded(), "videos": none, "video": {"url": LINK}} for none in ([], None, {})),
        {"task": succeeded(video=LINK), "videos": []},
        {"task": succeeded(video=LINK)},
        {"task": succeeded(), "video": LINK},
        {"task": succeeded(), "data": {"video": [LINK]}},
        *(
            {"task": succeeded(), name: {key: {"url": LINK}, "result": {key: {"url": LINK}}}}
            for name in ("metadata", "error", "request_info")
            for key in ("video", "videos")
        ),
    ],
)
def test_a_video_that_may_be_an_input_is_no_result(body):
    assert read(body).videos == ()


@pytest.mark.parametrize(
    "body",
    [
        {"task": succeeded(), "video": {"url": LINK}},
        {"data": succeeded(task_result={"video": LINK})},
        {"task": succeeded(), "output": {"video": [LINK]}},
        {"task": succeeded(video="https://in.example/a.mp4"), "result": {"video": {"video_url": LINK}}},
        {"task": succeeded(), "data": {"videos": LINK}},
    ],
)
def test_a_video_of_a_result_is_read_under_other_names(body):
    assert read(body).videos == (Video(LINK),)


@pytest.mark.parametrize("extra", [MISSING, None, {}, [], "x", {"debug_info": None}, {"debug_info": "x"}])
def test_extra_facts_may_be_missing_or_garbage(extra):
    assert read(answer(extra=extra)).timings == {}


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (MISSING, ""),
        (None, ""),
        ("", ""),
        (7, "7"),
        ("because", "because"),
        ({"code": "E42"}, '{"code": "E42"}'),
        (["E42"], '["E42"]'),
    ],
)
def test_a_reason_is_shown_in_whatever_form_it_comes(reason, shown):
    task = {"status": "TASK_STATUS_FAILED"} | ({} if reason is MISSING else {"reason": reason})
    assert read({"task": task}).reason == shown


@pytest.mark.parametrize("task", [MISSING, None, [], "x", {}, {"status": None}, {"status": 7}])
def test_an_answer_without_a_status_is_a_passing_trouble(task):
    with pytest.raises(KlingUnavailableError):
        read(answer(task=task))


def test_the_task_keeps_our_id_and_the_gateways_word():
    task = read({"task": {"task_id": " t-1\n", "status": " TASK_STATUS_QUEUED "}})
    assert (task.kling_task_id, task.status) == ("t-1", "TASK_STATUS_QUEUED")


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("TASK_STATUS_QUEUED", Outcome.UNFINISHED),
        ("TASK_STATUS_PROCESSING", Outcome.UNFINISHED),
        ("TASK_STATUS_SUCCEED", Outcome.SUCCEEDED),
        ("task_status_succeed", Outcome.SUCCEEDED),
        *((word, Outcome.SUCCEEDED) for word in ("succeed", "SUCCEEDED", "TASK_STATUS_SUCCEEDED", "success")),
        *((word, Outcome.UNFINISHED) for word in ("UNSUCCESSFUL", "NOT_SUCCEEDED", "COMPLETED", "DONE?")),
        ("TASK_STATUS_FAILED", Outcome.FAILED),
        ("TASK_STATUS_FAILURE", Outcome.FAILED),
        ("failed", Outcome.FAILED),
        ("TASK_STATUS_CANCELED", Outcome.CANCELLED),
        ("TASK_STATUS_CANCELLED", Outcome.CANCELLED),
        ("TASK_STATUS_UNKNOWN", Outcome.UNFINISHED),
        ("TASK_STATUS_DREAMING", Outcome.UNFINISHED),
        ("", Outcome.UNFINISHED),
    ],
)
def test_each_status_word_means_something(word, outcome):
    assert outcome_of(word) is outcome
    assert read({"task": {"status": word}}).outcome is outcome


def ended(status, reason="", **facts):
    return failed_task(Task("t-1", status, outcome_of(status), reason, **facts))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("The model could not.", KlingJobFailedError),
        ("", KlingJobFailedError),
        ("Rejected by MODERATION", KlingModerationError),
        ("It may contain sensitive information", KlingModerationError),
        ("Failure to pass the risk control system", KlingModerationError),
        ("content policy violation", KlingModerationError),
    ],
)
def test_a_failed_job_says_why_in_the_gateways_words(reason, kind):
    error = ended("TASK_STATUS_FAILED", reason)
    assert type(error) is kind
    assert (reason.rstrip(".") or "no reason given") in str(error)
    assert (error.money, error.kling_task_id) == (Money.ENDED, "t-1")


def test_a_cancelled_job_and_an_empty_success_are_failures_too():
    assert "was cancelled at the gateway (TASK_STATUS_CANCELED): no reason given." in str(
        ended("TASK_STATUS_CANCELED")
    )
    empty = ended("TASK_STATUS_SUCCEED")
    assert type(empty) is KlingJobFailedError
    assert '"videos": []' in str(empty)
    assert "support" in empty.advice


KEYS = ["task", "status", "reason", "error", "message", "task_id", "videos", "video_url", "video_url_ttl"]
KEYS += ["extra", "debug_info", "eta", "progress_percent"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
DEEP = b'{"message": ' + b"[" * 900 + b"]" * 900 + b', "task": {"status": "X", "reason": {}}}'
HEADERS = st.dictionaries(st.sampled_from(["retry-after", "location", "content-type"]), st.text(), max_size=3)


@given(
    status=st.integers(100, 599),
    headers=HEADERS,
    body=st.binary() | JSON.map(lambda data: json.dumps(data).encode()),
)
@example(500, {}, DEEP)
@example(429, {"retry-after": "1 Jan 99999999999999999999 00:00:00 GMT"}, b"")
def test_any_answer_at_all_gives_a_value_or_one_of_our_errors(status, headers, body):
    reply = Reply(status, headers, body, 1.7e9)
    for call, kind in ((submit(VideoJob("m", {})), str), (query("t-1"), Task)):
        try:
            value = call.read(reply)
        except KlingError as error:
            value = error
        assert isinstance(value, (kind, KlingError))
        facts = value.to_dict() if not isinstance(value, str) else {}
        json.dumps(facts)
        assert (facts.get("retry_after") or 0) >= 0


@pytest.mark.parametrize("odd", ["../x", "a/b", ".", "..", "a b", "a\0", "\ud800", "x" * 251, "a?b", "-x"])
def test_a_task_id_that_could_lead_elsewhere_is_none(odd):
    with pytest.raises(KlingInputError, match="is not a task id"):
        checked_task_id(odd)
    with pytest.raises(KlingSubmitUncertainError):
        submit(VideoJob("m", {})).read(Reply(200, {}, json.dumps({"task_id": odd}).encode()))


@pytest.mark.parametrize(
    "usual", ["1f1e2f5b-61ea-4b76-a369-0159249154e6", "T_1.2:3=", " t-1 ", "0", "x" * 250]
)
def test_a_usual_task_id_is_taken(usual):
    assert checked_task_id(usual) == usual.strip()
    said = json.dumps({"task_id": usual}).encode()
    assert submit(VideoJob("m", {})).read(Reply(200, {}, said)) == usual.strip()


def test_the_gateways_words_are_shown_short_and_unsigned():
    said = {"status": f"https://s.example/a?sig=x {'y' * 900}", "reason": "https://s.example/a?sig=x"}
    task = query("t").read(Reply(200, {}, json.dumps({"task": said}).encode()))
    assert len(task.status) < 100
    assert "sig" not in task.status + task.reason


SPELT_IDS = (str, str.upper, "urn:uuid:{}".format, lambda text: [text])
OTHER = "77777777-0000-4000-8000-abcdefabcdef"
JOB = "1f0e7a52-9c3b-4d6e-8a01-5b7c9d2e4f60"


def named(value, **task):
    return {"task": {"task_id": value, "status": "TASK_STATUS_SUCCEED", **task}, "videos": [LINK]}


def reply_of(body, status=200, headers=None):
    return Reply(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        named(OTHER),
        named(OTHER, status="TASK_STATUS_FAILED"),
        *map(named, (17, True, [JOB], {"id": JOB}, JOB[:-1], JOB + "0", f"../{JOB}")),
        {**named(JOB), "task_id": OTHER},
        {**named(OTHER), "task_id": JOB},
        {"task": {"id": OTHER, "status": "TASK_STATUS_SUCCEED"}, "videos": [LINK]},
        {"data": named(OTHER)},
        *(
            json.dumps(named(JOB))
            .replace('"task_id"', f'"{name}": "{OTHER}", "{name}": "{JOB}", "task_id"')
            .encode()
            for name in ("task_id", "taskId", "id", "task\\u005fid")
        ),
        json.dumps(named(JOB)).replace('{"task"', f'{{"task": {{"task_id": "{OTHER}"}}, "task"').encode(),
        {**named(JOB), "videos": [{"task_id": OTHER, "video_url": LINK}]},
        {**named(JOB), "extra": [[{"x": {"taskID": OTHER}}]]},
    ],
)
def test_an_answer_that_names_another_job_is_no_answer(body):
    call = query(JOB)
    good = call.read(reply_of(named(JOB)))
    assert good.videos == (Video(LINK),)
    with pytest.raises(KlingUnavailableError, match="for another job than") as caught:
        call.read(reply_of(body))
    assert caught.value.money is Money.RUNNING


def test_the_request_that_an_answer_repeats_may_name_another_job():
    debug = {"request_info": {"task_id": OTHER}}
    task = query(JOB).read(reply_of({**named(JOB), "extra": {"debug_info": debug}}))
    assert task.videos == (Video(LINK),)


@pytest.mark.parametrize("many", [[{}] * 60_000, [0] * 60_000, {str(number): 0 for number in range(60_000)}])
def test_an_answer_with_very_many_members_is_not_read(many):
    with pytest.raises(KlingUnavailableError):
        query(JOB).read(reply_of({**named(JOB), "more": many}))


def test_an_answer_that_is_not_read_is_not_built_to_be_shown():
    body = b'{"extra": {"request_info": [' + b"{}, " * 500_000 + b'{}], "more": "secret"}, "task": {}}'
    reply = reply_of(body)
    assert reply.text
    tracemalloc.start()
    try:
        with pytest.raises(KlingUnavailableError, match="request_info") as caught:
            query(JOB).read(reply)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "secret" not in str(caught.value)
    assert peak < len(body), "no more than a few copies of what is shown"


@pytest.mark.parametrize("info", ["x" * 200_000, [["{}"] * 9_000]])
def test_what_stands_behind_a_long_request_is_shown(info):
    with pytest.raises(KlingUnavailableError, match="E42"):
        query(JOB).read(reply_of({"extra": {"request_info": info}, "status": "E42"}))


@pytest.mark.parametrize("internal", ["internal-1", 17, "vid_0b7c3a52"])
def test_an_internal_id_in_a_video_does_not_hide_the_answer_that_names_our_job(internal):
    videos = [{"video_url": LINK, "task_id": internal}]
    for body in (
        {**named(JOB), "videos": videos},
        {"data": {**named(JOB), "videos": videos}},
        {"task_id": JOB, "status": "SUCCEED", "videos": videos},
        {**named(JOB, id=internal), "task_id": internal},
        {**named(JOB), "extra": {"task": {"id": internal}}},
    ):
        assert query(JOB).read(reply_of(body)).videos == (Video(LINK),)
    for body in (
        {"task": {"status": "TASK_STATUS_SUCCEED"}, "videos": videos},
        {**named(internal), "task_id": JOB},
        *({**named(JOB), "videos": [{**videos[0], "more": {"task_id": form(OTHER)}}]} for form in SPELT_IDS),
    ):
        with pytest.raises(KlingUnavailableError, match="for another job than"):
            query(JOB).read(reply_of(body))
    with pytest.raises(KlingUnavailableError, match="for another job than"):
        query("t-1").read(reply_of({**named("t-1"), "videos": videos}))


@pytest.mark.parametrize("reason", ["TASK_FAILED", "TASK_NOT_FOUND"])
@pytest.mark.parametrize(
    "more",
    [
        {"task_id": OTHER},
        {"metadata": {"task_id": OTHER}},
        {"error": {"task_id": OTHER}},
        {"message": f"task {OTHER} has ended"},
        {"message": f"no such task_id: '{OTHER}'"},
    ],
)
def test_an_error_about_another_job_does_not_end_the_wait(reason, more):
    with pytest.raises(KlingUnavailableError):
        query(JOB).read(reply_of({"reason": reason, "message": "m", **more}, 500))
    ours = {"reason": reason, "message": f"task {JOB} (trace {OTHER})", "metadata": {"task_id": JOB}}
    with pytest.raises(KlingError) as caught:
        query(JOB).read(reply_of(ours, 500))
    assert not isinstance(caught.value, KlingUnavailableError)


@pytest.mark.parametrize(
    "body",
    [
        '{"task": {"status": "TASK_STATUS_FAILED", "status": "TASK_STATUS_SUCCEED"}}',
        '{"task": {"status": "TASK_STATUS_SUCCEED", "status": "TASK_STATUS_FAILED"}}',
        f'{{"task": {json.dumps(named(JOB)["task"])}, "task": {{"status": "TASK_STATUS_FAILED"}}}}',
    ],
)
def test_an_answer_that_says_two_things_is_no_answer(body):
    with pytest.raises(KlingUnavailableError, match="TASK_STATUS_FAILED"):
        query(JOB).read(reply_of(body.encode()))


def test_a_member_that_is_repeated_word_by_word_is_read():
    body = json.dumps(named(JOB)).replace('"status"', '"status": "TASK_STATUS_SUCCEED", "status"')
    assert query(JOB).read(reply_of(body.encode())).videos == (Video(LINK),)


@pytest.mark.parametrize("value", [JOB, JOB.upper(), f" {JOB}\n", None, ""])
def test_an_answer_that_names_our_job_or_none_is_read(value):
    assert query(JOB).read(reply_of(named(value))).videos == (Video(LINK),)


def test_an_id_that_is_no_uuid_is_compared_with_its_case():
    with pytest.raises(KlingUnavailableError):
        query("aBcD1234").read(reply_of(named("abcd1234")))
    assert query("12345").read(reply_of(named(12345))).kling_task_id == "12345"


def test_a_status_beside_the_task_is_not_the_tasks():
    with pytest.raises(KlingUnavailableError):
        query(JOB).read(reply_of({"status": "success", "message": "ok"}))
    wrapped = {"status": "success", "data": {"task_id": JOB, "status": "TASK_STATUS_PROCESSING"}}
    assert query(JOB).read(reply_of(wrapped)).outcome is Outcome.UNFINISHED


@pytest.mark.parametrize("word", ["success", "FAILED", "TASK_STATUS_CANCELED"])
def test_two_states_of_one_job_are_no_answer(word):
    running = {"task": {"task_id": JOB, "status": "TASK_STATUS_PROCESSING"}}
    done = {"task": {"task_id": JOB, "status": "failed"}, "data": named(JOB)}
    for body in (
        {"task_id": JOB, "status": word, **running},
        {"data": {"task_id": JOB, "status": word, **running}},
        {"task": {**running["task"], "task_status": word}},
        {**named(JOB), "task_id": JOB, "status": "processing"},
        done,
    ):
        with pytest.raises(KlingUnavailableError):
            query(JOB).read(reply_of(body))


def test_the_object_task_describes_the_job_before_all_that_is_around_it():
    outer = {"task_id": JOB, "status": "ok", "reason": "r"}
    assert query(JOB).read(reply_of({**outer, **named(JOB)})).videos == (Video(LINK),)
    failed = query(JOB).read(
        reply_of({**outer, "status": "failed", **named(JOB, status="FAILED", reason="E42")})
    )
    assert (failed.outcome, failed.reason) == (Outcome.FAILED, "E42")


@pytest.mark.parametrize(
    ("body", "task_id"),
    [
        ({"task_id": 12345}, "12345"),
        ('{"task_id": 18446744073709551616}', "18446744073709551616"),
        ({"task_id": JOB, "task": {"status": "x"}}, JOB),
        ({"code": 0, "data": {"task_id": JOB}}, JOB),
        ({"task": {"task_id": JOB}}, JOB),
        ({"data": {"task": {"id": JOB}}}, JOB),
        ({"taskId": JOB}, JOB),
        (b"\xef\xbb\xbf" + json.dumps({"task_id": JOB}).encode(), JOB),
        (json.dumps({"task_id": JOB, "seed": float("nan")}).encode(), JOB),
        (json.dumps({"task_id": JOB}).encode("utf-16"), JOB),
    ],
)
def test_a_plain_id_is_used_however_it_is_spelt(body, task_id):
    body = body.encode() if isinstance(body, str) else body
    assert submit(VideoJob("m", {})).read(reply_of(body)) == task_id


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        ({"task_id": [JOB]}, 200, {}),
        ({"id": JOB}, 200, {}),
        ([{"task_id": JOB}], 200, {}),
        (json.dumps({"task_id": JOB}).encode()[:-2], 200, {}),
        (json.dumps({"task_id": JOB}).encode() + b"}}", 200, {}),
        ({"task_id": JOB, "data": {"task_id": OTHER}}, 200, {}),
        ({"task_id": JOB}, 500, {}),
        ({"task_id": JOB, "reason": "CREATE_TASK_FAILED"}, 500, {}),
        ({"task_id": JOB, "reason": "INVALID_REQUEST_BODY"}, 400, {}),
        (b"<html>" + b"x " * 5000 + JOB.encode(), 200, {}),
        ({"result_url": f"https://x/task-result?task_id={JOB}"}, 200, {}),
        (b"", 202, {"location": f"/v3/async/task-result?task_id={JOB}"}),
        (b"", 200, {"x-task-id": JOB}),
    ],
)
def test_an_id_that_is_not_plain_stands_in_the_error(body, status, headers):
    with pytest.raises(KlingSubmitUncertainError) as caught:
        submit(VideoJob("m", {})).read(reply_of(body, status, headers))
    assert JOB in caught.value.what


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    "body",
    [
        '{"task_id": "A", "task_id": "B"}',
        '{"task_id": "A", "taskId": "B"}',
        '{"task_id": "A", "message": "' + "x " * 2000 + '", "taskId": "B"}',
        '{"data": {"task_id": "A"}, "data": {"task_id": "B"}}',
        '{"task_id": "A", "tasks": [{"task_id": "B"}]}',
        '{"task": {"id": "A", "id": "B"}}',
        '{"task_id": "A", "reason": "INVALID_REQUEST_BODY", "metadata": {"task_id": "B"}}',
    ],
)
def test_ids_that_contradict_each_other_leave_a_submit_uncertain_and_are_shown(body, status):
    with pytest.raises(KlingSubmitUncertainError) as caught:
        submit(VideoJob("m", {})).read(reply_of(body.encode(), status))
    assert '"A"' in caught.value.what
    assert re.search(r'"B"|also holds B\b', caught.value.what)


@pytest.mark.parametrize(
    "info", ['a "secret" prompt', {"prompt": "secret"}, [["secret"]], {"a": {"b": ["}", "secret"]}}]
)
@pytest.mark.parametrize("cut", [None, -3, -20])
def test_the_prompt_in_an_answer_is_not_shown(info, cut):
    body = {
        "x": "kept",
        "extra": {"debug_info": {"request_info": info, "y": {"request_info": info}}},
        "z": "end",
    }
    for call in (query(JOB), submit(VideoJob("m", {}))):
        with pytest.raises(KlingError) as caught:
            call.read(reply_of(json.dumps(body).encode()[:cut]))
        assert "secret" not in str(caught.value)
        assert "kept" in str(caught.value)
        assert cut or "end" in str(caught.value)


def test_a_success_without_a_video_that_can_be_read_shows_the_answer():
    task = query(JOB).read(reply_of({**named(JOB), "videos": {"clip": "s3://bucket/clip.mp4"}}))
    assert "s3://bucket/clip.mp4" in str(failed_task(task))


@pytest.mark.parametrize(
    ("body", "status", "accepted"),
    [
        ({"reason": "TASK_NOT_FOUND"}, 404, True),
        ({"task": {"status": "TASK_STATUS_UNKNOWN"}}, 200, True),
        ({"task": None}, 200, True),
        ({"task": None, "reason": "INVALID_API_KEY"}, 200, False),
        ({"status": "ok"}, 200, False),
        ({"message": "welcome to the portal"}, 404, False),
        ({"reason": "INVALID_API_KEY"}, 403, False),
        ({"reason": "INVALID_API_KEY"}, 200, False),
        (b"", 403, False),
        (b"<html>", 200, False),
        (named(OTHER), 200, False),
        ({"reason": "TASK_NOT_FOUND", "metadata": {"task_id": OTHER}}, 404, False),
    ],
)
def test_a_probe_yields_nothing_only_where_the_key_is_good(body, status, accepted):
    call = probe()
    if accepted:
        assert call.read(reply_of(body, status)) is None
        return
    with pytest.raises(KlingError) as caught:
        call.read(reply_of(body, status))
    assert caught.value.kling_task_id is None
    assert "for job" not in str(caught.value)
