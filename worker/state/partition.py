"""PartitionState: everything the worker remembers of one input partition.

It is a function of the partition's records below `next_offset` and of the artifact, never of wall-clock time, of
how polls cut the records, or of chance; that is what lets a replay rebuild it bit for bit. Each live stream owns
one row; rows are reused. The slab is reserved once as address space and the system backs a page when it is first
written, so that a partition grows to its limit without ever being copied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.registry.known_schemas import KnownSchemas
from worker.state.frozen import FrozenState
from worker.state.slab import reserve

Rows = NDArray[np.int64]
EVICTED_SHARE = 16
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Extras:
    """What some settings have to be remembered of each stream, beside its state and its place in the log.

    Attributes:
        order: where it is in the producers' own count.
        last_values: of so many features; 0 for none.
    """

    order: bool = False
    last_values: int = 0


NO_EXTRAS = Extras()


class PartitionState:
    """Streams, their recurrent states and their place in the log.

    Args:
        capacity: most live streams.
        initial_state: `(state_size,)`, the state a sequence starts from; its type is that of all states.
        next_offset: the first offset that is not part of this state yet.
        extras: the optional columns.

    Raises:
        FatalFault: the system has no address space for that many streams.

    Attributes:
        index: stream ID -> row, live streams only.
        states: `(capacity, state_size)` of the model's state type.
        timesteps: `(capacity,)` int64, samples of the open sequence so far.
        starts: `(capacity,)` int64, offset of the open sequence's first sample.
        start_samples: `(capacity,)` int64, index of that sample in its record; 0 but for chunks.
        times: `(capacity,)` int64, the partition's time at the last sample, ms. Silence is measured by it and not by
            the sample's own timestamp, so that a late record counts as a sign of life.
        offsets: `(capacity,)` int64, offset of the last sample.
        optional: names of the optional columns that are there: the next three.
        next_timesteps, seen_timesteps: `(capacity,)` int64, see `worker.state.order.Track`; written by it alone.
        last_values: `(capacity, features)` float32, of the open sequence; 0 before a feature's first.
        births: `(capacity,)` int64, how many streams had begun before this one; -1 where nobody owns the row.
        born: streams that have begun so far.
        stream_ids: by row.
        prefixes: by row, the encoded beginning of the sequence's events; None until it is needed.
        stream_time: largest record time so far, ms; -1 before the first.
        committed: offsets below it were committed with their outputs, and are never published again.
        schemas: by which its records are read; no part of a checkpoint, but of the note beside the committed offset.
    """

    def __init__(
        self,
        partition: int,
        capacity: int,
        initial_state: NDArray[Any],
        next_offset: int,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        self.partition = partition
        self.capacity = capacity
        self.next_offset = self.committed = next_offset
        self.stream_time = -1
        self.leader_epoch = -1
        self.schemas = KnownSchemas(next_offset)
        self.index: dict[bytes, int] = {}
        self.stream_ids: list[bytes] = []
        self.prefixes: list[bytes | None] = []
        self.initial_state = initial_state
        self.states: NDArray[Any] = reserve((capacity, len(initial_state)), initial_state.dtype)
        self.timesteps: Rows = reserve((capacity,), np.int64)
        self.starts: Rows = reserve((capacity,), np.int64)
        self.start_samples: Rows = reserve((capacity,), np.int64)
        self.times: Rows = reserve((capacity,), np.int64)
        self.offsets: Rows = reserve((capacity,), np.int64)
        self.optional: tuple[str, ...] = ()
        if extras.order:
            self.optional += ("next_timesteps", "seen_timesteps")
            self.next_timesteps: Rows = reserve((capacity,), np.int64)
            self.seen_timesteps: Rows = reserve((capacity,), np.int64)
        if extras.last_values:
            self.optional += ("last_values",)
            self.last_values: NDArray[np.float32] = reserve((capacity, extras.last_values), np.float32)
        self.births: Rows = reserve((capacity,), np.int64)
        self.born = 0
        self._free: list[int] = []
        self._frozen: list[FrozenState] = []
        self._oldest = NEVER

    def __len__(self) -> int:
        """Live streams."""
        return len(self.index)

    @property
    def size_bytes(self) -> int:
        """Bytes of recurrent state in use."""
        return len(self.index) * self.states.itemsize * self.states.shape[1]

    def rows(self) -> Rows:
        """Rows of the live streams, `(streams,)` int64, ascending."""
        return np.flatnonzero(self.births[: len(self.stream_ids)] >= 0)

    def freeze(self) -> FrozenState:
        """The streams as they are now, for another thread to read; takes the same time however many they are."""
        self._frozen.append(FrozenState(self))
        return self._frozen[-1]

    def before_change(self, rows: Rows) -> None:
        """Must be called before rows are changed or freed, each named once: what was frozen keeps what they hold."""
        if self._frozen:
            self._frozen = [frozen for frozen in self._frozen if not frozen.released]
            for frozen in self._frozen:
                frozen.keep(rows)

    def allocate(self, stream_id: bytes) -> int:
        """Give a new stream a row; its columns hold what the row's former owner left.

        Raises:
            AssertionError: the partition is full; the caller evicts first.
        """
        assert len(self.index) < self.capacity, "allocate() on a full partition"
        if self._free:
            row = self._free.pop()
            self.stream_ids[row] = stream_id
        else:
            row = len(self.stream_ids)
            self.stream_ids.append(stream_id)
            self.prefixes.append(None)
        self.index[stream_id] = row
        self.births[row] = self.born
        self.born += 1
        self.timesteps[row] = 0
        return row

    def free(self, row: int) -> None:
        """Forget the stream that owns a row; `before_change` was told of it."""
        assert all(frozen.kept(row) for frozen in self._frozen), "free() of a row that a frozen state still needs"
        self.births[row] = -1
        del self.index[self.stream_ids[row]]
        self.stream_ids[row] = b""
        self.prefixes[row] = None
        self._free.append(row)

    def touched(self, times: Rows) -> None:
        """Note the record times that rows were just given, so that `expired` can tell cheaply that none is due."""
        if len(times):
            self._oldest = min(self._oldest, int(times.min()))

    def expired(self, idle_ms: int) -> Rows:
        """Rows silent for longer than `idle_ms` in record time; ascending by their last offset."""
        if not self.index or self.stream_time - self._oldest <= idle_ms:
            return np.empty(0, np.int64)
        rows = self.rows()
        times = self.times[rows]
        due = times < self.stream_time - idle_ms  # a difference of two times may be no int64
        self._oldest = int(times[~due].min()) if not due.all() else NEVER
        found = rows[due]
        return found[np.argsort(self.offsets[found], kind="stable")]

    def least_recent(self) -> Rows:
        """The rows to evict from a full partition: the sixteenth whose last sample is the oldest in the log.

        Ordered by offset and not by record time: offsets are the log's own, times are a producer's claim.
        """
        rows = self.rows()
        count = math.ceil(self.capacity / EVICTED_SHARE)
        return rows[np.argsort(self.offsets[rows], kind="stable")[:count]]

    def load(self, stream_ids: list[bytes], index: dict[bytes, int] | None = None, **columns: NDArray[Any]) -> None:
        """Fill an empty state with streams.

        Args:
            stream_ids: the state keeps the list.
            index: stream ID -> its place in the list, where that is known; the state keeps it.
            columns: each `(streams, ...)` in the order of `stream_ids`; one that was read in place is not copied.
                Optional ones may be missing: then nothing is known of them.

        Raises:
            AssertionError: the state is not empty, or there are more streams than the capacity.
        """
        assert not self.stream_ids, "load() into a used state"
        count = len(stream_ids)
        assert count <= self.capacity, f"{count} streams, capacity {self.capacity}"
        self.stream_ids = stream_ids
        self.prefixes = [None] * count
        self.index = dict(zip(stream_ids, range(count), strict=True)) if index is None else index
        if "next_timesteps" in self.optional:
            self.next_timesteps[:count] = -1
        for name, column in columns.items():
            own = getattr(self, name)[:count]
            if not np.may_share_memory(own, column):
                own[:] = column
        self.births[:count] = np.arange(count)
        self.born = count
        self.touched(self.times[:count])
