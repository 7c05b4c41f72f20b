"""Buttons on the task in Airflow's UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_kling.values import is_web_url
from airflow_provider_kling.xcom_keys import PROGRESS_LINK_KEY, VIDEO_LINK_KEY

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class _KlingLink(BaseOperatorLink):
    """A button that is shown as soon as its address is known.

    Airflow's UI reads the address from XCom. At the end of each run of the task, the worker calls
    :meth:`get_link` and overwrites this XCom. So the address is pushed as XCom and stored on the operator.
    """

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


class KlingVideoLink(_KlingLink):
    """Opens the finished video at the gateway's storage, until its link expires (about an hour)."""

    name = "Kling video"
    xcom_key = VIDEO_LINK_KEY


class KlingProgressLink(_KlingLink):
    """Opens the XComs of the task, where the job's state can be read while the task waits."""

    name = "Kling progress"
    xcom_key = PROGRESS_LINK_KEY
