"""A worker on a real broker whose spans go to a receiver of OTLP over HTTP: parents, links and outputs fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from confluent_kafka import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.contract.conftest import serving
from tests.deployment import Deployment, until
from worker.tracing.context import TraceContext, context_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLE = json.dumps({"features": [0.5, -1.25, 2.0]}).encode()
CHUNK = json.dumps({"samples": [[0.5, -1.25, 2.0]] * 3}).encode()


class Receiver:
    """What a collector has been sent."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.requests: list[tuple[str, str | None]] = []


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            received.requests.append((self.path, self.headers["Content-Type"]))
            for resource in request.resource_spans:
                received.resources.append({pair.key: pair.value.string_value for pair in resource.resource.attributes})
                received.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received = Receiver(server.server_address[1])
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


def context(message: Message) -> TraceContext | None:
    return context_of(message.headers() or [])


def attributes(span: Span) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


@pytest.mark.broker
@pytest.mark.slow
def test_a_trace_goes_from_the_sample_through_the_worker_to_the_output(
    kafka: TestCluster, artifact: Path, tmp_path: Path
) -> None:
    parent = {name: f"{i:016x}" for i, name in enumerate(("sample", "chunk", "bad", "quiet"), 1)}
    sent = {"sample": SAMPLE, "chunk": CHUNK, "bad": b"bad", "quiet": SAMPLE, "alone": SAMPLE}
    headers = {
        name: [("traceparent", f"00-{TRACE}-{span}-{flags}".encode()), ("tracestate", b"vendor=1")]
        for (name, span), flags in zip(parent.items(), ("01", "01", "01", "00"), strict=True)
    } | {"alone": [("traceparent", b"nonsense")]}
    with receiving() as received:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{received.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        made = Deployment.create(kafka, artifact, tmp_path, "--trace", "spans")
        with serving(replace(made, spawn=partial(Process, environment=environment))) as service:
            offsets = {}
            for name, value in sent.items():
                offsets[name] = service.send(1, key=name.encode(), value=value, headers=headers[name])
            outputs = {name: service.messages(name, 3 if name == "chunk" else 1) for name in sent if name != "bad"}
            (letter,) = service.dead_letters(b"bad", 1)
            until(lambda: len(received.spans) >= 3, "three spans", service._worker)
    assert received.requests[0] == ("/v1/traces", "application/x-protobuf")
    assert received.resources[0]["service.name"] == "cellstream"
    assert received.resources[0]["service.instance.id"] == "worker-0"
    assert received.resources[0]["deployment.environment.name"] == "test"
    spans = {attributes(span)["messaging.kafka.message.key"]: span for span in received.spans}
    assert spans.keys() == {"sample", "chunk", "bad"}
    assert len(received.spans) == 3
    for name, span in spans.items():
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, parent[name])
        assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [(TRACE, parent[name])]
        assert span.kind == Span.SPAN_KIND_CONSUMER
        assert span.name == f"process {made.input_topic}"
        assert attributes(span)["messaging.consumer.group.name"] == made.group_id
        assert attributes(span)["messaging.destination.partition.id"] == "1"
        assert attributes(span)["messaging.kafka.offset"] == offsets[name]
        assert span.start_time_unix_nano < span.end_time_unix_nano
        assert span.trace_state == "vendor=1"
        for message in [letter] if name == "bad" else outputs[name]:
            found = context(message)
            assert found is not None
            assert (found.trace_id.decode(), found.span_id.decode()) == (TRACE, span.span_id.hex())
            assert found.sampled
            assert found.state == b"vendor=1"
    assert [attributes(spans[name])["cellstream.outcome"] for name in ("sample", "bad")] == ["committed", "dead_letter"]
    assert spans["sample"].status.code == Status.STATUS_CODE_UNSET
    assert spans["bad"].status.code == Status.STATUS_CODE_ERROR
    assert attributes(spans["bad"])["error.type"] == "not_json"
    quiet = context(outputs["quiet"][0])
    assert quiet is not None
    assert (quiet.span_id.decode(), quiet.sampled) == (parent["quiet"], False)
    assert context(outputs["alone"][0]) is None
    assert all("traceparent" not in dict(message.headers() or []) for message in outputs["alone"])
