"""Records in, outcome out: the worker without Kafka.

Read, find each sample's stream and its place in the sequence, step all streams of the poll at once, encode. What
a record causes depends on the records before it in its partition and on nothing else, so that any cut of the log
into polls gives the same outputs and the same states, bit for bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

from worker.blocks import BlockModel, step_streams
from worker.dead_letters import dead_letter
from worker.event_writer import EventWriter
from worker.piece import Piece
from worker.reading import Reader, Reading
from worker.records import Outcome, RecordBatch
from worker.state.last_values import filled
from worker.state.order import Order
from worker.state.partition import PartitionState
from worker.state.sequences import IDLE, REASONS, Closing, closing, first_silent, place
from worker.state.streams import evict, resolve
from worker.tracing.context import Tracing


class Engine:
    """Turn polls into outcomes, updating the partitions' states.

    Args:
        model: steps blocks.
        reader: of the input codec.
        writer: of the output events.
        input_topic: named by dead letters.
        sequence_length: fixed length of a sequence, or None.
        idle_timeout_s: silence in record time that ends a sequence, or None.
        order: judges the records' own timesteps; None takes the records as they come. The states must have its columns.
        last_values: a missing number becomes the last one of its feature. The states must have the column.
        tracing: says what outputs carry of their records' trace contexts; None does not look at them.
    """

    def __init__(
        self,
        model: BlockModel,
        reader: Reader,
        writer: EventWriter,
        input_topic: str,
        sequence_length: int | None = None,
        idle_timeout_s: float | None = None,
        order: Order | None = None,
        last_values: bool = False,
        tracing: Tracing | None = None,
    ) -> None:
        self._model = model
        self._reader = reader
        self._writer = writer
        self._topic = input_topic
        self._sequence_length = sequence_length
        self._idle_ms = None if idle_timeout_s is None else round(idle_timeout_s * 1000)
        self._order = order
        self._last_values = last_values
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
        have_headers = self._writer.writes_headers or any(reading.carried for reading, *_ in waiting)
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
        by_stream = [piece.samples_by_stream() for piece in busy]
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
        events = self._writer.probabilities(piece, published, outcome)
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
        self._writer.publish(piece, published, events, outcome)
        for record in sorted(piece.reading.bad):
            if max(begin, published) <= record < piece.stop:
                carried = piece.reading.carried.get(record, ())
                outcome.dead_letters.append(dead_letter(batch, record, piece.reading.bad[record], self._topic, carried))
        outcome.records += piece.stop - begin
        outcome.replayed += max(0, min(published, piece.stop) - begin)
        state.next_offset = batch.offsets[piece.stop - 1] + 1
        state.leader_epoch = batch.leader_epoch
