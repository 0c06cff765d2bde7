"""A span for each sampled record, from its poll to the commit of its transaction, exported by OTLP.

Spans go through the SDK's batch processor, so the loop waits for no collector. Its queue is bounded here, before a span
is begun: a record that comes while `MOST_WAITING` are on their way goes without, and its outputs carry on the context
that it came with, so that its trace has no hole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from threading import Thread
from typing import Any

import numpy as np

from worker.errors import UsageError
from worker.metrics import Metrics
from worker.records import Headers, Outcome, RecordBatch
from worker.tracing.context import TraceContext, Tracing, contexts

try:
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    from opentelemetry.trace import (
        Link,
        NonRecordingSpan,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        set_span_in_context,
    )
    from opentelemetry.trace.span import TraceState
except ImportError as fault:
    raise UsageError(f"trace=spans needs the extra: pip install 'cellstream[otel]' ({fault})") from None

MOST_WAITING = 8192  # spans, begun and not exported yet
CLOSE_S = 1.0
COMMITTED, DEAD_LETTER, GIVEN_UP = "committed", "dead_letter", "given_up"


class SpanTracing(Tracing):
    """What `trace=spans` does.

    A record whose context is sampled gets a span with that context as its parent, and as its link, as the conventions
    for messages ask; its outputs name the span as theirs. One whose context is not sampled gets none. Of records
    without a context a share begins a trace.

    Args:
        topic: the input topic.
        group_id: the consumer group.
        instance_id: of this worker.
        ratio: the share of records without a context that begin a trace, 0 to 1.
        metrics: counts spans by what became of them.
        exporter: where spans go; None is OTLP over HTTP, as the variables `OTEL_EXPORTER_OTLP_*` say.
        attributes: added to the resource.
        clock: nanoseconds since the epoch.
    """

    def __init__(
        self,
        topic: str,
        group_id: str,
        instance_id: str,
        ratio: float,
        metrics: Metrics,
        exporter: SpanExporter | None = None,
        attributes: Mapping[str, str] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._name = f"process {topic}"
        self._common = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
            "messaging.consumer.group.name": group_id,
            "messaging.client.id": f"cellstream-{instance_id}",
        }
        self._ratio = ratio
        self._random = np.random.default_rng()
        self._dropped = metrics.spans_total.labels("dropped")
        self._clock = clock
        self._polled_ns = 0
        self._begun = 0
        self._open: dict[tuple[int, int], Span] = {}  # by partition and offset, of work that is not committed
        self._exporter = Counted(OTLPSpanExporter() if exporter is None else exporter, metrics)
        own = {"service.name": "cellstream", "service.instance.id": instance_id, **(attributes or {})}
        resource = Resource.create().merge(Resource(own)).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, max_queue_size=MOST_WAITING))
        self._tracer = self._provider.get_tracer("cellstream", version("cellstream"))

    def polled(self) -> None:
        """Spans of the records that have come begin now."""
        self._polled_ns = self._clock()

    def begin(self, batch: RecordBatch, stream_ids: Sequence[bytes | None], first: int) -> dict[int, Headers]:
        """Begin spans, and say what the outputs carry; see `Tracing.begin`."""
        found = dict(contexts(batch, first))
        sampled = [i for i, context in found.items() if context.sampled]
        if self._ratio:
            drawn = np.flatnonzero(self._random.random(len(batch) - first) < self._ratio) + first
            sampled += [i for i in drawn.tolist() if i not in found]
        for i in sampled:
            if self._begun - self._exporter.done >= MOST_WAITING:
                self._dropped.inc()
                continue
            span = self._begin_span(batch, i, stream_ids[i], found.get(i))
            if span.is_recording():  # not where OTEL_SDK_DISABLED is set
                self._begun += 1
                self._open[batch.partition, batch.offsets[i]] = span
                found[i] = _place_of(span, found.get(i))
        return {i: context.headers() for i, context in found.items()}

    def committed(self, outcomes: Sequence[Outcome]) -> None:
        """End all spans; those of refused records as errors."""
        for letter in (letter for outcome in outcomes for letter in outcome.dead_letters):
            span = self._open.pop((letter.partition, letter.offset), None)
            if span is not None:
                self._end(span, DEAD_LETTER, letter.reason, letter.message)
        for span in self._open.values():
            self._end(span, COMMITTED)
        self._open.clear()

    def given_up(self, reason: str) -> None:
        """End all spans as errors: no reader sees what they have caused."""
        for span in self._open.values():
            self._end(span, GIVEN_UP, GIVEN_UP, reason)
        self._open.clear()

    def close(self) -> None:
        """Export what waits, for as long as a stop may take."""
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _begin_span(self, batch: RecordBatch, i: int, stream_id: bytes | None, parent: TraceContext | None) -> Span:
        attributes: dict[str, Any] = {
            **self._common,
            "messaging.destination.partition.id": str(batch.partition),
            "messaging.kafka.offset": batch.offsets[i],
        }
        if stream_id is not None:
            attributes["messaging.kafka.message.key"] = stream_id[:256].decode(errors="replace")
        if batch.values[i] is None:
            attributes["messaging.kafka.message.tombstone"] = True
        remote = None if parent is None else _remote(parent)
        return self._tracer.start_span(
            self._name,
            Context() if remote is None else set_span_in_context(NonRecordingSpan(remote), Context()),
            SpanKind.CONSUMER,
            attributes,
            [] if remote is None else [Link(remote)],
            self._polled_ns,
        )

    def _end(self, span: Span, outcome: str, error: str | None = None, words: str | None = None) -> None:
        span.set_attribute("cellstream.outcome", outcome)
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR, words))
        span.end(self._clock())


class Counted(SpanExporter):
    """An exporter whose spans are counted, by whether they arrived.

    Attributes:
        done: spans that were exported or given up; only the exporting thread writes it.
    """

    def __init__(self, exporter: SpanExporter, metrics: Metrics) -> None:
        self._inner = exporter
        self._metrics = metrics
        self.done = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch."""
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self.done += len(spans)
            arrived = result is SpanExportResult.SUCCESS
            self._metrics.spans_total.labels("exported" if arrived else "dropped").inc(len(spans))
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._inner.shutdown()


def _remote(context: TraceContext) -> SpanContext:
    state = TraceState() if context.state is None else TraceState.from_header([context.state.decode()])
    flags = TraceFlags(context.flags)
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), True, flags, state)


def _place_of(span: Span, parent: TraceContext | None) -> TraceContext:
    """The context that names a span as the parent of what comes next."""
    own = span.get_span_context()
    state, flags = (None, 1) if parent is None else (parent.state, parent.flags)
    return TraceContext(b"%032x" % own.trace_id, b"%016x" % own.span_id, flags, state)
