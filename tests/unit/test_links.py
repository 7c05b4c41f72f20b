"""The buttons in Airflow's UI: they are shown as soon as their address is known."""

from types import SimpleNamespace

import pytest

from airflow_provider_kling.links import KlingProgressLink, KlingVideoLink

KEY = object()


@pytest.fixture(params=[KlingVideoLink, KlingProgressLink])
def link(request):
    return request.param()


def test_a_button_is_shown_to_the_ui_and_again_to_the_worker(link):
    operator, pushed = SimpleNamespace(kling_links={}), {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    assert link.get_link(operator, ti_key=KEY) == ""
    link.show(operator, ti, "https://x.example/")
    assert pushed == {link.xcom_key: "https://x.example/"}
    assert link.get_link(operator, ti_key=KEY) == "https://x.example/"


def test_an_operator_without_links_has_no_button(link):
    assert link.get_link(SimpleNamespace(), ti_key=KEY) == ""


def test_the_buttons_have_different_names_and_keys():
    assert KlingVideoLink.name != KlingProgressLink.name
    assert KlingVideoLink.xcom_key != KlingProgressLink.xcom_key


@pytest.mark.parametrize(
    "address",
    [
        *("javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:text/html,x", "file:///etc/passwd", "//x", ""),
        *(" javascript:alert(1)//http://x", "java\nscript:x", "http://x/\njavascript:y", "http://x/ y", None),
        *("http://x/\x00", "https://x/\u202egpj.exe", "ftp://x/", 7),
    ],
)
def test_only_an_http_url_becomes_a_button(address):
    operator, pushed = SimpleNamespace(kling_links={}), {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    KlingVideoLink().show(operator, ti, address)
    assert (operator.kling_links, pushed) == ({}, {})
    assert KlingVideoLink().get_link(operator, ti_key=None) == ""
