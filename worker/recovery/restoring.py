"""Which partitions wait for their state, and where each goes on: the broker is asked, then the checkpoints.

Every partition comes back in this one way, whether it is new, a transaction was aborted, or the group took it away
and gave it back. What the broker has said is kept for the partitions that wait together, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial

import structlog

from worker.errors import StateRefused, StoreUnavailable, TransientFault
from worker.kafka import Source, Survey
from worker.observer import Observer
from worker.records import Position
from worker.recovery.keeper import StateKeeper
from worker.recovery.loading import begin
from worker.recovery.note import Note, former_partitions
from worker.recovery.start import Log, Start
from worker.state.partition import PartitionState

log = structlog.get_logger(__name__)

AGAIN_S = 0.5
LOADING_S = 0.02


class Restores:
    """Bring partitions back, one at a time.

    Args:
        source: the input topic.
        keeper: has the checkpoints.
        observer: is told of every restore.
        digest: of the artifact, noted with every commit.
        topic_id: of the input topic; "" when the broker has none.
        clock: monotonic seconds.

    Attributes:
        waiting: partitions whose records do not flow yet.
        unpinned: partitions whose committed offset, or the note beside it, is not yet what a commit would write.
    """

    def __init__(
        self,
        source: Source,
        keeper: StateKeeper,
        observer: Observer,
        digest: str,
        topic_id: str,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._keeper = keeper
        self._observer = observer
        self._digest = digest
        self._topic_id = topic_id
        self._clock = clock
        self.waiting: set[int] = set()
        self.unpinned: set[int] = set()
        self._starts: dict[int, Start] = {}
        self._restored: dict[int, PartitionState] = {}
        self._loading: tuple[Log, float, Future[tuple[PartitionState, Start]]] | None = None
        self._survey: Survey | None = None
        self._partitions = 0
        self._not_before = float("-inf")
        self._doubted: set[int] = set()

    def expect(self, partitions: Iterable[int]) -> None:
        """These partitions wait, too. Offsets that were asked for earlier may have moved."""
        self.waiting.update(partitions)
        self._forget()

    def release(self, partitions: Iterable[int]) -> None:
        """These partitions are somebody else's."""
        self.waiting.difference_update(partitions)
        self.unpinned.difference_update(partitions)
        self._forget()

    @property
    def due_in_s(self) -> float:
        """Seconds until a waiting partition may be restored."""
        return max(0.0, self._not_before - self._clock())

    def next(self) -> PartitionState | None:
        """Restore one partition and let its records flow; None when none waits, or when it must go on waiting.

        What the broker said may be old by the time the checkpoints are looked at: a process that was stopped in between
        finds those of the partition's new owner. So nothing is refused before it was asked for anew, after a poll.

        Raises:
            StateRefused: the exact state cannot be had.
        """
        if not self.waiting or self._clock() < self._not_before:
            return None
        partition = min(self.waiting)
        try:
            if partition not in self._restored:
                restored = self._restore(partition)
                if restored is None:
                    self._not_before = self._clock() + LOADING_S
                    return None
                self._restored[partition] = restored
            if not self._source.open(partition, self._restored[partition].next_offset):
                return None
        except (TransientFault, StateRefused) as fault:
            if isinstance(fault, StateRefused):
                if partition in self._doubted:
                    raise
                self._doubted.add(partition)
            if isinstance(fault, StoreUnavailable):
                self._observer.store_failed()
            log.warning("restore_postponed", partition=partition, reason=str(fault))
            self._forget()
            self._not_before = self._clock() + AGAIN_S
            return None
        self.waiting.discard(partition)
        self._doubted.discard(partition)
        return self._restored.pop(partition)

    def position(self, partition: int, offset: int, schemas: str | None) -> Position:
        """What to commit: an offset, and a note of what the state at it is made of, and by which schemas."""
        noted = Note(self._starts[partition].origin, self._digest[:12], self._topic_id, self._partitions, schemas)
        return Position(partition, offset, str(noted))

    def _restore(self, partition: int) -> PartitionState | None:
        """The state, or None while its checkpoint is being loaded."""
        if self._loading is None or self._loading[0].partition != partition:
            begun = self._clock()
            if self._survey is None or partition not in self._survey.bounds:
                self._survey = self._source.survey(sorted(self.waiting))
                self._partitions = self._survey.partitions
            low, high = self._survey.bounds[partition]
            committed = self._survey.committed.get(partition)
            former = former_partitions(self._survey.committed.values())
            bounds = Log(self._source.topic, partition, self._topic_id, low, high, committed, self._partitions, former)
            load = partial(self._keeper.load, bounds)
            self._loading = bounds, begun, begin(load, background=self._keeper.loads_slowly)
        bounds, begun, loading = self._loading
        if not loading.done():
            return None
        self._loading = None
        state, start = loading.result()
        self._keeper.adopt(bounds, state, start)
        self._starts[partition] = start
        if bounds.committed != self.position(partition, start.committed, state.schemas.note(start.next_offset)):
            self.unpinned.add(partition)
        seconds = self._clock() - begun
        self._observer.restored(state, start, seconds)
        log.info(
            "restored",
            partition=partition,
            next_offset=start.next_offset,
            committed=start.committed,
            log_end=bounds.high,
            streams=len(state),
            source=start.why,
            seconds=round(seconds, 3),
        )
        return state

    def _forget(self) -> None:
        self._restored.clear()
        self._survey = None
        self._loading = None
