"""What the gallery shows of each state that a video can be in."""

import json
from difflib import SequenceMatcher

import pytest

from airflow_provider_kling.errors import Money
from airflow_provider_kling.gallery.cards import Instance, Run, cards_of, totals

SUBMIT, SENSOR, DOWNLOAD = "KlingSubmitOperator", "KlingTaskSensor", "KlingDownloadOperator"
ONE, FUNCTION = "KlingImageToVideoOperator", "DecoratedVideoOperator"


def request(job="job-1", cost=0.56, **more):
    inputs = {"prompt": "It waves", "duration": 5, "sound": True}
    return {
        "kling_task_id": job,
        "model": "m",
        "inputs": inputs,
        "estimated_cost_usd": cost,
        "name": "cat.png",
        **more,
    }


def video(job="job-1", **more):
    timings = {"submit_time_ms": 1000, "execute_time_ms": 3000, "complete_time_ms": 63000}
    return {"kling_task_id": job, "path": "/videos/cat.mp4", "reused": False, "timings": timings, **more}


def progress(job="job-1", status="TASK_STATUS_PROCESSING", **more):
    return {
        "kling_task_id": job,
        "status": status,
        "progress_percent": 40,
        "eta": 60,
        "seen_at": 1000.0,
        **more,
    }


def failure(kind, money, job="job-1"):
    return {
        "class": kind,
        "what": "It failed.",
        "money": money,
        "advice": "Do this.",
        "kling_task_id": job,
        "name": "n",
    }


def at(task_id, operator, state="success", map_index=-1, **xcoms):
    pushed = dict.fromkeys(xcoms, 1700000000.0)
    return Instance(task_id, map_index, state, operator, 1, 1600000000.0, xcoms, pushed)


def cards(*instances):
    return cards_of(Run("dag", "run", instances, conf={"image": "cat.png"}))


def card(*instances):
    (only,) = cards(*instances)
    return only


SUBMITTED = at("submit", SUBMIT, kling_request=request())


def three(wait="deferred", download="", wait_error=None, **xcoms):
    """Return the tasks of a video; what they have pushed goes to the wait, or to the download."""
    of_wait = {"kling_error": wait_error} if wait_error else {}
    if "kling_progress" in xcoms:
        of_wait["kling_progress"] = xcoms.pop("kling_progress")
    return SUBMITTED, at("wait", SENSOR, wait, **of_wait), at("download", DOWNLOAD, download, **xcoms)


RESERVED = {"state": "taken", "usd": "0.56"}
REFUSED = failure("KlingUnavailableError", Money.UNTOUCHED, None)
NO_SLOT = {"kling_task_id": "", "status": "WAITING_FOR_SLOT", "seen_at": 2.0}
REUSED = request(cost=0.0, reused={"path": "/a.mp4"})


@pytest.mark.parametrize(
    ("instances", "state"),
    [
        ([at("submit", SUBMIT, "running")], "submitting"),
        ([at("submit", SUBMIT, "deferred", kling_reservation=RESERVED)], "submitting"),
        ([at("submit", SUBMIT, "up_for_retry", kling_error=REFUSED)], "submitting"),
        ([at("submit", SUBMIT, "deferred", kling_progress=NO_SLOT)], "no_slot"),
        ([at("make", ONE, "running", kling_progress=NO_SLOT)], "no_slot"),
        ([at("make", ONE, "up_for_retry", kling_progress=NO_SLOT, kling_error=REFUSED)], "submitting"),
        ([at("make", ONE, "deferred", kling_progress=NO_SLOT, kling_request=request())], "waiting"),
        (three(), "waiting"),
        (three(kling_progress=progress(status="TASK_STATUS_QUEUED")), "queued"),
        (three(kling_progress=progress()), "rendering"),
        (three(kling_progress=progress(status="TASK_STATUS_SUCCEED")), "downloading"),
        (three(kling_progress=progress(job="an-earlier-job")), "waiting"),
        (three("success", "running"), "downloading"),
        (three("success", "success", kling_video=video()), "made"),
        (three("success", "success", kling_video=video(reused=True)), "reused"),
        (three("success", "success"), "gone"),
        ([SUBMITTED, at("wait", SENSOR)], "made"),
        ([at("submit", SUBMIT)], "gone"),
        ([at("make", ONE, "running")], "submitting"),
        ([at("make", ONE, "deferred", kling_request=request(), kling_progress=progress())], "rendering"),
        ([at("make", ONE, kling_request=request(), kling_video=video())], "made"),
        ([at("make", FUNCTION, kling_request=request(), kling_video=video())], "made"),
        ([at("make", "AnOwnOperator", kling_request=request(), kling_video=video())], "made"),
        ([at("make", ONE, kling_request=REUSED, kling_video=video(reused=True))], "reused"),
    ],
)
def test_the_state_of_a_video(instances, state):
    assert card(*instances)["state"] == state


def failed(form, kind, money):
    """Return the tasks of a video of which one has failed."""
    job = None if form.endswith("before") else "job-1"
    error = failure(kind, money, job) if kind else None
    xcoms = {**({"kling_error": error} if error else {}), **({"kling_request": request()} if job else {})}
    if "taken" in form:
        xcoms["kling_reservation"] = RESERVED
    return {
        "submit": [at("submit", SUBMIT, "failed", **xcoms)],
        "submit, before": [at("submit", SUBMIT, "failed", **xcoms)],
        "submit, taken, before": [at("submit", SUBMIT, "failed", **xcoms)],
        "no price": [at("make", ONE, "failed", kling_request=request(cost=None), kling_error=error)],
        "one task": [at("make", ONE, "failed", **xcoms)],
        "wait": three("failed", "upstream_failed", error),
        "soft_fail": three("skipped", "skipped"),
        "download": three("success", "failed", kling_error=error),
        "rescue": [at("wait", SENSOR, "failed", kling_error=error)],
    }[form]


@pytest.mark.parametrize(
    ("form", "kind", "money", "state", "action"),
    [
        ("submit, before", "KlingInputError", Money.UNTOUCHED, "failed", None),
        ("submit, taken, before", "KlingInputError", Money.UNTOUCHED, "failed", None),
        ("submit, before", "KlingBalanceError", Money.UNTOUCHED, "failed", None),
        ("submit, taken, before", "KlingBalanceError", Money.UNTOUCHED, "failed", "buy_again"),
        ("submit, taken, before", None, None, "uncertain", "rescue"),
        ("submit, before", "KlingSubmitUncertainError", Money.MAYBE, "uncertain", "rescue"),
        ("submit, before", None, None, "failed", None),
        ("submit", None, None, "failed", "rescue"),
        ("wait", "KlingWaitTimeoutError", Money.RUNNING, "failed", "clear_wait"),
        ("wait", "KlingAccessError", Money.RUNNING, "failed", "clear_wait"),
        ("wait", "KlingJobFailedError", Money.ENDED, "failed", "buy_again"),
        ("wait", "KlingModerationError", Money.ENDED, "failed", None),
        ("soft_fail", None, None, "failed", "clear_wait"),
        ("download", "KlingDownloadError", Money.PAID, "failed", "clear_download"),
        ("download", "KlingInputError", Money.PAID, "failed", "clear_download"),
        ("one task", "KlingWaitTimeoutError", Money.RUNNING, "failed", "clear_wait"),
        ("one task", "KlingDownloadError", Money.PAID, "failed", "clear_wait"),
        ("one task", "KlingJobFailedError", Money.ENDED, "failed", "buy_again"),
        ("one task", "KlingInputError", Money.ENDED, "failed", None),
        ("no price", "KlingJobFailedError", Money.ENDED, "failed", None),
        ("rescue", "KlingTaskNotFoundError", Money.UNAFFECTED, "failed", "clear_wait"),
        ("rescue", "KlingJobFailedError", Money.ENDED, "failed", "rescue"),
    ],
)
def test_what_helps_a_failed_video_and_a_free_step_comes_before_one_that_buys(
    form, kind, money, state, action
):
    found = card(*failed(form, kind, money))
    assert (found["state"], found["action"]) == (state, action)
    assert found["error"]["what"]


@pytest.mark.parametrize("state", ["skipped", "upstream_failed", "removed", "", "scheduled"])
def test_a_submit_that_has_not_begun_or_was_not_meant_has_no_card(state):
    assert cards(at("submit", SUBMIT, state)) == []


def test_a_video_is_told_with_its_request_its_times_its_cost_and_its_tasks():
    made = video(size=7, downloaded_at=1100.5, download_seconds=1.5, media={"width": 1280, "duration": 5.04})
    found = card(*three("success", "success", kling_video=made))
    expected = {
        "key": "dag/run/submit/-1", "name": "cat.png", "prompt": "It waves", "model": "m",
        "kling_task_id": "job-1", "duration_seconds": 5.0, "sound": True, "estimated_cost_usd": 0.56,
        "queued_seconds": 2.0, "rendered_seconds": 60.0,
        "download_seconds": 1.5, "downloaded_at": 1100.5, "path": "/videos/cat.mp4", "size": 7.0,
        "player": "kling/api/video/dag/run/download/-1", "trigger_conf": {"image": "cat.png"}, "run_cards": 1,
        "error": None, "started_at": 1700000000.0,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert {task["task_id"] for task in found["tasks"].values()} == {"submit", "wait", "download"}


def test_a_wait_tells_how_far_the_job_is_and_when_it_will_end():
    found = card(*three(kling_progress=progress()))
    assert (found["percent"], found["seen_at"], found["eta_at"]) == (40, 1000.0, 1060.0)
    assert card(*three(kling_progress=progress(eta=0, progress_percent=None)))["eta_at"] is None


def test_mapped_tasks_belong_together_by_their_job_and_not_by_their_map_index():
    submits = [
        at("submit", SUBMIT, map_index=n, kling_request=request(f"job-{n}", name=f"{n}.png"))
        for n in range(4)
    ]
    submits[1] = at(
        "submit", SUBMIT, "failed", 1, kling_error=failure("KlingInputError", Money.UNTOUCHED, None)
    )
    # The waits are mapped over the three jobs that there are.
    waits = [
        at("wait", SENSOR, "deferred", n, kling_progress=progress(job))
        for n, job in enumerate(["job-0", "job-2"])
    ]
    found = {card["map_index"]: card for card in cards(*submits, *waits, at("wait", SENSOR, "deferred", 2))}
    assert {n: card["state"] for n, card in found.items()} == {
        0: "rendering",
        1: "failed",
        2: "rendering",
        3: "waiting",
    }
    assert found[2]["tasks"]["wait"]["map_index"] == 1
    assert found[0]["name"] == "0.png"


def test_two_videos_of_one_run_keep_their_own_tasks_also_where_both_reuse_one_job():
    lines = []
    for name in ("cat", "dog"):
        lines += [
            at(f"{name}.submit", SUBMIT, kling_request=request(name="x", reused={"path": "/a"})),
            at(f"{name}.wait", SENSOR),
            at(f"{name}.download", DOWNLOAD, kling_video=video(path=f"/videos/{name}.mp4", reused=True)),
        ]
    found = cards(*lines)
    assert [card["path"] for card in found] == ["/videos/cat.mp4", "/videos/dog.mp4"]
    assert [card["tasks"]["wait"]["task_id"] for card in found] == ["cat.wait", "dog.wait"]


def test_a_wait_that_names_a_job_comes_before_one_that_names_none_yet():
    submits = [at("submit", SUBMIT, "success", n, kling_request=request(f"job-{n}")) for n in range(2)]
    begun = (
        at("wait", SENSOR, "deferred", 0),
        at("wait", SENSOR, "deferred", 1, kling_progress=progress("job-0")),
    )
    first, second = cards(*submits, *begun)
    assert (first["tasks"]["wait"]["map_index"], first["state"]) == (1, "rendering")
    assert (second["tasks"]["wait"], second["state"]) == (None, "waiting")


def test_of_several_videos_of_one_job_each_download_takes_the_nearest():
    reused = request(reused={"path": "/a.mp4"})
    submits = [at(name, SUBMIT, kling_request=reused) for name in ("submit_a_cat", "submit_b_dog")]
    made = [at(name, DOWNLOAD, kling_video=video(path=f"/{name}")) for name in ("get_dog", "store_cat")]
    assert [card["path"] for card in cards(*submits, *made)] == ["/store_cat", "/get_dog"]
    submits = [at("submit", SUBMIT, "success", n, kling_request=reused) for n in range(2)]
    made = at("download", DOWNLOAD, "success", 1, kling_video=video())
    assert [card["state"] for card in cards(*submits, made)] == ["waiting", "reused"]


@pytest.mark.parametrize("is_mapped", [True, False])
def test_the_time_to_match_tasks_grows_with_their_number_and_not_with_its_square(is_mapped, monkeypatch):
    compared = []

    class Counted(SequenceMatcher):
        def ratio(self):
            compared.append(self)
            return super().ratio()

    monkeypatch.setattr("airflow_provider_kling.gallery.cards.SequenceMatcher", Counted)
    if is_mapped:
        found = [at("submit", SUBMIT, "success", n, kling_request=request()) for n in range(100)]
        found += [at("wait", SENSOR, "deferred", n, kling_progress=progress()) for n in range(100)]
    else:
        found = [at(f"submit_{n}", SUBMIT, kling_request=request(f"job-{n}")) for n in range(100)]
        found += [at(f"wait_{n}", SENSOR, "scheduled") for n in range(100)]
    for card in cards(*found):
        submit, wait = card["tasks"]["submit"], card["tasks"]["wait"]
        assert submit["map_index"] == wait["map_index"]
        assert submit["task_id"].partition("_")[2] == wait["task_id"].partition("_")[2]
    assert len(compared) <= 20 * 20


def test_a_form_is_filled_with_the_whole_conf_of_a_run_or_not_at_all():
    instances = [SUBMITTED]
    for conf in ({"prompt": "a" * 5000}, {"prompt": "a\x00b"}, {"a": ["b" * 3000] * 10}, None, [], 7):
        assert cards_of(Run("dag", "run", instances, conf=conf))[0]["trigger_conf"] is None
    for conf in ({}, {"prompt": "a\nb", "more": [1, None, {"c": True}]}):
        assert cards_of(Run("dag", "run", instances, conf=conf))[0]["trigger_conf"] == conf


def test_a_card_tells_how_many_videos_its_run_buys():
    submits = [at("submit", SUBMIT, "success", n, kling_request=request(f"job-{n}")) for n in range(2)]
    rescue = at("download", DOWNLOAD, kling_video=video("of-another-run"))
    assert [card["run_cards"] for card in cards(*submits, rescue)] == [2, 2, 2]


def test_a_rescue_is_one_card_without_a_submit():
    made = at("download", DOWNLOAD, kling_video=video(model="m", submitted_at=900.0))
    found = card(at("wait", SENSOR, kling_progress=progress()), made)
    assert (found["state"], found["tasks"]["submit"], found["model"]) == ("made", None, "m")
    assert card(at("wait", SENSOR, "running"), at("download", DOWNLOAD, ""))["state"] == "waiting"
    error = failure("KlingTaskNotFoundError", Money.UNAFFECTED)
    failed = at("wait", SENSOR, "failed", kling_error=error), at("download", DOWNLOAD, "upstream_failed")
    assert card(*failed)["error"]["what"] == "It failed."


def test_a_cleared_submit_shows_its_new_job_and_what_the_earlier_one_cost():
    new = at("submit", SUBMIT, kling_request=request("job-2", earlier_cost_usd=0.56))
    wait, old = at("wait", SENSOR, "deferred"), at("download", DOWNLOAD, "", kling_video=video("job-1"))
    newer, older = cards(new, wait, old)
    assert (newer["kling_task_id"], newer["state"], newer["earlier_cost_usd"]) == ("job-2", "waiting", 0.56)
    assert (older["kling_task_id"], older["state"]) == ("job-1", "made")


def test_the_reservation_tells_what_earlier_jobs_cost_where_the_request_does_not():
    reserved = {"state": "taken", "usd": "1.12"}
    found = card(at("make", ONE, "deferred", kling_request=request(), kling_reservation=reserved))
    assert (found["estimated_cost_usd"], found["earlier_cost_usd"]) == (0.56, 0.56)
    lost = failure("KlingSubmitUncertainError", Money.MAYBE, None)
    found = card(at("make", ONE, "failed", kling_error=lost, kling_reservation=reserved))
    assert (found["estimated_cost_usd"], found["earlier_cost_usd"]) == (1.12, None)


def test_what_fails_and_names_no_job_is_no_part_of_a_video():
    summary = at(
        "summary", "KlingSummaryOperator", "failed", kling_error=failure("KlingJobFailedError", "", None)
    )
    assert card(SUBMITTED, summary)["tasks"]["wait"] is None
    assert cards(summary) == []
    own_sensor = at(
        "look", "AnOwnSensor", "failed", kling_error=failure("KlingWaitTimeoutError", Money.RUNNING)
    )
    assert card(SUBMITTED, own_sensor)["state"] == "failed"


def test_the_totals_tell_each_state_and_what_may_be_charged_without_a_video():
    submits = [
        at("a", SUBMIT, kling_request=request("a", cost=None)),
        at("b", ONE, kling_request=request("b"), kling_video=video("b")),
        at(
            "c",
            ONE,
            "failed",
            kling_request=request("c"),
            kling_error=failure("KlingJobFailedError", Money.ENDED, "c"),
        ),
        at("d", ONE, "failed", kling_error=failure("KlingSubmitUncertainError", Money.MAYBE, None)),
        at("e", ONE, "failed", kling_error=failure("KlingInputError", Money.UNTOUCHED, None)),
        at("f", ONE, "failed", kling_reservation=RESERVED),
        at("g", SUBMIT),
    ]
    assert totals(cards(*submits)) == {
        "made": 1, "running": 1, "failed": 4, "reused": 0, "gone": 1, "maybe_charged": 3,
        "estimated_cost_usd": 1.68,
        "cost_usd": None, "unknown_price": 1,
    }  # fmt: skip


HOSTILE = [
    None,
    {"a": [float("nan"), {"b": float("inf")}]},
    7,
    -1,
    "x",
    "\x00\ud800\u202e",
    [],
    [[]],
    {},
    {"a": {}},
    True,
    1e308,
    float("inf"),
    10**400,
    "9" * 5000,
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("operator", [ONE, SENSOR, "AForeignOperator"])
def test_any_task_can_push_anything_under_our_keys(operator, value):
    keys = (
        "kling_request",
        "kling_video",
        "kling_progress",
        "kling_error",
        "kling_reservation",
        "kling_task_id",
    )
    for whole in (dict.fromkeys(keys, value), *({key: dict.fromkeys(FIELDS, value)} for key in keys)):
        for state in ("success", "failed", "running", ""):
            found = cards(at("task", operator, state, **whole))
            text = json.dumps(found, allow_nan=False)
            assert "\\u0000" not in text
            assert "\\ud800" not in text
            assert len(text) < 100_000
            totals(found)


FIELDS = (
    *(
        "kling_task_id",
        "path",
        "reused",
        "status",
        "class",
        "what",
        "money",
        "name",
        "model",
        "inputs",
        "media",
        "timings",
    ),
    *(
        "timings",
        "usd",
        "state",
        "estimated_cost_usd",
        "earlier_cost_usd",
        "eta",
        "progress_percent",
        "seen_at",
        "size",
    ),
)


def test_long_texts_and_large_objects_are_cut_off():
    inputs = {"prompt": "a" * 100_000, "extra": ["x" * 1000] * 100}
    found = card(
        at("make", ONE, kling_request=request(inputs=inputs), kling_video=video(path="/" + "b" * 10_000))
    )
    assert len(json.dumps(found)) < 15_000


def bill(units="3", usd=0.42, job="job-1", **item):
    item = item or {"charge_type": "unit", "amount": units}
    return {"kling_task_id": job, "client_id": "", "cost_usd": usd, "billing": [item]}


def test_a_card_shows_what_the_gateway_says_that_the_job_has_cost():
    waited = at("wait", SENSOR, kling_bill=bill())
    made = card(SUBMITTED, waited, at("download", DOWNLOAD, kling_video=video()))
    assert (made["cost_usd"], made["billed"], made["estimated_cost_usd"]) == (
        0.42,
        "0.42 USD (3 units)",
        0.56,
    )
    assert totals([made, made])["cost_usd"] == 0.84
    stored = card(SUBMITTED, at("wait", SENSOR), at("download", DOWNLOAD, kling_video=video() | bill()))
    assert stored["cost_usd"] == 0.42


def test_a_card_shows_another_currency_as_it_is():
    yuan = bill(usd=None, charge_type="cash", amount="3.92", currency="CNY")
    made = card(SUBMITTED, at("wait", SENSOR, kling_bill=yuan), at("download", DOWNLOAD, kling_video=video()))
    assert (made["cost_usd"], made["billed"]) == (None, "3.92 CNY")


def test_the_bill_of_another_job_and_of_a_reused_video_is_not_shown():
    earlier = at("wait", SENSOR, kling_bill=bill(job="job-0"))
    assert card(SUBMITTED, earlier, at("download", DOWNLOAD, kling_video=video()))["cost_usd"] is None
    reused = card(
        SUBMITTED, at("wait", SENSOR), at("download", DOWNLOAD, kling_video={**bill(), **video(reused=True)})
    )
    assert reused["cost_usd"] is None


def test_a_failed_job_whose_bill_is_zero_is_not_perhaps_charged():
    ended = failure("KlingJobFailedError", Money.ENDED)
    for usd, perhaps in ((0.0, 0), (0.42, 1)):
        lost = card(SUBMITTED, at("wait", SENSOR, "failed", kling_error=ended, kling_bill=bill("0", usd)))
        assert (lost["cost_usd"], totals([lost])["maybe_charged"]) == (usd, perhaps)
