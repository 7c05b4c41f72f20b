"""What Kling's own API, or a proxy before it, answers ends in the same way for every operator."""

import json
from functools import partial

import hostile_queries
import pytest
from hostile_gateway import (
    CLOSE,
    KEY,
    KLING_JOB,
    KLING_OTHER,
    RESET,
    http,
    json_http,
    kling_task,
    kling_tasks,
)
from hostile_queries import ACCESS, FAILED, RIGHT, TIMED_OUT, UNAVAILABLE, WRONG
from hostile_runs import DONE, QUERY_WAYS, SUBMIT_WAYS, Story, play
from hostile_spellings import SPELLINGS
from kling_codes import CODES, DOCUMENTED

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingNoSlotError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)

PAGE = http(b"<html>Sign in</html>", 200, "Content-Type: text/html")


def story(*answers, **more):
    return Story(answers, job=KLING_JOB, **more)


passes = partial(hostile_queries.passes, job=KLING_JOB)
never_ends = partial(hostile_queries.never_ends, job=KLING_JOB)


def final(answer, ends, money=Money.RUNNING, **more):
    return hostile_queries.final(answer, ends, money, job=KLING_JOB, **more)


def tasks(*rows, **more):
    return json_http(kling_tasks(*rows, **more))


def done(**more):
    return tasks(kling_task(link=RIGHT, **more))


def refusal(code, status, message="It was not to be."):
    return json_http({"code": code, "message": message, "request_id": "r-17"}, status)


def of_code(code, status, kind):
    if kind is KlingUnavailableError:
        return never_ends(refusal(code, status), shows=str(code))
    if (code, status, kind) == (1005, 401, KlingAccessError):  # not documented: it may pass
        return final(refusal(code, status), (*ACCESS, *TIMED_OUT), download=(*ACCESS, *UNAVAILABLE))
    return final(refusal(code, status), (kind.__name__,), shows=str(code))


PASSING = [row for row in CODES if row[3] is KlingUnavailableError]
STORIES = {
    **{f"{code} with {status}": of_code(code, status, kind) for code, status, _, kind in CODES},
    **{f"{code} with 200": of_code(code, 200, kind) for code, _, _, kind in DOCUMENTED},
    **{f"{code} with {status}, twice": passes(refusal(code, status)) for code, status, *_ in PASSING},
    "a busy gateway that asks for a pause": passes(
        json_http({"code": 1302, "message": "m"}, 429, "Retry-After: 7"), download=(DONE, *UNAVAILABLE)
    ),
    "a page of a proxy": passes(PAGE),
    "a page of a proxy for ever": never_ends(PAGE),
    **{f"{status} bare": passes(http(b"", status)) for status in (401, 403, 404, 429, 500, 502, 503, 504)},
    **{f"{status} bare, for ever": never_ends(http(b"", status)) for status in (400, 404, 429, 502, 503)},
    **{
        f"{status} bare, for ever": final(
            http(b"", status), (*ACCESS, *TIMED_OUT), download=(*ACCESS, *UNAVAILABLE)
        )
        for status in (401, 403, 407)
    },
    "not known": final(tasks(), ("KlingTaskNotFoundError",), Money.UNAFFECTED),
    "not known at first": story(tasks(), tasks()),
    "another job": never_ends(tasks(kling_task(kling_task_id=KLING_OTHER, link=WRONG))),
    "another job, twice": passes(tasks(kling_task(kling_task_id=KLING_OTHER, link=WRONG))),
    "another job has failed": passes(tasks(kling_task("failed", kling_task_id=KLING_OTHER))),
    "another job beside ours": story(
        tasks(kling_task(kling_task_id=KLING_OTHER, link=WRONG), kling_task(link=RIGHT)), for_ever=True
    ),
    "the id is missing": passes(tasks(kling_task(kling_task_id=..., link=WRONG))),
    "the id lost its last digits": passes(tasks(kling_task(kling_task_id=float(KLING_JOB), link=WRONG))),
    "the id is a number": story(tasks(kling_task(kling_task_id=int(KLING_JOB), link=RIGHT)), for_ever=True),
    "two states": passes(tasks(kling_task("failed"), kling_task(link=WRONG))),
    "two states in one job": passes(tasks(kling_task(link=WRONG, task_status="processing"))),
    "a key twice": passes(
        json_http(json.dumps(kling_tasks(kling_task())).replace('"id"', '"id": "7", "id"'))
    ),
    "a good answer with a bad code": passes(tasks(kling_task(link=WRONG), code=5000)),
    "a good answer without a code": passes(tasks(kling_task(link=WRONG), code=None)),
    "a good answer with 500": passes(json_http(kling_tasks(kling_task(link=WRONG)), 500)),
    **{
        f"data {data!r}": passes(json_http({"code": 0, "data": data}))
        for data in (None, {}, "x", [None], [[]])
    },
    "of the legacy design": story(
        tasks(
            {
                "task_id": KLING_JOB,
                "task_status": "succeed",
                "task_result": {"videos": [{"id": "7", "url": RIGHT, "duration": "5"}]},
            }
        ),
        for_ever=True,
    ),
    "an unknown word": passes(tasks(kling_task("dreaming", link=WRONG))),
    "an unknown word for ever": never_ends(tasks(kling_task("dreaming"))),
    "a cancelled job is no word of Kling's": never_ends(tasks(kling_task("canceled"))),
    "failed": final(tasks(kling_task("failed", message="E42")), FAILED, Money.ENDED, shows="E42"),
    "moderated": final(
        tasks(kling_task("failed", message="risk control E42")),
        ("KlingModerationError",),
        Money.ENDED,
        shows="E42",
    ),
    "a video that is not yet named": story(tasks(kling_task()), tasks(kling_task(outputs=[]))),
    "no video": final(tasks(kling_task(outputs=[])), FAILED, Money.ENDED),
    "a picture for a video": final(
        tasks(kling_task(outputs=[{"type": "image", "url": WRONG}])), FAILED, Money.ENDED
    ),
    "only the copy with a watermark": final(
        tasks(kling_task(outputs=[{"type": "video", "url": "", "watermark_url": WRONG}])), FAILED, Money.ENDED
    ),
    "odd numbers": story(
        done(create_time="soon", update_time=None, billing=[{"amount": "x"}]), for_ever=True
    ),
}
for how, spell in SPELLINGS.items():
    words = f"E42 {spell(KEY)}"
    STORIES |= {
        f"{how} in a refusal": final(refusal(1002, 401, words), ACCESS, shows="E42"),
        f"{how} in the reason of a failure": final(
            tasks(kling_task("failed", message=words)), FAILED, Money.ENDED, shows="E42"
        ),
        f"{how} in the status": passes(tasks(kling_task(words))),
        f"{how} as the id": passes(tasks(kling_task(kling_task_id=words))),
        f"{how} in every text of a success": story(
            done(message=words, external_id=words, billing=[{"amount": "1", "charge_type": words}]),
            for_ever=True,
        ),
        f"{how} as videos that are none": final(tasks(kling_task(outputs=words)), FAILED, Money.ENDED),
    }


@pytest.mark.parametrize("dialect", ["kling"], indirect=True)
@pytest.mark.parametrize("name", STORIES)
def test_an_answer_of_kling_ends_in_the_same_way_for_every_operator(
    dialect, hostile, clock, logged, tmp_path, name
):
    problems = play(STORIES[name], "query", QUERY_WAYS, hostile, clock, logged, tmp_path)
    assert not problems, "\n".join(problems)


# --- answers to submits

BODY = json.dumps({"code": 0, "data": kling_task("submitted")}).encode()
UNKNOWN = {
    **{
        f"{code} with {status}": refusal(code, status)
        for code, status, kind, _ in CODES
        if kind is KlingSubmitUncertainError
    },
    **{f"{status} bare": http(b"", status) for status in (200, 302, 400, 404, 429, 500, 502, 503, 504)},
    "a page of a proxy": PAGE,
    "nothing": (CLOSE,),
    "reset in the body": (http(BODY[:40], length=len(BODY)), RESET),
    "cut off": (http(BODY[:-2], length=len(BODY)), CLOSE),
    "another id of ours": json_http({"code": 0, "data": kling_task("submitted", external_id="another")}),
    "an id that is none": json_http({"code": 0, "data": kling_task("submitted", kling_task_id=8.9e17)}),
    "a good answer with 500": http(BODY, 500),
    "no code": json_http({"data": kling_task("submitted")}),
    "taken": refusal(1201, 400, "external_task_id already exists"),
}
REFUSED = [
    (code, status, kind)
    for code, status, kind, _ in CODES
    if kind not in (KlingSubmitUncertainError, KlingUnavailableError)
]
REFUSED = [row for row in REFUSED if row[2] is not KlingNoSlotError]


@pytest.mark.parametrize("dialect", ["kling"], indirect=True)
@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_a_submit_of_unknown_outcome_ends_with_one_job(dialect, hostile, clock, logged, tmp_path, name, made):
    told = story(UNKNOWN[name], makes_jobs=made)
    problems = play(told, "submit", SUBMIT_WAYS, hostile, clock, logged, tmp_path)
    assert not problems, "\n".join(problems)
    assert len(hostile.client_ids) == 1
    assert hostile.count("submit") == (1 if made else 2)


@pytest.mark.parametrize("dialect", ["kling"], indirect=True)
@pytest.mark.parametrize(("code", "status", "kind"), REFUSED)
def test_a_refused_submit_buys_nothing(dialect, hostile, clock, logged, tmp_path, code, status, kind):
    told = final(refusal(code, status), (kind.__name__,), Money.UNTOUCHED, shows=str(code))
    problems = play(told, "submit", SUBMIT_WAYS, hostile, clock, logged, tmp_path)
    assert not problems, "\n".join(problems)
    assert not hostile.client_ids
    assert hostile.count("submit") == 1
