"""Buttons on the task in Airflow's UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf

from airflow_provider_kling.values import is_web_url
from airflow_provider_kling.xcom_keys import GALLERY_LINK_KEY, VIDEO_LINK_KEY

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


#: Where the gallery's tabs are, below the pages of a task instance and of a Dag run; ``plugin.py`` registers
#: them.
GALLERY_ROUTE, RUN_GALLERY_ROUTE = "plugin/kling-videos", "plugin/kling-run"


class KlingVideoLink(BaseOperatorLink):
    """Opens the finished video at the gateway's storage, until its link expires.

    Airflow's UI reads the address from XCom. At the end of each run of the task, the worker calls
    :meth:`get_link` and overwrites this XCom. So the address is pushed as XCom and stored on the operator.
    """

    name = "Kling video"
    xcom_key = VIDEO_LINK_KEY

    def show(self, operator: Any, ti: Any, address: str) -> None:
        """Show the button with *address* from now on, also while the task is deferred.

        Only an http(s) URL becomes a button, because a browser runs ``javascript:`` links.
        """
        if not is_web_url(address):
            return
        operator.kling_links[self.xcom_key] = address
        ti.xcom_push(key=self.xcom_key, value=address)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address, or an empty text (no button) if there is none."""
        return str(getattr(operator, "kling_links", {}).get(self.xcom_key, ""))


class KlingGalleryLink(BaseOperatorLink):
    """Opens the gallery's tab of the task instance: progress, video, cost or error."""

    name = "Kling gallery"
    xcom_key = GALLERY_LINK_KEY

    def show(self, ti: Any) -> None:
        """Show the button while the task runs; Airflow shows it at the end of each run of the task."""
        ti.xcom_push(key=self.xcom_key, value=self.get_link(None, ti_key=ti))

    def get_link(self, operator: BaseOperator | None, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address of the tab."""
        mapped = {"mapped": str(ti_key.map_index)} if ti_key.map_index >= 0 else {}
        return f"{_run_page(ti_key)}/{_path(tasks=ti_key.task_id, **mapped)}/{GALLERY_ROUTE}"


class KlingRunGalleryLink(BaseOperatorLink):
    """Opens the gallery's tab of the Dag run: all its videos as cards."""

    name = "Kling gallery"
    xcom_key = GALLERY_LINK_KEY

    def get_link(self, operator: BaseOperator | None, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address of the tab."""
        return f"{_run_page(ti_key)}/{RUN_GALLERY_ROUTE}"


def _run_page(ti_key: TaskInstanceKey) -> str:
    base = conf.get("api", "base_url", fallback="http://localhost:8080/").rstrip("/")
    return f"{base}/{_path(dags=ti_key.dag_id, runs=ti_key.run_id)}"


def _path(**ids: str) -> str:
    return "/".join(f"{name}/{quote(id_, safe='')}" for name, id_ in ids.items())
