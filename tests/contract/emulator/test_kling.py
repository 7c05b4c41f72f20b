"""The emulator's Kling side: keys, ids, queries, lists, slots, bills and faults, in both designs."""

import base64

import pytest
from emulator_without_socket import KEY, call

from airflow_provider_kling.emulator import Call, Gateway, Settings

I2V, T2V = "/image-to-video/kling-3.0", "/text-to-video/kling-3.0"
LEGACY = "/v1/videos/image2video"
PICTURE = "https://p.example/a.png"
TEXT, FIRST = {"type": "prompt", "text": "a cat"}, {"type": "first_frame", "url": PICTURE}
LAST = {"type": "last_frame", "url": PICTURE}
FRAME = {"contents": [TEXT, FIRST]}
LEGACY_BODY = {"model_name": "kling-v3", "image": PICTURE, "prompt": "a cat"}


def gateway_with(**settings):
    return Gateway(Settings(render=False, queue_seconds=10, render_seconds=100, **settings))


@pytest.fixture
def gateway():
    return gateway_with()


async def submit(gateway, path=I2V, body=FRAME, client_id="", **settings):
    options = {"external_task_id": client_id} if client_id else {}
    if path.startswith("/v1/"):
        body = LEGACY_BODY | options | settings
    else:
        body = {**body, "settings": settings, "options": options}
    return await call(gateway, "POST", path, body)


async def made(gateway, *args, **known):
    """Submit, and return the task id."""
    status, answer = await submit(gateway, *args, **known)
    assert (status, answer["code"]) == (200, 0), answer
    return answer["data"].get("id") or answer["data"]["task_id"]


async def tasks(gateway, **query):
    status, answer = await call(gateway, "GET", "/tasks", **query)
    assert (status, answer["code"], answer["message"]) == (200, 0, "SUCCEED")
    return answer["data"]


async def task(gateway, task_id):
    (found,) = await tasks(gateway, task_ids=task_id)
    return found


def refusal(answered):
    status, answer = answered
    assert "data" not in answer
    assert answer["message"]
    assert answer["request_id"]
    return status, answer["code"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 1001),
        ({"Authorization": " "}, 1001),
        ({"Authorization": "Basic emulator-key"}, 1000),
        ({"Authorization": "emulator-key"}, 1000),
        ({"Authorization": "Bearer other"}, 1002),
        ({"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln"}, 1002),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", I2V), ("GET", "/tasks"), ("POST", LEGACY)])
async def test_a_bad_key_is_refused_on_every_path(gateway, method, path, headers, code):
    assert refusal(await call(gateway, method, path, FRAME, headers)) == (401, code)
    assert not gateway.jobs


async def test_a_submit_answers_with_digits_and_the_clients_id(gateway):
    status, answer = await submit(gateway, client_id="mine-1")
    data = answer["data"]
    assert (status, answer["code"], answer["message"], data["status"]) == (200, 0, "SUCCEED", "submitted")
    assert data["id"].isdigit()
    assert data["external_id"] == "mine-1"
    assert data["create_time"] == data["update_time"] == int(1000 * gateway.jobs[0].created_at)
    assert (gateway.jobs[0].client_id, gateway.jobs[0].model) == ("mine-1", "image-to-video/kling-3.0")
    assert "external_id" not in (await submit(gateway))[1]["data"]


async def test_two_ids_are_equal_as_floating_point_numbers(gateway):
    one, other = await made(gateway), await made(gateway)
    assert one != other
    assert float(one) == pytest.approx(float(other), rel=1e-15)
    assert int(one) > 2**53


@pytest.mark.parametrize("again", [I2V, T2V, LEGACY])
@pytest.mark.parametrize("seconds", [0, 1000])
async def test_a_client_id_is_taken_for_good_in_all_products(gateway, again, seconds):
    await made(gateway, client_id="mine")
    gateway.advance(seconds)
    body = FRAME if again == I2V else {"prompt": "a dog"}
    answered = await submit(gateway, again, body, client_id="mine")
    assert refusal(answered) == (400, 1201)
    assert "already exists" in answered[1]["message"]
    assert len(gateway.jobs) == 1


async def test_the_same_purchase_under_two_client_ids_is_noticed(gateway):
    for client_id in ("one", "two"):
        await made(gateway, client_id=client_id)
    assert list(gateway.double_payments.values()) == [2]


async def test_a_query_names_many_jobs_of_both_designs_in_no_order(gateway):
    paths = [I2V, LEGACY] * 5
    ids = [await made(gateway, path, client_id=f"mine-{n}") for n, path in enumerate(paths)]
    orders = [[t["id"] for t in await tasks(gateway, task_ids=",".join(ids))] for _ in range(3)]
    assert all(sorted(order) == ids for order in orders)
    assert any(order != ids for order in orders)
    by_client_id = await tasks(gateway, external_task_ids="mine-3,mine-4,other")
    assert {t["id"]: t["external_id"] for t in by_client_id} == {ids[3]: "mine-3", ids[4]: "mine-4"}


async def test_a_query_wants_one_kind_of_ids_and_at_most_twenty(gateway):
    ids = [await made(gateway) for _ in range(21)]
    for query in (
        {},
        {"task_ids": ids[0], "external_task_ids": "x"},
        {"task_ids": ""},
        {"task_ids": ",".join(ids)},
    ):
        assert refusal(await call(gateway, "GET", "/tasks", **query)) == (400, 1201)
    assert len(await tasks(gateway, task_ids=",".join(ids[:20]))) == 20


async def test_unknown_ids_are_missing_and_jobs_of_the_other_gateway_too(gateway):
    _, answer = await call(gateway, "POST", "/v3/async/kling-v3.0-pro-t2v", {"prompt": "a cat"})
    assert await tasks(gateway, task_ids=f"0,7,{answer['task_id']}") == []
    task_id = await made(gateway)
    status, answer = await call(gateway, "GET", "/v3/async/task-result", task_id=task_id)
    assert (status, answer["reason"]) == (404, "TASK_NOT_FOUND")
    assert len(await tasks(gateway, task_ids=f"0,{task_id}")) == 1


async def test_a_job_is_described_in_the_new_design(gateway):
    task_id = await made(gateway, duration=10, resolution="1080p")
    seen = []
    for seconds in (0, 10, 100):
        gateway.advance(seconds)
        seen.append(await task(gateway, task_id))
    assert [t["status"] for t in seen] == ["submitted", "processing", "succeeded"]
    assert not {"outputs", "billing"} & {*seen[0], *seen[1]}
    (output,) = seen[2]["outputs"]
    assert (output["type"], output["duration"]) == ("video", "10.041")
    assert output["url"].startswith("http")
    assert seen[2]["billing"] == [{"charge_type": "unit", "package_type": "video", "amount": "8"}]
    assert seen[0]["create_time"] == seen[2]["create_time"] < seen[1]["update_time"] < seen[2]["update_time"]


async def test_a_job_is_described_in_the_legacy_design_by_either_id(gateway):
    task_id = await made(gateway, LEGACY, client_id="mine", mode="pro", sound="on", duration="10")
    assert "task_result" not in (await call(gateway, "GET", f"{LEGACY}/{task_id}"))[1]["data"]
    gateway.advance(110)
    for id_ in (task_id, "mine"):
        data = (await call(gateway, "GET", f"/proxy/kling{LEGACY}/{id_}"))[1]["data"]
        assert (data["task_status"], data["final_unit_deduction"]) == ("succeed", "12")
        assert data["task_info"] == {"external_task_id": "mine"}
        assert data["task_result"]["videos"][0]["duration"] == "10.041"
    (listed,) = (await call(gateway, "GET", LEGACY, pageSize="1"))[1]["data"]
    assert listed["task_id"] == task_id
    assert (await call(gateway, "GET", LEGACY, pageNum="2"))[1]["data"] == []
    assert refusal(await call(gateway, "GET", f"{LEGACY}/7")) == (400, 1201)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/image-to-video/kling-9", 404, 1203),
        ("POST", "/image-to-video/", 404, 1203),
        ("GET", I2V, 404, 1202),
        ("DELETE", "/tasks", 404, 1202),
        ("POST", "/v1/videos/effects", 404, 1203),
        ("PUT", LEGACY, 404, 1202),
    ],
)
async def test_other_paths_and_methods_do_not_exist(gateway, method, path, status, code):
    assert refusal(await call(gateway, method, path, FRAME)) == (status, code)


async def test_a_list_has_pages(gateway):
    ids = [await made(gateway) for _ in range(5)]
    page, seen = {"limit": 2, "start_time": 0}, []
    while True:
        _, answer = await call(gateway, "POST", "/tasks", page)
        data = answer["data"]
        seen += [t["id"] for t in data["result"]]
        assert len(data["result"]) == data["count"]
        assert bool(data["next_cursor"]) == data["has_more"]
        if not data["has_more"]:
            break
        page = {"limit": 2, "cursor": data["next_cursor"]}
        await made(gateway)
    assert sorted(seen) == ids


async def test_an_empty_list_has_no_result(gateway):
    await made(gateway)
    now = int(1000 * gateway.now())
    for body in (
        {"start_time": str(now + 1000)},
        {"end_time": now - 100_000},
        {"filters": [{"key": "status", "values": ["failed"]}]},
        {"filters": [{"key": "product_type", "values": ["image"]}]},
    ):
        _, answer = await call(gateway, "POST", "/tasks", body)
        assert answer["data"] == {"count": 0, "has_more": False, "next_cursor": ""}
    _, answer = await call(
        gateway, "POST", "/tasks", {"filters": [{"key": "status", "values": ["submitted"]}]}
    )
    assert answer["data"]["count"] == 1


@pytest.mark.parametrize(
    "body",
    [{"limit": 0}, {"limit": 501}, {"start_time": "x"}, {"cursor": "x"}, {"filters": [{"key": "x"}]}, []],
)
async def test_a_list_refuses_what_it_does_not_know(gateway, body):
    assert refusal(await call(gateway, "POST", "/tasks", body)) == (400, 1201)


async def test_slots_are_counted_for_each_model_and_freed_at_the_end_only():
    gateway = gateway_with(slots=2)
    gateway.add_fault("job:fail,job=1", "job:stuck,job=2")
    await made(gateway)
    await made(gateway, LEGACY)
    assert refusal(await submit(gateway, client_id="mine")) == (429, 1303)
    assert await tasks(gateway, external_task_ids="mine") == []
    await made(gateway, "/image-to-video/kling-2.6")
    gateway.advance(109)
    assert refusal(await submit(gateway, T2V, {"prompt": "a cat"})) == (429, 1303)
    gateway.advance(1)
    await made(gateway, client_id="mine")
    assert refusal(await submit(gateway)) == (429, 1303), "the second job is stuck"


@pytest.mark.parametrize(
    ("path", "settings", "more", "units"),
    [
        (I2V, {}, [], "3"),
        (I2V, {"audio": "native"}, [], "4.5"),
        (I2V, {"resolution": "1080p", "duration": 7}, [], "5.6"),
        (I2V, {"resolution": "4k", "duration": 10, "audio": "native"}, [], "30"),
        ("/image-to-video/kling-3.0-turbo", {"duration": 3}, [], "2.4"),
        ("/image-to-video/kling-2.6", {}, [], "1.5"),
        ("/image-to-video/kling-2.6", {"audio": "native", "resolution": "1080p"}, [], "5"),
        (
            "/image-to-video/kling-2.6",
            {"audio": "native", "resolution": "1080p"},
            [{"type": "voice", "voice_id": "v", "id": "speaker"}],
            "6",
        ),
        ("/omni-video/kling-3.0-omni", {"audio": "native"}, [], "4"),
        ("/omni-video/kling-o1", {}, [{"type": "feature_video", "url": PICTURE}], "4.5"),
        (
            "/motion-control/kling-2.6",
            {"character_orientation": "image"},
            [{"type": "image", "url": PICTURE}, {"type": "video", "url": PICTURE}],
            "2.5",
        ),
    ],
)
async def test_a_bill_follows_the_table(gateway, path, settings, more, units):
    contents = [TEXT, *([] if path.startswith("/motion") else [FIRST]), *more]
    task_id = await made(gateway, path, {"contents": contents}, **settings)
    gateway.advance(110)
    assert (await task(gateway, task_id))["billing"][0]["amount"] == units


async def test_a_bill_can_be_in_money_and_a_failed_job_has_none():
    gateway = gateway_with(cash=True)
    gateway.add_fault("job:fail,job=2")
    ids = await made(gateway, duration=5, resolution="1080p"), await made(gateway)
    gateway.advance(110)
    (bill,) = (await task(gateway, ids[0]))["billing"]
    assert (bill["charge_type"], bill["currency"], bill["amount"]) == ("cash", "USD", "0.56")
    failed = await task(gateway, ids[1])
    assert (failed["status"], failed["message"]) == ("failed", "The model could not generate the video")
    assert not {"outputs", "billing"} & {*failed}


def png(prefix=""):
    return prefix + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


V26, OMNI, O1 = "/image-to-video/kling-2.6", "/omni-video/kling-3.0-omni", "/omni-video/kling-o1"
MOTION = "/motion-control/kling-3.0"
ELEMENT = {"type": "element", "element_id": "7", "id": "Zhang"}
BASE, FEATURE = ({"type": f"{kind}_video", "url": PICTURE} for kind in ("base", "feature"))
MOVES = [{"type": "image", "url": PICTURE}, {"type": "video", "url": PICTURE}]
REFUSED = {
    "a data URI": (I2V, [TEXT, {"type": "first_frame", "url": png("data:image/png;base64,")}], {}),
    "no picture": (I2V, [TEXT, {"type": "first_frame", "url": "no picture!"}], {}),
    "a broken picture": (I2V, [TEXT, {"type": "first_frame", "url": png()}], {}),
    "no first frame": (I2V, [TEXT], {}),
    "a last frame alone": (OMNI, [TEXT, LAST], {"aspect_ratio": "16:9"}),
    "an unknown type": (I2V, [TEXT, FIRST, {"type": "mask", "url": PICTURE}], {}),
    "two prompts": (I2V, [TEXT, TEXT, FIRST], {}),
    "an element without an id": (I2V, [TEXT, FIRST, {"type": "element", "element_id": "7"}], {}),
    "an id in an id": (I2V, [TEXT, FIRST, ELEMENT, {**ELEMENT, "id": "Zhang 2"}], {}),
    "a long prompt": (V26, [{"type": "prompt", "text": "x" * 2501}, FIRST], {}),
    "a text as duration": (I2V, [TEXT, FIRST], {"duration": "5"}),
    "seconds between 5 and 10": (V26, [TEXT, FIRST], {"duration": 7}),
    "an unknown resolution": (V26, [TEXT, FIRST], {"resolution": "4k"}),
    "sound with 720p": (V26, [TEXT, FIRST], {"audio": "native"}),
    "first and last frame with 720p": (V26, [TEXT, FIRST, LAST], {}),
    "a voice without sound": (V26, [TEXT, FIRST, {"type": "voice", "voice_id": "v", "id": "v"}], {}),
    "seconds of shots": (I2V, [{"type": "prompt", "text": "shot 1, 3, a; shot 2, 3, b;"}, FIRST], {}),
    "no aspect ratio": (OMNI, [TEXT], {}),
    "two videos": (OMNI, [TEXT, BASE, FEATURE], {"multi_shot": False}),
    "a video with sound": (OMNI, [TEXT, FEATURE], {"audio": "native"}),
    "a base video with a frame": (OMNI, [TEXT, BASE, FIRST], {}),
    "o1 with two frames and an element": (O1, [TEXT, FIRST, LAST, ELEMENT], {}),
    "o1 with a frame alone, 7 s": (O1, [TEXT, FIRST], {"duration": 7}),
    "motion without an orientation": (MOTION, MOVES, {}),
    "motion without a video": (MOTION, MOVES[:1], {"character_orientation": "image"}),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_wrong_body_is_refused(gateway, case):
    path, contents, settings = REFUSED[case]
    assert refusal(await submit(gateway, path, {"contents": contents}, **settings)) == (400, 1201)
    assert not gateway.jobs


@pytest.mark.parametrize(
    "body",
    [{}, {"prompt": 7}, {"prompt": " "}, {"prompt": "a cat", "settings": []}, {"prompt": "x" * 3073}, []],
)
async def test_a_wrong_body_of_text_to_video_is_refused(gateway, body):
    assert refusal(await call(gateway, "POST", T2V, body)) == (400, 1201)


@pytest.mark.parametrize(
    "changes",
    [
        {"image": None},
        {"image": png("data:image/png;base64,")},
        {"duration": 5},
        {"mode": "hd"},
        {"model_name": "kling-v9"},
        {"model_name": "kling-v2-6", "sound": "on"},
    ],
)
async def test_a_wrong_body_of_the_legacy_design_is_refused(gateway, changes):
    assert refusal(await submit(gateway, LEGACY, **changes)) == (400, 1201)


async def test_settings_of_another_model_are_noted_or_refused():
    path = "/image-to-video/kling-3.0-turbo"
    gateway, strict = gateway_with(), gateway_with(strict=True)
    await made(gateway, path, {**FRAME, "seed": 7}, audio="native")
    assert gateway.jobs[0].unknown_fields == ("seed", "settings.audio")
    assert refusal(await submit(strict, path, audio="native")) == (400, 1201)


async def test_a_further_model_can_be_accepted_with_any_inputs():
    gateway = gateway_with(models=("image-to-video/kling-4.0",))
    await made(gateway, "/image-to-video/kling-4.0", {"contents": [TEXT]}, mood="glad")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        *((f"code={code}", 429, code) for code in (1100, 1101, 1102, 1302, 1303, 1304)),
        ("code=5000", 500, 5000),
        ("code=5001", 503, 5001),
        ("code=5002", 504, 5002),
        ("code=1303/200", 200, 1303),
        ("rate-limit", 429, 1302),
        ("error=NOT_ENOUGH_BALANCE", 429, 1101),
        ("error=CREATE_TASK_FAILED", 500, 5000),
    ],
)
async def test_every_code_comes_on_demand(gateway, fault, status, code):
    gateway.add_fault(f"submit:{fault}", f"query:{fault}")
    assert refusal(await submit(gateway)) == (status, code)
    assert not gateway.jobs
    assert refusal(await call(gateway, "GET", "/tasks", task_ids=await made(gateway))) == (status, code)


async def test_a_lost_answer_leaves_a_job_that_is_hidden_for_a_while(gateway):
    gateway.add_fault("submit:cut,late,hidden=8")
    reply = await gateway.handle(
        "api", Call("POST", T2V, {}, KEY, b'{"prompt": "x", "options": {"external_task_id": "mine"}}')
    )
    assert reply.transfer.cut
    assert len(gateway.jobs) == 1
    assert await tasks(gateway, external_task_ids="mine") == []
    assert "result" not in (await call(gateway, "POST", "/tasks", {}))[1]["data"]
    assert refusal(await submit(gateway, client_id="mine")) == (400, 1201)
    gateway.advance(8)
    assert len(await tasks(gateway, external_task_ids="mine")) == 1


async def test_a_job_can_be_hidden_behind_a_good_answer(gateway):
    gateway.add_fault("submit:hidden=8")
    task_id, other = await made(gateway), await made(gateway)
    assert [t["id"] for t in await tasks(gateway, task_ids=f"{task_id},{other}")] == [other]
    gateway.advance(8)
    assert len(await tasks(gateway, task_ids=f"{task_id},{other}")) == 2


async def test_a_fault_of_one_job_shows_in_a_query_of_many(gateway):
    gateway.add_fault("job:says=dreaming,job=2", "query:numbers=float,job=1")
    ids = [await made(gateway), await made(gateway)]
    gateway.advance(110)
    known = {t["id"]: t for t in await tasks(gateway, task_ids=",".join(ids))}
    assert known[ids[1]]["status"] == "dreaming"
    assert known[ids[0]]["outputs"][0]["duration"] == 5.041
