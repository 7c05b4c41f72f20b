"""What a fleet's operators see: each purchase, end and download is counted, and traced if they ask for it."""

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow_fakes import TI
from chains import chain, execute, one_task, submit_of
from dialects import at_myrouter, dialect
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from signals import StatsdServer, read_from, send_to

from airflow_provider_kling import metrics, tracing
from airflow_provider_kling.errors import KlingError


@pytest.fixture
def statsd(monkeypatch):
    server = StatsdServer()
    client = send_to(server, monkeypatch)
    yield server
    client.close()
    server.close()


@pytest.fixture
def tags(gateway):
    """The tags of a job of :data:`MODEL`."""
    return {"gateway": gateway.spoken, "model": dialect(gateway).picture_model}


@pytest.fixture
def spans(monkeypatch):
    """The ended spans, by name, of a tracer provider that an Airflow with traces has set up."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setenv("AIRFLOW__KLING__TRACES", "True")
    return lambda: {span.name: span for span in exporter.get_finished_spans()}


@pytest.mark.parametrize("mode", ["chain", "one task"])
def test_a_video_is_counted_once_from_its_purchase_to_its_file(
    statsd, rendering, picture, tmp_path, tags, mode
):
    if mode == "chain":
        chain(tmp_path / "cat.mp4", picture)
    else:
        execute(one_task(tmp_path / "cat.mp4", picture))
    statsd.catch_up()
    assert statsd.metrics["kling.jobs.submitted"] == [("c", tags, 1)]
    assert statsd.metrics["kling.jobs.succeeded"] == [("c", tags, 1)]
    assert statsd.metrics["kling.cost.estimated_usd"] == [("c", tags, 0.56)]
    assert statsd.metrics["kling.jobs.uncertain"] == [("c", {}, 0)]
    [(_, of_wait, waited)] = statsd.metrics["kling.wait.duration"]
    assert of_wait == tags | {"outcome": "succeeded"}
    assert waited >= 30_000  # milliseconds
    size = (tmp_path / "cat.mp4").stat().st_size
    assert statsd.metrics["kling.download.bytes"] == [("c", tags, size)]
    for name in ("kling.download.duration", "kling.download.delay"):
        [(kind, of_download, took)] = statsd.metrics[name]
        assert (kind, of_download) == ("ms", tags)
        assert took < waited
    assert not statsd.metrics["kling.errors"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_job_without_a_video_counts_by_the_class_of_its_error(statsd, rendering, picture, tags, deferrable):
    rendering.add_fault("job:fail")
    with pytest.raises(KlingError):
        chain("unused.mp4", picture, deferrable=deferrable)
    statsd.catch_up()
    error = {"error": "KlingJobFailedError"}
    assert statsd.metrics["kling.jobs.failed"] == [("c", tags | error, 1)]
    assert statsd.metrics["kling.errors"] == [("c", error, 1)]
    [(_, of_wait, _)] = statsd.metrics["kling.wait.duration"]
    assert of_wait == tags | {"outcome": "failed"}
    assert not statsd.metrics["kling.jobs.succeeded"]


@at_myrouter("its twin at Kling: test_a_lost_answer_is_a_purchase_too_if_the_client_id_finds_its_job")
def test_an_uncertain_submit_has_a_counter_of_its_own(statsd, gateway, picture):
    gateway.add_fault("submit:cut,late")
    with pytest.raises(KlingError):
        execute(submit_of(picture))
    statsd.catch_up()
    assert statsd.metrics["kling.jobs.uncertain"] == [("c", {}, 0), ("c", {}, 1)]
    assert statsd.metrics["kling.errors"] == [("c", {"error": "KlingSubmitUncertainError"}, 1)]
    assert not statsd.metrics["kling.jobs.submitted"]


@pytest.mark.parametrize("gateway", ["kling"], indirect=True)
def test_a_lost_answer_is_a_purchase_too_if_the_client_id_finds_its_job(statsd, gateway, picture, tags):
    gateway.add_fault("submit:cut,late")
    execute(submit_of(picture))
    statsd.catch_up()
    assert statsd.metrics["kling.jobs.submitted"] == [("c", tags, 1)]
    assert not statsd.metrics["kling.errors"]


@pytest.mark.parametrize("gateway", ["kling"], indirect=True)
@pytest.mark.parametrize("of_wait", [{}, {"deferrable": False}])
def test_the_bill_of_a_job_counts_once(statsd, rendering, picture, tmp_path, tags, of_wait):
    chain(tmp_path / "cat.mp4", picture, **of_wait)
    statsd.catch_up()
    assert statsd.metrics["kling.cost.billed_usd"] == [("c", tags, pytest.approx(0.56))]


def test_a_reused_video_is_no_purchase_and_no_download(statsd, gateway, picture, tmp_path):
    for name in ("first", "second"):
        library = {"reuse": "fingerprint", "library": str(tmp_path / "library")}
        execute(one_task(tmp_path / f"{name}.mp4", picture, **library))
    statsd.catch_up()
    assert (tmp_path / "second.mp4").exists()
    for name in ("kling.jobs.submitted", "kling.download.bytes"):
        assert len(statsd.metrics[name]) == 1, name


def test_a_duration_that_two_clocks_make_negative_counts_as_0(statsd):
    metrics.DELIVERY.record(-1.0)
    statsd.catch_up()
    assert statsd.metrics["kling.download.delay"] == [("ms", {}, 0)]


def test_opentelemetry_gets_the_same(rendering, picture, tmp_path, tags, monkeypatch):
    reader = InMemoryMetricReader()
    read_from(reader, monkeypatch)
    chain(tmp_path / "cat.mp4", picture)
    scopes = [scope for of in reader.get_metrics_data().resource_metrics for scope in of.scope_metrics]
    points = {metric.name: metric.data.data_points[0] for scope in scopes for metric in scope.metrics}
    bought, waited = points["airflow.kling.jobs.submitted"], points["airflow.kling.wait.duration"]
    assert (bought.value, dict(bought.attributes)) == (1, tags)
    assert points["airflow.kling.cost.estimated_usd"].value == pytest.approx(0.56)
    assert dict(waited.attributes) == {**tags, "outcome": "succeeded"}


def test_a_model_that_the_catalogue_does_not_know_makes_no_series_of_its_own():
    assert metrics.job_tags("Kling", "a-model-of-tomorrow")["model"] == "other"
    assert metrics.job_tags("Kling", None)["model"] == "unknown"


def test_a_metric_that_cannot_be_sent_is_logged_once_and_ends_nothing(
    statsd, rendering, picture, tmp_path, monkeypatch, caplog
):
    def broken(*_):
        raise OSError("the network is down")

    metrics._log_once.cache_clear()
    monkeypatch.setattr("statsd.StatsClient._send", broken)
    execute(one_task(tmp_path / "cat.mp4", picture))
    assert (tmp_path / "cat.mp4").exists()
    assert caplog.text.count("A metric could not be sent (OSError: the network is down)") == 1


def test_the_three_steps_are_spans_that_name_the_task_and_not_the_prompt(
    spans, rendering, picture, tmp_path, tags
):
    submitted, _, _ = chain(tmp_path / "cat.mp4", picture)
    assert set(spans()) == {"kling.submit", "kling.wait", "kling.download"}
    for name, span in spans().items():
        step = name.removeprefix("kling.")
        told = span.attributes
        assert (told["airflow.dag_id"], told["airflow.dag_run.run_id"]) == ("d", "r")
        assert (told["airflow.task_id"], told["airflow.task_instance.try_number"]) == (step, 1)
        assert told["airflow.task_instance.map_index"] == -1
        assert (told["kling.job"], told["kling.model"]) == (submitted["return_value"], tags["model"])
        assert told["kling.gateway"] == tags["gateway"]
        assert "a cat" not in span.to_json()
        assert str(tmp_path) not in span.to_json()
    told = {name: span.attributes for name, span in spans().items()}
    assert told["kling.submit"]["kling.estimated_cost_usd"] == 0.56
    assert told["kling.wait"].get("kling.cost_usd") == {"kling": 0.56}.get(tags["gateway"])
    assert told["kling.download"]["kling.bytes"] == (tmp_path / "cat.mp4").stat().st_size
    wait = spans()["kling.wait"]
    assert wait.end_time - wait.start_time >= 30e9  # since the submit, over the deferral


def test_prompts_and_paths_are_in_spans_only_if_the_admin_asks(
    spans, rendering, picture, tmp_path, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__KLING__TRACES_CONTENT", "True")
    chain(tmp_path / "cat.mp4", picture)
    assert spans()["kling.submit"].attributes["kling.prompt"] == "a cat"
    assert spans()["kling.download"].attributes["kling.path"] == str(tmp_path / "cat.mp4")


@pytest.mark.parametrize(
    ("fault", "step", "error"),
    [
        ("submit:error=NOT_ENOUGH_BALANCE", "submit", "KlingBalanceError"),
        ("job:fail", "wait", "KlingJobFailedError"),
        ("download:dead=403,times=always", "download", "KlingDownloadError"),
    ],
)
def test_a_step_that_fails_ends_its_span_with_the_class_of_the_error_and_without_its_words(
    spans, rendering, picture, tmp_path, fault, step, error
):
    rendering.add_fault(fault)
    with pytest.raises(KlingError) as caught:
        chain(tmp_path / "cat.mp4", picture)
    span = spans()[f"kling.{step}"]
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["kling.error"] == type(caught.value).__name__ == error
    assert "kling.error_message" not in span.attributes
    assert not span.events
    assert not span.status.description


def test_a_deferral_is_no_error_and_spans_of_the_step_lie_below_it(spans):
    def run():
        with tracing.step("submit", TI()):
            trace.get_tracer("requests").start_span("POST").end()
            raise TaskDeferred(trigger=None, method_name="resume")

    with pytest.raises(TaskDeferred):
        run()
    step = spans()["kling.submit"]
    assert (step.status.status_code, step.attributes["kling.deferred"]) == (trace.StatusCode.UNSET, True)
    assert spans()["POST"].parent == step.context


def test_without_the_setting_there_are_no_spans(spans, rendering, picture, tmp_path, monkeypatch):
    monkeypatch.delenv("AIRFLOW__KLING__TRACES")
    chain(tmp_path / "cat.mp4", picture)
    assert not spans()


@pytest.mark.parametrize("setting", ["TRACES", "TRACES_CONTENT"])
def test_a_setting_that_is_no_boolean_ends_nothing(spans, rendering, picture, tmp_path, monkeypatch, setting):
    monkeypatch.setenv(f"AIRFLOW__KLING__{setting}", "perhaps")
    chain(tmp_path / "cat.mp4", picture)
    assert (tmp_path / "cat.mp4").exists()


@pytest.mark.parametrize("broken", ["get_tracer_provider", "Span.set_attribute", "Span.end"])
def test_a_broken_tracer_ends_nothing(spans, rendering, picture, tmp_path, monkeypatch, broken):
    def fail(*_):
        raise RuntimeError("no provider")

    module = "opentelemetry.sdk.trace" if "." in broken else "opentelemetry.trace"
    monkeypatch.setattr(f"{module}.{broken}", fail)
    chain(tmp_path / "cat.mp4", picture)
    assert (tmp_path / "cat.mp4").exists()
