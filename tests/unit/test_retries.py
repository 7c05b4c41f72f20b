"""The retry policy: which errors are retried, and after which delay."""

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_kling.errors import KlingDownloadError, KlingError, KlingUnavailableError
from airflow_provider_kling.hooks import for_airflow

pytestmark = pytest.mark.needs_airflow("3.3", "retry policies")

PASSING = (KlingDownloadError, KlingUnavailableError)
KINDS = [kind for kind in KlingError.__subclasses__() if kind.__module__ == KlingError.__module__]
FINAL = [kind for kind in {kind.__name__: kind for kind in reversed(KINDS)}.values() if kind not in PASSING]


def decision(error, try_number=1, initial_delay=10, max_delay=600):
    from airflow_provider_kling.retries import KlingRetryPolicy

    return KlingRetryPolicy(initial_delay, max_delay).evaluate(error, try_number, 5)


def seconds(*args, **kwargs):
    made = decision(*args, **kwargs)
    assert made.action.name == "RETRY"
    return made.retry_delay.total_seconds()


@pytest.mark.parametrize("kind", FINAL)
def test_a_final_error_fails_at_once(kind):
    made = decision(kind("It is so.", retry_after=5))
    assert made.action.name == "FAIL"
    assert made.reason == f"{kind.__name__}: a retry cannot help and may cost"


@pytest.mark.parametrize("kind", FINAL)
def test_no_final_error_is_retried(kind):
    assert decision(for_airflow(kind("It is so.", retry_after=5))).action.name != "RETRY"


@pytest.mark.parametrize("kind", FINAL)
def test_an_allowed_retry_follows_the_tasks_settings(kind):
    assert decision(for_airflow(kind("It is so."), retry=True)).action.name == "DEFAULT"


@pytest.mark.parametrize("error", [ValueError("x"), AirflowException("x"), KeyboardInterrupt(), OSError()])
def test_other_errors_follow_the_tasks_settings(error):
    assert decision(error).action.name == "DEFAULT"


@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.parametrize("crossed", [for_airflow, lambda error: error])
def test_a_temporary_error_is_retried_with_doubling_delays_up_to_the_maximum(kind, crossed):
    delays = [seconds(crossed(kind("It is so.")), n) for n in (-1, 0, 1, 2, 3, 4, 6, 7, 8, 40, 10_000)]
    assert delays == [10, 10, 10, 20, 40, 80, 320, 600, 600, 600, 600]


@pytest.mark.parametrize(
    ("asked", "kept"), [(0, 0), (7.5, 7.5), (899, 899), (900, 900), (86400, 900), (1e14, 900)]
)
def test_the_gateways_retry_after_is_used_up_to_15_minutes(asked, kept):
    error = for_airflow(KlingUnavailableError("Too fast.", retry_after=asked))
    assert seconds(error, 9) == kept
    assert decision(error).reason == "the gateway asked for this delay"


def test_the_delays_can_be_set():
    error = KlingDownloadError("Broken.")
    assert [seconds(error, n, initial_delay=1, max_delay=3) for n in (1, 2, 3, 4)] == [1, 2, 3, 3]


@pytest.mark.parametrize("kind", PASSING)
def test_the_reason_has_the_class_and_not_the_message(kind):
    assert decision(kind("https://s.example/v.mp4?sig=secret")).reason == f"{kind.__name__}: a retry may help"
