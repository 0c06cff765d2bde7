"""The states in memory and their checkpoints: how a partition is restored, and when it is saved.

A checkpoint is committed state, frozen at a commit boundary (RELIABILITY rule 14) and read and written in the
background while the loop goes on. Partitions take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from numpy.typing import NDArray

from worker.checkpoint import CheckpointRef, CheckpointWriter, LiveSnapshot, Snapshot, WriteFailed, Written
from worker.errors import CheckpointDamaged, StateRefused, StoreUnavailable
from worker.recovery.note import Note
from worker.recovery.start import Log, Policies, Saved, Start, choose_start
from worker.recovery.timetable import Timetable
from worker.registry.known_schemas import KnownSchemas
from worker.state.frozen import COLUMNS
from worker.state.partition import NO_EXTRAS, Extras, PartitionState

log = structlog.get_logger(__name__)

# What a hand-over weighs: a replay's records per second, a delay that nobody notices, and the size of a checkpoint
# that tells how fast the store is.
REPLAYED_PER_S = 200_000
UNNOTICED_S = 0.25
TELLING_BYTES = 1_000_000
WRITTEN_PER_S = 100e6


@dataclass(frozen=True, kw_only=True)
class _Loaded(Saved):
    snapshot: Snapshot
    state: PartitionState


class StateKeeper:
    """Restore partitions and save them.

    Args:
        writer: background writer on the group's store.
        initial_state: `(state_size,)` of the model.
        capacity: most live streams of a partition.
        digest: of the artifact.
        policies: what to do when state, offsets and log do not fit together.
        interval_s: seconds between two checkpoints of a partition.
        interval_records: records after which one is due as well, or None.
        clock: monotonic seconds.
        now: wall-clock seconds; only for a checkpoint's `created_ms`.
        extras: optional columns of the states.
    """

    def __init__(
        self,
        writer: CheckpointWriter,
        initial_state: NDArray[Any],
        capacity: int,
        digest: str,
        policies: Policies,
        interval_s: float,
        interval_records: int | None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        self._writer = writer
        self._initial_state = initial_state
        self._capacity = capacity
        self._digest = digest
        self._policies = policies
        self._timetable = Timetable(interval_s, interval_records)
        self._clock = clock
        self._now = now
        self._extras = extras
        self._durable: dict[int, int] = {}
        self._topic_id = ""
        self._written_per_s = WRITTEN_PER_S

    @property
    def loads_slowly(self) -> bool:
        """Whether the store is so far away that the loop should not wait for `load`."""
        return self._writer.store.remote

    def load(self, bounds: Log) -> tuple[PartitionState, Start]:
        """The state to begin with; the records from its `next_offset` on bring it to the committed offset.

        May be called on any thread, and the result be thrown away.

        Raises:
            StateRefused: the exact state cannot be had.
            StoreUnavailable: try again.
            UsageError: the store is not fit for checkpoints.
        """
        store, partition = self._writer.store, bounds.partition
        refs: dict[int, list[CheckpointRef]] = {}
        for ref in store.refs(bounds.topic, partition):
            refs.setdefault(ref.next_offset, []).append(ref)
        try:
            store.prove()
        except StoreUnavailable as fault:  # it may be full or read-only; it is asked again before anything is written
            log.warning("store_unproven", reason=str(fault))

        def load(offset: int) -> _Loaded:
            """Of several files at one offset, one of this artifact if there is one."""
            *others, last = refs[offset]
            for ref in others:
                with suppress(CheckpointDamaged):
                    found = read(ref)
                    if found.artifact_digest == self._digest:
                        return found
            return read(last)

        def read(ref: CheckpointRef) -> _Loaded:
            state = empty(ref.next_offset)
            return _loaded(store.read(ref, state.states), ref, state)

        def empty(next_offset: int) -> PartitionState:
            return PartitionState(partition, self._capacity, self._initial_state, next_offset, self._extras)

        start = choose_start(bounds, sorted(refs, reverse=True), load, self._digest, self._policies)
        if isinstance(start.saved, _Loaded):
            state = start.saved.state
            state.next_offset = start.next_offset
            _fill(state, start.saved.snapshot, bounds)
        else:
            state = empty(start.next_offset)
        state.committed = start.committed
        noted = Note.of(bounds.committed)
        state.schemas = KnownSchemas.restored(
            None if noted is None else noted.schemas, start.next_offset, start.committed
        )
        return state, start

    def adopt(self, bounds: Log, state: PartitionState, start: Start) -> None:
        """What was loaded is used from now on."""
        self._topic_id = bounds.topic_id
        saved_at = None
        if start.saved is not None:
            saved_at = self._durable[state.partition] = start.next_offset
        self._timetable.begin(state.partition, saved_at, self._clock())

    def is_due(self, state: PartitionState) -> bool:
        """Whether a partition's committed state should be saved now."""
        at_boundary = state.next_offset == state.committed
        return at_boundary and self._timetable.is_due(state.partition, state.committed, self._clock())

    def is_worth_saving(self, state: PartitionState) -> bool:
        """Whether saving a partition that goes takes less time than it spares its next owner, or hardly any."""
        saved_at = self._timetable.saved_at(state.partition)
        if saved_at is None:
            return True
        replay_s = (state.committed - saved_at) / REPLAYED_PER_S
        return state.size_bytes / self._written_per_s <= replay_s + UNNOTICED_S

    def save(self, topic: str, state: PartitionState) -> None:
        """Freeze a partition's committed state for the writer; nothing when it is saved already."""
        assert state.next_offset == state.committed, "a checkpoint is taken of committed state only"
        if self._timetable.saved_at(state.partition) == state.committed:
            return
        self._writer.submit(
            LiveSnapshot(
                topic=topic,
                topic_id=self._topic_id,
                partition=state.partition,
                next_offset=state.next_offset,
                leader_epoch=state.leader_epoch,
                artifact_digest=self._digest,
                stream_time=state.stream_time,
                created_ms=round(self._now() * 1000),
                streams=state.freeze(),
            )
        )
        self._timetable.taken(state.partition, state.committed, self._clock())

    def release(self, topic: str, partition: int, lost: bool) -> None:
        """Another worker owns the partition, or will: collect nothing more of it, save nothing of a lost one."""
        self._timetable.forget(partition)
        self._durable.pop(partition, None)
        self._writer.disown(topic, partition, discard=lost)

    def results(self) -> list[Written | WriteFailed]:
        """Checkpoints finished since the last call; a failed one is due again after a pause."""
        finished = self._writer.results()
        for result in finished:
            if isinstance(result, WriteFailed):
                if result.next_offset != self._durable.get(result.partition):  # else only old ones could not be removed
                    self._timetable.failed(result.partition, self._clock())
                continue
            self._timetable.written(result.ref.partition)
            self._durable[result.ref.partition] = result.ref.next_offset
            if result.ref.size_bytes >= TELLING_BYTES:
                self._written_per_s = result.ref.size_bytes / result.seconds
        return finished

    def durable(self, partition: int) -> int:
        """The offset of a partition's newest checkpoint that is known to be durable; 0 where none is."""
        return self._durable.get(partition, 0)

    def wait(self, deadline_s: float) -> bool:
        """Wait until everything submitted is durable; False when it took too long."""
        return self._writer.wait(deadline_s)

    def close(self, deadline_s: float) -> bool:
        """Write what waits and end the writer; False when something was left."""
        return self._writer.close(deadline_s)


def _loaded(snapshot: Snapshot, ref: CheckpointRef, state: PartitionState) -> _Loaded:
    return _Loaded(
        snapshot.next_offset,
        snapshot.topic_id,
        snapshot.artifact_digest,
        snapshot.created_ms,
        ref.size_bytes,
        snapshot=snapshot,
        state=state,
    )


def _fill(state: PartitionState, snapshot: Snapshot, bounds: Log) -> None:
    count = len(snapshot.stream_ids)
    if count > state.capacity:
        raise StateRefused(
            f"{bounds.topic}[{bounds.partition}]: its checkpoint holds {count} streams, "
            f"max_streams_per_partition is {state.capacity}: raise it to at least {count}"
        )
    columns = {name: getattr(snapshot, name) for name in COLUMNS}
    columns |= {name: column for name, column in snapshot.extras.items() if name in state.optional}
    state.load(snapshot.stream_ids, snapshot.index, **columns)
    state.stream_time, state.leader_epoch = snapshot.stream_time, snapshot.leader_epoch
