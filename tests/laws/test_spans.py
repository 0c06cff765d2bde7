"""Spans tell what became of their records: committed once, refused, or given up; and no collector delays the loop."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.laws.scripted import Cluster, Crash, Script, ScriptedSink
from tests.laws.scripted_worker import Stop, faults, sizes, topic_of, worker_on
from tests.laws.test_engine import batch_of, logs
from worker.loop import Worker
from worker.metrics import Metrics
from worker.records import Headers, Position, RecordBatch
from worker.tracing import spans
from worker.tracing.context import context_of
from worker.tracing.spans import SpanTracing

SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-%016x-01"
NOT_SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def tracing(exporter: SpanExporter, ratio: float = 0.0, metrics: Metrics | None = None) -> SpanTracing:
    ticks = itertools.count(1_000, 10)
    return SpanTracing("samples", "group", "worker-0", ratio, metrics or Metrics(), exporter, clock=ticks.__next__)


def place(span: ReadableSpan) -> tuple[int, int]:
    assert span.attributes is not None
    return int(str(span.attributes["messaging.destination.partition.id"])), int(
        str(span.attributes["messaging.kafka.offset"])
    )


def outcome(span: ReadableSpan) -> Any:
    assert span.attributes is not None
    return span.attributes["cellstream.outcome"]


def counted(metrics: Metrics) -> dict[str, float]:
    value = metrics.registry.get_sample_value
    return {result: value("cellstream_spans_total", {"result": result}) or 0.0 for result in ("exported", "dropped")}


def records(headers: Sequence[Headers | None], partition: int = 3) -> RecordBatch:
    batch = batch_of([(b"a", b'{"features":[1,2]}', i, i, own) for i, own in enumerate(headers)])
    batch.partition = partition
    return batch


class Seen(ScriptedSink):
    """Remembers the headers of what was committed, by what was committed."""

    def __init__(self, cluster: Cluster, script: Script, seen: list[bytes]) -> None:
        super().__init__(cluster, script)
        self._seen = seen

    def commit(self, positions: Sequence[Position], source: object) -> None:
        waiting = list(self._open)
        before = len(self.cluster.outputs)
        super().commit(positions, source)
        if len(self.cluster.outputs) > before:
            for found in waiting:
                every = [*(found.headers or ()), *(letter.headers for letter in found.dead_letters)]
                contexts = [context_of(headers) for headers in every if headers]
                self._seen += [context.span_id for context in contexts if context is not None]


def live(cluster: Cluster, script: Script, sizes: list[int], seen: list[bytes]) -> Iterator[ReadableSpan]:
    """What workers export, one after the other as each crashes, until everything is answered."""
    url = f"memory://{uuid.uuid4()}"
    for _ in range(len(script.faults) + 1):
        exporter = InMemorySpanExporter()
        traced = tracing(exporter)
        worker: Worker = worker_on(cluster, script, url, sizes)
        worker.engine._tracing = worker.observer._tracing = traced
        worker.sink = Seen(cluster, script, seen)  # type: ignore[assignment]
        try:
            worker.startup()
            worker.run(Stop(cluster))
            worker.shutdown()
        except Crash:
            worker.keeper.wait(5.0)
            worker.keeper.close(0.0)
            done = False
        else:
            done = True
        traced.close()
        yield from exporter.get_finished_spans()
        if done:
            assert len(exporter.get_finished_spans()) == traced._begun, "a span was never ended"
            return
    pytest.fail("more crashes than the script has")


@given(st.lists(logs(), min_size=1, max_size=2), faults, sizes)
@settings(max_examples=12, deadline=None)
def test_a_record_has_one_committed_span_whatever_was_aborted_and_outputs_name_it(
    logs_: list[list[Any]], script: dict[int, str], sizes: list[int]
) -> None:
    number = itertools.count(1)
    with_headers = [
        [(*record[:4], [*(record[4] or ()), ("traceparent", SAMPLED % next(number))]) for record in log]
        for log in logs_
    ]
    topic = topic_of(with_headers)
    cluster, seen = Cluster(topic), list[bytes]()
    exported = list(live(cluster, Script(dict(script)), sizes, seen))
    durable = Counter(place(span) for span in exported if outcome(span) != "given_up")
    everything = {(partition, offset) for partition, batch in topic.items() for offset in batch.offsets}
    assert set(durable.values()) <= {1}, "a record was committed twice"
    assert durable.keys() <= everything
    refused = {place(span) for span in exported if outcome(span) == "dead_letter"}
    assert refused <= set(cluster.refused)
    if not any(kind.startswith("crash") for kind in script.values()):  # what dies has nobody to tell of it
        assert durable.keys() == everything
        assert refused == set(cluster.refused)
        assert set(seen) <= {
            b"%016x" % span.context.span_id for span in exported if span.context and outcome(span) != "given_up"
        }
    for span in exported:
        failed = outcome(span) != "committed"
        assert span.status.status_code == (StatusCode.ERROR if failed else StatusCode.UNSET)
        assert span.attributes is not None
        assert ("error.type" in span.attributes) == failed
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time < span.end_time


def test_a_span_says_where_its_record_was_and_is_its_contexts_child_and_links_to_it() -> None:
    exporter = InMemorySpanExporter()
    traced = tracing(exporter)
    headers: Headers = [("traceparent", SAMPLED % 7), ("tracestate", b"vendor=1")]
    traced.polled()
    batch = records([headers, [("x", None)], headers])
    batch.values[2] = None
    carried = traced.begin(batch, [b"pump", b"pump", b"\xff" * 300], 0)
    traced.committed([])
    traced.close()
    first, last = exporter.get_finished_spans()
    assert first.name == "process samples"
    assert first.kind is SpanKind.CONSUMER
    assert dict(first.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "samples",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 0,
        "messaging.kafka.message.key": "pump",
        "messaging.consumer.group.name": "group",
        "messaging.client.id": "cellstream-worker-0",
        "cellstream.outcome": "committed",
    }
    assert first.parent is not None
    assert (first.parent.span_id, first.parent.is_remote) == (7, True)
    assert [link.context.span_id for link in first.links] == [7]
    assert first.parent.trace_state.get("vendor") == "1"
    assert (last.attributes or {})["messaging.kafka.message.tombstone"] is True
    assert carried.keys() == {0, 2}
    assert first.context is not None
    assert carried[0] == [
        ("traceparent", SAMPLED % first.context.span_id),
        ("tracestate", b"vendor=1"),
    ]


def test_what_was_not_sampled_goes_through_and_only_records_without_a_context_are_drawn() -> None:
    log: list[Headers | None] = [None, [("traceparent", NOT_SAMPLED)], [("traceparent", SAMPLED % 1)]] * 200
    for ratio, drawn in ((0.0, range(1)), (0.5, range(60, 141)), (1.0, range(200, 201))):
        exporter = InMemorySpanExporter()
        traced = tracing(exporter, ratio)
        traced._random = spans.np.random.default_rng(5)
        carried = traced.begin(records(log), [b"a"] * len(log), 0)
        traced.committed([])
        traced.close()
        roots = [span for span in exporter.get_finished_spans() if span.parent is None]
        assert len(roots) in drawn
        assert len(exporter.get_finished_spans()) == 200 + len(roots)
        assert {place(span)[1] % 3 for span in roots} <= {0}
        assert not any(span.links for span in roots)
        assert all(carried[i] == [("traceparent", NOT_SAMPLED)] for i in range(1, 600, 3))
        for span in roots:
            found = context_of(carried[place(span)[1]])
            assert found is not None
            assert span.context is not None
            assert (int(found.trace_id, 16), int(found.span_id, 16)) == (span.context.trace_id, span.context.span_id)
            assert found.sampled
        assert len(carried) == 400 + len(roots)


def test_a_record_that_was_answered_before_has_no_span() -> None:
    exporter = InMemorySpanExporter()
    traced = tracing(exporter, 1.0)
    batch = records([None, [("traceparent", SAMPLED % 1)]] * 5)
    carried = traced.begin(batch, [b"a"] * 10, 7)
    traced.committed([])
    traced.close()
    assert sorted(place(span)[1] for span in exporter.get_finished_spans()) == sorted(carried) == [7, 8, 9]
    assert traced.begin(batch, [b"a"] * 10, 10) == {}


class Collector(SpanExporter):
    """Takes nothing before it is told to, and then answers as it is told."""

    def __init__(self, answer: SpanExportResult | Exception) -> None:
        self.answer = answer
        self.free = Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert self.free.wait(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_collector_that_hangs_keeps_no_record_and_what_it_misses_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MOST_WAITING", 600)
    metrics, collector = Metrics(), Collector(SpanExportResult.SUCCESS)
    traced = tracing(collector, metrics=metrics)
    batch = records([[("traceparent", SAMPLED % 1)]] * 400)
    for turn in range(3):
        carried = traced.begin(batch, [b"a"] * 400, 0)
        own = [context_of(headers) for headers in carried.values()]
        assert len(own) == 400, "a trace has a hole"
        begun = sum(context is not None and context.span_id != b"%016x" % 1 for context in own)
        assert begun == (400, 200, 0)[turn]
        traced.committed([])
    assert counted(metrics) == {"exported": 0, "dropped": 600}
    traced.close()  # which waits for nobody
    assert counted(metrics) == {"exported": 0, "dropped": 600}
    collector.free.set()
    traced._provider.shutdown()
    closing = next(iter(traced._provider._active_span_processor._span_processors))
    closing._batch_processor._worker_thread.join(60)  # type: ignore[attr-defined]
    assert counted(metrics) == {"exported": 600, "dropped": 600}


@pytest.mark.parametrize("answer", [SpanExportResult.FAILURE, OSError("no route to the collector")])
def test_spans_that_did_not_arrive_are_counted_and_make_room_for_others(answer: Any) -> None:
    metrics, collector = Metrics(), Collector(answer)
    collector.free.set()
    traced = tracing(collector, metrics=metrics)
    traced.begin(records([[("traceparent", SAMPLED % 1)]] * 20), [b"a"] * 20, 0)
    traced.committed([])
    traced.close()
    assert counted(metrics) == {"exported": 0, "dropped": 20}
    assert traced._exporter.done == traced._begun == 20
