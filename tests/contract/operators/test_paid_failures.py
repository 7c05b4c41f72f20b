"""What fails after a purchase is one of our errors, and names the job, the money and the next step."""

import itertools
import json
import resource
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
    XComNotFound,
)
from airflow.sdk import DAG
from airflow.sdk.bases.sensor import TaskDeferralError
from airflow.sdk.log import mask_secret
from airflow_fakes import TI, Store, context_of, runtime_error, submits
from dialects import check_lost_answer, dialect
from fsspec.implementations.memory import MemoryFileSystem
from sensor_modes import bought
from targets import VIDEO, names

from airflow_provider_kling.decorators import kling_video
from airflow_provider_kling.errors import (
    KlingDownloadError,
    KlingError,
    KlingInputError,
    KlingJobFailedError,
    KlingSubmitUncertainError,
    KlingUnavailableError,
    Money,
)
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor

TEXT = {"model": "kling-v3.0-pro-t2v", "prompt": "a cat waves"}


def download(kling_task_id, target, ti=None, **arguments):
    operator = KlingDownloadOperator(
        task_id="t", kling_task_id=kling_task_id, target=str(target), **arguments
    )
    return operator.execute(context_of(ti))


def video_task(target, **arguments):
    with DAG("d", schedule=None):
        return KlingImageToVideoOperator(
            task_id="t", target=str(target), **{**TEXT, "deferrable": False, **arguments}
        )


def check_report(error, ti, kling_task_id, money, logged):
    """Check that the error, the XCom and the log say the same three things."""
    assert isinstance(error, AirflowException)
    assert (error.kling_task_id, error.money) == (kling_task_id, money)
    assert kling_task_id in error.what
    assert error.advice
    pushed = ti.xcoms["kling_error"]
    assert [pushed[key] for key in ("kling_task_id", "what", "money", "advice")] == [
        *(kling_task_id, error.what, str(money), error.advice)
    ]
    assert logged.errors() == f"{error.what} {error.money} {error.advice}"
    assert str(error) == error.what  # Airflow logs it below
    assert (error.__cause__, error.__suppress_context__) == (None, True)


@contextmanager
def full_disk(room):
    """Let no file of this process grow beyond some bytes: the system refuses to write, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large_video(monkeypatch, size):
    head = VIDEO + (size - len(VIDEO)).to_bytes(4) + b"free"
    video = head + bytes(size - len(head))
    monkeypatch.setattr("airflow_provider_kling.emulator.render_queue.tiny_video", lambda: video)


def test_a_full_disk_names_the_path_the_job_the_money_and_the_next_step(
    gateway, monkeypatch, tmp_path, logged
):
    large_video(monkeypatch, 64 << 20)
    ti, kling_task_id = TI(), bought(gateway)
    with full_disk(32 << 20), pytest.raises(KlingDownloadError, match=r"cat\.mp4.*OSError") as caught:
        download(kling_task_id, tmp_path / "cat.mp4", ti)
    check_report(caught.value, ti, kling_task_id, Money.PAID, logged)
    assert not isinstance(caught.value, AirflowFailException)
    assert names(tmp_path) == []
    assert sum(request.host == "storage" for request in gateway.requests) == 1
    assert download(kling_task_id, tmp_path / "cat.mp4")


def test_a_target_that_cannot_be_written_names_the_job_and_the_money(gateway, logged):
    ti, kling_task_id = TI(), bought(gateway)
    with pytest.raises(KlingError, match="/proc/nowhere") as caught:
        download(kling_task_id, "/proc/nowhere/cat.mp4", ti)
    check_report(caught.value, ti, kling_task_id, Money.PAID, logged)


@pytest.mark.parametrize("target", ["nowhere://bucket/cat.mp4", "s3://no-such-connection@bucket/cat.mp4"])
def test_a_storage_that_cannot_be_used_names_the_job_and_the_money(gateway, logged, target):
    ti, kling_task_id = TI(), bought(gateway)
    with pytest.raises(KlingError) as caught:
        download(kling_task_id, target, ti)
    check_report(caught.value, ti, kling_task_id, Money.PAID, logged)


def test_a_connection_that_is_gone_names_the_job_and_the_money(gateway, monkeypatch, tmp_path, logged):
    ti, kling_task_id = TI(), bought(gateway)
    monkeypatch.delenv("AIRFLOW_CONN_KLING_DEFAULT")
    with pytest.raises(KlingError, match="kling_default") as caught:
        download(kling_task_id, tmp_path / "cat.mp4", ti)
    check_report(caught.value, ti, kling_task_id, Money.RUNNING, logged)


UNEXPECTED = [
    *(MemoryError("out of memory"), OSError(5, "Input/output error"), runtime_error(), KeyError("x")),
    *(AirflowException("the API server is away"), XComNotFound("d", "t", "k")),
]


class BrokenStorage(MemoryFileSystem):
    """A storage of Airflow's that takes no file."""

    error = None

    def open(self, path, mode="rb", **_):
        if "w" in mode:
            raise self.error
        return super().open(path, mode)


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_whatever_a_storage_raises_becomes_our_error_with_its_words(gateway, attached, logged, error):
    storage = BrokenStorage()
    storage.error = error
    ti, kling_task_id = TI(), bought(gateway)
    with pytest.raises(KlingDownloadError, match=type(error).__name__) as caught:
        download(kling_task_id, attached(storage) + "cat.mp4", ti)
    check_report(caught.value, ti, kling_task_id, Money.PAID, logged)
    assert str(error) in caught.value.what


def test_what_nobody_expected_is_shown_without_secrets_and_control_characters(gateway, logged, monkeypatch):
    signature = "abcdef" * 4

    def failing(*_, **__):
        raise RuntimeError(f"https://s3.test/v.mp4?X-Amz-Signature={signature} \x1b[31m")

    monkeypatch.setattr("airflow_provider_kling.operators.video_download.resolve_path", failing)
    ti, kling_task_id = TI(), bought(gateway)
    with pytest.raises(KlingDownloadError, match=r"stored at s3://bucket/v\.mp4 \(") as caught:
        download(kling_task_id, f"s3://bucket/v.mp4?X-Amz-Signature={signature}\x1b", ti)
    check_report(caught.value, ti, kling_task_id, Money.PAID, logged)
    shown = "".join(traceback.format_exception(caught.value)) + logged.text() + json.dumps(ti.xcoms)
    assert signature not in shown
    assert "\x1b[31m" not in shown


def test_an_error_leaves_the_task_without_the_frames_and_causes_behind_it(gateway, tmp_path):
    """Below the three lines that say what to do, they would fill the log view."""
    for task in (video_task(tmp_path, image=f"{tmp_path}/missing.png"), video_task(tmp_path, prompt="")):
        with pytest.raises(KlingError) as caught:
            task.execute(context_of())
        modules = {
            Path(frame.filename).stem for frame in traceback.extract_tb(caught.value.__traceback__)[1:]
        }
        assert modules <= {"operator", "base", "image_to_video", "contextlib"}
        assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)


class Steps:
    """Counts the calls of a task to Airflow, and lets one of them fail.

    :param failing: the number of the call.
    """

    def __init__(self, failing, error):
        self.failing, self.error, self.count = failing, error, 0

    def fake(self, kind):
        """Return a fake of Airflow whose calls are steps."""

        def step(name):
            def call(fake, *args, **kwargs):
                self.count += 1
                if self.count == self.failing:
                    raise self.error
                return getattr(kind, name)(fake, *args, **kwargs)

            return call

        names = {"xcom_push", "xcom_pull", "get", "set", "delete"} & {*dir(kind)}
        return type(kind.__name__, (kind,), {name: step(name) for name in names})()


def decorated_task(target, **arguments):
    def t():
        return {**TEXT, "target": str(target)}

    with DAG("d", schedule=None) as dag:
        kling_video(**{"deferrable": False, **arguments})(t)()
    return dag.tasks[0]


def outcome(call):
    """Return what a call returns or raises."""
    try:
        return call()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the test judges it
        return error


FORMS = {
    "submit": lambda _: KlingSubmitOperator(task_id="t", **TEXT),
    "one task": video_task,
    "function": decorated_task,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_whatever_fails_at_whatever_step_after_the_purchase_names_job_money_and_next_step(
    gateway, clock, tmp_path, form, error
):
    for failing in itertools.count(1):
        steps, before = Steps(failing, error), len(gateway.jobs)
        ti = steps.fake(TI)
        ti.map_index = failing
        task, context = form(tmp_path / f"{failing}.mp4"), context_of(ti, steps.fake(Store))
        ended = outcome(lambda: task.execute(context))  # noqa: B023 - called at once
        bought = [job.task_id for job in gateway.jobs[before:]]
        if isinstance(ended, Exception) and (bought or isinstance(ended, KlingSubmitUncertainError)):
            assert isinstance(ended, KlingError), f"step {failing}"
            assert [ended.kling_task_id] == (bought or [None])
            assert all(job in ended.what for job in bought)
            assert ended.money is not Money.UNTOUCHED
            assert ended.advice
        if steps.count < failing:
            break
    assert failing > 10


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_task_that_dies_at_whatever_step_pays_once_and_its_retry_has_the_job_or_is_uncertain(
    gateway, clock, tmp_path, form
):
    for dying in itertools.count(1):
        steps, before, target = Steps(dying, SystemExit()), len(gateway.jobs), tmp_path / f"{dying}.mp4"
        store = steps.fake(Store)
        ti = steps.fake(TI)
        ti.map_index = dying
        first = outcome(lambda: form(target).execute(context_of(ti, store)))  # noqa: B023 - called at once
        if steps.count < dying:
            break
        assert not isinstance(first, KlingError)
        second = outcome(lambda: form(target).execute(context_of(TI(map_index=dying), store)))  # noqa: B023
        bought = [job.task_id for job in gateway.jobs[before:]]
        assert len(bought) <= 1, f"step {dying}"
        is_uncertain = isinstance(second, KlingSubmitUncertainError) and not dialect(gateway).finds_jobs
        assert is_uncertain or second in (*bought, str(target)), f"step {dying}"
    assert dying > 10


def test_airflows_own_timeout_after_the_purchase_stays_but_the_task_names_the_job(gateway, tmp_path, logged):
    timeout = AirflowTaskTimeout("Timeout, PID: 1")
    ti, store = TI(), Store()
    ti.broken["size"] = timeout
    with pytest.raises(AirflowTaskTimeout) as caught:
        video_task(tmp_path / "cat.mp4").execute(context_of(ti, store))
    assert caught.value is timeout
    pushed = ti.xcoms["kling_error"]
    assert (pushed["kling_task_id"], pushed["money"]) == (gateway.jobs[0].task_id, Money.RUNNING)
    assert "AirflowTaskTimeout" in pushed["what"]
    assert logged.errors() == " ".join(pushed[key] for key in ("what", "money", "advice"))


def test_airflows_own_timeout_amid_the_purchase_stays_but_says_that_the_money_is_uncertain(gateway, logged):
    ti, store = TI(), Store()
    store.after[1] = AirflowTaskTimeout()
    with pytest.raises(AirflowTaskTimeout):
        KlingSubmitOperator(task_id="t", **TEXT).execute(context_of(ti, store))
    assert ti.xcoms["kling_error"]["money"] == Money.MAYBE
    assert Money.MAYBE in logged.text()


def check_foreign_report(error, ti, money, logged):
    """Check that the XCom and the log say the same of an exception that is not ours."""
    pushed = ti.xcoms["kling_error"]
    assert (pushed["class"], pushed["money"]) == (type(error).__name__, money)
    assert type(error).__name__ in pushed["what"]
    assert "clear this task" in pushed["advice"]
    assert logged.errors() == " ".join(pushed[key] for key in ("what", "money", "advice"))


@pytest.mark.parametrize(
    "error", [MemoryError(), AirflowTaskTimeout("Timeout, PID: 1")], ids=lambda error: type(error).__name__
)
def test_whatever_ends_a_submit_before_its_purchase_stays_what_it_is_and_is_reported(gateway, logged, error):
    ti, store = TI(), Store()
    store.before[1] = type(error)(*error.args)  # each is reported once
    with pytest.raises(type(error)) as caught:
        KlingSubmitOperator(task_id="t", **TEXT).execute(context_of(ti, store))
    check_foreign_report(caught.value, ti, Money.UNTOUCHED, logged)
    assert not submits(gateway)


def test_what_airflow_knows_as_a_secret_is_in_no_report(gateway):
    mask_secret("pa55word-of-a-database")
    ti, store = TI(), Store()
    store.before[1] = MemoryError("password=pa55word-of-a-database")
    with pytest.raises(MemoryError):
        KlingSubmitOperator(task_id="t", **TEXT).execute(context_of(ti, store))
    assert "password=***" in ti.xcoms["kling_error"]["what"]


def test_whatever_ends_a_wait_for_no_job_says_nothing_of_a_purchase(gateway, logged):
    ti = TI()
    with pytest.raises(TaskDeferralError) as caught:
        KlingTaskSensor(task_id="t", kling_task_id="").resume_execution(
            "__fail__", {"error": "gone"}, context_of(ti)
        )
    check_foreign_report(caught.value, ti, Money.UNAFFECTED, logged)


@pytest.mark.parametrize("is_bought", [False, True])
def test_of_the_frames_of_an_exception_those_of_the_function_stay(gateway, tmp_path, is_bought):
    """What the Dag's author has written is to be found; below the three lines, our frames would hide it."""
    signature = "abcdef" * 4
    error, store = LookupError(f"https://s3.test/v?X-Amz-Signature={signature}"), Store()
    gateway.add_fault("job:stuck")

    def t():
        raise error

    if is_bought:
        with pytest.raises(TaskDeferred):
            decorated_task(tmp_path / "cat.mp4", deferrable=True).execute(context_of(TI(), store))
    with DAG("d", schedule=None) as dag:
        kling_video(t)()
    with pytest.raises((LookupError, KlingUnavailableError)) as caught:
        dag.tasks[0].execute(context_of(TI(), store))
    assert (caught.value is error) is not is_bought
    frames = traceback.walk_tb(caught.value.__traceback__)
    inner = [Path(frame.f_code.co_filename).stem for frame, _ in frames][1:]
    assert {*inner[:-1]} <= {"operator", "base", "decorated"}
    assert inner.count("decorated") <= 1
    assert inner[-1] == Path(__file__).stem
    assert (signature in "".join(traceback.format_exception(caught.value))) is not is_bought


def test_whatever_ends_a_submit_amid_its_purchase_is_uncertain(gateway, logged):
    ti, store = TI(), Store()
    store.after[1] = MemoryError()
    with pytest.raises(dialect(gateway).unsettled, match="MemoryError") as caught:
        KlingSubmitOperator(task_id="t", **TEXT).execute(context_of(ti, store))
    assert isinstance(caught.value, AirflowFailException) is not dialect(gateway).finds_jobs
    assert ti.xcoms["kling_error"]["money"] == Money.MAYBE
    again = KlingSubmitOperator(task_id="t", **TEXT)
    check_lost_answer(gateway, lambda: again.execute(context_of(TI(), store)))


def test_whatever_ends_a_wait_names_the_job(gateway, monkeypatch, logged):
    ti, kling_task_id = TI(), bought(gateway)

    def pull(*_, **__):
        raise runtime_error()

    monkeypatch.setattr(ti, "get_first_reschedule_date", pull)
    sensor = KlingTaskSensor(task_id="t", kling_task_id=kling_task_id, deferrable=False, mode="reschedule")
    with pytest.raises(KlingUnavailableError, match="AirflowRuntimeError") as caught:
        sensor.execute(context_of(ti))
    check_report(caught.value, ti, kling_task_id, Money.RUNNING, logged)


def test_what_the_dags_author_says_with_an_exception_is_left_as_it_is(gateway, monkeypatch, tmp_path):
    for error in (AirflowSkipException("not today"), AirflowFailException("never")):
        ti = TI()
        ti.broken["size"] = error
        with pytest.raises(type(error)) as caught:
            download(bought(gateway), tmp_path / f"{type(error).__name__}.mp4", ti)
        assert caught.value is error
        assert "kling_error" not in ti.xcoms


# What keeps the video from its place is found before it is bought, where the target is known then.


def test_two_tasks_of_a_run_with_one_target_buy_one_video(gateway, tmp_path):
    gateway.add_fault("job:stuck")
    path = tmp_path / "cat.mp4"
    first = video_task(path, deferrable=True)
    with pytest.raises(TaskDeferred):
        first.execute(context_of(TI(map_index=0), Store()))
    with pytest.raises(KlingInputError, match="claimed") as caught:
        video_task(path).execute(context_of(TI(map_index=1), Store()))
    assert caught.value.money is Money.UNTOUCHED
    assert submits(gateway) == 1


@pytest.mark.parametrize("fault", ["job:fail", "submit:error=INVALID_REQUEST_BODY"])
def test_a_claim_is_given_back_where_no_video_will_come(gateway, tmp_path, fault):
    gateway.add_fault(fault)
    path = tmp_path / "cat.mp4"
    with pytest.raises((KlingJobFailedError, KlingInputError)):
        video_task(path).execute(context_of(TI(map_index=0), Store()))
    assert names(tmp_path) == []
    assert video_task(path).execute(context_of(TI(map_index=1), Store()))


def test_after_an_uncertain_submit_the_target_is_free_for_the_rescue(gateway, tmp_path):
    gateway.add_fault("submit:cut,late")
    path = tmp_path / "cat.mp4"
    ended = outcome(lambda: video_task(path).execute(context_of(TI(map_index=0), Store())))
    assert isinstance(ended, KlingSubmitUncertainError) is not dialect(gateway).finds_jobs
    assert names(tmp_path) == {"myrouter": [], "kling": ["cat.mp4", "cat.mp4.json"]}[gateway.spoken]
    (job,) = gateway.jobs
    assert download(job.task_id, path, if_exists="skip") == str(path)


def test_a_rescued_video_has_a_sidecar_with_all_that_is_known(gateway, tmp_path):

    kling_task_id = bought(gateway)
    download(kling_task_id, tmp_path / "cat.mp4")
    sidecar = json.loads((tmp_path / "cat.mp4.json").read_text())
    assert sidecar["kling_task_id"] == kling_task_id
    assert sidecar["video_type"] == {"myrouter": "mp4", "kling": ""}[gateway.spoken]
    assert sidecar["submitted_at"] == pytest.approx(sidecar["timings"]["submit_time_ms"] / 1000)
    assert sidecar["request"].startswith("unknown")


@pytest.mark.parametrize("form", ["one task", "three tasks"])
def test_where_it_cannot_be_read_what_an_earlier_try_bought_a_job_may_run(gateway, tmp_path, clock, form):
    def away(key, default=None):
        raise runtime_error()

    ti, store = TI(), Store()
    one = form == "one task"
    task = video_task(tmp_path / "cat.mp4") if one else KlingSubmitOperator(task_id="t", **TEXT)
    task.execute(context_of(TI(), store))
    store.get = away
    with pytest.raises(KlingUnavailableError, match="cannot be read") as caught:
        task.execute(context_of(ti, store))
    assert caught.value.money is Money.MAYBE
    assert ti.xcoms["kling_error"]["money"] == Money.MAYBE
    assert submits(gateway) == 1


@pytest.mark.parametrize("back", [False, True])
def test_a_job_whose_id_only_an_xcom_holds_is_named(gateway, clock, tmp_path, back):
    store = Store()
    store.before |= {number: runtime_error() for number in range(2, 200)}

    class Broken(TI):
        def xcom_push(self, key, value):
            if key == "size":
                if back:
                    store.before.clear()
                raise ZeroDivisionError
            super().xcom_push(key, value)

    with pytest.raises(KlingError, match="ZeroDivisionError") as caught:
        video_task(tmp_path / "cat.mp4").execute(context_of(Broken(), store))
    job = gateway.jobs[0].task_id
    assert caught.value.kling_task_id == job
    is_found = back or dialect(gateway).finds_jobs
    assert ("A retry goes on" if is_found else "kling_rescue") in caught.value.advice
    assert store.values["kling_submit"]["kling_task_id"] == (job if back else "")
