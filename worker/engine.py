"""Records in, outcome out: the worker without Kafka.

Read, find each sample's stream and its place in the sequence, step all streams of the poll at once, encode. What
a record causes depends on the records before it in its partition and on nothing else, so that any cut of the log
into polls gives the same outputs and the same states, bit for bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.blocks import BlockModel, step_streams
from worker.cloud_events import CloudEvents
from worker.dead_letters import dead_letter
from worker.decision import add_decisions
from worker.encoding import ProbabilityEncoder
from worker.last_values import filled
from worker.order import Order
from worker.reading import Reader, Reading
from worker.records import Headers, Outcome, RecordBatch
from worker.sequences import IDLE, REASONS, Closing, Events, Placement, closing, first_silent, place
from worker.state import PartitionState
from worker.streams import evict, resolve
from worker.tracing import Tracing, with_carried


@dataclass(slots=True)
class Piece:
    """A run of one partition's records that is handled at once; `stop` is where the next one begins."""

    reading: Reading
    state: PartitionState
    stop: int
    events: Events
    inputs: NDArray[np.float32]
    closings: list[Closing]
    placement: Placement | None = None
    streams: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    outputs: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Encoded:
    """Events to publish, in log order; `positions` are those of their last samples among the piece's events."""

    positions: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    headers: list[Headers | None] | None = None


class Engine:
    """Turn polls into outcomes, updating the partitions' states.

    Args:
        model: steps blocks.
        reader: of the input codec.
        encoder: of the output events.
        input_topic: named by dead letters.
        sequence_length: fixed length of a sequence, or None.
        idle_timeout_s: silence in record time that ends a sequence, or None.
        closing_events: publish an event when a sequence ends.
        event_per_record: one event for a record's samples of one sequence, instead of one for each sample.
        order: judges the records' own timesteps; None takes the records as they come. The states must have its columns.
        last_values: a missing number becomes the last one of its feature. The states must have the column.
        cloud_events: writes the events' headers; None leaves them without.
        tracing: says what outputs carry of their records' trace contexts; None does not look at them.
    """

    def __init__(
        self,
        model: BlockModel,
        reader: Reader,
        encoder: ProbabilityEncoder,
        input_topic: str,
        sequence_length: int | None = None,
        idle_timeout_s: float | None = None,
        closing_events: bool = False,
        event_per_record: bool = False,
        order: Order | None = None,
        last_values: bool = False,
        cloud_events: CloudEvents | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._model = model
        self._reader = reader
        self._encoder = encoder
        self._topic = input_topic
        self._sequence_length = sequence_length
        self._idle_ms = None if idle_timeout_s is None else round(idle_timeout_s * 1000)
        self._closing_events = closing_events
        self._event_per_record = event_per_record
        self._order = order
        self._last_values = last_values
        self._cloud_events = cloud_events
        self._tracing = tracing

    def process(self, work: Iterable[tuple[RecordBatch, PartitionState]]) -> Outcome:
        """Handle a poll: at most one batch for each partition.

        Records below a state's `next_offset` are part of it already and are skipped. Records below its `committed`
        offset were answered before: they are stepped and not published (RELIABILITY rule 13).
        """
        if self._tracing is not None:
            self._tracing.polled()
        waiting = []
        for batch, state in work:
            fresh = batch.slice(bisect_left(batch.offsets, state.next_offset), len(batch))
            if fresh:
                reading = self._reader.read(fresh, state.schemas)
                if self._tracing is not None:
                    published = bisect_left(fresh.offsets, state.committed)
                    reading.carried = self._tracing.begin(fresh, reading.stream_ids, published)
                waiting.append((reading, state, 0))
        have_headers = self._cloud_events is not None or any(reading.carried for reading, *_ in waiting)
        outcome = Outcome(headers=[] if have_headers else None)
        while waiting:
            pieces = [self._begin(reading, state, begin, outcome) for reading, state, begin in waiting]
            self._step(pieces, outcome)
            for piece in pieces:
                self._finish(piece, outcome)
            waiting = [(p.reading, p.state, p.stop) for p in pieces if p.stop < len(p.reading.batch)]
        return outcome

    def _begin(self, reading: Reading, state: PartitionState, begin: int, outcome: Outcome) -> Piece:
        """Rows and places of as many records as the partition has room for."""
        closings: list[Closing] = []
        events, inputs, stop = resolve(reading, state, begin, self._order, outcome.disorder)
        if stop == begin:
            closings = evict(state, begin)
            events, inputs, stop = resolve(reading, state, begin, self._order, outcome.disorder)
        piece = Piece(reading, state, stop, events, inputs, closings)
        state.stream_time = int(events.clock[-1])
        if len(events.row):
            piece.placement = placement = place(events, state, self._sequence_length, self._idle_ms)
            if self._last_values:
                piece.inputs = filled(inputs, events.is_sample, placement, state)
            counts = np.add.reduceat(placement.is_sample, placement.segments[:-1], dtype=np.int64)
            piece.streams = placement.row[placement.segments[:-1]][counts > 0]
            piece.counts = counts[counts > 0]
            piece.closings += placement.closings
        return piece

    def _step(self, pieces: list[Piece], outcome: Outcome) -> None:
        """Advance the streams of all partitions together: fewer, fuller blocks."""
        busy = [piece for piece in pieces if len(piece.inputs)]
        if not busy:
            return
        by_stream = [_samples_by_stream(piece) for piece in busy]
        states = np.concatenate([piece.state.states[piece.streams] for piece in busy])
        outputs, cells = step_streams(
            self._model,
            np.concatenate([piece.inputs[samples] for piece, (samples, _) in zip(busy, by_stream, strict=True)]),
            np.concatenate([begins for _, begins in by_stream]),
            np.concatenate([piece.counts for piece in busy]),
            states,
        )
        outcome.samples += len(outputs)
        outcome.cells += cells
        stream = sample = 0
        for piece, (samples, _) in zip(busy, by_stream, strict=True):
            piece.state.states[piece.streams] = states[stream : stream + len(piece.streams)]
            stream += len(piece.streams)
            piece.outputs = np.empty((len(samples), outputs.shape[1]), np.float32)
            piece.outputs[samples] = outputs[sample : sample + len(samples)]
            sample += len(samples)

    def _finish(self, piece: Piece, outcome: Outcome) -> None:
        """Publish what was not published before, forget the streams that are over, move on."""
        state, batch = piece.state, piece.reading.batch
        begin = bisect_left(batch.offsets, state.next_offset)
        published = bisect_left(batch.offsets, state.committed)
        events = self._probabilities(piece, published, outcome)
        if piece.placement is not None:
            for row in piece.placement.finished.tolist():
                state.free(row)
        if self._idle_ms is not None:
            silent = state.expired(self._idle_ms)
            state.before_change(silent)
            for row in silent.tolist():
                record = first_silent(piece.events, int(state.times[row]) + self._idle_ms)
                piece.closings.append(closing(state, row, record, IDLE))
                state.free(row)
        for end in piece.closings:
            outcome.resets[REASONS[end.reason]] += 1
        if self._closing_events and piece.closings:
            events = self._with_closings(piece, published, events, outcome.headers is not None)
        outcome.keys += events.keys
        outcome.values += events.values
        if outcome.headers is not None and events.headers is not None:
            outcome.headers += events.headers
        for record in sorted(piece.reading.bad):
            if max(begin, published) <= record < piece.stop:
                carried = piece.reading.carried.get(record, ())
                outcome.dead_letters.append(dead_letter(batch, record, piece.reading.bad[record], self._topic, carried))
        outcome.records += piece.stop - begin
        outcome.replayed += max(0, min(published, piece.stop) - begin)
        state.next_offset = batch.offsets[piece.stop - 1] + 1
        state.leader_epoch = batch.leader_epoch

    def _probabilities(self, piece: Piece, published: int, outcome: Outcome) -> Encoded:
        """The probability events of the records from `published` on, in log order."""
        events, placement, state = piece.events, piece.placement, piece.state
        if placement is None:
            return Encoded()
        chosen = np.flatnonzero(events.is_sample & (events.record >= published))
        if not len(chosen):
            for row in placement.row[placement.begins].tolist():
                state.prefixes[row] = None  # written when it is needed
            return Encoded()
        prefixes = self._prefixes(piece)
        if len(chosen) < len(prefixes):
            prefixes = [prefixes[i] for i in chosen.tolist()]
        timestep = np.empty(len(placement.order), np.int64)
        timestep[placement.order] = placement.timestep
        timestep = timestep[chosen]
        assert piece.outputs is not None
        outputs = piece.outputs[len(piece.outputs) - len(chosen) :]
        fired, at, firsts = None, timestep, None
        if self._encoder.decides:
            outputs, fired = np.ascontiguousarray(outputs[:, :-1]), outputs[:, -1]
        outcome.sample_times.append(events.time[chosen])
        counts, within = None, events.within[chosen]
        if self._event_per_record:
            firsts = _first_samples(events.record[chosen], timestep)
            counts = np.diff(firsts, append=len(chosen))
            within, chosen, first = within[firsts], chosen[firsts + counts - 1], firsts.tolist()
            prefixes, timestep = [prefixes[i] for i in first], timestep[firsts]
        values = self._encoder.encode(
            state.partition,
            prefixes,
            timestep,
            outputs,
            events.time[chosen].tolist(),
            events.offset[chosen].tolist(),
            counts,
        )
        if fired is not None:
            outcome.decisions.append(add_decisions(self._encoder, values, fired, at, firsts))
        outcome.probabilities += len(values)
        stream_ids: Sequence[bytes] = piece.reading.stream_ids  # type: ignore[assignment]  # events have one
        records = events.record[chosen].tolist()
        keys = [stream_ids[i] for i in records]
        headers = None
        if self._cloud_events is not None:
            places = events.offset[chosen].tolist(), within.tolist()
            headers = self._cloud_events.events(state.partition, keys, *places, events.time[chosen])
        if outcome.headers is not None:
            headers = with_carried(headers, records, piece.reading.carried)
        return Encoded(chosen, keys, values, headers)

    def _prefixes(self, piece: Piece) -> list[bytes]:
        """The prefix of every event, in log order; those that are not there yet are written now."""
        placement, state = piece.placement, piece.state
        assert placement is not None
        rows = piece.events.row.tolist()
        prefixes: list[Any] = list(map(state.prefixes.__getitem__, rows))
        if not all(prefixes):  # of sequences that were restored, or begin here: the first are written first
            heads = placement.segments[:-1]
            heads = heads[~placement.begins[heads]]
            known = map(state.prefixes.__getitem__, placement.row[heads].tolist())
            self._write_prefixes(piece, heads[[prefix is None for prefix in known]])
            prefixes = list(map(state.prefixes.__getitem__, rows))
        begins = np.flatnonzero(placement.begins)
        bounds = np.sort(np.concatenate((begins, placement.segments)))
        stops = bounds[np.searchsorted(bounds, begins, side="right")]
        written = self._write_prefixes(piece, begins)
        for prefix, position, stop in zip(written, begins.tolist(), stops.tolist(), strict=True):
            for i in placement.order[position:stop].tolist():
                prefixes[i] = prefix
        return prefixes

    def _write_prefixes(self, piece: Piece, positions: NDArray[np.int64]) -> list[bytes]:
        """Of the sequences that are open at these positions of the placement; a row keeps its last."""
        placement, state = piece.placement, piece.state
        assert placement is not None
        columns = (placement.row, placement.start, placement.start_sample)
        written = []
        for row, start, sample in zip(*(column[positions].tolist() for column in columns), strict=True):
            prefix = self._encoder.prefix(state.stream_ids[row], state.partition, start, sample)
            state.prefixes[row] = prefix
            written.append(prefix)
        return written

    def _with_closings(self, piece: Piece, published: int, events: Encoded, have_headers: bool) -> Encoded:
        """Closing events in their places: after the output of the sample that ended the sequence, or before it."""
        batch, log, partition = piece.reading.batch, piece.events, piece.state.partition
        places = zip(log.record[events.positions].tolist(), log.within[events.positions].tolist(), strict=True)
        merged = [(record, 2 * within + 1, i) for i, (record, within) in enumerate(places)]
        keys, values, headers = list(events.keys), list(events.values), list(events.headers or ())
        for end in sorted(piece.closings, key=attrgetter("stream_id")):
            if end.record >= published:
                merged.append((end.record, 2 * (end.within + end.after), len(values)))
                keys.append(end.stream_id)
                offset, time = batch.offsets[end.record], batch.times[end.record]
                if time < 0:
                    time = int(log.clock[end.record - log.begin])
                values.append(self._encoder.closing(partition, end, time, offset))
                if have_headers:
                    own = None if self._cloud_events is None else self._cloud_events.closing(partition, end, time)
                    headers += with_carried([own], [end.record], piece.reading.carried)
        merged.sort()
        order = [i for _, _, i in merged]
        arranged = [headers[i] for i in order] if have_headers else None
        return Encoded(events.positions, [keys[i] for i in order], [values[i] for i in order], arranged)


def _samples_by_stream(piece: Piece) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Positions of a piece's samples in `inputs`, one stream's together, and which of them begin a sequence."""
    placement = piece.placement
    assert placement is not None
    ordinal = np.cumsum(piece.events.is_sample) - 1
    return ordinal[placement.order[placement.is_sample]], placement.begins[placement.is_sample]


def _first_samples(record: NDArray[np.int64], timestep: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of samples in log order, those that begin an event: the first of a record, or of a sequence within it."""
    goes_on = (np.diff(record) == 0) & (np.diff(timestep) == 1)
    return np.flatnonzero(np.concatenate(([True], ~goes_on)))
