"""What became of many orders: none is lost, none told twice, and the sum is right to the cent."""

import pytest

from airflow_provider_kling.errors import KlingInputError, KlingJobFailedError, KlingSubmitUncertainError
from airflow_provider_kling.operators.run_report import RunReport, name_of


def at(index, task_id="submit", **more):
    return {"task_id": task_id, "map_index": index, **more}


def request(index, usd=0.56, **more):
    return at(index, kling_task_id=f"job-{index}", name=f"{index}.png", estimated_cost_usd=usd, **more)


def reservation(index, usd, state="taken"):
    return at(index, reserved_at=1.0, usd=usd, state=state)


def video(index, **more):
    return at(index, "download", kling_task_id=f"job-{index}", path=f"/v/{index}.mp4", **more)


def test_orders_are_sorted_by_what_became_of_them():
    states = {("submit", n): "success" for n in range(6)} | {
        ("submit", 6): "failed",
        ("submit", 7): "skipped",
    }
    report = RunReport({**states, ("submit", 8): "upstream_failed"})
    bad = at(1, name="1.png", **KlingInputError("too small").to_dict() | {"kling_task_id": None})
    lost = at(4, "wait", **KlingJobFailedError("refused", kling_task_id="job-4").to_dict())
    report.add(
        requests=[request(0), request(2), request(3, usd=0.0), request(4), request(5)],
        errors=[bad, lost],
        videos=[video(0), video(2), video(3, reused=True)],
    )
    told = report.to_dict()
    names = {outcome: [order["name"] for order in told[outcome]] for outcome in ("made", "reused", "failed")}
    assert names == {
        "made": ["0.png", "2.png"],
        "reused": ["3.png"],
        "failed": ["1.png", "4.png", "submit[6]", "submit[8]"],
    }
    assert [order["name"] for order in told["skipped"]] == ["submit[7]"]
    assert [order["kling_task_id"] for order in told["unfinished"]] == ["job-5"]
    assert told["made"][0]["path"] == "/v/0.mp4"
    assert told["failed"][0] | {"why": "too small"} == told["failed"][0]
    assert told["failed"][1]["error"] == "KlingJobFailedError"
    assert "See its log" in told["failed"][2]["why"]
    assert told["estimated_cost_usd"] == 2.24
    assert told["maybe_charged_without_a_video"] == ["4.png", "5.png"]


def test_the_sum_has_no_error_of_binary_fractions():
    report = RunReport({})
    report.add(requests=[request(n, usd=0.1) for n in range(290)])
    assert report.to_dict()["estimated_cost_usd"] == 29.0


def test_what_retries_bought_counts_and_what_nobody_bought_does_not():
    report = RunReport({})
    report.add(
        requests=[request(0)],
        reservations=[
            reservation(0, "1.12"),
            reservation(1, "0.56", "withdrawn"),
            reservation(2, "0.56"),
            {},
        ],
    )
    assert report.to_dict()["estimated_cost_usd"] == 1.68


def test_a_price_that_is_not_known_is_counted_and_said():
    report = RunReport({})
    report.add(requests=[request(0), request(1, usd=None)], reservations=[reservation(1, None)])
    assert (report.to_dict()["estimated_cost_usd"], report.to_dict()["unknown_price"]) == (0.56, 1)
    assert report.lines()[0] == "2 unfinished; estimated at 0.56 USD, and 1 of unknown price."
    assert "| 1.png | unfinished | unknown |" in "\n".join(report.lines())


def test_a_job_that_may_exist_is_named_for_the_bill():
    report = RunReport({})
    report.add(errors=[at(-1, **KlingSubmitUncertainError("no answer").to_dict())])
    assert report.to_dict()["maybe_charged_without_a_video"] == ["submit"]


def test_a_video_that_came_after_an_error_is_made():
    report = RunReport({("submit", 0): "failed"})
    report.add([request(0)], [], [at(0, "wait", kling_task_id="job-0", **{"class": "X"})], [video(0)])
    assert [order["name"] for order in report.to_dict()["made"]] == ["0.png"]
    assert "X" not in "\n".join(report.lines())


def test_the_table_shows_each_order_on_one_line_whatever_its_words():
    report = RunReport({})
    report.add(
        requests=[request(0)], errors=[at(1, name="a|b.png", what="x\ny | z", money="m", **{"class": "K"})]
    )
    first, *table = report.lines()
    assert first == "1 failed, 1 unfinished; estimated at 0.56 USD."
    assert table[2:] == [
        "| 0.png | unfinished | 0.56 USD |  |",
        "| a\\|b.png | failed | 0.00 USD | K: x y \\| z m |",
    ]


def test_what_is_nothing_that_we_told_is_passed_over():
    report = RunReport({})
    report.add([None, "x", {}], ["x", None], [None], [{"path": "/v"}])
    assert report.lines() == ["no requests; estimated at 0.00 USD."]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"image": "s3://shop/shoes/red.png", "prompt": "It turns"}, "red.png"),
        ({"image": "https://s.example/a%20b.png?X-Amz-Signature=1"}, "a%20b.png"),
        ({"image": "<9000 characters, sha256 1>", "prompt": "It  turns\nslowly"}, "It turns slowly"),
        ({"image": "data:image/png;base64,xx", "end_image": "/p/end.png"}, "end.png"),
        ({"images": ["/p/one.png", "/p/two.png"]}, "one.png"),
        ({"images": [], "video": "https://s.example/cat.mp4"}, "cat.mp4"),
        ({"image": " ", "prompt": "x" * 80}, "x" * 60 + "…"),
        ({"prompt": 7}, ""),
        ({}, ""),
    ],
)
def test_an_order_is_named_by_its_picture_else_by_its_prompt(arguments, name):
    assert name_of(arguments) == name


def test_one_reused_job_may_answer_several_orders():
    report = RunReport({("v", 0): "success", ("v", 1): "success"})
    said = [{"task_id": "v", "map_index": at, "kling_task_id": "j", "name": f"n{at}"} for at in (0, 1)]
    requests = [{**one, "estimated_cost_usd": 0.0} for one in said]
    videos = [{**one, "path": f"/p{one['map_index']}", "reused": True} for one in said]
    report.add(requests, [], [], videos)
    assert [order["path"] for order in report.to_dict()["reused"]] == ["/p0", "/p1"]
    assert report.to_dict()["maybe_charged_without_a_video"] == []


def test_a_video_that_another_task_brought_home_is_told_beside_its_own_map_index():
    report = RunReport({("s", 0): "success", ("s", 1): "success"})
    said = [{"map_index": at, "kling_task_id": "j", "name": f"n{at}"} for at in (0, 1)]
    requests = [{**one, "task_id": "s", "estimated_cost_usd": 0.0} for one in said]
    videos = [{**one, "task_id": "d", "path": f"/p{one['map_index']}", "reused": True} for one in said]
    report.add(requests, [], [], videos)
    assert [order["path"] for order in report.to_dict()["reused"]] == ["/p0", "/p1"]


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        ("HTTPS://pictures.example/cat.png?X-Amz-Signature=secret", "cat.png"),
        ("https://pictures.example/cat.png#secret", "cat.png"),
        ("https://user:secret@pictures.example", "pictures.example"),
        (" https://pictures.example/cat.png;secret\n", "cat.png"),
        ("/data/who?.png", "who?.png"),
    ],
)
def test_a_name_has_nothing_of_a_url_that_may_not_be_shown(picture, name):
    assert name_of({"image": picture}) == name


def bill(index, units, usd, **more):
    items = [{"charge_type": "unit", "amount": units}]
    return at(index, "wait", kling_task_id=f"job-{index}", cost_usd=usd, billing=items, **more)


def test_the_bill_stands_beside_the_estimate_and_the_sum_is_right_to_the_cent():
    report = RunReport({})
    yuan = {**bill(3, "0", None), "billing": [{"charge_type": "cash", "amount": "3.92", "currency": "CNY"}]}
    free = bill(4, "0", 0.0)
    failed = [at(n, "wait", **KlingJobFailedError("no", kling_task_id=f"job-{n}").to_dict()) for n in (3, 4)]
    report.add(
        requests=[request(n) for n in range(6)],
        reservations=[reservation(0, "1.12")],
        errors=failed,
        videos=[video(0), video(1), video(2, reused=True)],
        bills=[
            bill(0, "4.5", 0.63),
            bill(1, "3", 0.42),
            bill(2, "4", 0.56),
            yuan,
            free,
            "nonsense",
            bill(99, "1", 0.14),
        ],
    )
    told = report.to_dict()
    assert (told["cost_usd"], told["estimated_cost_usd"]) == (1.05, 3.92)
    assert [(one["cost_usd"], one["billed"]) for one in told["made"]] == [
        (0.63, "0.63 USD (4.5 units)"), (0.42, "0.42 USD (3 units)")
    ]  # fmt: skip
    assert [one.get("cost_usd") for one in told["failed"]] == [None, 0.0]
    assert told["maybe_charged_without_a_video"] == ["3.png", "5.png"]
    assert "billed" not in told["reused"][0]
    lines = report.lines()
    assert lines[0].endswith("estimated at 3.92 USD; billed 1.05 USD (7.5 units and 3.92 CNY).")
    assert "| 0.png | made | 1.12 USD | 0.63 USD (4.5 units) | /v/0.mp4 |" in lines
    assert "| 3.png | failed | 0.56 USD | 3.92 CNY |" in "\n".join(lines)
    assert "0.png: made, estimated 1.12 USD, billed 0.63 USD (4.5 units)" in report.sentences()[0][1]


def test_without_a_bill_nothing_is_said_of_one():
    report = RunReport({})
    report.add(requests=[request(0)], videos=[video(0)])
    assert report.to_dict()["cost_usd"] is None
    assert "bill" not in "\n".join(report.lines())
