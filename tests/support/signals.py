"""Receivers of metrics, by StatsD's protocol, and of spans, by OpenTelemetry's."""

import gzip
import os
import re
import socket
import sys
import threading
from collections import defaultdict
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from airflow_provider_kling.metrics import _stats

_LINE = re.compile(r"airflow\.(?P<name>kling[\w.]*)(?P<tags>(,[^:]*)?):(?P<value>[^|]*)\|(?P<type>\w+)")


class StatsdServer:
    """Receives StatsD metrics with tags in InfluxDB's form, and keeps those of the provider.

    :ivar metrics: by name: the type, the tags and the value of each line.
    """

    def __init__(self):
        self.metrics = defaultdict(list)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._marks, self._closed = threading.Semaphore(0), False
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def port(self):
        return self._socket.getsockname()[1]

    @property
    def settings(self):
        """What an admin writes into Airflow's settings for it."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def sum(self, name, **tags):
        """Return the sum of a metric's values, of the lines that have these tags."""
        lines = [(of, value) for _, of, value in self.metrics[name] if tags.items() <= of.items()]
        return sum(value for _, value in lines)

    def catch_up(self):
        """Wait until all that was sent before is read."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", ("127.0.0.1", self.port))
        assert self._marks.acquire(timeout=30)

    def close(self):
        self._closed = True
        self.catch_up()
        self._socket.close()

    def _read(self):
        while not self._closed:
            packet = self._socket.recv(65536).decode()
            for found in map(_LINE.fullmatch, packet.splitlines()):
                if found:
                    tags = dict(tag.split("=", 1) for tag in found["tags"].split(",")[1:])
                    self.metrics[found["name"]].append((found["type"], tags, float(found["value"])))
            if not packet:
                self._marks.release()


def send_to(server, monkeypatch):
    """Let Airflow's ``Stats`` of this process send to a server, by Airflow's own StatsD logger."""
    _stats()  # while the settings are not there: Airflow 3.2 makes a logger at this import
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    try:
        from airflow.sdk.observability.metrics.statsd_logger import get_statsd_logger
    except ImportError:  # Airflow 3.1
        from airflow.metrics.statsd_logger import get_statsd_logger as of_class

        get_statsd_logger = partial(of_class, None)
    return replace_logger(get_statsd_logger, monkeypatch).statsd


def read_from(reader, monkeypatch):
    """Let Airflow's ``Stats`` of this process send to a reader of OpenTelemetry, by Airflow's own logger."""
    from opentelemetry.sdk.metrics import MeterProvider

    try:
        from airflow.sdk._shared.observability.metrics.otel_logger import SafeOtelLogger
    except ImportError:  # Airflow 3.1
        from airflow.metrics.otel_logger import SafeOtelLogger
    return replace_logger(lambda: SafeOtelLogger(MeterProvider([reader])), monkeypatch)


def replace_logger(make, monkeypatch):
    """Give Airflow's ``Stats`` of this process another logger, and return it."""
    stats = _stats()
    logger, module = make(), sys.modules[stats.__module__]
    if hasattr(module, "_backend"):
        monkeypatch.setattr(module, "_backend", logger)
    else:  # before Airflow 3.3
        monkeypatch.setattr(stats, "instance", logger)
        monkeypatch.setattr(stats, "_instance_pid", os.getpid())
    return logger


class SpanServer:
    """Receives spans by OpenTelemetry's protocol over HTTP, and keeps those of the provider.

    :ivar spans: name and attributes of each span.
    """

    def __init__(self):
        self.spans = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def settings(self):
        """What an admin sets for it."""
        return {
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "AIRFLOW__KLING__TRACES": "True",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}/v1/traces",
        }

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                for span in (one for of in request.resource_spans for s in of.scope_spans for one in s.spans):
                    if span.name.startswith("kling."):
                        told = {one.key: _plain(one.value) for one in span.attributes}
                        spans.append((span.name, told, bool(span.parent_span_id)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        return Handler


def _plain(value):
    return getattr(value, value.WhichOneof("value"))
