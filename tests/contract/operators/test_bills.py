"""What a job has really cost stands in all results beside the estimate, and run limits count by it."""

import json
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import DAG
from airflow_fakes import TI, Store, connect, context_of, push_from_triggers, running_gateway
from chains import execute

from airflow_provider_kling import metrics
from airflow_provider_kling.emulator.kling import tasks as emulated
from airflow_provider_kling.errors import KlingInputError, KlingUnavailableError
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
    KlingSummaryOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor

MODEL = "text-to-video/kling-3.0"
#: The estimate of each job, in US dollars; its real cost is 5 s of 0.6 units, 0.42 USD.
ESTIMATE, UNITS, COST = 0.5, "3", 0.42


@pytest.fixture
def kling(clock, monkeypatch):
    """Kling's stand-in, whose jobs end at once."""
    with running_gateway(monkeypatch, clock=clock.time) as gateway:
        use(gateway, monkeypatch)
        yield gateway


@pytest.fixture
def slow(kling):
    """The same with jobs of half a minute, so that tasks defer."""
    kling.set_timing(queue_seconds=15, render_seconds=15)
    return kling


def use(gateway, monkeypatch, **extra):
    connect(gateway, monkeypatch, gateway="kling", prices={MODEL: 0.1}, **extra)


class Run:
    """A Dag run with mapped submits, sensors and downloads."""

    def __init__(self, folder, **arguments):
        self.xcoms, self.folder = {}, folder
        with DAG("d", schedule=None) as self.dag:
            self.submit = KlingSubmitOperator(
                task_id="submit", model=MODEL, prompt="a cat", duration=5, **arguments
            )
            self.wait = KlingTaskSensor(task_id="wait", kling_task_id="later")
            self.download = KlingDownloadOperator(task_id="download", kling_task_id="later", target="later")
            self.summary = KlingSummaryOperator(task_id="summary", fail_on_error=False)
            self.submit >> self.wait >> self.download >> self.summary
        self.stores = {}

    def ti(self, task_id, at, max_tries=3):
        return TI(task_id=task_id, map_index=at, run=self.xcoms, max_tries=max_tries)

    def buy(self, at=0, **try_):
        store = self.stores.setdefault(at, Store())
        pushed = execute(self.submit, store, self.ti("submit", at, **try_))
        return pushed["return_value"]

    def end(self, job, at=0, **wait):
        self.wait.kling_task_id = self.download.kling_task_id = job
        self.wait.deferrable = wait.get("deferrable", True)
        self.download.target = f"{self.folder}/{at}.mp4"
        waited = execute(self.wait, ti=self.ti("wait", at))
        return waited, execute(self.download, ti=self.ti("download", at))

    def report(self):
        ti = self.ti("summary", -1)
        return self.summary.execute(context_of(ti)), ti.xcoms["kling_summary"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_bill_stands_in_all_results(slow, tmp_path, deferrable):
    run = Run(tmp_path)
    job = run.buy()
    waited, downloaded = run.end(job, deferrable=deferrable)
    items = [{"charge_type": "unit", "amount": UNITS, "package_type": "video"}]
    sidecar = json.loads((tmp_path / "0.mp4.json").read_text())
    for place in (waited["return_value"], waited["kling_bill"], downloaded["kling_video"], sidecar):
        assert (place["cost_usd"], place["billing"]) == (COST, items)
    client_id = run.xcoms["submit", 0, "kling_request"]["client_id"]
    assert waited["kling_bill"] == downloaded["kling_bill"] | {"task_id": "wait"}
    assert (waited["kling_bill"]["kling_task_id"], waited["kling_bill"]["client_id"]) == (job, client_id)
    told, table = run.report()
    assert (told["estimated_cost_usd"], told["cost_usd"]) == (ESTIMATE, COST)
    assert "0.50 USD | 0.42 USD (3 units) |" in table


def test_a_run_of_many_is_billed_right_to_the_cent(kling, tmp_path):
    run = Run(tmp_path)
    for at in range(30):
        run.end(run.buy(at), at)
    told, table = run.report()
    assert told["cost_usd"] == 12.6 == float(sum(job.units for job in kling.jobs) * Decimal("0.14"))
    assert "billed 12.60 USD (90 units)." in table


def test_units_cost_what_the_connection_says_and_money_is_what_it_is(kling, tmp_path, monkeypatch):
    use(kling, monkeypatch, unit_price_usd=0.1)
    run = Run(tmp_path)
    waited, _ = run.end(run.buy())
    assert waited["return_value"]["cost_usd"] == 0.3


@pytest.mark.parametrize("currency", ["USD", "CNY"])
def test_money_is_not_converted(kling, tmp_path, monkeypatch, currency):
    item = {"charge_type": "cash", "cash_type": "balance", "amount": "2.94", "currency": currency}
    monkeypatch.setattr(emulated, "_billing", lambda *_: item)
    run = Run(tmp_path)
    waited, downloaded = run.end(run.buy())
    usd = 2.94 if currency == "USD" else None
    assert waited["return_value"]["cost_usd"] == downloaded["kling_video"]["cost_usd"] == usd
    told, table = run.report()
    assert told["cost_usd"] == usd
    assert f"billed 2.94 {currency}." in table


def test_a_run_limit_counts_finished_jobs_by_their_bill(kling, tmp_path):
    run = Run(tmp_path, max_run_cost_usd=1.4)
    jobs = [run.buy(at) for at in range(2)]
    with pytest.raises(KlingInputError, match=r"estimated 1\.00 USD so far\."):
        run.buy(2)
    for at, job in enumerate(jobs):
        run.end(job, at)
    run.buy(3)  # 0.84 USD by the bill and an estimate of 0.50 USD
    with pytest.raises(KlingInputError, match=r"1\.34 USD so far, of which 0\.84 USD by the gateway's bill"):
        run.buy(4)
    assert len(kling.jobs) == 3


def test_a_job_that_was_dearer_than_its_estimate_takes_more_of_the_limit(kling, tmp_path, monkeypatch):
    use(kling, monkeypatch, unit_price_usd=0.5)
    run = Run(tmp_path, max_run_cost_usd=1.4)
    run.end(run.buy(0), 0)  # 1.50 USD
    with pytest.raises(KlingInputError, match=r"1\.50 USD so far"):
        run.buy(1)


def test_a_job_in_another_currency_counts_by_its_estimate(kling, tmp_path, monkeypatch):
    item = {"charge_type": "cash", "amount": "0.01", "currency": "CNY"}
    monkeypatch.setattr(emulated, "_billing", lambda *_: item)
    run = Run(tmp_path, max_run_cost_usd=0.9)
    run.end(run.buy(0), 0)
    with pytest.raises(KlingInputError, match=r"estimated 0\.50 USD so far"):
        run.buy(1)


def test_a_cleared_submit_remembers_the_real_cost_after_its_wait_has_run_again(kling, tmp_path):
    run = Run(tmp_path)
    run.end(run.buy())
    again = run.buy(max_tries=7)  # cleared
    request = run.xcoms["submit", 0, "kling_request"]
    assert request["earlier_cost_usd"] == COST
    assert run.stores[0].values["kling_spent"] == {kling.jobs[0].task_id: "0.42"}
    run.end(again)
    assert run.xcoms["submit", 0, "kling_reservation"]["usd"] == "0.92"


def one_task(folder, **arguments):
    with DAG("d", schedule=None):
        return KlingImageToVideoOperator(
            task_id="t", model=MODEL, prompt="a cat", duration=5, target=f"{folder}/cat.mp4", **arguments
        )


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_one_task_records_the_real_cost(slow, tmp_path, deferrable):
    store = Store()
    pushed = execute(one_task(tmp_path, deferrable=deferrable), store)
    assert pushed["kling_bill"]["cost_usd"] == pushed["kling_video"]["cost_usd"] == COST
    assert store.values["kling_spent"] == {slow.jobs[0].task_id: "0.42"}


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_failed_job_tells_what_the_bill_says(slow, tmp_path, monkeypatch, deferrable, in_triggerer):
    describe = emulated.describe
    billed = {"billing": [{"charge_type": "unit", "package_type": "video", "amount": "1.5"}]}

    def with_bill(*arguments):
        told = describe(*arguments)
        return told | billed if told["status"] == "failed" else told

    monkeypatch.setattr(emulated, "describe", with_bill)
    slow.add_fault("job:fail")
    counted, store, ti = [], Store(), in_triggerer(TI())
    monkeypatch.setattr(metrics.Counter, "add", lambda of, amount=1, **_: counted.append((of.name, amount)))
    with pytest.raises(AirflowException, match=r"The bill says 1\.5 units\."):
        execute(one_task(tmp_path, deferrable=deferrable), store, ti)
    assert counted.count(("kling.cost.billed_usd", Decimal("0.21"))) == 1
    assert ti.xcoms["kling_bill"]["cost_usd"] == 0.21
    assert "1.5 units" in ti.xcoms["kling_error"]["what"]
    assert store.values["kling_spent"] == {slow.jobs[0].task_id: "0.21"}


@pytest.fixture
def in_triggerer(monkeypatch):
    """Let the triggers of a task push their XComs to it."""

    def of(ti):
        async def push(*, key, value, **_):
            ti.xcom_push(key, value)

        push_from_triggers(monkeypatch, push)
        # Before Airflow 3.3 each trigger sets it to None when it is made.
        held = property(lambda _: ti, lambda *_: None)
        monkeypatch.setattr(
            "airflow_provider_kling.triggers.KlingTaskTrigger.task_instance", held, raising=False
        )
        return ti

    return of


def test_myrouter_sends_no_bill(clock, monkeypatch, tmp_path):
    with running_gateway(monkeypatch, clock=clock.time):
        run = Run(tmp_path)
        run.submit.model = "kling-v3.0-pro-t2v"
        waited, downloaded = run.end(run.buy())
        assert "kling_bill" not in waited
        assert "kling_bill" not in downloaded
        assert waited["return_value"]["cost_usd"] is downloaded["kling_video"]["cost_usd"] is None
        told, table = run.report()
        assert told["cost_usd"] is None
        assert "billed" not in table


def test_a_wait_does_not_fail_because_its_bill_cannot_be_read(kling, tmp_path, monkeypatch):
    def fail(*_):
        raise KlingUnavailableError("Airflow is away.")

    monkeypatch.setattr("airflow_provider_kling.operators.xcom.bill_facts", fail)
    run = Run(tmp_path)
    waited, _ = run.end(run.buy())
    assert (waited["return_value"]["cost_usd"], waited["return_value"]["billing"]) == (None, [])
