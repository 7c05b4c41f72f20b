"""The buttons in Airflow's UI."""

from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from airflow_provider_kling.links import KlingGalleryLink, KlingRunGalleryLink, KlingVideoLink
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
    KlingSummaryOperator,
)
from airflow_provider_kling.plugin import URL_ROUTES
from airflow_provider_kling.sensors import KlingTaskSensor


def ti(map_index=-1, run_id="manual__2026-11-27T23:33:18+00:00", **pushed):
    key = {"dag_id": "films.é", "run_id": run_id, "task_id": "group.wait", "map_index": map_index}
    return SimpleNamespace(**key, xcom_push=lambda key, value: pushed.update({key: value}), pushed=pushed)


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        ("http://airflow.example:8080", "http://airflow.example:8080"),
        ("https://airflow.example/team/af/", "https://airflow.example/team/af"),
    ],
)
@pytest.mark.parametrize(("map_index", "mapped"), [(-1, ""), (0, "/mapped/0"), (12, "/mapped/12")])
def test_the_gallery_button_leads_to_the_tab_of_its_task_instance(
    monkeypatch, base_url, root, map_index, mapped
):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    address = KlingGalleryLink().get_link(None, ti_key=ti(map_index))
    assert address == (
        f"{root}/dags/films.%C3%A9/runs/manual__2026-11-27T23%3A33%3A18%2B00%3A00/tasks/group.wait"
        f"{mapped}/plugin/{URL_ROUTES['task_instance']}"
    )


def test_the_summarys_button_leads_to_the_gallery_of_its_run(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/team/af/")
    (link,) = KlingSummaryOperator.operator_extra_links
    address = link.get_link(None, ti_key=ti())
    assert link == KlingRunGalleryLink()
    assert address == (
        "https://airflow.example/team/af/dags/films.%C3%A9/runs/manual__2026-11-27T23%3A33%3A18%2B00%3A00"
        f"/plugin/{URL_ROUTES['dag_run']}"
    )


def test_an_odd_run_id_stays_one_part_of_the_address():
    address = KlingGalleryLink().get_link(None, ti_key=ti(run_id="a/b?c#d e"))
    assert "?" not in address
    assert unquote(address.split("/")[6]) == "a/b?c#d e"


def test_the_gallery_button_is_shown_while_the_task_runs():
    instance = ti()
    KlingGalleryLink().show(instance)
    assert instance.pushed == {"kling_gallery_link": KlingGalleryLink().get_link(None, ti_key=instance)}


def test_each_task_has_the_gallery_button():
    has = {
        operator: [link.name for link in operator.operator_extra_links]
        for operator in (
            KlingSubmitOperator,
            KlingTaskSensor,
            KlingDownloadOperator,
            KlingImageToVideoOperator,
            KlingSummaryOperator,
        )
    }
    assert has == {
        KlingSubmitOperator: ["Kling gallery"],
        KlingTaskSensor: ["Kling video", "Kling gallery"],
        KlingDownloadOperator: ["Kling gallery"],
        KlingImageToVideoOperator: ["Kling video", "Kling gallery"],
        KlingSummaryOperator: ["Kling gallery"],
    }


def test_the_video_button_is_shown_to_the_ui_and_again_to_the_worker():
    operator, instance = SimpleNamespace(kling_links={}), ti()
    assert KlingVideoLink().get_link(operator, ti_key=instance) == ""
    KlingVideoLink().show(operator, instance, "https://x.example/")
    assert instance.pushed == {"kling_video_link": "https://x.example/"}
    assert KlingVideoLink().get_link(operator, ti_key=instance) == "https://x.example/"


def test_an_operator_without_links_has_no_video_button():
    assert KlingVideoLink().get_link(SimpleNamespace(), ti_key=ti()) == ""


@pytest.mark.parametrize(
    "address",
    [
        *("javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:text/html,x", "file:///etc/passwd", "//x", ""),
        *(" javascript:alert(1)//http://x", "java\nscript:x", "http://x/\njavascript:y", "http://x/ y", None),
        *("http://x/\x00", "https://x/\u202egpj.exe", "ftp://x/", 7),
    ],
)
def test_only_an_http_url_becomes_a_button(address):
    operator, instance = SimpleNamespace(kling_links={}), ti()
    KlingVideoLink().show(operator, instance, address)
    assert (operator.kling_links, instance.pushed) == ({}, {})
