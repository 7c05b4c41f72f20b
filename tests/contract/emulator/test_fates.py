"""Faults of queries and jobs, and how faults are written."""

from pathlib import Path

import pytest
from emulator_without_socket import call

from airflow_provider_kling.emulator import Fault, Gateway, Settings
from airflow_provider_kling.emulator.fault_effects import EFFECTS

MANUAL = Path(__file__).parents[3] / "docs" / "emulator.md"
SUCCEED = "TASK_STATUS_SUCCEED"


@pytest.fixture
def gateway():
    return Gateway(Settings(render=False, queue_seconds=0, render_seconds=0))


async def submit(gateway, prompt="a cat"):
    """Submit a job, and give a way to ask about it."""
    _, known = await call(gateway, "POST", "/v3/async/kling-v3.0-pro-t2v", {"prompt": prompt})

    async def ask():
        return (await call(gateway, "GET", "/v3/async/task-result", **known))[1]

    return ask


async def test_a_success_can_come_without_videos_for_a_while(gateway):
    ask = await submit(gateway)
    gateway.add_fault("query:empty,times=2")
    answers = [await ask() for _ in range(3)]
    assert {answer["task"]["status"] for answer in answers} == {SUCCEED}
    assert [len(answer["videos"]) for answer in answers] == [0, 0, 1]


@pytest.mark.parametrize(
    ("fate", "status", "reason"),
    [
        ("fail", "TASK_STATUS_FAILED", "The model could not"),
        ("fail=moderation", "TASK_STATUS_FAILED", "moderation"),
        ('fail="no, not this"', "TASK_STATUS_FAILED", "no, not this"),
        ("cancel", "TASK_STATUS_CANCELED", ""),
    ],
)
async def test_a_job_can_end_badly_and_stays_so(gateway, fate, status, reason):
    gateway.add_fault(f"job:{fate},match=dog")
    ask, ask_other = await submit(gateway, "a dog"), await submit(gateway, "a cat")
    for _ in range(2):
        answer = await ask()
        assert (answer["task"]["status"], answer["videos"]) == (status, [])
        assert reason in answer["task"]["reason"]
    assert (await ask_other())["task"]["status"] == SUCCEED


async def test_a_failure_shows_only_at_the_end_of_the_job(gateway):
    gateway.add_fault("job:fail,queue=5,render=5")
    ask = await submit(gateway)
    seen = []
    for seconds in (0, 5, 5):
        gateway.advance(seconds)
        seen.append((await ask())["task"]["status"].removeprefix("TASK_STATUS_"))
    assert seen == ["QUEUED", "PROCESSING", "FAILED"]


async def test_the_next_two_jobs_can_fail_and_the_third_does_not(gateway):
    gateway.add_fault("job:fail,times=2")
    asks = [await submit(gateway) for _ in range(3)]
    seen = [(await ask())["task"]["status"].removeprefix("TASK_STATUS_") for ask in reversed(asks)]
    assert seen == ["SUCCEED", "FAILED", "FAILED"]


async def test_a_job_can_be_stuck_at_99_percent_for_ever(gateway):
    gateway.add_fault("job:stuck")
    ask = await submit(gateway)
    gateway.advance(1e6)
    task = (await ask())["task"]
    assert (task["status"], task["progress_percent"]) == ("TASK_STATUS_PROCESSING", 99)


async def test_a_status_can_be_unknown(gateway):
    ask = await submit(gateway)
    gateway.add_fault("query:says=TASK_STATUS_DREAMING")
    assert [(await ask())["task"]["status"] for _ in range(2)] == ["TASK_STATUS_DREAMING", SUCCEED]


@pytest.mark.parametrize(
    ("form", "progress", "ttl"), [("float", 100.0, 3600.0), ("text", "100", "3600"), ("blank", "", "")]
)
async def test_numbers_can_have_other_types(gateway, form, progress, ttl):
    ask = await submit(gateway)
    gateway.add_fault(f"query:numbers={form}")
    answer = await ask()
    found = answer["task"]["progress_percent"], answer["videos"][0]["video_url_ttl"]
    assert found == (progress, ttl)
    assert list(map(type, found)) == [type(progress), type(ttl)]


async def test_numbers_can_be_missing_and_a_ttl_can_be_wrong(gateway):
    ask = await submit(gateway)
    gateway.add_fault("query:numbers=missing", "query:ttl=0")
    answer = await ask()
    assert not {"progress_percent", "eta", "video_url_ttl"} & {*answer["task"], *answer["videos"][0]}
    assert (await ask())["videos"][0]["video_url_ttl"] == "0"


async def test_a_job_can_be_invisible_at_first(gateway):
    gateway.add_fault("job:invisible=60")
    ask = await submit(gateway)
    assert (await ask())["reason"] == "TASK_NOT_FOUND"
    gateway.advance(60)
    assert (await ask())["task"]["status"] == SUCCEED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cut",
        "submit:",
        "submit:times=2",
        "query:cut,late",
        "fly:cut",
        "submit:explode",
        "submit:fail",
        "query:render=3",
        "query:numbers=roman",
    ],
)
def test_an_impossible_fault_is_refused(text):
    with pytest.raises(ValueError, match=r":"):
        Fault.parse(text)


@pytest.mark.parametrize("word", EFFECTS)
def test_every_fault_is_in_the_documents(word):
    assert f"`{word}" in MANUAL.read_text()
