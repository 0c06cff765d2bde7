"""What a piece of the log causes, as events to publish: probabilities, decisions and closings, in log order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.decision import add_decisions
from worker.encoding.cloud_events import CloudEvents
from worker.encoding.encoder import Answers, Encoder
from worker.piece import Piece
from worker.records import Headers, Outcome
from worker.tracing.context import with_carried


@dataclass(slots=True)
class Encoded:
    """Events to publish, in log order; `positions` are those of their last samples among the piece's events."""

    positions: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    headers: list[Headers | None] | None = None


class EventWriter:
    """Write the events of pieces whose samples were stepped.

    Args:
        encoder: of single events.
        closing_events: an event when a sequence ends.
        per_record: one event for a record's samples of one sequence, instead of one for each sample.
        cloud_events: writes the events' headers; None leaves them without.
    """

    def __init__(
        self,
        encoder: Encoder,
        closing_events: bool = False,
        per_record: bool = False,
        cloud_events: CloudEvents | None = None,
    ) -> None:
        self._encoder = encoder
        self._closing_events = closing_events
        self._per_record = per_record
        self._cloud_events = cloud_events

    @property
    def writes_headers(self) -> bool:
        """Whether every event has headers of its own."""
        return self._cloud_events is not None

    def probabilities(self, piece: Piece, published: int, outcome: Outcome) -> Encoded:
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
        if self._per_record:
            firsts = _first_samples(events.record[chosen], timestep)
            counts = np.diff(firsts, append=len(chosen))
            within, chosen, first = within[firsts], chosen[firsts + counts - 1], firsts.tolist()
            prefixes, timestep = [prefixes[i] for i in first], timestep[firsts]
        times, offsets = events.time[chosen].tolist(), events.offset[chosen].tolist()
        values = self._encoder.encode(Answers(state.partition, prefixes, timestep, outputs, times, offsets, counts))
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

    def publish(self, piece: Piece, published: int, events: Encoded, outcome: Outcome) -> None:
        """Add a piece's probability events to the outcome, and between them the closing events of what ended in it."""
        if self._closing_events and piece.closings:
            events = self._with_closings(piece, published, events, outcome.headers is not None)
        outcome.keys += events.keys
        outcome.values += events.values
        if outcome.headers is not None and events.headers is not None:
            outcome.headers += events.headers

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


def _first_samples(record: NDArray[np.int64], timestep: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of samples in log order, those that begin an event: the first of a record, or of a sequence within it."""
    goes_on = (np.diff(record) == 0) & (np.diff(timestep) == 1)
    return np.flatnonzero(np.concatenate(([True], ~goes_on)))
