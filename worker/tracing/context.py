"""W3C Trace Context in record headers: which trace a record belongs to, and what its outputs carry on of it.

https://www.w3.org/TR/trace-context/. A `traceparent` that breaks its rules counts as none, and then nobody looks at the
`tracestate`. One of a later version is read as far as version 00 goes, and carried on as version 00. Of several headers
of one name the last counts, as everywhere in Kafka.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from worker.records import Headers, Outcome, RecordBatch

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
MAX_STATE_BYTES = 512  # what everybody has to carry; a record's headers are written with each of its samples' events
KNOWN_FLAGS = 0b11  # sampled, random trace ID; all others are to be zero
_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.S)
_STATE = re.compile(rb"[\t\x20-\x7e]{1,%d}" % MAX_STATE_BYTES)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits; the parent of what comes next.
        flags: see `KNOWN_FLAGS`.
        state: what vendors added; None when there is nothing.
    """

    trace_id: bytes
    span_id: bytes
    flags: int
    state: bytes | None = None

    @property
    def sampled(self) -> bool:
        """Whether who began it records the trace."""
        return bool(self.flags & 1)

    def headers(self) -> Headers:
        """As the headers of a record."""
        parent = b"00-%b-%b-%02x" % (self.trace_id, self.span_id, self.flags)
        return [(TRACEPARENT, parent)] if self.state is None else [(TRACEPARENT, parent), (TRACESTATE, self.state)]


class Tracing:
    """What `trace=headers` does: the outputs of a record carry its context on.

    The engine asks `begin` for every batch; the observer tells what became of the work, for those who want to know.
    """

    def polled(self) -> None:
        """A poll's records have come."""

    def begin(self, batch: RecordBatch, stream_ids: Sequence[bytes | None], first: int) -> dict[int, Headers]:
        """The headers that the outputs of each record carry.

        Args:
            batch: of one partition.
            stream_ids: of the records; None where there is none.
            first: the first record that was not answered before: a replay publishes nothing, and is not traced.

        Returns:
            By index of the record; those without a context are not in it.
        """
        return {i: context.headers() for i, context in contexts(batch, first)}

    def committed(self, outcomes: Sequence[Outcome]) -> None:
        """All that was begun is durable and visible."""

    def given_up(self, reason: str) -> None:
        """Nothing that was begun will be committed by this worker."""

    def close(self) -> None:
        """Nothing more comes."""


def contexts(batch: RecordBatch, first: int) -> Iterator[tuple[int, TraceContext]]:
    """The records from `first` on that have a context, with it."""
    if batch.headers is None:
        return
    for i, headers in enumerate(batch.headers[first:], first):
        context = context_of(headers) if headers else None
        if context is not None:
            yield i, context


def context_of(headers: Headers) -> TraceContext | None:
    """The context that a record's headers name; None without a valid one."""
    named = dict(headers)  # the last of a name
    found = _PARENT.fullmatch(named.get(TRACEPARENT) or b"")
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"00" and rest is not None:
        return None
    state = named.get(TRACESTATE)
    kept = state if state is not None and _STATE.fullmatch(state) else None
    return TraceContext(trace_id, span_id, int(flags, 16) & KNOWN_FLAGS, kept)


def with_carried(
    own: Sequence[Headers | None] | None, records: Sequence[int], carried: Mapping[int, Headers]
) -> list[Headers | None]:
    """Headers of events, and behind them what their records carry on.

    Args:
        own: of the events; None where they have none.
        records: of the events.
        carried: by record.
    """
    headers: list[Headers | None] = [None] * len(records) if own is None else list(own)
    if not carried:
        return headers
    return [[*(h or ()), *carried[i]] if i in carried else h for h, i in zip(headers, records, strict=True)]
