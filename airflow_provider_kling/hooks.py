"""KlingHook sends calls to the gateway of an Airflow connection. It turns our errors into Airflow's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    BaseHook,
)

from airflow_provider_kling.errors import (
    KlingAccessError,
    KlingError,
    KlingInputError,
    KlingUnavailableError,
    KlingWaitTimeoutError,
    Money,
)

if TYPE_CHECKING:
    import requests

    from airflow_provider_kling.gateways.base import Call, Task
    from airflow_provider_kling.models.job import VideoJob
    from airflow_provider_kling.transport.download_stream import Stream
    from airflow_provider_kling.transport.settings import Settings

T = TypeVar("T")


def _airflow_class(kind: type[KlingError], *, retry: bool) -> type[KlingError]:
    base: type[Exception] = AirflowFailException
    if retry or kind.retry_may_help:
        base = AirflowException
    elif issubclass(kind, KlingWaitTimeoutError):
        base = AirflowSensorTimeout
    return type(kind.__name__, (kind, base), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def for_airflow(error: KlingError, *, retry: bool = False) -> KlingError:
    """Return the same error as an instance of its own class and of one of Airflow's exceptions.

    A temporary error becomes an ``AirflowException``, which is retried; our own timeout an
    ``AirflowSensorTimeout``; any other an ``AirflowFailException``, because a retry cannot help and may cost.
    ``except`` clauses and failure callbacks still find the error's own class.

    :param retry: let Airflow retry it in any case, because the user allowed it.
    """
    if isinstance(error, AirflowException):
        return error
    return _airflow_class(type(error), retry=retry)(**error.facts())


def look_up_error(conn_id: str, error: Exception) -> KlingError:
    """Return what a failed look-up of a connection means.

    Of an error that is not Airflow's, only the type is told: its words may hold a secret.
    """
    if isinstance(error, KlingError):
        return error
    if not isinstance(error, AirflowNotFoundException):
        what = f"Airflow could not look up the connection {conn_id!r} ({type(error).__name__})."
        return KlingUnavailableError(what)
    advice = (
        f"Create it (Admin, Connections, type Kling) or set AIRFLOW_CONN_{conn_id.upper()}. If it is in a "
        "secrets backend, look in the log for the backend's error."
    )
    return KlingUnavailableError(
        f"kling_conn_id={conn_id!r}: Airflow finds no such connection.", advice=advice
    )


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Convert each :class:`KlingError` that leaves the block with :func:`for_airflow`."""
    try:
        yield
    except KlingError as error:
        raise for_airflow(error).with_traceback(error.__traceback__) from error.__cause__


@contextmanager
def suppress_and_log(log: Any, what: str) -> Iterator[None]:
    """Log an exception of the block as a warning and continue.

    For steps that only inform: their failure must not end a task that has paid.

    :param what: the beginning of the warning, such as "The progress could not be stored".
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a state or XCom backend raises
        log.warning("%s: %s: %s", what, type(error).__name__, getattr(error, "what", error))


class KlingHook(BaseHook):
    """Sends calls to the gateway with an Airflow connection of type ``kling``.

    The connection's password is the API key. Its host is empty (MyRouter), ``singapore`` or ``beijing``
    (Kling's own API), a host name, or a URL with port and path. ``docs/connection.md`` lists the keys of the
    extra; other keys go to the http provider.

    :param kling_conn_id: the id of the Airflow connection.
    """

    conn_name_attr: ClassVar[str] = "kling_conn_id"
    default_conn_name: ClassVar[str] = "kling_default"
    conn_type: ClassVar[str] = "kling"
    hook_name: ClassVar[str] = "Kling"

    def __init__(self, kling_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kling_conn_id = kling_conn_id

    @cached_property
    def settings(self) -> Settings:
        """The checked settings of the connection. Raises :class:`KlingAccessError` for a wrong field."""
        from airflow_provider_kling.transport.settings import Settings

        with airflow_errors():
            try:
                return Settings.from_connection(self.get_connection(self.kling_conn_id))
            except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
                raise look_up_error(self.kling_conn_id, error) from None

    def get_conn(self) -> requests.Session:
        """Return a session with the connection's key, proxies and TLS settings."""
        from airflow_provider_kling.transport.sessions import gateway_session

        return gateway_session(self.settings)

    def send(self, call: Call[T]) -> T:
        """Send one call of the connection's gateway.

        If the key is refused, the connection is looked up and the call is sent once more: the key may have
        been rotated. A submit is never sent twice.

        :raises KlingError: as Airflow understands it, see :func:`for_airflow`.
        """
        from airflow_provider_kling.gateways.base import errors_about_job

        with airflow_errors(), errors_about_job(call.kling_task_id):
            try:
                return self._exchange(call)
            except KlingAccessError:
                if call.starts_job:
                    raise
                self.__dict__.pop("settings", None)
                return self._exchange(call)

    def _exchange(self, call: Call[T]) -> T:
        from airflow_provider_kling.transport.sync_client import KlingClient

        with self.get_conn() as session:
            return KlingClient(session, self.settings).send(call)

    def submit(self, job: VideoJob, client_id: str = "") -> str:
        """Start a job, which costs money, and return its task id. The request is sent only once.

        :param client_id: our own id of the job, where the gateway takes one.
        :raises KlingSubmitUncertainError: the submit failed, but a job may have been started.
        """
        return self.send(self.settings.gateway.submit(job, client_id))

    def get_task(self, kling_task_id: str) -> Task:
        """Return the state of a job. This costs nothing."""
        from airflow_provider_kling.gateways.base import errors_about_job

        with errors_about_job(kling_task_id):
            return self.send(self.settings.gateway.query(kling_task_id))

    def find_task(self, client_id: str) -> Task | None:
        """Return the job of a client id, or None where there is none. This costs nothing.

        :raises KlingInputError: the gateway takes no client ids.
        """
        find = self.settings.gateway.find
        if find is None:
            raise self._lacks("client ids")
        return self.send(find(client_id))

    def list_tasks(self, since: float) -> Iterator[Task]:
        """Yield the jobs of the account, one page after another. This costs nothing.

        :param since: when the oldest one may have been created, in epoch seconds. Kling keeps thirty days.
        :raises KlingInputError: the gateway has no list of jobs.
        """
        list_page, cursor = self.settings.gateway.list_tasks, ""
        if list_page is None:
            raise self._lacks("list of jobs")
        while True:
            tasks, cursor = self.send(list_page(since, cursor))
            yield from tasks
            if not cursor:
                return

    def _lacks(self, what: str) -> KlingError:
        problem = f"{self.settings.gateway.name} has no {what}; Kling's own API has."
        advice = f"Use a task id, or check the host of the connection {self.kling_conn_id!r}."
        return for_airflow(KlingInputError(problem, money=Money.UNAFFECTED, advice=advice))

    @contextmanager
    def open_video(self, video_url: str) -> Iterator[Stream]:
        """Open a video's link for reading. The key is not sent."""
        from airflow_provider_kling.transport.download_stream import open_link

        with airflow_errors(), open_link(video_url, self.settings) as stream:
            yield stream

    def test_connection(self) -> tuple[bool, str]:
        """Ask for a job that cannot exist: this costs nothing and shows whether the key is accepted."""
        try:
            self._exchange(self.settings.gateway.probe())
        except KlingAccessError as error:
            return False, f"{error.what} {error.advice}"
        except KlingError as error:
            result = "Inconclusive" if error.http_status else f"Unreachable: {self.settings.base_url}"
            return False, f"{result}. {error.what}"
        return True, f"The gateway at {self.settings.base_url} accepts the API key."
