"""Buttons on the task in Airflow's UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

#: XCom key of the finished video's link, a plain string.
VIDEO_URL_KEY = "kling_video_url"


class KlingVideoLink(BaseOperatorLink):
    """Opens the finished video at the gateway's storage, as long as its link lives (about an hour)."""

    name = "Kling video"

    @property
    def xcom_key(self) -> str:
        """The key that Airflow's UI reads the link from: the one the sensor pushes anyway."""
        return VIDEO_URL_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the link, or an empty text (no button) before there is one."""
        return str(XCom.get_value(key=VIDEO_URL_KEY, ti_key=ti_key) or "")


class KlingProgressLink(BaseOperatorLink):
    """Opens the XComs of the task, where the job's state can be read while the task waits."""

    name = "Kling progress"
    xcom_key = "kling_progress_link"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address of the task's XCom tab."""
        return str(XCom.get_value(key=self.xcom_key, ti_key=ti_key) or "")

    def announce(self, ti: Any) -> None:
        """Push the link before the task defers, so that the button is there while it waits."""
        ti.xcom_push(key=self.xcom_key, value=ti.log_url.split("?")[0] + "/xcom")
