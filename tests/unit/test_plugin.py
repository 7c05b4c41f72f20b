"""What the plugin registers, and which tasks the gallery knows."""

from importlib.metadata import entry_points

from airflow_provider_kling.gallery import cards
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
)
from airflow_provider_kling.operators.decorated import DecoratedVideoOperator
from airflow_provider_kling.plugin import KlingPlugin
from airflow_provider_kling.sensors import KlingTaskSensor


def test_airflow_finds_the_plugin():
    (found,) = entry_points(group="airflow.plugins", name="kling")
    assert found.load() is KlingPlugin


def test_each_place_has_its_own_route_and_script_and_no_url_begins_at_the_host():
    from airflow.api_fastapi.core_api.datamodels.plugins import ReactAppResponse

    apps = [ReactAppResponse.model_validate(app) for app in KlingPlugin.react_apps]
    assert {app.destination for app in apps} == {"nav", "dag", "dag_run", "task_instance"}
    assert len({app.url_route for app in apps}) == len({app.bundle_url for app in apps}) == 4
    assert all(app.bundle_url.startswith("kling/www/") for app in apps)


def test_the_gallery_knows_the_operators_by_the_names_that_airflow_stores():
    one_tasks = KlingImageToVideoOperator.__name__, DecoratedVideoOperator.__name__
    assert (KlingSubmitOperator.__name__, *one_tasks) == cards.BUYS
    assert (*cards.WAITS, *cards.DOWNLOADS) == (KlingTaskSensor.__name__, KlingDownloadOperator.__name__)
