"""Who sees which videos: Airflow's auth manager decides."""

import pytest


@pytest.fixture(autouse=True)
def two_dags(gallery):
    for dag_id in ("shop", "other"):
        request = {
            "kling_task_id": f"job-{dag_id}",
            "model": "kling-v3.0-pro-i2v",
            "inputs": {"prompt": dag_id},
        }
        gallery.add("submit", dag_id=dag_id, operator="KlingSubmitOperator", kling_request=request)


def seen_by(gallery, user, **parameters):
    return {card["dag_id"] for card in gallery.videos(user, **parameters)["cards"]}


def test_an_admin_and_a_viewer_see_all_dags_and_only_the_admin_may_clear_and_trigger(gallery):
    assert seen_by(gallery, "ada") == seen_by(gallery, "vera") == {"shop", "other"}
    for right in ("can_edit", "can_trigger"):
        assert {card[right] for card in gallery.videos("ada")["cards"]} == {True}
        assert {card[right] for card in gallery.videos("vera")["cards"]} == {False}


def test_a_user_sees_only_the_dags_that_he_may_read(gallery):
    assert seen_by(gallery, "otto") == {"other"}
    assert seen_by(gallery, "otto", dag_id="shop") == set()
    assert seen_by(gallery, "otto", task="shop/r1/submit/-1") == set()
    assert gallery.videos("otto")["head"]["dags"] == ["other"]


@pytest.mark.parametrize("path", ["videos", "video/shop/r1/download/-1"])
def test_without_a_login_there_is_no_data(gallery, path):
    assert gallery.get(f"/kling/api/{path}", user=None).status_code == 401
    wrong = {"Authorization": "Bearer x"}
    assert gallery.get(f"/kling/api/{path}", user=None, headers=wrong).status_code in (401, 403)


def test_the_page_itself_needs_no_login_and_shows_no_source(gallery):
    assert gallery.get("/kling/", user=None).status_code == 200
    script = gallery.get("/kling/www/gallery.js?in=nav", user=None)
    assert script.headers["content-type"].startswith("text/javascript")
    for path in ("www/../gallery/app.py", "www/%2e%2e/plugin.py", "docs", "openapi.json"):
        assert gallery.get(f"/kling/{path}", user=None).status_code == 404
