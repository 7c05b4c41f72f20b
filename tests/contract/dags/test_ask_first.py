"""The Dag that asks a person before it buys: the person sees the pictures and the estimated cost."""

import pytest
from airflow_fakes import connect
from example_dags import dag_module

pytestmark = pytest.mark.needs_airflow("3.2", "response_timeout of ApprovalOperator")

SAME = {"prompt": "It turns", "duration": 3, "sound": True, "target": "/v/"}


@pytest.fixture(scope="module")
def dag():
    return dag_module("kling_ask_first").dag


def offered(dag, *pictures):
    plan = dag.get_task("plan").python_callable
    requests = plan(params={"pictures": list(pictures), **SAME})
    return dag.get_task("offer").python_callable(requests)


def test_the_offer_shows_each_picture_with_its_estimate_and_the_sum(gateway, dag):
    offer = offered(dag, "s3://shop/lamp.png", "https://s.example/sofa.png?v=1")
    each, both = {"myrouter": (0.504, 1.008), "kling": (0.378, 0.756)}[gateway.spoken]
    assert offer["usd"] == both
    assert offer["body"].splitlines() == [
        f"2 videos, estimated at **{both} USD**.",
        "",
        "| picture | estimated |",
        "|---|---|",
        f"| lamp.png | {each} USD |",
        f"| ![sofa.png](https://s.example/sofa.png?v=1) | {each} USD |",
    ]


def test_the_offer_uses_the_connections_prices(gateway, dag, monkeypatch):
    model = {"myrouter": "kling-v3.0-pro-i2v", "kling": "kling-3.0"}[gateway.spoken]
    connect(gateway, monkeypatch, prices={model: 1})
    assert offered(dag, "a.png")["usd"] == 4.5


def test_what_was_approved_is_the_limit_and_nothing_is_bought_before(dag):
    videos = dag.get_task("video")
    assert "usd" in videos.partial_kwargs["max_run_cost_usd"]
    assert "ask" in videos.upstream_task_ids
