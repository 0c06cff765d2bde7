"""The producers' own count: which records are duplicates, late ones, or come after a gap, and what becomes of them.

A sequence takes its base from its first record, and each record after that is expected at the timestep behind the last.
Of the timesteps behind, the newest `WINDOW` are remembered one by one: one that was there is a duplicate, any other is
late. A chunk is judged by its first sample; a record that carries no timestep is taken to be the next one.

What a record is depends on the records before it that were taken, of its own stream and, by silence, of the partition.
So this is one pass in log order, and what it remembers is a part of the stream's state.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from worker.errors import BadRecord
from worker.reading import Reading
from worker.state.partition import NEVER, PartitionState
from worker.state.sequences import DUPLICATE, GAP, LATE, NEW, NONE, REASONS

Action = Literal["accept", "drop", "dead_letter", "reset"]

WINDOW = 62  # bits of an int64 that are never its sign
ALL_SEEN = (1 << WINDOW) - 1
UNKNOWN = -1
NOTHING = UNKNOWN, 0, 0, NEVER


@dataclass(slots=True)
class Track:
    """Where a stream's open sequence is.

    Attributes:
        expected: the timestep behind the last one; `UNKNOWN` before the first record that carries one.
        seen: bit k is set when the timestep `expected - 1 - k` was there.
        samples: of the sequence so far; 0 when none is open.
        heard: the partition's time at the last record, ms.
    """

    expected: int
    seen: int
    samples: int
    heard: int

    def kind_of(self, timestep: int) -> int:
        """`NONE` for the expected timestep and for the first one of a sequence, else what it is."""
        if self.expected in (UNKNOWN, timestep):
            return NONE
        behind = self.expected - 1 - timestep
        if behind < 0:
            return GAP
        return DUPLICATE if behind < WINDOW and self.seen >> behind & 1 else LATE

    def forget(self) -> None:
        """The sequence is over, or another one begins."""
        self.expected, self.seen, self.samples = UNKNOWN, 0, 0

    def take(self, timestep: int | None, count: int, length: int | None) -> None:
        """Note a record of `count` samples, the first at `timestep`; a sequence is over after `length`."""
        samples = self.samples + count
        if timestep == self.expected and length is None:  # as a rule, and fast
            self.samples, self.expected = samples, timestep + count
            self.seen = (self.seen + 1 << min(count, WINDOW)) - 1 & ALL_SEEN
            return
        known = self.expected if timestep is None else timestep
        if length is not None and samples >= length:
            self.forget()
            rest = samples % length  # of a chunk; it is a sequence of its own
            known, samples, count = known if known == UNKNOWN else known + count - rest, rest, rest
        self.samples = samples
        if known != UNKNOWN and count:
            self._see(known, count)

    def _see(self, timestep: int, count: int) -> None:
        end = timestep + count
        ahead = WINDOW if self.expected == UNKNOWN else max(0, end - self.expected)
        self.expected = end if self.expected == UNKNOWN else self.expected + ahead
        self.seen = self.seen << min(ahead, WINDOW) & ALL_SEEN
        behind = self.expected - end  # of the record's last sample
        if behind < WINDOW:
            self.seen |= ((1 << min(count, WINDOW - behind)) - 1) << behind


class Order:
    """Judge records by their timesteps.

    Args:
        duplicate: what becomes of a timestep that was there.
        late: of one behind the last that was not, or so far behind that nobody knows.
        gap: of one that comes before those in between.
        sequence_length: as in `place`.
        idle_ms: as in `place`.
    """

    def __init__(
        self,
        duplicate: Action = "accept",
        late: Action = "accept",
        gap: Action = "accept",
        sequence_length: int | None = None,
        idle_ms: int | None = None,
    ) -> None:
        self._actions = {DUPLICATE: duplicate, LATE: late, GAP: gap}
        self._length = sequence_length
        self._idle_ms = idle_ms

    def judge(
        self,
        reading: Reading,
        state: PartitionState,
        begin: int,
        rows: NDArray[np.int64],
        start: NDArray[np.int8],
        end: NDArray[np.int8],
        counts: NDArray[np.int64],
    ) -> Counter[str]:
        """Judge the records from `begin` on, as many as there are rows.

        Args:
            reading: `bad` gets the dead letters, `dropped` what is left out.
            state: its columns of the order are brought up to date.
            begin: the first record.
            rows: `(records,)` int64, the stream's row, -1 where there is none.
            start: `(records,)` int8; gets the reason where a record begins a sequence because it is out of order.
            end: `(records,)` int8.
            counts: `(records,)` int64, samples of each record.

        Returns:
            How many records were not the expected ones, by kind; without those that were committed before.
        """
        tracks: dict[int, Track] = {}
        found: Counter[str] = Counter()
        clock = state.stream_time
        batch, bad = reading.batch, reading.bad
        stop = begin + len(rows)
        timesteps = repeat(None) if reading.timesteps is None else reading.timesteps[begin:stop]
        columns = (rows.tolist(), start.tolist(), end.tolist(), counts.tolist(), batch.times[begin:stop], timesteps)
        memory = state.next_timesteps, state.seen_timesteps, state.timesteps, state.times
        held = zip(*(column[rows].tolist() for column in memory), strict=True)  # of no meaning where there is no row
        for i, (row, begins, ends, count, time, timestep) in enumerate(zip(*columns, strict=False)):
            known = next(held)
            if begin + i in bad:
                continue
            moment = max(clock, time)
            if row >= 0:
                track = tracks.get(row)
                if track is None:
                    track = tracks[row] = Track(*(NOTHING if begins == NEW else known))
                if begins != NONE or (self._idle_ms is not None and moment - track.heard > self._idle_ms):
                    track.forget()
                if count and timestep is not None and (kind := track.kind_of(timestep)) != NONE:
                    if batch.offsets[begin + i] >= state.committed:
                        found[REASONS[kind]] += 1
                    if not self._lets_in(kind, track, reading, begin + i, timestep):
                        continue
                    if track.expected == UNKNOWN:
                        start[i] = kind
                if count:
                    track.take(timestep, count, self._length)
                if ends != NONE or not track.samples:
                    track.forget()
                track.heard = moment
            clock = moment
        _note(state, tracks)
        return found

    def _lets_in(self, kind: int, track: Track, reading: Reading, record: int, timestep: int) -> bool:
        """Do what the kind's action is; False where the record changes nothing."""
        action = self._actions[kind]
        if action == "dead_letter":
            reading.bad[record] = _fault(kind, track.expected, timestep)
        elif action == "drop":
            reading.dropped.add(record)
        elif action == "reset":
            track.forget()
        return action in ("accept", "reset")


def _note(state: PartitionState, tracks: dict[int, Track]) -> None:
    rows = np.fromiter(tracks, np.int64, len(tracks))
    state.before_change(rows)
    state.next_timesteps[rows] = [track.expected for track in tracks.values()]
    state.seen_timesteps[rows] = [track.seen for track in tracks.values()]


def _fault(kind: int, expected: int, received: int) -> BadRecord:
    message = f"expected timestep {expected}, received {received}"
    if kind == GAP:
        return BadRecord("timestep_gap", message)
    if kind == LATE:
        return BadRecord("late_timestep", message)
    return BadRecord("duplicate_timestep", f"{message}, which was there")
