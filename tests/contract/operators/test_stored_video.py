"""What Airflow learns of a stored video: events for the outlets' assets, and datasets for OpenLineage."""

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow_fakes import TI
from chains import execute, one_task, submit_of

from airflow_provider_kling.operators import KlingDownloadOperator
from airflow_provider_kling.operators.assets import asset_uri

OPENLINEAGE = pytest.mark.skipif(
    not find_spec("airflow.providers.openlineage"), reason="needs apache-airflow-providers-openlineage"
)
VIDEOS, FILM = AssetAlias("videos"), Asset("film")


def stored(form, target, picture, events=None, **arguments):
    """Store a video in one of the two forms; return the task, its XComs and its events."""
    events, arguments = events or OutletEventAccessors(), {"outlets": [VIDEOS], **arguments}
    if form == "one task":
        task = one_task(target, picture, **arguments)
        return task, execute(task, events=events), events
    run, submit = {}, submit_of(picture)
    with submit.dag:
        task = KlingDownloadOperator(task_id="download", kling_task_id="", target=str(target), **arguments)
        submit >> task
    task.kling_task_id = execute(submit, ti=TI(task_id="submit", run=run))["return_value"]
    return task, execute(task, ti=TI(task_id="download", run=run), events=events), events


FORMS = pytest.mark.parametrize("form", ["three tasks", "one task"])


@FORMS
@pytest.mark.usefixtures("decoders")
def test_an_alias_gets_an_event_for_each_video(rendering, tmp_path, picture, form):
    target = tmp_path / "cat.mp4"
    _, pushed, events = stored(form, target, picture)
    (event,) = events[VIDEOS].asset_alias_events
    video, sidecar = pushed["kling_video"], json.loads(Path(f"{target}.json").read_text())
    assert event.dest_asset_key.uri == f"file://{target}"
    assert event.extra == {
        **{name: video[name] for name in ("kling_task_id", "model", "path", "reused")},
        **{name: video[name] for name in ("size", "sha256", "cost_usd")},
        "name": "cat.png",
        "seconds": video["media"]["duration"],
        "sidecar": f"{target}.json",
        "estimated_cost_usd": sidecar["estimated_cost_usd"],
    }
    assert event.extra["seconds"] > 0


@FORMS
def test_the_event_of_an_asset_has_the_same_facts(gateway, tmp_path, picture, form):
    _, _, events = stored(form, tmp_path / "cat.mp4", picture, outlets=[FILM, VIDEOS])
    assert events[FILM].extra == events[VIDEOS].asset_alias_events[0].extra
    assert events[FILM].asset_alias_events == []


@FORMS
def test_an_event_that_cannot_be_made_is_logged_and_the_video_is_stored(
    gateway, tmp_path, picture, form, logged
):
    events = SimpleNamespace(__getitem__=None)  # no events at all
    target = tmp_path / "cat.mp4"
    stored(form, target, picture, events)
    assert target.stat().st_size
    assert "No asset event has the video: TypeError" in logged.text()


def test_a_video_without_outlets_has_no_event(gateway, tmp_path, picture):
    _, _, events = stored("one task", tmp_path / "cat.mp4", picture, outlets=[])
    assert not len(events)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/data/cat.mp4", "file:///data/cat.mp4"),
        ("file:///data/cat.mp4", "file:///data/cat.mp4"),
        ("s3://shop/date=2026-11-28/cat.mp4", "s3://shop/date=2026-11-28/cat.mp4"),
        ("s3://aws_default@shop/cat.mp4", "s3://shop/cat.mp4"),
        ("gs://shop/a#1?b=2&a=1.mp4", "gs://shop/a%231%3Fb=2&a=1.mp4"),
        ("s3://shop/100% 猫.mp4", "s3://shop/100%25%20%E7%8C%AB.mp4"),
    ],
)
def test_the_uri_is_the_path_as_airflow_takes_and_keeps_it(path, uri):
    assert asset_uri(path) == uri
    assert Asset(uri=asset_uri(path)).uri == uri


@OPENLINEAGE
@FORMS
def test_openlineage_gets_the_pictures_and_the_video(gateway, tmp_path, picture, form):
    target = tmp_path / "cat.mp4"
    task, _, _ = stored(form, target, picture, outlets=[])
    lineage = task.get_openlineage_facets_on_complete(None)

    def names(datasets):
        return [(each.namespace, each.name) for each in datasets]

    assert (names(lineage.inputs), names(lineage.outputs)) == ([("file", picture)], [("file", str(target))])


@OPENLINEAGE
def test_openlineage_gets_a_public_picture_without_its_signature(gateway, tmp_path):
    task, _, _ = stored(
        "one task", tmp_path / "cat.mp4", "https://shop.example/a/cat.png?X-Amz-Signature=abc"
    )
    (source,) = task.get_openlineage_facets_on_complete(None).inputs
    assert (source.namespace, source.name) == ("https://shop.example", "a/cat.png")


@OPENLINEAGE
@pytest.mark.parametrize(
    ("facts", "inputs"),
    [
        ({}, []),
        ({"pictures": {"image": {"source": "data"}, "end_image": {}}}, []),
        (
            {
                "pictures": {
                    "images": [
                        {"source": "/a.png"},
                        {"source": "s3://aws@shop/b/c.png"},
                        {"source": "/a.png"},
                    ]
                }
            },
            [("file", "/a.png"), ("s3://shop", "b/c.png")],
        ),
    ],
)
def test_openlineage_gets_each_file_of_a_request_once(picture, facts, inputs):
    task = one_task("cat.mp4", picture)
    task._stored = SimpleNamespace(path="s3://aws@shop/cat.mp4", facts=facts)
    lineage = task.get_openlineage_facets_on_complete(None)
    assert [(source.namespace, source.name) for source in lineage.inputs] == inputs
    assert [(video.namespace, video.name) for video in lineage.outputs] == [("s3://shop", "cat.mp4")]


def test_openlineage_gets_nothing_of_a_task_that_has_stored_no_video(picture):
    assert one_task("cat.mp4", picture).get_openlineage_facets_on_complete(None) is None
