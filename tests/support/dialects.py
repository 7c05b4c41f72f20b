"""The two dialects: the words of each, and what becomes of a submit whose answer was lost."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_kling.errors import (
    KlingError,
    KlingInputError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)


def _is_uncertain(gateway, submit, match, fails):
    """A person has to look for the job, unless the Dag's author accepts to pay twice."""
    with pytest.raises(KlingSubmitUncertainError, match=match) as caught:
        submit()
    assert isinstance(caught.value, AirflowFailException) is fails
    assert caught.value.money is Money.MAYBE


def _has_the_job(gateway, submit, match, fails):
    """The client id leads to the job, or is sent again. The job is paid once."""
    result = submit()
    (job,) = gateway.jobs
    assert result == job.task_id


class Dialect(NamedTuple):
    """How a gateway calls things, and what it can do."""

    finds_jobs: bool  # by our own id of a job
    lost: Callable  # checks what becomes of a submit whose answer was lost
    unsettled: type[KlingError]  # of a submit of which it is not known whether it has bought a job
    changed: type[KlingError]  # of a retry whose request has changed
    text_model: str  # what it calls kling-v3.0-pro-t2v
    picture_model: str  # what it calls kling-v3.0-pro-i2v
    states: tuple[str, ...]  # of a job that succeeds
    timings: set[str]  # the times that its answers have

    @property
    def log_states(self):
        """The states as log lines name them."""
        return [state.removeprefix("TASK_STATUS_").lower() for state in self.states]


DIALECTS = {
    "myrouter": Dialect(
        finds_jobs=False,
        lost=_is_uncertain,
        unsettled=KlingSubmitUncertainError,
        changed=KlingSubmitUncertainError,
        text_model="kling-v3.0-pro-t2v",
        picture_model="kling-v3.0-pro-i2v",
        states=("TASK_STATUS_QUEUED", "TASK_STATUS_PROCESSING", "TASK_STATUS_SUCCEED"),
        timings={"submit_time_ms", "execute_time_ms", "complete_time_ms"},
    ),
    "kling": Dialect(
        finds_jobs=True,
        lost=_has_the_job,
        unsettled=KlingUnavailableError,
        changed=KlingInputError,
        text_model="text-to-video/kling-3.0",
        picture_model="image-to-video/kling-3.0",
        states=("submitted", "processing", "succeeded"),
        timings={"submit_time_ms", "complete_time_ms"},
    ),
}


def dialect(gateway):
    """Return the dialect in which a test speaks to a gateway."""
    return DIALECTS[gateway.spoken]


def check_lost_answer(gateway, submit, match=None, *, fails=True):
    """Execute a submit whose answer is lost now, or was lost before, and check what becomes of it.

    :param match: what the error says where it is uncertain.
    :param fails: whether Airflow does not retry that error.
    """
    dialect(gateway).lost(gateway, submit, match, fails)


def rows(names, both=(), *, myrouter=(), kling=()):
    """Run a story once for each row: those of both gateways, and those of one."""
    own = {"myrouter": myrouter, "kling": kling}
    known = [(gateway, *row) for gateway in DIALECTS for row in (*both, *own[gateway])]
    return pytest.mark.parametrize(("gateway", *names.split()), known, indirect=["gateway"])


def at_myrouter(why):
    """Run a story at MyRouter only. All others run at both gateways."""
    assert why
    return pytest.mark.parametrize("gateway", ["myrouter"], indirect=True)
