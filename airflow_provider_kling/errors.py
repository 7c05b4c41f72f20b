"""The errors of this provider. Each class means another next step for the caller.

::

    KlingError
    ├── KlingInputError            the request is wrong: correct it; nothing was started
    ├── KlingAccessError           the connection is wrong: correct its key, rights or host
    ├── KlingBalanceError          the account is empty: top it up
    ├── KlingModerationError       the picture or the prompt was refused: change it
    ├── KlingUnavailableError      a temporary error: try again later (``retry_after``)
    │   └── KlingNoSlotError       the account runs as many jobs as it may: wait for one to end
    ├── KlingSubmitUncertainError  a job may have been started: check that before you pay again
    ├── KlingJobFailedError        the job ended without a video
    ├── KlingTaskNotFoundError     the gateway does not know this task id
    ├── KlingWaitTimeoutError      our timeout has passed; the job may still run
    └── KlingDownloadError         the video is paid for, but was not downloaded whole: download it again
        └── KlingVideoError        the link leads to no usable video; a retry cannot help

Each message says what happened, where the money is, and what to do next. The hook, the operators and the
sensor raise them as ``AirflowException`` too, see :func:`airflow_provider_kling.hooks.for_airflow`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Self


class Money(StrEnum):
    """What a failure means for the bill. The sentences are stored with deferred tasks: do not change them."""

    UNTOUCHED = "No job was started, nothing is charged."
    RUNNING = "The job goes on at the gateway and may be charged."
    MAYBE = "A job may have been started and may be charged."
    ENDED = "The job is over and may be charged; the gateway's bill tells."
    PAID = "The job is done and paid for; its video waits at the gateway."
    UNAFFECTED = "This step costs nothing and changes nothing about the job."


class KlingError(Exception):
    """The base class of all errors of this provider.

    :param what: what happened, one sentence with the gateway's own code and message.
    :param money: what it means for the bill.
    :param advice: what to do next; each class has a default.
    :param kling_task_id: the job's id, if it is known.
    :param reason: the gateway's machine-readable reason, such as ``INVALID_API_KEY``, if there is one.
    :param http_status: the HTTP status of the answer, if there was an answer.
    :param retry_after: seconds until the gateway may be asked again, if it named a delay.
    :cvar retry_may_help: whether it is a temporary error, which Airflow retries.
    :ivar is_reported: whether an operator has logged it and pushed it as ``kling_error``.
    """

    is_reported = False
    retry_may_help: ClassVar[bool] = False
    default_money: ClassVar[Money] = Money.UNTOUCHED
    default_advice: ClassVar[str] = ""

    def __init__(
        self,
        what: str,
        *,
        money: Money | None = None,
        advice: str | None = None,
        kling_task_id: str | None = None,
        reason: str | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.what = what
        self.money = self.default_money if money is None else Money(money)
        self.advice = self.default_advice if advice is None else advice
        self.kling_task_id = kling_task_id
        self.reason = reason
        self.http_status = http_status
        self.retry_after = retry_after
        super().__init__(what)

    def __str__(self) -> str:
        if self.is_reported:  # Airflow logs it again, below the three sentences
            return self.what
        return " ".join(part for part in (self.what, self.money, self.advice) if part)

    def facts(self) -> dict[str, Any]:
        """Return the arguments of this error."""
        return {name: getattr(self, name) for name in _FACTS}

    def replace(self, **changes: Any) -> Self:
        """Return the same error with other arguments."""
        return type(self)(**{**self.facts(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON-ready data, to cross from the triggerer to the worker."""
        return {"class": type(self).__name__, **self.facts(), "money": str(self.money)}


class KlingInputError(KlingError):
    """The request is wrong and was not, or would not be, accepted; a retry cannot help."""

    default_advice = "Correct the named argument and run the task again."


class KlingAccessError(KlingError):
    """The gateway does not let this connection in: key, rights or host; a retry cannot help."""

    default_advice = "Check the API key and the host of the Airflow connection."


class KlingBalanceError(KlingError):
    """The account has no money left; a retry cannot help before it is topped up."""

    default_advice = "Top up the gateway account, then clear the task."


class KlingModerationError(KlingError):
    """The picture or the prompt was refused by moderation; a retry cannot help and may cost."""

    default_advice = (
        "Change the picture or the prompt, then clear the task that submits it: that buys a new job. The "
        "same request will be refused again."
    )


class KlingUnavailableError(KlingError):
    """A passing trouble (network, rate limit, 5xx): the same call may work later."""

    retry_may_help = True
    default_advice = "This is temporary: try again later."


class KlingNoSlotError(KlingUnavailableError):
    """No job was started, because the account runs as many at a time as it may.

    :ivar model: the model of which no slot was free.
    """

    model = ""
    default_advice = "Wait until another job of the account has ended; then submit again."


class KlingSubmitUncertainError(KlingError):
    """A submit was sent and no usable answer came: a job may run. Never send it again blindly."""

    default_money = Money.MAYBE
    default_advice = (
        "It was not sent again. Look for the job in the gateway's console or bill. If it is there, fetch its "
        "video by the task id (example Dag kling_rescue); if it is not, clear this task to submit again."
    )


class KlingJobFailedError(KlingError):
    """The job ended without a video: failed, cancelled, or a success with nothing in it."""

    default_money = Money.ENDED
    default_advice = "Read the gateway's reason; change what it names before you submit again."


class KlingTaskNotFoundError(KlingError):
    """The gateway does not know the task id; final once the job is older than a minute."""

    default_money = Money.UNAFFECTED
    default_advice = (
        "Check the task id, and that the connection's key belongs to the account that submitted it."
    )


class KlingWaitTimeoutError(KlingError):
    """Our own deadline passed while the job was still unfinished."""

    default_money = Money.RUNNING


class KlingDownloadError(KlingError):
    """A finished video could not be fetched whole; nothing stands under the final name."""

    retry_may_help = True
    default_money = Money.PAID
    default_advice = "Run the download again: it asks for a fresh link and does not pay again."


class KlingVideoError(KlingDownloadError):
    """What the link of a finished job leads to is not a usable video; a retry cannot help."""

    retry_may_help = False
    default_advice = (
        "Ask the gateway's support about the video, with the task id. Once it is right, clear this task: it "
        "fetches the video and does not pay again."
    )


_FACTS = ("what", "money", "advice", "kling_task_id", "reason", "http_status", "retry_after")
_KINDS: tuple[type[KlingError], ...] = (
    KlingError,
    *KlingError.__subclasses__(),
    KlingNoSlotError,
    KlingVideoError,
)
_BY_NAME = {kind.__name__: kind for kind in _KINDS}


def from_dict(data: dict[str, Any]) -> KlingError:
    """Return the error that :meth:`KlingError.to_dict` described, of the same class.

    Tasks stay deferred across upgrades: what another version knew more or less is left out.
    """
    facts = {"what": "", **{name: data[name] for name in _FACTS if name in data}}
    if facts.get("money") not in set(Money):
        facts["money"] = None
    return _BY_NAME.get(data.get("class", ""), KlingError)(**facts)
