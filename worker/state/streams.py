"""Whose sample is it: stream IDs to rows, new streams, and what happens when a partition is full."""

from __future__ import annotations

from collections import Counter
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from worker.errors import BadRecord
from worker.reading import Reading
from worker.records import MAX_STREAM_ID_BYTES
from worker.state.order import Order
from worker.state.partition import PartitionState
from worker.state.sequences import EVICTED, NEW, NONE, Closing, Events, closing


def resolve(
    reading: Reading,
    state: PartitionState,
    begin: int,
    order: Order | None = None,
    disorder: Counter[str] | None = None,
) -> tuple[Events, NDArray[np.float32], int]:
    """Turn the records from `begin` on into events, giving new streams their rows.

    It stops before a new stream for which the partition has no room; at least one record is handled when there is
    room for one. A record whose stream ID cannot be used is added to `reading.bad`.

    Args:
        reading: of a batch.
        state: of its partition.
        begin: the first record.
        order: judges the records' timesteps; None takes them as they come.
        disorder: counts those that were not the expected ones, by kind.

    Returns:
        The events, their samples `(samples, features)`, and the record at which the next call begins.
    """
    ids, bad = reading.stream_ids, reading.bad
    stop = len(ids)
    index = state.index
    rows = np.fromiter(map(index.get, ids[begin:], repeat(-1)), np.int64, stop - begin)  # type: ignore[arg-type]
    end, counts = reading.end[begin:], reading.counts[begin:]
    start = np.where(counts > 0, reading.start[begin:], NONE).astype(np.int8)  # what has no sample begins nothing
    for i in np.flatnonzero(rows < 0).tolist():
        if begin + i in bad:
            continue
        stream_id = ids[begin + i]
        fault = unusable(stream_id)
        if fault is not None:
            bad[begin + i] = fault
            continue
        assert stream_id is not None
        if stream_id in index:
            rows[i] = index[stream_id]
        elif counts[i]:  # the end of a sequence that nobody began is nothing
            if len(index) == state.capacity:
                stop = begin + i
                break
            rows[i] = state.allocate(stream_id)
            start[i] = NEW
    size = stop - begin
    rows, start, end, counts = rows[:size], start[:size], end[:size], counts[:size]
    if order is not None:
        found = order.judge(reading, state, begin, rows, start, end, counts)
        if disorder is not None:
            disorder += found
    for i in (*bad, *reading.dropped):
        if begin <= i < stop:
            rows[i - begin] = -1
    return *_events(reading, state, begin, stop, rows, start, end, counts), stop


def evict(state: PartitionState, record: int) -> list[Closing]:
    """Make room for the new stream of `record` in a full partition; returns the sequences that this ended."""
    closings = []
    rows = state.least_recent()
    state.before_change(rows)
    for row in rows.tolist():
        closings.append(closing(state, row, record, EVICTED))
        state.free(row)
    return closings


def unusable(stream_id: bytes | None) -> BadRecord | None:
    """Why a stream ID cannot be used, or None."""
    if not stream_id:
        return BadRecord("missing_stream_id", "expected a stream ID of 1 to 256 bytes of UTF-8, received none")
    if len(stream_id) > MAX_STREAM_ID_BYTES:
        return BadRecord(
            "oversized_stream_id",
            f"expected a stream ID of at most {MAX_STREAM_ID_BYTES} bytes, received {len(stream_id)}",
        )
    try:
        stream_id.decode()
    except UnicodeDecodeError as fault:
        return BadRecord("invalid_stream_id", f"expected a stream ID in UTF-8: {fault.reason} at byte {fault.start}")
    return None


def _events(
    reading: Reading,
    state: PartitionState,
    begin: int,
    stop: int,
    rows: NDArray[np.int64],
    start: NDArray[np.int8],
    end: NDArray[np.int8],
    counts: NDArray[np.int64],
) -> tuple[Events, NDArray[np.float32]]:
    known = rows >= 0
    inputs = reading.inputs[reading.first_sample[begin] : reading.first_sample[stop]]
    if not known.all():
        inputs = inputs[np.repeat(known, counts)]
    width = np.where(known, np.maximum(counts, end != NONE), 0)  # events of each record
    local = np.repeat(np.arange(stop - begin), width)
    within = np.arange(len(local)) - np.repeat(np.cumsum(width) - width, width)
    times = np.array(reading.batch.times[begin:stop], np.int64)
    clock = np.maximum(times, state.stream_time)
    clock[[i - begin for i in (*reading.bad, *reading.dropped) if begin <= i < stop]] = state.stream_time
    clock = np.maximum.accumulate(clock)
    events = Events(
        record=local + begin,
        row=rows[local],
        is_sample=counts[local] > 0,
        start=np.where(within == 0, start[local], NONE).astype(np.int8),
        end=np.where(within == width[local] - 1, end[local], NONE).astype(np.int8),
        within=within,
        offset=np.array(reading.batch.offsets[begin:stop], np.int64)[local],
        time=np.where(times < 0, clock, times)[local],
        stream_time=clock[local],
        begin=begin,
        clock=clock,
    )
    return events, inputs
