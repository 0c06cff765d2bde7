"""The values that travel through the worker: records in, outputs and dead letters out.

A poll is held in columns, one list per field, because the hot path works on columns; the client's message
objects never leave `kafka.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Headers = list[tuple[str, bytes | None]]

END_HEADER = "end-of-sequence"
START_HEADER = "start-of-sequence"
MAX_STREAM_ID_BYTES = 256
NO_TIMESTAMP = -1


@dataclass(slots=True)
class RecordBatch:
    """Records of one partition in offset order; all columns have the same length.

    Attributes:
        keys: record keys.
        values: record values; None is a tombstone.
        offsets: positions in the partition, ascending.
        times: record timestamps, ms since the epoch; -1 where there is none.
        headers: per record, or None when no record of the batch has any.
        leader_epoch: of the last record; -1 unknown.
    """

    partition: int
    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: list[int]
    times: list[int]
    headers: list[Headers | None] | None = None
    leader_epoch: int = -1

    def __len__(self) -> int:
        return len(self.offsets)

    def slice(self, start: int, stop: int) -> RecordBatch:
        """The records `start <= i < stop` as a batch of their own."""
        return RecordBatch(
            self.partition,
            self.keys[start:stop],
            self.values[start:stop],
            self.offsets[start:stop],
            self.times[start:stop],
            self.headers[start:stop] if self.headers is not None else None,
            self.leader_epoch,
        )


@dataclass(frozen=True, slots=True)
class Position:
    """An input offset to commit, or committed: the first one not handled yet, and the note kept with it."""

    partition: int
    offset: int
    note: str = ""


@dataclass(slots=True)
class DeadLetter:
    """A refused record, bounded, with what was wrong and where it stood."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str
    message: str


@dataclass(slots=True)
class Outcome:
    """What one poll comes to: all of it is published in one transaction with the offsets.

    Attributes:
        keys: stream ID of each event in `values`.
        values: encoded probability and closing events; in record order for each partition.
        dead_letters: refused records.
        records: records handled, whatever became of them.
        samples: timesteps that were stepped.
        probabilities: probability events in `values`.
        replayed: records at offsets that were committed before; stepped, never published.
        resets: sequences ended, by reason.
        sample_times: record timestamps of the published samples' records, ms, a column for each partition.
        decisions: timesteps at which the artifact's rule fired, a column for each partition.
        cells: timesteps of all blocks, padding included; `samples / cells` is the batch fill.
        headers: of each event in `values`; None where events have none.
        disorder: records whose timestep was not the expected one, by kind.
    """

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    records: int = 0
    samples: int = 0
    probabilities: int = 0
    replayed: int = 0
    resets: Counter[str] = field(default_factory=Counter)
    sample_times: list[NDArray[np.int64]] = field(default_factory=list)
    decisions: list[NDArray[np.int64]] = field(default_factory=list)
    cells: int = 0
    headers: list[Headers | None] | None = None
    disorder: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Copies(Outcome):
    """Records that go on to another topic as they are, under keys of their own.

    Attributes:
        times: record timestamp of each copy, ms; -1 where there is none.
        headers: of each copy.
    """

    times: list[int] = field(default_factory=list)
    headers: list[Headers | None] = field(default_factory=list)
