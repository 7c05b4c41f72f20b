"""Buttons on the task in Airflow's UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


def is_web_url(address: Any) -> bool:
    """Return whether a browser may be led to an address: an http(s) URL, printable and without blanks."""
    if not isinstance(address, str) or not address.lower().startswith(("http://", "https://")):
        return False
    return address.isprintable() and not any(char.isspace() for char in address)


class _KlingLink(BaseOperatorLink):
    """A link that is shown as soon as its address is known.

    Airflow's UI reads the address from XCom, and the worker asks :meth:`get_link` for it at the end of
    each run of the task. So it is pushed at once, for the UI, and kept on the operator, for the worker.
    """

    def show(self, operator: Any, ti: Any, address: str) -> None:
        """Let the button lead to *address* from now on, also while the task is deferred.

        Only an http(s) URL becomes a button: a browser would run a ``javascript:`` link.
        """
        if not is_web_url(address):
            return
        operator.kling_links[self.xcom_key] = address
        ti.xcom_push(key=self.xcom_key, value=address)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address, or an empty text (no button) while there is none."""
        return str(getattr(operator, "kling_links", {}).get(self.xcom_key, ""))


class KlingVideoLink(_KlingLink):
    """Opens the finished video at the gateway's storage, as long as its link lives (about an hour)."""

    name = "Kling video"
    xcom_key = "kling_video_link"


class KlingProgressLink(_KlingLink):
    """Opens the XComs of the task, where the job's state can be read while the task waits."""

    name = "Kling progress"
    xcom_key = "kling_progress_link"
