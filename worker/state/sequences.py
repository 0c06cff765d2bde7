"""Which sequence, which timestep: the bookkeeping of one partition's records, vectorised.

An event is a sample, or the end of a sequence without one. Events are sorted by row, stably, so that each
stream's events stand together in log order; whatever concerns one stream is then arithmetic along its segment.
A sample is at timestep t when t samples of its sequence came before it, and a sequence begins at t = 0: after an
end, at an explicit start, after too long a silence, in a row that changed hands, or when the fixed length is full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.state.partition import PartitionState, Rows

Flags = NDArray[np.bool_]

# Why a sequence ended; the words are metric labels and appear in closing events.
REASONS = (
    "",
    "end_of_sequence",
    "end_header",
    "tombstone",
    "start_of_sequence",
    "sequence_length",
    "idle_timeout",
    "evicted",
    "duplicate",
    "late",
    "gap",
)
NONE, FIELD, HEADER, TOMBSTONE, START, LENGTH, IDLE, EVICTED, DUPLICATE, LATE, GAP = range(len(REASONS))
NEW = -1  # the row was just given to the stream: a beginning that ends nothing


@dataclass(slots=True)
class Events:
    """Events of one partition in log order, `(events,)` each.

    Attributes:
        record: int64, index of the record in its batch.
        row: int64, the stream's row.
        is_sample: False for an end that comes without a sample.
        start: int8, START, NEW, DUPLICATE, LATE or GAP where the sample begins a sequence by itself, else NONE.
        end: int8, FIELD, HEADER or TOMBSTONE where the sequence is over after the event, else NONE.
        within: int64, index of the sample in its record; 0 but for chunks.
        offset: int64, the record's.
        time: int64, the record's, ms; records without one have the partition's time.
        stream_time: int64, the partition's time at the record, ms.
        begin: the first record that was handled.
        clock: `(records,)` int64, the partition's time at every record from `begin` on, ms: the largest record time
            so far. A refused record does not move it; a marker for a stream that is not there does.
    """

    record: Rows
    row: Rows
    is_sample: Flags
    start: NDArray[np.int8]
    end: NDArray[np.int8]
    within: Rows
    offset: Rows
    time: Rows
    stream_time: Rows
    begin: int
    clock: Rows


@dataclass(slots=True)
class Closing:
    """One sequence that ended: which, why, how long, and the record that ended it.

    `after` orders it behind the output of that sample of the record (an end), or before it (a new beginning).
    """

    record: int
    within: int
    after: bool
    stream_id: bytes
    start: int
    start_sample: int
    length: int
    reason: int


def sequence_id(partition: int, start: int, start_sample: int) -> bytes:
    """Unique, and the same after any replay; only a chunk can begin a sequence behind its first sample."""
    return b"%d-%d.%d" % (partition, start, start_sample) if start_sample else b"%d-%d" % (partition, start)


def closing(state: PartitionState, row: int, record: int, reason: int) -> Closing:
    """The end of a row's open sequence as its columns have it; for ends that no event of the stream brings."""
    begun = int(state.starts[row]), int(state.start_samples[row])
    return Closing(record, 0, False, state.stream_ids[row], *begun, int(state.timesteps[row]), reason)


@dataclass(slots=True)
class Placement:
    """Where each event stands, sorted by row; `order` leads from sorted to log order.

    Attributes:
        order: `(events,)` int64.
        row, is_sample: of each event.
        timestep: `(events,)` int64; for an end without a sample, the samples before it.
        begins: `(events,)`, True where a sample starts from the initial state.
        start, start_sample: `(events,)` int64, where each event's sequence began: offset, and index in the record.
        segments: `(rows + 1,)` int64, bounds of each row's events.
        closings: the sequences that ended, in no particular order.
        finished: rows whose stream has no open sequence after its last event.
    """

    order: Rows
    row: Rows
    is_sample: Flags
    timestep: Rows
    begins: Flags
    start: Rows
    start_sample: Rows
    segments: Rows
    closings: list[Closing]
    finished: Rows


def place(  # noqa: PLR0915 - one pass over the columns, its steps are numbered
    events: Events, state: PartitionState, sequence_length: int | None, idle_ms: int | None
) -> Placement:
    """Give every event its timestep and bring the state's columns up to date, all but the recurrent states.

    Args:
        events: at least one.
        state: its columns still describe the log before the events; updated here. Rows whose sequence is over
            stay allocated, named in `finished`, because their events are still to be stepped.
        sequence_length: fixed length of a sequence, or None.
        idle_ms: silence in record time that ends a sequence, or None.
    """
    order = np.argsort(events.row, kind="stable")
    row, sample = events.row[order], events.is_sample[order]
    start, end = events.start[order], events.end[order]
    offset, clock, within = events.offset[order], events.stream_time[order], events.within[order]
    position = np.arange(len(row))

    first = np.empty(len(row), np.bool_)
    first[0] = True
    np.not_equal(row[1:], row[:-1], out=first[1:])
    heads = np.flatnonzero(first)
    segments = np.append(heads, len(row))
    held = state.timesteps[row]  # before the poll; counts only up to the first beginning of the segment

    # 1. Where does a sequence begin for a reason of its own?
    cause = np.maximum(start, NONE)
    fresh = start != NONE
    after_end = np.zeros(len(row), np.bool_)
    after_end[1:] = (end[:-1] != NONE) & ~first[1:]
    if idle_ms is not None:
        before = np.where(first, state.times[row], np.roll(clock, 1))  # when the stream was last heard of
        silent = (start != NEW) & ~after_end & (before < clock - idle_ms)
        cause[silent] = IDLE
        fresh |= silent
    fresh |= after_end

    # 2. Count the samples since then.
    count: Rows = np.cumsum(sample) - sample
    anchor = np.maximum.accumulate(np.where(fresh | first, position, 0))
    timestep = count - count[anchor] + np.where(fresh[anchor], 0, held)
    full = np.zeros(len(row), np.bool_)
    if sequence_length is not None:
        timestep %= sequence_length
        full = sample & (timestep == sequence_length - 1)
    begins = sample & (timestep == 0)

    # 3. The record at which each event's sequence began.
    anchor = np.maximum.accumulate(np.where(begins | first, position, 0))
    known = begins[anchor]
    begun = np.where(known, offset[anchor], state.starts[row])
    begun_sample = np.where(known, within[anchor], state.start_samples[row])

    # 4. What ended, and why.
    length = timestep + sample
    over = full | (end != NONE)
    closings = []
    for i in np.flatnonzero(over & (length > 0)).tolist():
        record, reason = int(events.record[order[i]]), int(end[i]) or LENGTH
        begun_at = int(begun[i]), int(begun_sample[i])
        closings.append(
            Closing(record, int(within[i]), True, state.stream_ids[row[i]], *begun_at, int(length[i]), reason)
        )
    for i in np.flatnonzero(cause > NONE).tolist():
        record = int(events.record[order[i]])
        if cause[i] == IDLE and idle_ms is not None:
            record = first_silent(events, int(before[i]) + idle_ms)
        cut = closing(state, row[i], record, int(cause[i]))
        if not first[i]:  # the sequence that was cut short has events in this poll
            cut.start, cut.start_sample = int(begun[i - 1]), int(begun_sample[i - 1])
            cut.length = 0 if over[i - 1] else int(length[i - 1])
        if cut.length:
            closings.append(cut)

    # 5. Leave the columns as they are after the last event of each row.
    last = segments[1:] - 1
    rows = row[last]
    state.before_change(rows)
    state.timesteps[rows] = length[last]
    state.starts[rows], state.start_samples[rows] = begun[last], begun_sample[last]
    state.times[rows], state.offsets[rows] = clock[last], offset[last]
    state.touched(clock[last])
    finished = rows[over[last] | (length[last] == 0)]
    return Placement(order, row, sample, timestep, begins, begun, begun_sample, segments, closings, finished)


def first_silent(events: Events, limit_ms: int) -> int:
    """The record that brought the partition's time beyond `limit_ms`."""
    return events.begin + int(np.searchsorted(events.clock, limit_ms, side="right"))
